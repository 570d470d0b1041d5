import { describe, expect, test } from "vitest";
import type { StackStats } from "../../src/stack/stats.ts";
import {
  addressOctets,
  buildIcmp,
  buildIp,
  buildTcp,
  buildUdp,
  checksum,
  decodePacket,
  type IcmpPacket,
  StackDriver,
  type StackDriverOptions,
  TcpFlag,
} from "../../src/testing/index.ts";

const OWN = "198.18.0.1";
const OWN6 = "fd00:18::1";

/** A stack that takes every open and counts it. */
class Host {
  opens = 0;
  readonly driver: StackDriver;

  constructor(options: StackDriverOptions = {}) {
    const taken = () => {
      this.opens++;
      return null;
    };
    this.driver = new StackDriver({ onTcpOpen: taken, onUdpOpen: taken }, options);
  }

  get stats(): StackStats {
    return this.driver.stack.stats;
  }

  /** What `packet` is answered with. */
  answers(packet: Uint8Array): ReturnType<typeof decodePacket>[] {
    this.driver.inject(packet);
    return this.driver.take().map(({ bytes }) => decodePacket(bytes));
  }

  /** The one ICMP message that `packet` is answered with: type, code, second word. */
  error(packet: Uint8Array): [number, number, number] {
    const [answer, ...more] = this.answers(packet);
    expect(more).toEqual([]);
    expect(answer).toMatchObject({ kind: "icmp", faults: [] });
    const { type, code, rest } = answer as IcmpPacket;
    return [type, code, rest];
  }
}

const tcp = (source: string, destination: string): Uint8Array =>
  buildTcp({ source, destination, sourcePort: 1, destinationPort: 2, seq: 1, flags: TcpFlag.SYN });
const udp = (source: string, destination: string): Uint8Array =>
  buildUdp({ source, destination, sourcePort: 1, destinationPort: 2, payload: new Uint8Array(4) });
const unknown = (source: string, destination: string): Uint8Array =>
  buildIp({ source, destination }, 99, new Uint8Array(20));
const echo = (source: string, destination: string): Uint8Array =>
  buildIcmp({
    source,
    destination,
    type: source.includes(":") ? 128 : 8,
    code: 0,
    body: new Uint8Array(4),
  });

const PACKETS = { tcp, udp, unknown, echo };

describe.each(Object.entries(PACKETS))("%s", (_, build) => {
  test.each([
    ["127.0.0.1", "10.0.0.2", "loopback"],
    ["127.255.0.9", "10.0.0.2", "loopback"],
    ["0.0.0.0", "10.0.0.2", "this host"],
    ["0.1.2.3", "10.0.0.2", "this network"],
    ["::1", "fd00::2", "loopback"],
    ["::", "fd00::2", "unspecified"],
    ["192.0.2.1", "127.0.0.1", "from loopback"],
    ["2001:db8::1", "::1", "from loopback"],
    ["192.0.2.1", "192.0.2.1", "from itself (land)"],
    ["2001:db8::1", "2001:db8::1", "from itself (land)"],
  ])(
    "to %s from %s opens nothing and is not answered (RFC 1122 §3.2.1.3, RFC 4291 §2.5.2, RFC 9293 §3.9.2.3 MUST-63)",
    (destination, source) => {
      const host = new Host({ stack: { icmp: "reply" } });
      expect(host.answers(build(source, destination))).toEqual([]);
      expect(host.opens).toBe(0);
      expect(host.stats.ipMartian + host.stats.ipLand).toBe(1);
    },
  );

  test.each(["224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "ff02::1"])(
    "to %s, which is nobody in particular, is not answered (RFC 1122 §3.2.2, RFC 9293 §3.9.2.3 MUST-57)",
    (destination) => {
      const host = new Host({ stack: { icmp: "reply" } });
      const source = destination.includes(":") ? "fd00::2" : "10.0.0.2";
      expect(host.answers(build(source, destination))).toEqual([]);
      expect(host.opens).toBe(0);
    },
  );
});

describe("a protocol that nobody speaks is told so", () => {
  test("IPv4: protocol unreachable (RFC 1122 §3.2.2.1)", () => {
    const host = new Host();
    expect(host.error(unknown("10.0.0.2", "192.0.2.1"))).toEqual([3, 2, 0]);
    expect(host.stats.ipUnknownProtocol).toBe(1);
  });

  test("IPv6: parameter problem 1 at the next header that names it (RFC 8200 §4, RFC 4443 §3.4)", () => {
    const host = new Host();
    expect(host.error(unknown("fd00::2", "2001:db8::1"))).toEqual([4, 1, 6]);
    const ends = { source: "fd00::2", destination: "2001:db8::1" };
    // Behind an extension header the pointer is to that header's first octet.
    const behind = Uint8Array.of(99, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3, 4);
    expect(host.error(buildIp(ends, 60, behind))).toEqual([4, 1, 40]);
  });

  test("ICMP over the other family is as unknown as any (RFC 4443 §1)", () => {
    const host = new Host();
    const v4 = { source: "10.0.0.2", destination: "192.0.2.1" };
    const v6 = { source: "fd00::2", destination: "2001:db8::1" };
    expect(host.error(buildIp(v4, 58, new Uint8Array(8)))).toEqual([3, 2, 0]);
    expect(host.error(buildIp(v6, 1, new Uint8Array(8)))).toEqual([4, 1, 6]);
  });

  test("no next header is no protocol, and no error (RFC 8200 §4.7)", () => {
    const host = new Host();
    const ends = { source: "fd00::2", destination: "2001:db8::1" };
    expect(host.answers(buildIp(ends, 59, new Uint8Array(8)))).toEqual([]);
    expect(host.stats.ipUnknownProtocol).toBe(0);
  });

  test("errors are no echo: --icmp off leaves them (RFC 1122 §3.2.2.1)", () => {
    const host = new Host({ stack: { icmp: "off" } });
    expect(host.error(unknown("10.0.0.2", "192.0.2.1"))).toEqual([3, 2, 0]);
  });
});

test.each([0, 1])(
  "a TTL of %i is enough for who is addressed (RFC 1122 §3.2.1.7, RFC 8200 §3)",
  (ttl) => {
    const host = new Host({ stack: { icmp: "reply" } });
    for (const [source, destination, type] of [
      ["10.0.0.2", OWN, 8],
      ["fd00::2", OWN6, 128],
    ] as const) {
      const body = new Uint8Array(4);
      const [reply] = host.answers(buildIcmp({ source, destination, ttl, type, code: 0, body }));
      expect(reply).toMatchObject({ kind: "icmp", ttl: 64, faults: [] });
    }
  },
);

describe("IPv4 options", () => {
  /** A SYN with options in its IP header. */
  function withOptions(...options: number[]): Uint8Array {
    const plain = tcp("10.0.0.2", "192.0.2.1");
    const packet = new Uint8Array(plain.length + options.length);
    packet.set(plain.subarray(0, 20));
    packet.set(options, 20);
    packet.set(plain.subarray(20), 20 + options.length);
    packet[0] = 0x45 + options.length / 4;
    packet[3] = packet.length;
    packet.fill(0, 10, 12);
    const sum = checksum(packet.subarray(0, 20 + options.length));
    packet.set([sum >> 8, sum & 255], 10);
    return packet;
  }

  test("unknown ones are passed over, as are timestamps and recorded routes (RFC 1122 §3.2.1.8, RFC 9293 §3.9.2 MUST-50)", () => {
    const host = new Host();
    for (const options of [
      [1, 1, 1, 0],
      [0x9e, 4, 9, 9],
      [68, 4, 5, 0],
      [7, 3, 4, 0],
    ]) {
      host.answers(withOptions(...options));
    }
    expect(host.opens).toBe(4);
  });

  test.each([
    [131, "loose"],
    [137, "strict"],
  ])(
    "a packet with source route %i (%s) is dropped in silence (RFC 7126 §4.3, §4.4, RFC 6274 §3.13.2.3)",
    (type) => {
      const host = new Host();
      expect(host.answers(withOptions(type, 3, 4, 0))).toEqual([]);
      expect(host.opens).toBe(0);
      expect(host.stats.ipBadOptions).toBe(1);
    },
  );
});

describe("IPv6 options and routes", () => {
  const ends = { source: "fd00::2", destination: "2001:db8::1" };
  const upper = tcp(ends.source, ends.destination).subarray(40);

  test.each([
    [
      "a jumbogram's, of which no TUN has any (RFC 2675 §1, RFC 8200 §4.2)",
      0,
      [6, 0, 0xc2, 4, 0, 1, 0, 0],
      [4, 2, 42],
    ],
    ["unknown, to be told about (RFC 8200 §4.2)", 60, [6, 0, 0x9e, 4, 0, 0, 0, 0], [4, 2, 42]],
    [
      "a route that is not used up (RFC 8200 §4.4, RFC 5095 §3)",
      43,
      [6, 0, 0, 1, 0, 0, 0, 0],
      [4, 0, 42],
    ],
  ])("%s", (_, next, header, error) => {
    const host = new Host();
    const packet = buildIp(ends, next, Uint8Array.from([...header, ...upper]));
    expect(host.error(packet)).toEqual(error);
    expect(host.opens).toBe(0);
    // In the name of nobody nothing is said.
    packet.set(addressOctets("::1"), 24);
    expect(host.answers(packet)).toEqual([]);
    packet.set(addressOctets(ends.source), 24);
    expect(host.answers(packet)).toEqual([]);
  });

  test.each([
    ["unknown, to be passed over (RFC 8200 §4.2)", 60, [6, 0, 0x1e, 4, 0, 0, 0, 0]],
    ["hop-by-hop options come first (RFC 8200 §4.3)", 0, [6, 0, 1, 4, 0, 0, 0, 0]],
    ["a route that is used up (RFC 8200 §4.4)", 43, [6, 0, 0, 0, 0, 0, 0, 0]],
    ["a fragment that is all of its packet (RFC 6946 §4)", 44, [6, 0, 0, 0, 1, 2, 3, 4]],
  ])("%s", (_, next, header) => {
    const host = new Host();
    host.answers(buildIp(ends, next, Uint8Array.from([...header, ...upper])));
    expect(host.opens).toBe(1);
  });

  test("IPv6 below an MTU of 1,280 is neither served nor answered (RFC 8200 §5)", () => {
    const host = new Host({ mtu: 1279 });
    expect(host.answers(tcp(ends.source, ends.destination))).toEqual([]);
    const header = Uint8Array.of(6, 0, 0x9e, 4, 0, 0, 0, 0);
    expect(host.answers(buildIp(ends, 60, header))).toEqual([]);
    expect(host.opens).toBe(0);
    expect(host.stats.ipNotServed).toBe(1);
  });
});

test.each([
  ["2001:db8::1", 1],
  ["ff02::1", 0],
])(
  "a SYN to %s in fragments, behind an extension header, opens %i (RFC 9293 §3.9.2.3 MUST-57)",
  (destination, opens) => {
    const ends = { source: "fd00::2", destination };
    const upper = buildTcp({
      ...ends,
      sourcePort: 1,
      destinationPort: 2,
      seq: 1,
      flags: TcpFlag.SYN,
      options: [{ kind: "mss", value: 1220 }],
      payload: new Uint8Array(8),
    }).subarray(40);
    const options = [6, 0, 1, 4, 0, 0, 0, 0];
    const host = new Host();
    const first = [60, 0, 0, 1, 0, 0, 0, 7, ...options, ...upper.subarray(0, 24)];
    const last = [60, 0, 0, 32, 0, 0, 0, 7, ...upper.subarray(24)];
    expect(host.answers(buildIp(ends, 44, Uint8Array.from(first)))).toEqual([]);
    expect(host.answers(buildIp(ends, 44, Uint8Array.from(last)))).toEqual([]);
    expect(host.stats.fragmentsReassembled).toBe(1);
    expect(host.opens).toBe(opens);
  },
);

describe("ICMP that asks for nothing", () => {
  test.each([
    ["an unknown type (RFC 1122 §3.2.2)", "10.0.0.2", OWN, 99],
    ["source quench (RFC 6633 §3, RFC 9293 §3.9.2.2 MUST-55)", "10.0.0.2", OWN, 4],
    ["a redirect (RFC 1122 §3.2.2.2)", "10.0.0.2", OWN, 5],
    ["an address mask request (RFC 1122 §3.2.2.9)", "10.0.0.2", OWN, 17],
    ["an unknown error (RFC 4443 §2.4 (a))", "fd00::2", OWN6, 100],
    ["an unknown question (RFC 4443 §2.4 (b))", "fd00::2", OWN6, 200],
    ["a router solicitation", "fd00::2", OWN6, 133],
  ])("%s is dropped in silence", (_, source, destination, type) => {
    const host = new Host({ stack: { icmp: "reply" } });
    const body = new Uint8Array(40);
    expect(host.answers(buildIcmp({ source, destination, type, code: 0, body }))).toEqual([]);
    expect(host.stats.icmpIgnored).toBe(1);
  });
});
