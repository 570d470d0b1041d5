/** `--dns fake`: host names get addresses of ours, and flows to these go upstream by name. */

import { decode, encode } from "dns-packet";
import { expect, test } from "vitest";
import { HOLD } from "../../src/relay/fake-names.ts";
import { buildIcmp } from "../../src/testing/packet-builder.ts";
import { addressOf, ask, data, fakeWorld, query } from "../support/lookups.ts";
import { CLIENT4, RelayWorld } from "../support/relay-world.ts";

/** What was asked of the proxy. */
function upstreamUses(world: RelayWorld): number {
  return world.upstream.streams.length + world.upstream.associations.length;
}

/** What the resolver behind the proxy was asked, "NAME TYPE". */
function forwarded(world: RelayWorld): string[] {
  return world.upstream.associations.flatMap(({ sent }) =>
    sent.map(({ payload }) => {
      const [question] = decode(Buffer.from(payload)).questions!;
      return `${question!.name} ${question!.type}`;
    }),
  );
}

test("A and AAAA are answered at once with addresses of ours, and nobody is asked", () => {
  const world = fakeWorld();
  const message = ask(world, query("www.example.com", "A"))!;
  expect(message).toMatchObject({ id: 77, rcode: "NOERROR", flag_aa: true, flag_ra: true });
  expect(message.answers).toMatchObject([{ name: "www.example.com", type: "A", ttl: 10 }]);
  const [v4] = data(message) as string[];
  expect(v4).toMatch(/^198\.1[89]\.\d+\.\d+$/);
  const v6 = addressOf(world, "www.example.com", "AAAA");
  expect(v6).toMatch(/^fd00:18::c61[23]:[0-9a-f]+$/);
  expect(addressOf(world, "www.example.com")).toBe(v4);
  expect(addressOf(world, "www.example.org")).not.toBe(v4);
  expect(upstreamUses(world)).toBe(0);
  expect(world.relay.stats).toMatchObject({ dnsQueries: 4, dnsFaked: 4, dnsMalformed: 0 });
});

test("a flow to the address asks the proxy for the name, over either family", () => {
  const world = fakeWorld();
  const v4 = addressOf(world, "www.example.com");
  const v6 = addressOf(world, "www.example.com", "AAAA");
  const first = world.tcp(`${v4}:443`, 40000);
  first.syn();
  expect(world.upstream.stream.target).toBe("www.example.com:443");
  expect(first.state).toBe("syn-sent");
  world.act(() => world.upstream.stream.open());
  expect(first.state).toBe("open");
  world.tcp(`[${v6}]:80`, 40001).syn();
  expect(world.upstream.stream.target).toBe("www.example.com:80");
});

test("a flow to an address that stands for no name is refused without asking the proxy", () => {
  const world = fakeWorld();
  for (const [target, port] of [
    ["198.19.1.1:80", 40000],
    ["[fd00:18::c613:101]:80", 40001],
    ["[fd00:18::1:0:1]:80", 40002],
    ["198.19.255.255:80", 40003],
  ] as const) {
    const peer = world.tcp(target, port);
    peer.syn();
    expect(peer.state).toBe("reset");
  }
  expect(world.errors()).toEqual(["3/1", "1/3", "1/3", "3/1"]);
  expect(upstreamUses(world)).toBe(0);
  expect(world.relay.stats).toMatchObject({ namelessFlows: 4, tcpRefused: 4 });
});

test("the tunnel's own addresses are no names: their rules stay", () => {
  const world = fakeWorld({ hostLoopback: true });
  const host = world.tcp("198.18.0.2:80", 40000);
  host.syn();
  expect(world.direct.stream.target).toBe("127.0.0.1:80");
  const reserved = world.tcp("198.18.0.9:80", 40001);
  reserved.syn();
  expect(reserved.state).toBe("reset");
  expect(addressOf(world, "host.tun2socks.internal")).toBe("198.18.0.2");
  expect(upstreamUses(world)).toBe(0);
});

test("without fake mode the range is like any other", () => {
  const world = new RelayWorld();
  world.tcp("198.18.7.7:80", 40000).syn();
  expect(world.upstream.stream.target).toBe("198.18.7.7:80");
});

test("names are one name whatever their case, and the question comes back as it was (RFC 4343, 0x20)", () => {
  const world = fakeWorld();
  const address = addressOf(world, "www.example.com");
  const message = ask(world, query("wWw.ExAmPlE.cOm", "A"))!;
  expect(message.questions).toMatchObject([{ name: "wWw.ExAmPlE.cOm" }]);
  expect(data(message)).toEqual([address]);
  world.tcp(`${address}:80`, 40000).syn();
  expect(world.upstream.stream.target).toBe("www.example.com:80");
});

test.each([
  ["a single label", "intranet"],
  ["local (its proxy may know it)", "printer.local"],
  ["onion (a proxy may be Tor)", "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion"],
  ["home.arpa, which is for hosts (RFC 8375)", "nas.home.arpa"],
  ["an internationalised name", "xn--bcher-kva.example"],
  ["a name in UTF-8 (RFC 2181 §11)", "bücher.example"],
  ["underscores", "_srv._tcp.my_host.example"],
  ["253 characters, the longest there is (RFC 1035 §3.1)", longest()],
])("a flow goes by name for %s", (_what, name) => {
  const world = fakeWorld();
  // With EDNS the answer for the longest name fits into a datagram.
  const message = ask(world, query(name, "A", { additionals: [opt()] }))!;
  expect(message.answers).toMatchObject([{ name }]);
  world.tcp(`${data(message)[0]}:80`, 40000).syn();
  expect(world.upstream.stream.target).toBe(`${name}:80`);
});

function longest(): string {
  const label = "a".repeat(63);
  return [label, label, label, "b".repeat(61)].join(".");
}

function opt(ednsVersion = 0) {
  return {
    type: "OPT" as const,
    name: ".",
    udpPayloadSize: 4096,
    extendedRcode: 0,
    ednsVersion,
    flags: 0x8000,
    flag_do: true,
    options: [],
  };
}

test("an answer above 512 octets is for those that said they take it (RFC 1035 §4.2.1)", () => {
  const world = fakeWorld();
  expect(ask(world, query(longest(), "A"))).toMatchObject({ flag_tc: true, answers: [] });
});

test("a query with EDNS gets an answer with EDNS, and an unknown version BADVERS (RFC 6891 §6.1)", () => {
  const world = fakeWorld();
  const message = ask(world, query("example.com", "A", { additionals: [opt()] }))!;
  expect(message.additionals).toMatchObject([{ type: "OPT", ednsVersion: 0, flag_do: true }]);
  expect(message.answers!.length).toBe(1);
  const tooNew = ask(world, query("example.com", "A", { additionals: [opt(1)] }))!;
  expect(tooNew.additionals).toMatchObject([{ type: "OPT", extendedRcode: 1 }]);
  expect(tooNew.answers).toEqual([]);
});

test.each(["UNKNOWN_65", "UNKNOWN_64"])(
  "type %s (HTTPS, SVCB) has no data: its hints would lead around the name (RFC 9460 §7.3)",
  (type) => {
    const world = fakeWorld();
    const message = ask(world, query("example.com", type));
    expect(message).toMatchObject({ rcode: "NOERROR", answers: [] });
    expect(upstreamUses(world)).toBe(0);
  },
);

test("ANY gets both addresses, and nothing of the truth (RFC 8482 §4.1)", () => {
  const world = fakeWorld();
  const [v4, v6] = data(ask(world, query("example.com", "ANY")));
  expect(v4).toBe(addressOf(world, "example.com", "A"));
  expect(v6).toBe(addressOf(world, "example.com", "AAAA"));
});

test("other types, and what is no host name, are asked of the resolver behind the proxy", () => {
  const world = fakeWorld();
  const asked = [
    ["example.com", "MX"],
    ["_sip._tcp.example.com", "SRV"],
    ["example.com", "TXT"],
    ["ipv4only.arpa", "AAAA"],
    ["1.2.0.192.in-addr.arpa", "PTR"],
    ["192.0.2.1", "A"],
    ["127.1", "A"],
    ["0x7f000001", "A"],
    ["a b.example", "A"],
    ["a:b.example", "A"],
  ];
  for (const [name, type] of asked) expect(ask(world, query(name!, type!))).toBeNull();
  world.act(() => world.upstream.association.open());
  expect(forwarded(world)).toEqual(asked.map((words) => words.join(" ")));
  expect(world.relay.stats.dnsFaked).toBe(0);
});

test("octets that are no text, and dots in labels, are asked of the resolver behind the proxy", () => {
  const world = fakeWorld();
  for (const octet of [0x2e, 0x00, 0xff]) {
    const message = query("xyz.example", "A");
    message[14] = octet;
    expect(ask(world, message)).toBeNull();
  }
  expect(ask(world, query(".", "A"))).toBeNull();
  world.act(() => world.upstream.association.open());
  expect(world.upstream.association.sent.length).toBe(4);
});

test("a resolver that is asked by its own address answers itself", () => {
  const world = fakeWorld();
  expect(ask(world, query("example.com", "A"), "8.8.8.8:53")).toBeNull();
  world.act(() => world.upstream.association.open());
  expect(world.upstream.association.sent[0]!.to).toBe("8.8.8.8:53");
});

test("localhost is loopback, invalid does not exist, and nobody is asked (RFC 6761 §6.3, §6.4)", () => {
  const world = fakeWorld();
  expect(data(ask(world, query("localhost", "A")))).toEqual(["127.0.0.1"]);
  expect(data(ask(world, query("Web.LocalHost", "AAAA")))).toEqual(["::1"]);
  expect(ask(world, query("localhost", "MX"))).toMatchObject({ rcode: "NOERROR", answers: [] });
  expect(ask(world, query("www.invalid", "A"))).toMatchObject({ rcode: "NXDOMAIN" });
  expect(addressOf(world, "notlocalhost")).toMatch(/^198\./);
  expect(upstreamUses(world)).toBe(0);
});

/** 1.0.18.198.in-addr.arpa, or 32 digits. */
function reverse(address: string): string {
  if (!address.includes(":")) return `${address.split(".").reverse().join(".")}.in-addr.arpa`;
  const low = address.split("::")[1]!.split(":");
  const digits = `fd000018${"0".repeat(16)}${low.map((group) => group.padStart(4, "0")).join("")}`;
  return `${[...digits].reverse().join(".")}.ip6.arpa`;
}

test("PTR of an address of ours is its name, of one that stands for none NXDOMAIN (RFC 1035 §3.5)", () => {
  const world = fakeWorld();
  for (const type of ["A", "AAAA"] as const) {
    const address = addressOf(world, "www.example.com", type);
    expect(data(ask(world, query(reverse(address), "PTR")))).toEqual(["www.example.com"]);
    expect(ask(world, query(reverse(address), "TXT"))).toMatchObject({ answers: [] });
  }
  for (const address of ["198.19.1.1", "198.18.0.3", "fd00:18::c613:101"]) {
    const message = ask(world, query(reverse(address), "PTR"));
    expect(message).toMatchObject({ rcode: "NXDOMAIN", answers: [] });
  }
  expect(upstreamUses(world)).toBe(0);
});

test("a query that cannot be read to its end is answered FORMERR, and takes no address", () => {
  const world = fakeWorld();
  const broken = query("example.com", "A", { additionals: [opt()] }).subarray(0, -5);
  const message = ask(world, broken)!;
  expect(message).toMatchObject({ id: 77, rcode: "FORMERR", answers: [] });
  expect(world.relay.stats).toMatchObject({ dnsMalformed: 1, dnsFaked: 0 });
});

test("noise, answers and queries without a question are dropped and counted", () => {
  const world = fakeWorld();
  const answer = encode({ type: "response", id: 1, questions: [{ type: "A", name: "a.test" }] });
  const none = encode({ type: "query", id: 1, questions: [] });
  for (const message of [new Uint8Array(40).fill(0x5a), answer, none, new Uint8Array(1)]) {
    expect(ask(world, message)).toBeNull();
  }
  expect(world.relay.stats).toMatchObject({ dnsMalformed: 4, dnsQueries: 0 });
  expect(upstreamUses(world)).toBe(0);
});

/** A /26 without the first sixteen and the last. */
const ADDRESSES = 47;

test("when every address is in use a lookup fails, and is counted; after that the longest unused one moves", () => {
  const world = fakeWorld({ fakePrefix: 26 });
  const kept = addressOf(world, "n0.test");
  const second = addressOf(world, "n1.test");
  world.tcp(`${kept}:80`, 40000).syn();
  world.act(() => world.upstream.stream.open());
  for (let i = 2; i < ADDRESSES; i++) addressOf(world, `n${i}.test`);
  expect(world.relay.stats.dnsExhausted).toBe(0);
  expect(ask(world, query("one.more", "A"))).toMatchObject({ rcode: "SERVFAIL", answers: [] });
  expect(world.relay.stats.dnsExhausted).toBe(1);
  expect(world.lines.join()).toContain("every address that could stand for a name is in use");
  // Those that have one keep it.
  expect(addressOf(world, "n7.test")).toMatch(/^198\./);
  world.advance(HOLD + 10);
  // The first one has a flow.
  expect(addressOf(world, "one.more")).toBe(second);
  world.tcp(`${kept}:80`, 40001).syn();
  expect(world.upstream.stream.target).toBe("n0.test:80");
  world.tcp(`${second}:80`, 40002).syn();
  expect(world.upstream.stream.target).toBe("one.more:80");
});

test("an address stays with its name for 70 s after its last flow has ended", () => {
  const world = fakeWorld({ fakePrefix: 26 });
  const address = addressOf(world, "n0.test");
  const peer = world.tcp(`${address}:80`, 40000);
  peer.syn();
  world.act(() => world.upstream.stream.open());
  world.advance(HOLD);
  peer.rst();
  world.advance(10_000);
  for (let i = 1; i < ADDRESSES; i++) addressOf(world, `n${i}.test`);
  expect(world.relay.stats.dnsExhausted).toBe(0);
  expect(HOLD).toBe(70_000);
  world.advance(59_900);
  expect(ask(world, query("one.more", "A"))).toMatchObject({ rcode: "SERVFAIL" });
  world.advance(200);
  expect(addressOf(world, "one.more")).toBe(address);
});

test.each([
  ["own", []],
  ["reply", ["0/0"]],
] as const)("--icmp %s: a name's address answers ping as any address does: %j", (icmp, answers) => {
  const world = fakeWorld({ driver: { stack: { icmp } } });
  const destination = addressOf(world, "www.example.com");
  world.inject(
    buildIcmp({ source: CLIENT4, destination, type: 8, code: 0, body: new Uint8Array(8) }),
  );
  world.settle();
  expect(world.errors()).toEqual(answers);
});

test("a name that comes back to us as an address, a loop of the built-in proxy, is refused", () => {
  const own = { hasConnection: () => true, hasDatagrams: () => false };
  const world = fakeWorld({ relay: { own } });
  const peer = world.tcp(`${addressOf(world, "www.example.com")}:80`, 40000);
  peer.syn();
  expect(peer.state).toBe("reset");
  expect(world.relay.stats.loops).toBe(1);
  expect(upstreamUses(world)).toBe(0);
});
