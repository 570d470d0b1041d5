/** `--udp shared`: client endpoints that share associations. */

import { expect, test } from "vitest";
import { MAX_TARGETS, TARGET_LIFE, WELL_KNOWN_LIFE } from "../../src/relay/target-sets.ts";
import { LINGER, MAX_SHARING, MAX_TARGETS_SHARED } from "../../src/relay/udp-shared.ts";
import { buildUdp } from "../../src/testing/packet-builder.ts";
import { addressOf, fakeWorld } from "../support/lookups.ts";
import { CLIENT4, RelayWorld, type RelayWorldOptions } from "../support/relay-world.ts";
import { reply } from "../support/scripted-upstream.ts";

const ONE = "192.0.2.1:4000";
const TWO = "192.0.2.2:4000";
const THREE = "192.0.2.3:4000";

function sharing({ relay, ...others }: RelayWorldOptions = {}): RelayWorld {
  return new RelayWorld({ relay: { udp: "shared", nofile: 20_000, ...relay }, ...others });
}

function octets(...values: readonly number[]): Uint8Array {
  return Uint8Array.from(values);
}

/** A datagram from `port`; what is asked of the proxy is granted. */
function send(world: RelayWorld, target: string, port: number): void {
  world.udp(target, port, octets(port & 255));
  for (const association of world.upstream.associations) {
    if (association.state === "dialing") world.act(() => association.open());
  }
}

/** "SOURCE>PORT" of what came to clients. */
function heard(world: RelayWorld): string[] {
  return world
    .datagrams()
    .map(({ source, sourcePort, destinationPort }) => `${source}:${sourcePort}>${destinationPort}`);
}

/** An answer comes through the `index`-th association. */
function answer(world: RelayWorld, from: string, index = 0): void {
  world.act(() => world.upstream.associations[index]!.deliver(from, octets(1)));
}

test("endpoints whose targets are disjoint share one association, and each hears its own", () => {
  const world = sharing();
  for (let i = 0; i < 100; i++) send(world, `192.0.2.${i}:53000`, 5000 + i);
  expect(world.upstream.associations.length).toBe(1);
  expect(world.upstream.association.sent.length).toBe(100);
  answer(world, "192.0.2.7:53000");
  answer(world, "192.0.2.99:53000");
  expect(heard(world)).toEqual(["192.0.2.7:53000>5007", "192.0.2.99:53000>5099"]);
  expect(world.relay.stats).toMatchObject({ associations: 1, udpFlows: 100, datagramsDown: 2 });
});

test("a target in use by another endpoint opens a second association, the rest stays on the first", () => {
  const world = sharing();
  send(world, ONE, 5000);
  send(world, ONE, 5001);
  send(world, TWO, 5001);
  send(world, THREE, 5000);
  send(world, ONE, 5001);
  const [first, second] = world.upstream.associations;
  expect(world.upstream.associations.length).toBe(2);
  expect(first!.sent.map(({ to }) => to)).toEqual([ONE, THREE]);
  expect(second!.sent.map(({ to }) => to)).toEqual([ONE, TWO, ONE]);
  answer(world, ONE, 1);
  answer(world, ONE, 0);
  expect(heard(world)).toEqual([`${ONE}>5001`, `${ONE}>5000`]);
  send(world, ONE, 5002);
  expect(world.upstream.associations.length).toBe(3);
});

test("what nobody sent to is dropped and counted while an association is shared (RFC 4787 §5)", () => {
  const world = sharing();
  send(world, ONE, 5000);
  answer(world, THREE);
  expect(heard(world)).toEqual([`${THREE}>5000`]);
  send(world, TWO, 5001);
  answer(world, THREE);
  answer(world, "192.0.2.1:4001");
  expect(heard(world)).toEqual([]);
  expect(world.relay.stats.datagramsUnsolicited).toBe(2);
});

test("what is late for an endpoint that has gone never reaches one that is left", () => {
  const world = sharing({ driver: { stack: { udpTimeout: 20_000 } } });
  send(world, ONE, 5000);
  world.advance(15_000);
  send(world, TWO, 5001);
  world.advance(10_000);
  expect(world.relay.stats.udpFlows).toBe(1);
  answer(world, ONE);
  expect(heard(world)).toEqual([]);
  expect(world.relay.stats.datagramsUnsolicited).toBe(1);
});

test("a silent target goes to another endpoint after two minutes, a well-known one that has answered after ten seconds (RFC 4787 REQ-5)", () => {
  const world = sharing();
  const known = "192.0.2.1:853";
  send(world, ONE, 5000);
  send(world, known, 5000);
  answer(world, ONE);
  answer(world, known);
  world.advance(WELL_KNOWN_LIFE - 10);
  send(world, known, 5001);
  expect(world.upstream.associations.length).toBe(2);
  world.advance(20);
  send(world, known, 5002);
  expect(world.upstream.associations.length).toBe(2);
  heard(world);
  answer(world, known);
  expect(heard(world)).toEqual([`${known}>5002`]);
  world.advance(TARGET_LIFE - WELL_KNOWN_LIFE - 100);
  send(world, ONE, 5003);
  world.advance(200);
  send(world, ONE, 5004);
  answer(world, ONE, 0);
  expect(heard(world)).toEqual([`${ONE}>5004`]);
  expect(world.upstream.associations.length).toBe(2);
});

test("a resolver with a new source port for every query needs one association, not one per query", () => {
  const ask = (world: RelayWorld): number => {
    for (let i = 0; i < 120; i++) {
      const server = `192.0.2.${i % 12}:853`;
      send(world, server, 10_000 + i);
      answer(world, server, world.upstream.associations.length - 1);
      world.advance(1000);
    }
    expect(heard(world).length).toBe(120);
    return world.upstream.associations.length;
  };
  expect(ask(sharing())).toBe(1);
  expect(ask(sharing({ relay: { udp: "per-source" } }))).toBe(120);
});

test("an association takes 256 endpoints, then there is another", () => {
  const world = sharing();
  const target = (i: number): string => `192.0.${i >> 8}.${i & 255}:4000`;
  for (let i = 0; i <= MAX_SHARING; i++) send(world, target(i), 5000 + i);
  expect(MAX_SHARING).toBe(256);
  expect(world.upstream.associations.map(({ sent }) => sent.length)).toEqual([256, 1]);
  // Those that are on it may have more targets there.
  send(world, THREE, 5000);
  expect(world.upstream.associations[0]!.sent.length).toBe(257);
});

test("it takes 1,024 targets, all together 16,384: then the longest unused gives way", () => {
  const world = sharing();
  const inject = (from: number, to: number): void => {
    for (let i = from; i < to; i++) {
      const destination = `192.${i >> 16}.${(i >> 8) & 255}.${i & 255}`;
      const ports = { sourcePort: 5000, destinationPort: 4000 };
      world.inject(buildUdp({ source: CLIENT4, destination, ...ports, payload: octets(1) }));
      if (i % 64 === 63) world.settle();
    }
    world.settle();
  };
  inject(0, 1);
  world.act(() => world.upstream.association.open());
  inject(1, MAX_TARGETS_SHARED);
  expect(world.upstream.associations.length).toBe(1);
  inject(MAX_TARGETS_SHARED, MAX_TARGETS);
  expect(world.upstream.associations.length).toBe(MAX_TARGETS / MAX_TARGETS_SHARED);
  expect(world.relay.stats.targetsEvicted).toBe(0);
  inject(MAX_TARGETS, MAX_TARGETS + 1);
  expect(world.relay.stats.targetsEvicted).toBe(1);
  expect(world.upstream.associations.length).toBe(16);
});

test("one datagram of each endpoint may wait for an association", () => {
  const world = sharing();
  for (let i = 0; i <= MAX_SHARING; i++)
    world.udp(`192.0.2.${i & 255}:${4000 + i}`, 5000, octets(1));
  expect(world.relay.stats.datagramsNotWaited).toBe(1);
});

test("an association without a target is kept for a minute, then closed", () => {
  const world = sharing({ driver: { stack: { udpTimeout: 20_000 } } });
  send(world, ONE, 5000);
  world.advance(21_000);
  expect(world.relay.stats.udpFlows).toBe(0);
  world.advance(LINGER - 2_000);
  send(world, TWO, 5001);
  expect(world.upstream.associations.length).toBe(1);
  world.advance(21_000 + LINGER);
  expect(world.upstream.association.state).toBe("closed");
  expect(world.relay.stats.associations).toBe(0);
  send(world, TWO, 5001);
  expect(world.upstream.associations.length).toBe(2);
});

test("a refusal is told to each endpoint about its own target", () => {
  const world = sharing();
  world.udp(ONE, 5000, octets(1));
  world.udp(TWO, 5001, octets(2));
  world.act(() => world.upstream.association.refuse(reply(2)));
  expect(world.errors()).toEqual(["3/13", "3/13"]);
  expect(world.relay.stats.datagramsRefused).toBe(2);
});

test("a datagram too big is told to the endpoint that sent it", () => {
  const world = sharing({ driver: { mtu: 9000 } });
  send(world, ONE, 5000);
  world.upstream.association.largest = 1500;
  world.udp(ONE, 5000, new Uint8Array(1491));
  expect(world.icmp()).toMatchObject([{ type: 3, code: 4, rest: 1500 - 10 + 28 }]);
});

test("an association that gives way is made again by the next datagram, and its flows live on", () => {
  const world = sharing({ relay: { maxAssociations: 1 } });
  send(world, ONE, 5000);
  send(world, ONE, 5001);
  expect(world.upstream.associations.map(({ state }) => state)).toEqual(["closed", "open"]);
  expect(world.relay.stats).toMatchObject({ udpFlows: 2, associationsEvicted: 1 });
  send(world, TWO, 5000);
  expect(world.upstream.associations.length).toBe(2);
  answer(world, TWO, 1);
  expect(heard(world)).toEqual([`${TWO}>5000`]);
});

test("a lost association is made again for all that share it", () => {
  const world = sharing();
  send(world, ONE, 5000);
  send(world, TWO, 5001);
  world.act(() => world.upstream.association.lose());
  world.udp(ONE, 5000, octets(3));
  world.udp(TWO, 5001, octets(4));
  world.advance(1010);
  world.act(() => world.upstream.association.open());
  expect(world.upstream.association.sent.map(({ to }) => to)).toEqual([ONE, TWO]);
  answer(world, TWO, 1);
  expect(heard(world)).toEqual([`${TWO}>5001`]);
});

test("closing the relay closes them", () => {
  const world = sharing();
  send(world, ONE, 5000);
  send(world, ONE, 5001);
  world.act(() => world.relay.close());
  expect(world.upstream.associations.map(({ state }) => state)).toEqual(["closed", "closed"]);
  expect(world.relay.stats).toMatchObject({ associations: 0, udpFlows: 0 });
});

test("a name is a target that has its port for itself", () => {
  const world = fakeWorld({ relay: { udp: "shared", nofile: 20_000 } });
  const a = addressOf(world, "a.example");
  const b = addressOf(world, "b.example");
  send(world, `${a}:443`, 5000);
  send(world, `${b}:8443`, 5001);
  expect(world.upstream.associations.length).toBe(1);
  send(world, `${b}:443`, 5001);
  send(world, "192.0.2.9:443", 5002);
  send(world, `${a}:443`, 5003);
  const sent = world.upstream.associations.map((one) => one.sent.map(({ to }) => to));
  expect(sent).toEqual([
    ["a.example:443", "b.example:8443"],
    ["b.example:443"],
    ["192.0.2.9:443"],
    ["a.example:443"],
  ]);
  answer(world, "198.51.100.1:443", 0);
  answer(world, "198.51.100.2:8443", 0);
  answer(world, "[::]:443", 1);
  answer(world, "198.51.100.1:443", 2);
  answer(world, "[2001:db8::1]:443", 3);
  expect(heard(world)).toEqual([
    `${a}:443>5000`,
    `${b}:8443>5001`,
    `${b}:443>5001`,
    "198.51.100.1:443>5002",
    `${a}:443>5003`,
  ]);
});

test("what waits for an association goes where it was sent, whoever has that port by then", () => {
  const world = fakeWorld({
    relay: { udp: "shared", nofile: 20_000 },
    driver: { stack: { udpTimeout: 20_000 } },
  });
  const name = addressOf(world, "a.example");
  world.udp("192.0.2.9:443", 5000, octets(1));
  world.advance(25_000);
  expect(world.relay.stats.udpFlows).toBe(0);
  world.udp(`${name}:443`, 5001, octets(2));
  expect(world.upstream.associations.length).toBe(1);
  world.act(() => world.upstream.association.open());
  expect(world.upstream.association.sent.map(({ to }) => to)).toEqual([
    "192.0.2.9:443",
    "a.example:443",
  ]);
});

test("a name keeps its address while it is a target", () => {
  const world = fakeWorld({ fakePrefix: 26, relay: { udp: "shared", udpTimeout: 300_000 } });
  const address = addressOf(world, "n0.example");
  send(world, `${address}:9`, 5000);
  world.advance(100_000);
  for (let i = 0; i < 46; i++) addressOf(world, `m${i}.example`);
  send(world, `${address}:9`, 5000);
  expect(world.upstream.association.sent.map(({ to }) => to)).toEqual([
    "n0.example:9",
    "n0.example:9",
  ]);
});

test("an address that stands for no name is refused", () => {
  const world = fakeWorld({ relay: { udp: "shared" } });
  world.udp("198.19.1.1:9", 5000, octets(1));
  expect(world.errors()).toEqual(["3/1"]);
  expect(world.relay.stats.namelessFlows).toBe(1);
});

test("by rules each upstream has associations of its own to share", () => {
  const world = sharing({ rules: ["cidr=10.0.0.0/8 -> proxy other", "port=1 -> drop"] });
  const ways = [world.upstream, world.other];
  for (let port = 5000; port < 5003; port++) {
    world.udp(`192.0.2.${port & 255}:9`, port, octets(1));
    world.udp(`10.0.0.${port & 255}:9`, port, octets(2));
    world.udp(`10.0.1.${port & 255}:9`, port, octets(3));
  }
  for (const { association } of ways) world.act(() => association.open());
  expect(ways.map(({ associations }) => associations.length)).toEqual([1, 1]);
  expect(ways.map(({ association }) => association.sent.length)).toEqual([3, 6]);
  world.act(() => world.other.association.deliver("10.0.1.138:9", octets(1)));
  world.act(() => world.other.association.deliver("192.0.2.138:9", octets(1)));
  expect(heard(world)).toEqual(["10.0.1.138:9>5002"]);
  world.act(() => world.relay.close());
  expect(ways.map(({ association }) => association.state)).toEqual(["closed", "closed"]);
  expect(world.relay.stats).toMatchObject({ associations: 0, udpFlows: 0 });
});

test("--host-loopback is not shared", () => {
  const world = sharing({ hostLoopback: true });
  world.udp("198.18.0.2:9", 5000, octets(1));
  world.act(() => world.direct.association.open());
  expect(world.direct.association.sent).toEqual([{ to: "127.0.0.1:9", payload: octets(1) }]);
  expect(world.upstream.associations.length).toBe(0);
});
