import { expect, test } from "vitest";
import { MAX_WAITING } from "../../src/relay/udp-path.ts";
import { CLIENT4, RelayWorld } from "../support/relay-world.ts";
import { reply, trouble } from "../support/scripted-upstream.ts";

const TARGET = "93.184.216.34:4000";

function octets(...values: readonly number[]): Uint8Array {
  return Uint8Array.from(values);
}

/** A client endpoint whose association is open. */
function open(world: RelayWorld, port = 5000): void {
  world.udp(TARGET, port, octets(1));
  world.act(() => world.upstream.association.open());
}

test("one association serves all targets of a client endpoint (RFC 4787 REQ-1)", () => {
  const world = new RelayWorld();
  open(world);
  world.udp("93.184.216.35:4001", 5000, octets(2));
  world.udp("[2001:db8::1]:9", 5000, octets(3));
  const { association, associations } = world.upstream;
  expect(associations.length).toBe(2); // fd00::2 is another client endpoint
  expect(associations[0]!.sent).toEqual([
    { to: TARGET, payload: octets(1) },
    { to: "93.184.216.35:4001", payload: octets(2) },
  ]);
  expect(association.state).toBe("dialing");
});

test("what comes back keeps its source, and anybody may answer (full cone)", () => {
  const world = new RelayWorld();
  open(world);
  world.act(() => world.upstream.association.deliver("203.0.113.9:77", octets(7, 8)));
  const [datagram] = world.datagrams();
  expect(datagram).toMatchObject({
    source: "203.0.113.9",
    sourcePort: 77,
    destination: CLIENT4,
    destinationPort: 5000,
    payload: octets(7, 8),
  });
});

test("at most 16 datagrams wait for the association, and they go out in order", () => {
  const world = new RelayWorld();
  for (let i = 0; i < MAX_WAITING + 1; i++) world.udp(TARGET, 5000, octets(i));
  expect(MAX_WAITING).toBe(16);
  expect(world.upstream.associations.length).toBe(1);
  expect(world.relay.stats.datagramsNotWaited).toBe(1);
  world.act(() => world.upstream.association.open());
  expect(world.upstream.association.sent.map(({ payload }) => payload[0])).toEqual(
    Array.from({ length: 16 }, (_, i) => i),
  );
});

test("octets that wait are bounded over all endpoints together", () => {
  const world = new RelayWorld({ driver: { mtu: 65535 }, relay: { nofile: 20_000 } });
  const big = new Uint8Array(60_000);
  for (let port = 5000; port < 5080; port++) world.udp(TARGET, port, big);
  const fits = Math.floor((4 << 20) / 60_000);
  expect(world.relay.stats.datagramsNotWaited).toBe(80 - fits);
  for (const association of world.upstream.associations) world.act(() => association.open());
  for (let port = 6000; port < 6000 + fits; port++) world.udp(TARGET, port, big);
  expect(world.relay.stats.datagramsNotWaited).toBe(80 - fits);
});

test.each([
  ["07", reply(7)],
  ["08", reply(8)],
])(
  "an upstream without UDP (%s) is port unreachable at once, and not asked again for minutes",
  (_, no) => {
    const world = new RelayWorld();
    world.udp(TARGET, 5000, octets(1));
    world.udp(TARGET, 5000, octets(2));
    world.udp("93.184.216.35:1", 5000, octets(3));
    world.act(() => world.upstream.association.refuse(no));
    expect(world.errors()).toEqual(["3/3", "3/3"]); // one per target
    world.udp(TARGET, 5001, octets(4));
    expect(world.errors()).toEqual(["3/3"]);
    expect(world.upstream.associations.length).toBe(1);
    world.advance(5 * 60_000);
    world.udp(TARGET, 5001, octets(5));
    expect(world.upstream.associations.length).toBe(2);
    expect(world.lines.length).toBe(1);
  },
);

test("a proxy that spoke something else for a moment is asked again after the back-off", () => {
  const world = new RelayWorld();
  world.udp(TARGET, 5000, octets(1));
  world.act(() => world.upstream.association.refuse(trouble("protocol")));
  expect(world.errors()).toEqual(["3/3"]);
  world.advance(1_000);
  world.udp(TARGET, 5000, octets(2));
  expect(world.upstream.associations.length).toBe(2);
});

test("over IPv6 port unreachable is ICMPv6 1/4", () => {
  const world = new RelayWorld();
  world.udp("[2001:db8::1]:9", 5000, octets(1));
  world.act(() => world.upstream.association.refuse(reply(7)));
  expect(world.errors()).toEqual(["1/4"]);
});

test.each([
  ["02 is prohibited", reply(2), ["3/13"]],
  ["01 is port unreachable", reply(1), ["3/3"]],
  ["an unreachable proxy is host unreachable", trouble("unreachable"), ["3/1"]],
  ["a wrong password is host unreachable", trouble("auth"), ["3/1"]],
  ["a time-out is silence", trouble("timeout"), []],
])("association refused: %s", (_, refusal, errors) => {
  const world = new RelayWorld();
  world.udp(TARGET, 5000, octets(1));
  world.act(() => world.upstream.association.refuse(refusal));
  expect(world.errors()).toEqual(errors);
});

test("after a refusal datagrams are refused alike until the back-off has passed", () => {
  const world = new RelayWorld();
  world.udp(TARGET, 5000, octets(1));
  world.act(() => world.upstream.association.refuse(trouble("unreachable")));
  world.errors();
  world.advance(990);
  world.udp(TARGET, 5000, octets(2));
  expect(world.errors()).toEqual(["3/1"]);
  expect(world.upstream.associations.length).toBe(1);
  world.advance(10);
  world.udp(TARGET, 5000, octets(3));
  expect(world.upstream.associations.length).toBe(2);
});

test("a proxy that refuses is asked again after 1 s, 2 s and so on to 60 s, however many endpoints there are", () => {
  const world = new RelayWorld();
  const { upstream } = world;
  let port = 5000;
  for (const seconds of [1, 2, 4, 8, 16, 32, 60, 60]) {
    // Two are asked for at once, and count once.
    world.udp(TARGET, port++, octets(1));
    world.udp(TARGET, port++, octets(1));
    const asked = upstream.associations.length;
    for (const association of upstream.associations.slice(-2)) {
      world.act(() => association.refuse(trouble("unreachable")));
    }
    world.errors();
    world.advance(seconds * 1000 - 10);
    world.udp(TARGET, port++, octets(1));
    expect(world.errors()).toEqual(["3/1"]);
    expect(upstream.associations.length).toBe(asked);
    world.advance(10);
  }
  open(world, port++);
  world.udp(TARGET, port++, octets(1));
  world.act(() => upstream.association.refuse(trouble("unreachable")));
  world.advance(1000);
  const asked = upstream.associations.length;
  world.udp(TARGET, port++, octets(1));
  expect(upstream.associations.length).toBe(asked + 1);
});

test("a lost association is made again after 1 s, then 2 s, and what comes meanwhile waits", () => {
  const world = new RelayWorld();
  const { upstream } = world;
  open(world);
  world.act(() => upstream.association.lose());
  world.udp(TARGET, 5000, octets(2));
  world.advance(990);
  expect(upstream.associations.length).toBe(1);
  world.advance(20);
  expect(upstream.associations.length).toBe(2);
  world.act(() => upstream.association.open());
  expect(upstream.association.sent).toEqual([{ to: TARGET, payload: octets(2) }]);
  world.act(() => upstream.association.lose());
  world.udp(TARGET, 5000, octets(3));
  world.advance(1980);
  expect(upstream.associations.length).toBe(2);
  world.advance(40);
  expect(upstream.associations.length).toBe(3);
});

test("an answer resets the back-off", () => {
  const world = new RelayWorld();
  const { upstream } = world;
  open(world);
  for (let i = 0; i < 4; i++) {
    world.act(() => upstream.association.deliver(TARGET, octets(9)));
    world.act(() => upstream.association.lose());
    world.udp(TARGET, 5000, octets(2));
    world.advance(1010);
    expect(upstream.associations.length).toBe(i + 2);
    world.act(() => upstream.association.open());
  }
});

test("an idle client costs no new association", () => {
  const world = new RelayWorld();
  open(world);
  world.act(() => world.upstream.association.lose());
  world.advance(120_000);
  expect(world.upstream.associations.length).toBe(1);
});

test("a datagram too big for the SOCKS header is answered by fragmentation needed", () => {
  const world = new RelayWorld({ driver: { mtu: 65535 } });
  open(world);
  world.udp(TARGET, 5000, new Uint8Array(65_497));
  expect(world.errors()).toEqual([]);
  world.udp(TARGET, 5000, new Uint8Array(65_498));
  expect(world.errors()).toEqual(["3/4"]);
  expect(world.relay.stats.datagramsTooBig).toBe(1);
  expect(world.upstream.association.sent.length).toBe(2);
});

test.each([
  ["10 octets of header", "93.184.216.34:9", 1500 - 10 + 28],
  ["22 octets of header", "[2001:db8::1]:9", 1500 - 22 + 48],
])(
  "what is too big is told the packets that fit beside %s, whatever the way carries",
  (_, target, mtu) => {
    const world = new RelayWorld({ driver: { mtu: 9000 } });
    const size = target.startsWith("[") ? 1500 - 22 : 1500 - 10;
    world.udp(target, 5000, octets(1));
    world.upstream.association.largest = 1500;
    world.act(() => world.upstream.association.open());
    world.udp(target, 5000, new Uint8Array(size));
    expect(world.icmp()).toEqual([]);
    world.udp(target, 5000, new Uint8Array(size + 1));
    expect(world.icmp().map(({ rest }) => rest)).toEqual([mtu]);
    expect(world.upstream.association.sent.length).toBe(2);
    expect(world.relay.stats).toMatchObject({ datagramsTooBig: 1, datagramsDropped: 0 });
  },
);

test("a datagram that waited and proves too big is answered too", () => {
  const world = new RelayWorld({ driver: { mtu: 9000 } });
  world.udp(TARGET, 5000, new Uint8Array(2000), octets(1));
  world.upstream.association.largest = 1500;
  world.act(() => world.upstream.association.open());
  expect(world.errors()).toEqual(["3/4"]);
  expect(world.upstream.association.sent).toEqual([{ to: TARGET, payload: octets(1) }]);
});

test("a full queue of the association is flushed and tried again", () => {
  const world = new RelayWorld();
  open(world);
  world.upstream.association.capacity = 1;
  world.udp(TARGET, 5000, octets(2), octets(3), octets(4));
  expect(world.upstream.association.sent.map(({ payload }) => payload[0])).toEqual([1, 2, 3, 4]);
  expect(world.relay.stats.datagramsDropped).toBe(0);
});

test("what comes back counts as use: another association gives way", () => {
  const world = new RelayWorld({ relay: { nofile: 0 } }); // 16
  const { upstream } = world;
  for (let i = 0; i < 16; i++) {
    open(world, 6000 + i);
    world.act(() => upstream.association.deliver(TARGET, octets(1)));
  }
  world.act(() => upstream.associations[0]!.deliver(TARGET, octets(2)));
  open(world, 7000);
  const closed = upstream.associations.map(({ state }) => state === "closed");
  expect(closed.indexOf(true)).toBe(1);
});

test("an association that lived for a minute is made again after 1 s, answers or not", () => {
  const world = new RelayWorld();
  const { upstream } = world;
  open(world);
  for (let i = 0; i < 3; i++) {
    world.advance(61_000);
    world.act(() => upstream.association.lose());
    world.udp(TARGET, 5000, octets(2));
    world.advance(1_020);
    expect(upstream.associations.length).toBe(i + 2);
    world.act(() => upstream.association.open());
  }
});

test("at the bound the longest idle answered association gives way, and is made again when needed", () => {
  const world = new RelayWorld({ relay: { nofile: 0 } }); // 16
  const { upstream } = world;
  for (let i = 0; i < 16; i++) {
    open(world, 6000 + i);
    if (i > 0) world.act(() => upstream.association.deliver(TARGET, octets(1)));
  }
  open(world, 7000);
  expect(upstream.associations[0]!.state).toBe("open");
  expect(upstream.associations[1]!.state).toBe("closed");
  expect(world.relay.stats).toMatchObject({ associations: 16, associationsEvicted: 1 });
  world.udp(TARGET, 6001, octets(5));
  expect(upstream.associations.length).toBe(18);
  world.act(() => upstream.association.open());
  expect(upstream.association.sent).toEqual([{ to: TARGET, payload: octets(5) }]);
});

test("a flow whose only association gives way ends with it: new ports leave nothing behind", () => {
  const world = new RelayWorld({ relay: { nofile: 0 }, hostLoopback: true }); // 16
  const { upstream, direct } = world;
  for (let i = 0; i < 40; i++) {
    open(world, 6000 + i);
    world.act(() => upstream.association.deliver(TARGET, octets(1)));
  }
  expect(world.relay.stats).toMatchObject({ udpFlows: 16, associationsEvicted: 24 });
  // One that talks to the host as well goes on there.
  world.udp("198.18.0.2:9", 6024, octets(2));
  world.act(() => direct.association.open());
  world.act(() => direct.association.deliver("127.0.0.1:9", octets(3)));
  for (let i = 0; i < 16; i++) {
    open(world, 7000 + i);
    world.act(() => upstream.association.deliver(TARGET, octets(1)));
  }
  expect(upstream.associations.at(24)?.state).toBe("closed");
  world.datagrams();
  world.act(() => direct.association.deliver("127.0.0.1:9", octets(4)));
  expect(world.datagrams()).toHaveLength(1);
});

test("an upstream that takes fewer associations is never asked for more", () => {
  const world = new RelayWorld({ relay: { maxAssociations: 2 } });
  for (let port = 5000; port < 5003; port++) {
    world.udp(TARGET, port, octets(1));
    world.act(() => world.upstream.association.open());
  }
  expect(world.upstream.associations.map(({ state }) => state)).toEqual(["closed", "open", "open"]);
});

test("at a proxy that is full idle associations give way, and the datagram goes out (RFC 1928 §6)", () => {
  const world = new RelayWorld({ relay: { nofile: 20_000 } });
  const { upstream } = world;
  for (let i = 0; i < 32; i++) {
    open(world, 6000 + i);
    world.act(() => upstream.association.deliver(TARGET, octets(1)));
  }
  world.udp(TARGET, 7000, octets(9));
  world.act(() => upstream.association.refuse(reply(1)));
  expect(upstream.associations.length).toBe(34);
  expect(upstream.associations.map(({ state }) => state).slice(0, 4)).toEqual([
    "closed",
    "closed",
    "closed",
    "open",
  ]);
  world.act(() => upstream.association.open());
  expect(upstream.association.sent).toEqual([{ to: TARGET, payload: octets(9) }]);
  expect(world.errors()).toEqual([]);
});

test("a proxy that refuses four times in a row is not full, it refuses", () => {
  const world = new RelayWorld({ relay: { nofile: 20_000 } });
  const { upstream } = world;
  for (let i = 0; i < 32; i++) open(world, 6000 + i);
  world.udp(TARGET, 7000, octets(9));
  for (let i = 0; i < 4; i++) world.act(() => upstream.association.refuse(reply(1)));
  expect(upstream.associations.length).toBe(36);
  expect(world.errors()).toEqual(["3/3"]);
});

test("at most 256 associations are in the making at a time", () => {
  const world = new RelayWorld({ relay: { nofile: 20_000 } });
  for (let i = 0; i < 260; i++) world.udp(TARGET, 10_000 + i, octets(1));
  expect(world.upstream.associations.length).toBe(256);
  world.act(() => world.upstream.associations[0]!.open());
  expect(world.upstream.associations.length).toBe(257);
});

test("an idle flow closes its association", () => {
  const world = new RelayWorld({ driver: { stack: { udpTimeout: 120_000 } } });
  open(world);
  world.advance(119_000);
  expect(world.upstream.association.state).toBe("open");
  world.advance(2_000);
  expect(world.upstream.association.state).toBe("closed");
  expect(world.relay.stats).toMatchObject({ associations: 0, udpFlows: 0 });
});

test("reserved addresses are never sent to the proxy", () => {
  const world = new RelayWorld();
  for (const target of ["198.18.0.2:9", "198.18.0.3:9", "198.18.0.4:53", "[fd00:18::f]:9"]) {
    world.udp(target, 5000, octets(1));
  }
  expect(world.errors()).toEqual(["3/3", "3/3", "3/3", "1/4"]);
  world.udp("198.18.0.16:9", 5000, octets(1));
  expect(world.upstream.associations.length).toBe(1);
});

test("--host-loopback: datagrams to 198.18.0.2 reach 127.0.0.1 without the proxy, and only it answers", () => {
  const world = new RelayWorld({ hostLoopback: true });
  const { direct } = world;
  world.udp("198.18.0.2:9", 5000, octets(1));
  world.act(() => direct.association.open());
  expect(world.upstream.associations.length).toBe(0);
  expect(direct.association.sent).toEqual([{ to: "127.0.0.1:9", payload: octets(1) }]);
  world.act(() => direct.association.deliver("192.0.2.1:9", octets(3)));
  world.act(() => direct.association.deliver("127.0.0.1:9", octets(2)));
  expect(world.datagrams()).toMatchObject([
    { source: "198.18.0.2", sourcePort: 9, payload: octets(2) },
  ]);
  world.udp("[fd00:18::2]:9", 5000, octets(1));
  world.act(() => direct.association.open());
  expect(direct.association.sent).toEqual([{ to: "[::1]:9", payload: octets(1) }]);
});

test("closing the relay closes every association", () => {
  const world = new RelayWorld();
  open(world);
  world.udp(TARGET, 5001, octets(1));
  world.act(() => world.relay.close());
  expect(world.upstream.associations.map(({ state }) => state)).toEqual(["closed", "closed"]);
  world.relay.close();
});
