/** Flows that rules send to one upstream or another, or nowhere. */

import { expect, test } from "vitest";
import { MAX_NAMED } from "../../src/relay/udp-relay.ts";
import { addressOf, query } from "../support/lookups.ts";
import { RelayWorld } from "../support/relay-world.ts";
import { reply } from "../support/scripted-upstream.ts";

const octets = (...values: number[]) => Uint8Array.from(values);

test("TCP flows go where the first rule for them says, the rest to the proxy", () => {
  const world = new RelayWorld({
    rules: [
      "cidr=10.9.0.0/16,port=22 -> direct",
      "cidr=10.9.0.0/16 -> proxy other",
      "cidr=10.0.0.0/8 -> direct",
    ],
  });
  world.tcp("10.9.0.1:22", 40001).syn();
  world.tcp("10.9.0.1:80", 40002).syn();
  world.tcp("10.8.0.1:80", 40003).syn();
  world.tcp("192.0.2.1:80", 40004).syn();
  world.tcp("[fd00::1]:22", 40005).syn();
  expect(world.direct.streams.map(({ target }) => target)).toEqual(["10.9.0.1:22", "10.8.0.1:80"]);
  expect(world.other.streams.map(({ target }) => target)).toEqual(["10.9.0.1:80"]);
  expect(world.upstream.streams.map(({ target }) => target)).toEqual([
    "192.0.2.1:80",
    "[fd00::1]:22",
  ]);
});

test("what a flow carries goes through the upstream of its rule", () => {
  const world = new RelayWorld({ rules: ["port=80 -> proxy other"] });
  const peer = world.tcp("192.0.2.1:80", 40000);
  peer.syn();
  world.act(() => world.other.stream.open());
  peer.send(octets(1, 2, 3));
  expect(peer.state).toBe("open");
  expect(world.other.stream.sentBytes).toEqual(octets(1, 2, 3));
  expect(world.upstream.streams).toEqual([]);
});

test("a flow to a name is matched by its name, never by the address that stands for it", () => {
  const world = new RelayWorld({
    dnsMode: "fake",
    rules: [
      "cidr=0.0.0.0/0|::/0 -> drop",
      "domain=example.com -> proxy other",
      "domain==intra.example -> direct",
    ],
  });
  const open = (name: string, port: number) => {
    world.tcp(`${addressOf(world, name)}:443`, port).syn();
  };
  open("www.example.com", 40001);
  open("intra.example", 40002);
  open("www.intra.example", 40003);
  expect(world.other.streams.map(({ target }) => target)).toEqual(["www.example.com:443"]);
  expect(world.direct.streams.map(({ target }) => target)).toEqual(["intra.example:443"]);
  expect(world.upstream.streams.map(({ target }) => target)).toEqual(["www.intra.example:443"]);
  expect(world.relay.stats.rulesDropped).toBe(0);
});

test("reject answers a SYN with a reset, reject icmp with ICMP before it", () => {
  const world = new RelayWorld({
    rules: ["port=25 -> reject", "port=26 -> reject icmp"],
  });
  const [rst, icmp] = [world.tcp("192.0.2.1:25", 40001), world.tcp("[2001:db8::1]:26", 40002)];
  rst.syn();
  expect(world.errors()).toEqual([]);
  icmp.syn();
  expect(world.errors()).toEqual(["1/1"]);
  expect([rst.state, icmp.state]).toEqual(["reset", "reset"]);
  expect(world.relay.stats).toMatchObject({ rulesRejected: 2, tcpRefused: 2, tcpFlows: 0 });
  expect(world.upstream.streams).toEqual([]);
});

test("drop answers nothing to a SYN, however often it comes, and keeps nothing", () => {
  const world = new RelayWorld({ rules: ["port=25 -> drop"] });
  const peer = world.tcp("192.0.2.1:25", 40001);
  peer.syn();
  peer.syn();
  expect(peer.state).toBe("syn-sent");
  expect(world.errors()).toEqual([]);
  expect(world.relay.stats).toMatchObject({ rulesDropped: 2, tcpRefused: 0, tcpFlows: 0 });
  expect(world.driver.stack.stats.tcpFlows).toBe(0);
});

test("a name whose flow was rejected or dropped is not held by it", () => {
  const world = new RelayWorld({
    dnsMode: "fake",
    rules: ["domain=bad.example -> reject", "domain=worse.example -> drop"],
  });
  const bad = world.tcp(`${addressOf(world, "bad.example")}:443`, 40001);
  bad.syn();
  const worse = world.tcp(`${addressOf(world, "worse.example")}:443`, 40002);
  worse.syn();
  expect([bad.state, worse.state]).toEqual(["reset", "syn-sent"]);
  expect(world.upstream.streams).toEqual([]);
});

test("one source's datagrams go to several upstreams by destination, and each is answered", () => {
  const world = new RelayWorld({
    rules: ["cidr=10.0.0.0/8 -> direct", "port=3478 -> proxy other"],
  });
  world.udp("10.0.0.1:9", 5000, octets(1));
  world.udp("192.0.2.1:3478", 5000, octets(2));
  world.udp("192.0.2.1:9", 5000, octets(3));
  world.udp("10.0.0.9:9", 5000, octets(4));
  const ways = [world.direct, world.other, world.upstream];
  for (const { association } of ways) world.act(() => association.open());
  expect(ways.map(({ association }) => association.sent.map(({ to }) => to))).toEqual([
    ["10.0.0.1:9", "10.0.0.9:9"],
    ["192.0.2.1:3478"],
    ["192.0.2.1:9"],
  ]);
  expect(ways.map(({ associations }) => associations.length)).toEqual([1, 1, 1]);
  world.udp("10.0.0.9:9", 5000, octets(5));
  expect(world.direct.association.sent.length).toBe(3);
  world.act(() => world.direct.association.deliver("10.0.0.9:9", octets(6)));
  world.act(() => world.other.association.deliver("192.0.2.1:3478", octets(7)));
  expect(world.datagrams().map(({ source, sourcePort }) => `${source}:${sourcePort}`)).toEqual([
    "10.0.0.9:9",
    "192.0.2.1:3478",
  ]);
});

test("a datagram to a name goes through the upstream of its rule, and the answer is the name's", () => {
  const world = new RelayWorld({ dnsMode: "fake", rules: ["domain=example.com -> proxy other"] });
  const address = addressOf(world, "ntp.example.com");
  world.udp(`${address}:123`, 5000, octets(1));
  const { association } = world.other;
  world.act(() => association.open());
  expect(association.sent).toEqual([{ to: "ntp.example.com:123", payload: octets(1) }]);
  world.act(() => association.deliver("192.0.2.9:123", octets(2)));
  expect(world.datagrams().map(({ source }) => source)).toEqual([address]);
  // Names elsewhere, and addresses, have ways of their own.
  world.udp(`${addressOf(world, "ntp.example")}:123`, 5000, octets(3));
  world.act(() => world.upstream.association.open());
  expect(world.upstream.association.sent.map(({ to }) => to)).toEqual(["ntp.example:123"]);
});

test("a source that asks for a name and talks elsewhere by rule keeps its life", () => {
  const world = new RelayWorld({ rules: ["port=1 -> proxy other"] });
  world.udp("192.0.2.1:1", 5000, octets(1));
  world.act(() => world.other.association.open());
  world.udp("198.18.0.3:53", 5000, query("www.example", "A"));
  world.advance(60_000);
  expect(world.other.association.state).toBe("open");
});

test("datagrams of one source to changing targets are judged each by its own", () => {
  const world = new RelayWorld({ rules: ["port=1 -> drop", "port=2 -> proxy other"] });
  for (const port of [1, 1, 2, 2, 1, 3, 2]) world.udp(`192.0.2.1:${port}`, 5000, octets(port));
  world.act(() => world.other.association.open());
  world.act(() => world.upstream.association.open());
  expect(world.relay.stats.rulesDropped).toBe(3);
  expect(world.other.association.sent.length).toBe(3);
  expect(world.upstream.association.sent.length).toBe(1);
});

test("names of one source by rules keep their bound: the one unused for longest gives way", () => {
  const world = new RelayWorld({ dnsMode: "fake", rules: ["domain=example -> proxy other"] });
  for (let i = 0; i <= MAX_NAMED; i++) {
    world.udp(`${addressOf(world, `n${i}.example`)}:123`, 5000, octets(i));
    world.act(() => world.other.association.open());
  }
  const states = world.other.associations.map(({ state }) => state);
  expect(states.length).toBe(MAX_NAMED + 1);
  expect(states.filter((state) => state === "closed").length).toBe(1);
  expect(states[0]).toBe("closed");
});

test("reject refuses a datagram by ICMP, drop says nothing", () => {
  const world = new RelayWorld({
    rules: ["port=1 -> reject", "port=2 -> reject icmp", "port=3 -> drop"],
  });
  for (const port of [1, 2, 3]) world.udp(`192.0.2.1:${port}`, 5000, octets(port));
  expect(world.errors()).toEqual(["3/3", "3/13"]);
  expect(world.upstream.associations).toEqual([]);
  expect(world.relay.stats).toMatchObject({ rulesRejected: 2, rulesDropped: 1 });
});

test("rules tell protocols apart", () => {
  const world = new RelayWorld({ rules: ["proto=udp -> drop", "proto=tcp -> proxy other"] });
  world.udp("192.0.2.1:443", 5000, octets(1));
  world.tcp("192.0.2.1:443", 40000).syn();
  expect(world.other.streams.length).toBe(1);
  expect(world.relay.stats.rulesDropped).toBe(1);
});

test("a query to a resolver that a rule is for is a datagram like others, to our own it is a lookup", () => {
  const world = new RelayWorld({ rules: ["cidr=10.0.0.53 -> direct", "port=53 -> drop"] });
  world.udp("10.0.0.53:53", 5000, query("intra.example", "A"));
  world.act(() => world.direct.association.open());
  expect(world.direct.association.sent.map(({ to }) => to)).toEqual(["10.0.0.53:53"]);
  expect(world.relay.stats.dnsQueries).toBe(0);
  // The last rule is not for 198.18.0.3, which is ours.
  world.udp("198.18.0.3:53", 5001, query("www.example", "A"));
  expect(world.relay.stats).toMatchObject({ dnsQueries: 1, rulesDropped: 0 });
});

test("the host's loopback is not theirs either", () => {
  const world = new RelayWorld({ hostLoopback: true, rules: ["any -> drop"] });
  world.tcp("198.18.0.2:80", 40000).syn();
  expect(world.direct.streams.map(({ target }) => target)).toEqual(["127.0.0.1:80"]);
});

test("an upstream by rule that has no UDP refuses its own datagrams only", () => {
  const world = new RelayWorld({ rules: ["port=1 -> proxy other"] });
  world.udp("192.0.2.1:1", 5000, octets(1));
  world.act(() => world.other.association.refuse(reply(7)));
  world.udp("192.0.2.1:1", 5001, octets(1));
  world.udp("192.0.2.1:2", 5001, octets(2));
  expect(world.errors()).toEqual(["3/3", "3/3"]);
  expect(world.other.associations.length).toBe(1);
  expect(world.upstream.associations.length).toBe(1);
});

test("a source lives on while one of its ways is left when another gives way", () => {
  const world = new RelayWorld({
    relay: { maxAssociations: 2 },
    rules: ["port=1 -> proxy other", "port=2 -> direct"],
  });
  world.udp("192.0.2.1:1", 5000, octets(1));
  world.udp("192.0.2.1:2", 5000, octets(2));
  for (const { association } of [world.other, world.direct]) world.act(() => association.open());
  world.udp("192.0.2.1:2", 5001, octets(3));
  expect(world.other.association.state).toBe("closed");
  expect(world.relay.stats).toMatchObject({ udpFlows: 2, associationsEvicted: 1 });
  world.udp("192.0.2.1:2", 5002, octets(4));
  expect(world.relay.stats).toMatchObject({ udpFlows: 2, associationsEvicted: 2 });
});

test("all ways of a source end with the relay", () => {
  const world = new RelayWorld({ rules: ["port=1 -> proxy other", "port=2 -> direct"] });
  for (const port of [1, 2, 3]) world.udp(`192.0.2.1:${port}`, 5000, octets(port));
  const ways = [world.other, world.direct, world.upstream].map(({ association }) => association);
  for (const association of ways) world.act(() => association.open());
  world.act(() => world.relay.close());
  expect(world.relay.stats).toMatchObject({ udpFlows: 0, associations: 0 });
  expect(ways.map(({ state }) => state)).toEqual(["closed", "closed", "closed"]);
});

test("a rule for an upstream that is not there is refused when it is made", () => {
  expect(() => new RelayWorld({ rules: ["port=1 -> proxy othr"] })).toThrow(
    'cannot use the rule "port=1 -> proxy othr": no upstream is called othr; did you mean other?',
  );
});
