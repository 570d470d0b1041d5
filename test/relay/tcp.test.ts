import { expect, test } from "vitest";
import { MAX_LEFTOVER } from "../../src/relay/tcp-relay.ts";
import { type Endpoint, formatEndpoint } from "../../src/stack/wire/address.ts";
import { pattern } from "../../src/testing/pattern.ts";
import { RelayWorld, type TcpPeer } from "../support/relay-world.ts";
import { ECONNRESET, ENOBUFS, type ScriptedDirect, trouble } from "../support/scripted-upstream.ts";

const TARGET = "93.184.216.34:80";

function direct(world: RelayWorld): ScriptedDirect {
  return world.upstream.stream as ScriptedDirect;
}

function opened(shape: "direct" | "layered" = "direct"): { world: RelayWorld; client: TcpPeer } {
  const world = new RelayWorld();
  world.upstream.shape = shape;
  return { world, client: world.openTcp(TARGET) };
}

test("the SYN is answered only when the upstream has granted the connection", () => {
  const world = new RelayWorld();
  const client = world.tcp(TARGET, 40000);
  client.syn();
  world.advance(500);
  expect(client.state).toBe("syn-sent");
  expect(world.upstream.stream.target).toBe(TARGET);
  world.act(() => world.upstream.stream.open());
  expect(client.state).toBe("open");
});

test("a repeated SYN starts no second dial", () => {
  const world = new RelayWorld();
  const client = world.tcp(TARGET, 40000);
  for (let i = 0; i < 4; i++) client.syn();
  expect(world.upstream.streams.length).toBe(1);
});

test("a client that gives up while the dial is under way cancels it", () => {
  const world = new RelayWorld();
  const client = world.tcp(TARGET, 40000);
  client.syn();
  client.rst();
  expect(world.upstream.stream.state).toBe("closed");
  expect(world.relay.stats).toMatchObject({ tcpCancelled: 1, tcpFlows: 0 });
});

test("at most 256 dials are under way; the others follow in order, and those given up never", () => {
  const world = new RelayWorld({ driver: { stack: { maxPendingPerSource: 1024 } } });
  const clients = Array.from({ length: 259 }, (_, i) =>
    world.tcp(`93.184.216.34:${i + 1}`, 30_000 + i),
  );
  for (const client of clients) client.syn();
  const { streams } = world.upstream;
  expect(streams.length).toBe(256);
  clients[256]!.rst();
  world.act(() => streams[3]!.open());
  expect(streams.length).toBe(257);
  expect(streams[256]!.target).toBe("93.184.216.34:258");
  clients[4]!.rst();
  expect(streams[257]!.target).toBe("93.184.216.34:259");
});

test("one line, not one per flow, tells of a proxy that is down", () => {
  const world = new RelayWorld();
  for (let i = 0; i < 5; i++) {
    world.tcp(TARGET, 40000 + i).syn();
    world.act(() => world.upstream.stream.refuse(trouble("unreachable")));
  }
  expect(world.lines).toEqual(["tun2socks: no proxy: unreachable (ERR_PROXY_UNREACHABLE)"]);
  world.advance(6_000);
  world.tcp(TARGET, 50000).syn();
  world.act(() => world.upstream.stream.refuse(trouble("unreachable")));
  expect(world.lines.at(-1)).toMatch(/ \(and 4 more\)$/);
});

test("a proxy that is silent is worth a line, a destination that is silent is not", () => {
  const world = new RelayWorld();
  for (const isProxySilent of [false, true]) {
    world.tcp(TARGET, 40000 + Number(isProxySilent)).syn();
    world.act(() => world.upstream.stream.refuse({ ...trouble("timeout"), isProxySilent }));
    expect(world.lines.length).toBe(Number(isProxySilent));
  }
});

test.each(["direct", "layered"] as const)("octets pass both ways unchanged (%s)", (shape) => {
  const { world, client } = opened(shape);
  const up = pattern(0, 0, 20_000);
  const down = pattern(1, 0, 50_000);
  client.send(up);
  expect(world.upstream.stream.sentBytes).toEqual(up);
  for (let at = 0; at < down.length; at += 7_000) {
    world.act(() => world.upstream.stream.deliver(down.subarray(at, at + 7_000)));
  }
  expect(client.received).toEqual(down);
  expect(world.relay.stats).toMatchObject({ octetsUp: 20_000, octetsDown: 50_000 });
});

test.each(["direct", "layered"] as const)(
  "client closes first: the answer still arrives (%s)",
  (shape) => {
    const { world, client } = opened(shape);
    const { stream } = world.upstream;
    client.send(pattern(0, 0, 100));
    client.fin();
    expect(stream.shut).toBe(true);
    expect(stream.state).toBe("open");
    world.act(() => stream.deliver(pattern(1, 0, 3_000)));
    world.act(() => stream.end());
    expect(client.received).toEqual(pattern(1, 0, 3_000));
    expect(client.finReceived).toBe(true);
    expect(stream.state).toBe("closed");
    expect(world.relay.stats.tcpFlows).toBe(0);
  },
);

test.each(["direct", "layered"] as const)(
  "upstream closes first: the client may go on sending (%s)",
  (shape) => {
    const { world, client } = opened(shape);
    const { stream } = world.upstream;
    world.act(() => stream.deliver(pattern(1, 0, 3_000)));
    world.act(() => stream.end());
    expect(client.finReceived).toBe(true);
    client.send(pattern(0, 0, 5_000));
    expect(stream.sentBytes).toEqual(pattern(0, 0, 5_000));
    expect(stream.shut).toBe(false);
    client.fin();
    expect(stream.shut).toBe(true);
    expect(stream.state).toBe("closed");
  },
);

test("data and FIN together leave nothing behind", () => {
  const { world, client } = opened();
  direct(world).arrive(pattern(1, 0, 1_000));
  world.act(() => direct(world).end());
  expect(client.received.length).toBe(1_000);
  expect(client.finReceived).toBe(true);
});

test.each(["direct", "layered"] as const)(
  "upstream reset after data: data first, then RST, never FIN (%s)",
  (shape) => {
    const { world, client } = opened(shape);
    world.act(() => {
      world.upstream.stream.deliver(pattern(1, 0, 30_000));
      world.upstream.stream.breakOff();
    });
    expect(client.received).toEqual(pattern(1, 0, 30_000));
    expect(client.finReceived).toBe(false);
    expect(client.state).toBe("reset");
    expect(world.relay.stats.tcpUpstreamResets).toBe(1);
  },
);

test("a reset found by sending: what was received before is delivered, and the end is an RST", () => {
  const { world, client } = opened();
  direct(world).arrive(pattern(1, 0, 5_000));
  direct(world).breakUnseen();
  client.send(pattern(0, 0, 10));
  expect(client.received).toEqual(pattern(1, 0, 5_000));
  expect(client.finReceived).toBe(false);
  expect(client.state).toBe("reset");
  expect(direct(world).state).toBe("closed");
});

test("an upstream that ended and then resets: RST once the client sends", () => {
  const { world, client } = opened();
  world.act(() => direct(world).deliver(pattern(1, 0, 100)));
  world.act(() => direct(world).end());
  direct(world).sendError = ECONNRESET;
  client.send(pattern(0, 0, 10));
  expect(client.received.length).toBe(100);
  expect(client.state).toBe("reset");
});

test("a send that fails on a living socket ends the flow by RST too, for octets are missing", () => {
  const { world, client } = opened();
  direct(world).sendError = ENOBUFS;
  client.send(pattern(0, 0, 10));
  expect(client.state).toBe("reset");
  expect(direct(world).state).toBe("closed");
});

test("a layered stream that breaks while octets wait: they are delivered, then RST", () => {
  const { world, client } = opened("layered");
  client.acknowledges = false;
  const { stream } = world.upstream;
  const all = pattern(1, 0, 16 << 20);
  let given = 0;
  for (; !stream.paused && given < all.length; given += 65_536) {
    world.act(() => stream.deliver(all.subarray(given, given + 65_536)));
  }
  world.act(() => stream.breakOff());
  client.acknowledges = true;
  for (let i = 0; i < 2_000 && client.state === "open"; i++) {
    world.act(() => client.ack());
    world.advance(250);
  }
  expect(client.state).toBe("reset");
  expect(client.finReceived).toBe(false);
  expect(Buffer.compare(client.received, all.subarray(0, given))).toBe(0);
});

test("an upstream that is full is not asked again before it says so", () => {
  const { world, client } = opened();
  const { stream } = world.upstream;
  stream.room = 0;
  for (let i = 0; i < 5; i++) client.send(pattern(0, 100 * i, 100));
  expect(stream.sends).toBe(1);
  world.act(() => stream.allow(1_000));
  expect(stream.sentBytes).toEqual(pattern(0, 0, 500));
});

test.each(["direct", "layered"] as const)(
  "client reset: the upstream is reset, not closed (%s)",
  (shape) => {
    const { world, client } = opened(shape);
    client.send(pattern(0, 0, 100));
    client.rst();
    expect(world.upstream.stream.state).toBe("reset");
    expect(world.relay.stats.tcpFlows).toBe(0);
  },
);

test.each(["direct", "layered"] as const)(
  "an upstream that takes nothing closes the client's window, and nothing is lost (%s)",
  (shape) => {
    const { world, client } = opened(shape);
    const { stream } = world.upstream;
    stream.room = 1_000;
    const all = pattern(0, 0, 60_000);
    client.send(all);
    expect(stream.sent.length).toBe(1_000);
    expect(client.acked).toBe(60_000);
    expect(client.peerWindow).toBeLessThan(65_535);
    world.act(() => stream.allow(5_000));
    expect(stream.sent.length).toBe(6_000);
    client.fin();
    expect(stream.shut).toBe(false);
    world.act(() => stream.allow(1_000_000));
    expect(stream.sentBytes).toEqual(all);
    expect(stream.shut).toBe(true);
  },
);

test("a client that reads nothing stops the upstream, and memory stays bounded", () => {
  const { world, client } = opened();
  client.acknowledges = false;
  const stream = direct(world);
  stream.arrive(new Uint8Array(32 << 20));
  world.act(() => stream.poll());
  for (let i = 0; i < 100 && !stream.paused; i++) world.act(() => stream.poll());
  expect(stream.paused).toBe(true);
  expect((32 << 20) - stream.waiting).toBeLessThan(8 << 20);
});

test.each(["direct", "layered"] as const)(
  "a client that reads again gets all of it, in order (%s)",
  (shape) => {
    const { world, client } = opened(shape);
    const { stream } = world.upstream;
    client.acknowledges = false;
    const all = pattern(1, 0, 12 << 20);
    let given = 0;
    for (let i = 0; i < 400 && !stream.paused; i++, given += 65_536) {
      world.act(() => stream.deliver(all.subarray(given, given + 65_536)));
    }
    expect(stream.paused).toBe(true);
    world.act(() => stream.end());
    client.acknowledges = true;
    for (let i = 0; i < 2_000 && !client.finReceived; i++) {
      world.act(() => client.ack());
      world.advance(250);
      if (stream.shape === "direct") world.act(() => stream.poll());
    }
    expect(client.finReceived).toBe(true);
    expect(Buffer.compare(client.received, all.subarray(0, given))).toBe(0);
  },
);

test("a layered stream that ignores pause is cut off at a bound", () => {
  const { world, client } = opened("layered");
  client.acknowledges = false;
  const { stream } = world.upstream;
  const chunk = new Uint8Array(65_536);
  for (let i = 0; i < 400 && stream.state === "open"; i++) world.act(() => stream.deliver(chunk));
  expect(MAX_LEFTOVER).toBe(1 << 20);
  expect(stream.state).toBe("reset");
  expect(client.state).toBe("reset");
});

test("one flow reads at most a mebioctet per event", () => {
  const { world } = opened();
  const stream = direct(world);
  stream.arrive(new Uint8Array(3 << 20));
  const before = stream.waiting;
  world.act(() => {
    stream.onePoll = true;
    stream.poll();
  });
  expect(before - stream.waiting).toBeLessThanOrEqual((1 << 20) + 65_536);
});

test("reserved addresses are refused without a dial; lookups over TCP go to the real resolver", () => {
  const world = new RelayWorld();
  for (const target of ["198.18.0.2:80", "198.18.0.3:80", "198.18.0.9:80", "[fd00:18::2]:80"]) {
    const client = world.tcp(target, 40000);
    client.syn();
    expect(client.state).toBe("reset");
  }
  expect(world.upstream.streams.length).toBe(0);
  world.tcp("198.18.0.3:53", 40001).syn();
  expect(world.upstream.stream.target).toBe("9.9.9.9:53");
});

test("--dns off: lookups over TCP at our address are refused", () => {
  const world = new RelayWorld({ dnsMode: "off" });
  const client = world.tcp("198.18.0.3:53", 40000);
  client.syn();
  expect(client.state).toBe("reset");
});

test("--host-loopback: 198.18.0.2 is 127.0.0.1, without the proxy", () => {
  const world = new RelayWorld({ hostLoopback: true });
  const client = world.tcp("198.18.0.2:8080", 40000);
  client.syn();
  expect(world.direct.stream.target).toBe("127.0.0.1:8080");
  world.act(() => world.direct.stream.open());
  expect(client.state).toBe("open");
  world.tcp("[fd00:18::2]:8080", 40001).syn();
  expect(world.direct.stream.target).toBe("[::1]:8080");
  expect(world.upstream.streams.length).toBe(0);
});

test("a connection of ours that came back through the tunnel is refused, with a line that says so", () => {
  const own = {
    hasConnection: (client: Endpoint, target: Endpoint): boolean =>
      client.port === 40000 && formatEndpoint(target) === "192.0.2.1:1080",
    hasDatagrams: (client: Endpoint): boolean => client.port === 40000,
  };
  const world = new RelayWorld({ relay: { own } });
  const client = world.tcp("192.0.2.1:1080", 40000);
  client.syn();
  expect(client.state).toBe("reset");
  expect(world.errors()).toEqual(["3/1"]);
  expect(world.lines[0]).toMatch(/we sent to 192.0.2.1:1080 came back through the device/);
  world.tcp("192.0.2.1:1080", 40001).syn();
  expect(world.upstream.streams.length).toBe(1);
  world.udp("192.0.2.1:9", 40000, Uint8Array.of(1));
  expect(world.upstream.associations.length).toBe(0);
  world.udp("192.0.2.1:9", 40001, Uint8Array.of(1));
  expect(world.upstream.associations.length).toBe(1);
  expect(world.relay.stats.loops).toBe(2);
});

test("closing the relay resets every flow, pending or open", () => {
  const world = new RelayWorld();
  const open = world.openTcp();
  const pending = world.tcp(TARGET, 41000);
  pending.syn();
  world.act(() => world.relay.close());
  expect(open.state).toBe("reset");
  expect(pending.state).toBe("reset");
  expect(world.upstream.streams.map(({ state }) => state)).toEqual(["reset", "closed"]);
  expect(world.relay.stats.tcpFlows).toBe(0);
});

test("closing the relay starts none of the dials that wait", () => {
  const world = new RelayWorld({ driver: { stack: { maxPendingPerSource: 1024 } } });
  for (let port = 30_000; port < 30_260; port++) world.tcp(TARGET, port).syn();
  expect(world.upstream.streams.length).toBe(256);
  world.act(() => world.relay.close());
  expect(world.upstream.streams.length).toBe(256);
  expect(world.relay.stats.tcpFlows).toBe(0);
});

test.each(["direct", "layered"] as const)(
  "a flow that idles out is reset on both sides: %s (RFC 5382 REQ-5)",
  (shape) => {
    const { world, client } = opened(shape);
    world.advance(7_439_000);
    expect([client.state, world.upstream.stream.state]).toEqual(["open", "open"]);
    world.advance(2000);
    expect([client.state, world.upstream.stream.state]).toEqual(["reset", "reset"]);
    expect(world.relay.stats.tcpFlows).toBe(0);
  },
);
