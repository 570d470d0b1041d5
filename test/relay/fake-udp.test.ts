/** Datagrams to addresses that stand for names (`--dns fake`). */

import { expect, test } from "vitest";
import { HOLD } from "../../src/relay/fake-names.ts";
import { MAX_NAMED } from "../../src/relay/udp-relay.ts";
import { addressOf, ask, fakeWorld, query } from "../support/lookups.ts";
import type { RelayWorld } from "../support/relay-world.ts";
import { reply } from "../support/scripted-upstream.ts";

/** Sends to `name` and opens the association for it. */
function send(world: RelayWorld, name: string, port: number, client = 5000): string {
  const address = addressOf(world, name);
  world.udp(`${address}:${port}`, client, Uint8Array.of(1));
  return address;
}

/** "ADDRESS:PORT" of what came to clients. */
function sources(world: RelayWorld): string[] {
  return world.datagrams().map(({ source, sourcePort }) => `${source}:${sourcePort}`);
}

test("a datagram goes to the name, and the answer comes from the address it was sent to", () => {
  const world = fakeWorld();
  const address = send(world, "ntp.example", 123);
  const { association } = world.upstream;
  world.act(() => association.open());
  expect(association.sent).toEqual([{ to: "ntp.example:123", payload: Uint8Array.of(1) }]);
  world.act(() => association.deliver("192.0.2.9:123", Uint8Array.of(2)));
  world.act(() => association.deliver("[2001:db8::9]:123", Uint8Array.of(3)));
  // A proxy that answers with the name: no address (src/socks/ports.ts).
  world.act(() => association.deliver("[::]:123", Uint8Array.of(4)));
  expect(sources(world)).toEqual(new Array(3).fill(`${address}:123`));
});

test("over IPv6 the answer comes from the IPv6 address of the name", () => {
  const world = fakeWorld();
  const address = addressOf(world, "ntp.example", "AAAA");
  world.udp(`[${address}]:123`, 5000, Uint8Array.of(1));
  const { association } = world.upstream;
  world.act(() => association.open());
  world.act(() => association.deliver("192.0.2.9:123", Uint8Array.of(2)));
  expect(sources(world)).toEqual([`${address}:123`]);
});

test("peers share the association of the first name, and keep their addresses (RFC 4787 REQ-1)", () => {
  const world = fakeWorld();
  const stun = send(world, "stun.example", 3478);
  const { association } = world.upstream;
  world.act(() => association.open());
  world.udp("192.0.2.50:40404", 5000, Uint8Array.of(2));
  expect(world.upstream.associations.length).toBe(1);
  expect(association.sent.map(({ to }) => to)).toEqual(["stun.example:3478", "192.0.2.50:40404"]);
  world.act(() => association.deliver("192.0.2.9:3478", Uint8Array.of(3)));
  world.act(() => association.deliver("192.0.2.50:40404", Uint8Array.of(4)));
  world.act(() => association.deliver("192.0.2.51:40405", Uint8Array.of(5)));
  world.act(() => association.deliver("[::]:40406", Uint8Array.of(6)));
  expect(sources(world)).toEqual([`${stun}:3478`, "192.0.2.50:40404", "192.0.2.51:40405"]);
});

test("what could be taken for the first name has an association of its own: other names, the same port", () => {
  const world = fakeWorld();
  const first = send(world, "stun1.example", 3478);
  const second = send(world, "stun2.example", 3478);
  world.udp("192.0.2.60:3478", 5000, Uint8Array.of(1));
  const [one, two, three] = world.upstream.associations;
  for (const association of [one!, two!, three!]) world.act(() => association.open());
  expect([one!, two!, three!].map(({ sent }) => sent[0]!.to)).toEqual([
    "stun1.example:3478",
    "stun2.example:3478",
    "192.0.2.60:3478",
  ]);
  world.act(() => two!.deliver("192.0.2.9:3478", Uint8Array.of(2)));
  world.act(() => one!.deliver("192.0.2.9:3478", Uint8Array.of(2)));
  world.act(() => three!.deliver("192.0.2.60:3478", Uint8Array.of(2)));
  expect(sources(world)).toEqual([`${second}:3478`, `${first}:3478`, "192.0.2.60:3478"]);
  // And again by the same ones.
  send(world, "stun1.example", 3478);
  send(world, "stun2.example", 3478);
  expect(world.upstream.associations.length).toBe(3);
});

test("a name that comes after addresses has an association of its own", () => {
  const world = fakeWorld();
  world.udp("192.0.2.50:443", 5000, Uint8Array.of(1));
  const address = send(world, "www.example", 443);
  const [byAddress, byName] = world.upstream.associations;
  world.act(() => byAddress!.open());
  world.act(() => byName!.open());
  world.act(() => byAddress!.deliver("192.0.2.50:443", Uint8Array.of(2)));
  world.act(() => byName!.deliver("192.0.2.50:443", Uint8Array.of(2)));
  expect(sources(world)).toEqual(["192.0.2.50:443", `${address}:443`]);
});

test("datagrams to port 53 of a name are its own business, not lookups", () => {
  const world = fakeWorld();
  const address = addressOf(world, "ns.example");
  world.udp(`${address}:53`, 5000, query("www.example", "A"));
  world.act(() => world.upstream.association.open());
  expect(world.upstream.association.sent[0]!.to).toBe("ns.example:53");
});

test("to an address that stands for no name: host unreachable, and nothing is asked of the proxy", () => {
  const world = fakeWorld();
  world.udp("198.19.1.1:9", 5000, Uint8Array.of(1));
  world.udp("[fd00:18::1:0:1]:9", 5001, Uint8Array.of(1));
  expect(world.errors()).toEqual(["3/1", "1/3"]);
  expect(world.upstream.associations.length).toBe(0);
  expect(world.relay.stats).toMatchObject({ namelessFlows: 2, datagramsRefused: 2 });
});

test("a refused association is told for the address that was sent to", () => {
  const world = fakeWorld();
  send(world, "ntp.example", 123);
  world.act(() => world.upstream.association.refuse(reply(2)));
  expect(world.errors()).toEqual(["3/13"]);
});

test("a datagram too big with the name in its header is refused with the size that fits (RFC 1928 §7)", () => {
  const world = fakeWorld({ driver: { mtu: 65_535 } });
  send(world, "ntp.example", 123);
  const { association } = world.upstream;
  world.act(() => association.open());
  const address = addressOf(world, "ntp.example");
  const room = 65_507 - 7 - "ntp.example".length;
  world.udp(`${address}:123`, 5000, new Uint8Array(room));
  expect(association.sent.length).toBe(2);
  expect(world.errors()).toEqual([]);
  world.udp(`${address}:123`, 5000, new Uint8Array(room + 1));
  expect(association.sent.length).toBe(2);
  expect(world.errors()).toEqual(["3/4"]);
  expect(world.relay.stats.datagramsTooBig).toBe(1);
});

test("one flow has seventeen names at a time: the one unused for longest gives way", () => {
  const world = fakeWorld();
  const name = (i: number): string => `n${i}.example`;
  for (let i = 0; i <= MAX_NAMED; i++) send(world, name(i), 9);
  expect(MAX_NAMED).toBe(16);
  expect(world.relay.stats.associations).toBe(17);
  send(world, name(1), 9);
  send(world, "one.more", 9);
  expect(world.relay.stats.associations).toBe(17);
  expect(world.upstream.associations.map(({ state }) => state).indexOf("closed")).toBe(2);
});

test("a name with a flow keeps its address, and for 70 s after the flow has ended", () => {
  const world = fakeWorld({ fakePrefix: 26, relay: { udpTimeout: 300_000 } });
  const address = send(world, "n0.example", 9);
  send(world, "n1.example", 9);
  for (let i = 2; i < 47; i++) addressOf(world, `n${i}.example`);
  world.advance(HOLD + 10_000);
  for (let i = 0; i < 45; i++) addressOf(world, `m${i}.example`);
  expect(world.relay.stats.dnsExhausted).toBe(0);
  expect(ask(world, query("one.more", "A"))).toMatchObject({ rcode: "SERVFAIL" });
  // The flow ends meanwhile, and the other names are asked for again after it.
  world.advance(300_000 - HOLD + 1_000);
  expect(world.relay.stats.udpFlows).toBe(0);
  for (let i = 0; i < 45; i++) addressOf(world, `m${i}.example`);
  world.advance(HOLD - 12_000);
  expect(ask(world, query("one.more", "A"))).toMatchObject({ rcode: "SERVFAIL" });
  world.advance(11_000);
  expect(addressOf(world, "one.more")).toBe(address);
});
