import { describe, expect, test } from "vitest";
import { MAX_ICMP_QUEUE } from "../../src/stack/icmp.ts";
import { PacketFlag, type RefuseReason, type StackOptions } from "../../src/stack/ports.ts";
import { IpDrop, IpHeader, parseIp } from "../../src/stack/wire/ip.ts";
import { printPacket } from "../../src/stack/wire/print.ts";
import { counting, endpoint, fragment, icmpPacket, ipPacket, Kit, udpPacket } from "./kit.ts";

const CLIENT = endpoint("10.0.0.1:40000");
const OTHER = endpoint("192.0.2.1:53");
const OWN = endpoint("198.18.0.1");
const CLIENT6 = endpoint("[fd00::1]:40000");
const OTHER6 = endpoint("[2001:db8::1]:53");
const OWN6 = endpoint("fd00:18::1");

class Bench extends Kit {
  readonly ip = new IpHeader();

  constructor(changes: Partial<StackOptions> = {}) {
    super(changes);
  }

  parse(packet: Uint8Array): IpHeader {
    if (parseIp(this.bytes, 0, this.put(packet), this.ip) !== 0) throw new Error("bad packet");
    return this.ip;
  }

  input(packet: Uint8Array, flags = 0): boolean {
    return this.icmp.input(this.parse(packet), flags);
  }

  sent(): string[] {
    this.icmp.flush(this.sink);
    return this.sink.take().map(({ bytes }) => printPacket(bytes, 0, bytes.length));
  }
}

test.each([
  ["own", OWN, ["icmp echo-reply 198.18.0.1 > 10.0.0.1 (56)"]],
  ["own", OTHER, []],
  ["reply", OTHER, ["icmp echo-reply 192.0.2.1 > 10.0.0.1 (56)"]],
  ["reply", endpoint("224.0.0.1"), []],
  ["off", OWN, []],
] as const)(
  "under icmp %s an echo to %o is answered: %j (RFC 1122 §3.2.2.6)",
  (icmp, to, answers) => {
    const bench = new Bench({ icmp });
    expect(bench.input(icmpPacket(CLIENT, to, 8, 0, 0x00010002, counting(56)))).toBe(false);
    expect(bench.sent()).toEqual(answers);
  },
);

test("an ICMPv6 echo to an own address is answered with its data (RFC 4443 §4.2)", () => {
  const bench = new Bench();
  bench.input(icmpPacket(CLIENT6, OWN6, 128, 0, 0x00010002, counting(1000)));
  bench.icmp.flush(bench.sink);
  const [reply] = bench.sink.packets;
  expect(printPacket(reply.bytes, 0, reply.bytes.length)).toBe(
    "icmp6 echo-reply fd00:18::1 > fd00::1 (1000)",
  );
  expect(reply.bytes.subarray(44, 48)).toEqual(Uint8Array.of(0, 1, 0, 2));
  expect(reply.bytes.subarray(48)).toEqual(counting(1000));
});

test("the page of a long reply is free at the next flush, when the device has read it", () => {
  const bench = new Bench();
  bench.input(icmpPacket(CLIENT, OWN, 8, 0, 1, counting(1000)));
  bench.sent();
  expect(bench.pages.inUse).toBe(4096);
  bench.sent();
  expect(bench.pages.inUse).toBe(0);
});

test("a reply above the MTU leaves in fragments (RFC 1122 §3.2.2.6, §3.3.3)", () => {
  const bench = new Bench();
  bench.input(icmpPacket(CLIENT, OWN, 8, 0, 1, counting(4000)));
  expect(bench.sent()).toEqual([
    expect.stringMatching(/^fragment 198.18.0.1 > 10.0.0.1 id \d+ 0:1480\(1480\)\+$/),
    expect.stringMatching(/1480:2960\(1480\)\+$/),
    expect.stringMatching(/2960:4008\(1048\)$/),
  ]);
});

test("a wrong checksum is dropped and counted, unless the device vouches for it (RFC 792, RFC 4443 §2.3)", () => {
  const bench = new Bench();
  const packet = icmpPacket(CLIENT, OWN, 8, 0, 1, counting(8));
  packet[30] ^= 1;
  bench.input(packet);
  expect(bench.sent()).toEqual([]);
  expect(bench.stats.icmpBadChecksum).toBe(1);
  bench.input(packet, PacketFlag.DATA_VALID);
  expect(bench.sent()).toHaveLength(1);
});

test("an error about a packet of ours is handed to the stack", () => {
  const bench = new Bench();
  const quote = udpPacket(OTHER, CLIENT, counting(1));
  expect(bench.input(icmpPacket(CLIENT, OTHER, 3, 3, 0, quote))).toBe(true);
  expect(bench.icmp.message.quotedSrc.equals(OTHER)).toBe(true);
  expect(bench.sent()).toEqual([]);
});

describe.each([
  {
    family: "IPv4",
    client: CLIENT,
    target: OTHER,
    codes: { "net-unreachable": [3, 0], "host-unreachable": [3, 1], prohibited: [3, 13] },
    more: { "ttl-exceeded": [11, 0], "port-unreachable": [3, 3], reset: [3, 3] },
  },
  {
    family: "IPv6",
    client: CLIENT6,
    target: OTHER6,
    codes: { "net-unreachable": [1, 0], "host-unreachable": [1, 3], prohibited: [1, 1] },
    more: { "ttl-exceeded": [3, 0], "port-unreachable": [1, 4], reset: [1, 4] },
  },
])("$family", ({ client, target, codes, more }) => {
  const header = client.isV4 ? 20 : 40;
  const packet = udpPacket(client, target, counting(20));

  test.each(Object.entries({ ...codes, ...more }))(
    "%s is told as type and code %j, from the target, quoting the packet whole (RFC 1122 §3.2.2, RFC 1812 §5.2.7.1, RFC 4443 §2.4 (c), §3.1, §3.3)",
    (reason, typeAndCode) => {
      const bench = new Bench();
      bench.icmp.refuse(reason as RefuseReason, target, client, packet, 0, packet.length);
      bench.icmp.flush(bench.sink);
      const { bytes } = bench.sink.packets[0];
      expect([...bytes.subarray(header, header + 2)]).toEqual(typeAndCode);
      expect(bytes.subarray(header + 8)).toEqual(packet);
      // Addresses and checksum are right: it parses, and names the flow.
      const ip = new IpHeader();
      expect(parseIp(bytes, 0, bytes.length, ip)).toBe(0);
      expect(ip.src.sameAddress(target) && ip.dst.sameAddress(client)).toBe(true);
      expect(bench.dirty).toBe(1);
      expect(printPacket(bytes, 0, bytes.length)).toContain("(udp ");
    },
  );

  test("too big carries the MTU (RFC 1191 §4, RFC 4443 §3.2)", () => {
    const bench = new Bench();
    bench.icmp.tooBig(1300, target, client, packet, 0, packet.length);
    expect(bench.sent()[0]).toContain("too-big mtu 1300");
  });

  test("an error about a long packet quotes as much as the family allows (RFC 1812 §4.3.2.3, RFC 4443 §2.4 (c))", () => {
    const bench = new Bench();
    const long = ipPacket(client, target, 99, counting(1400));
    expect(bench.icmp.protocolUnreachable(bench.parse(long))).toBe(true);
    bench.icmp.flush(bench.sink);
    const { bytes } = bench.sink.packets[0];
    expect(bytes.length).toBe(client.isV4 ? 576 : 1280);
    expect(bytes.subarray(header + 8)).toEqual(long.subarray(0, bytes.length - header - 8));
    // IPv6: parameter problem that points to the next header of the fixed header.
    expect([...bytes.subarray(header, header + 2)]).toEqual(client.isV4 ? [3, 2] : [4, 1]);
    expect(bytes[header + 7]).toBe(client.isV4 ? 0 : 6);
  });

  test("no error answers an error, a later fragment or what was sent to many (RFC 1122 §3.2.2, RFC 4443 §2.4 (e))", () => {
    const bench = new Bench();
    const unreachable = client.isV4 ? 3 : 1;
    const many = endpoint(client.isV4 ? "224.0.0.1" : "ff02::1");
    for (const cause of [
      icmpPacket(client, target, unreachable, 0, 0, packet),
      fragment(client, target, 17, 1, counting(64), 8, 64),
      ipPacket(client, many, 99, counting(8)),
      ipPacket(endpoint(client.isV4 ? "0.0.0.0" : "::"), target, 99, counting(8)),
    ]) {
      expect(bench.icmp.error(3, 1, 0, bench.parse(cause))).toBe(false);
    }
    expect(bench.stats.icmpForbidden).toBe(4);
    expect(bench.sent()).toEqual([]);
  });
});

test("errors are limited to 1,000 per second, refusals are not (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f))", () => {
  const bench = new Bench();
  const stray = ipPacket(CLIENT, OTHER, 99, counting(8));
  let sent = 0;
  for (let i = 0; i < 1500; i++) {
    if (bench.icmp.protocolUnreachable(bench.parse(stray))) sent++;
    if (i % 200 === 0) bench.sent();
  }
  expect(sent).toBe(1000);
  expect(bench.stats.icmpRateLimited).toBe(500);
  bench.sent();
  expect(bench.icmp.refuse("reset", OTHER, CLIENT, stray, 0, stray.length)).toBe(true);
  bench.wheel.advance(100);
  for (let i = 0; i < 200; i++) if (bench.icmp.protocolUnreachable(bench.parse(stray))) sent++;
  expect(sent).toBe(1100);
});

test("at the bound of the queue messages are dropped and counted", () => {
  const bench = new Bench();
  const quote = udpPacket(CLIENT, OTHER, counting(1));
  for (let i = 0; i < MAX_ICMP_QUEUE; i++) {
    expect(bench.icmp.refuse("reset", OTHER, CLIENT, quote, 0, quote.length)).toBe(true);
  }
  expect(bench.icmp.refuse("reset", OTHER, CLIENT, quote, 0, quote.length)).toBe(false);
  expect(bench.icmp.protocolUnreachable(bench.parse(quote))).toBe(false);
  expect(bench.stats.icmpQueueFull).toBe(2);
  expect(bench.sent()).toHaveLength(MAX_ICMP_QUEUE);
  expect(bench.icmp.refuse("reset", OTHER, CLIENT, quote, 0, quote.length)).toBe(true);
});

test("of replies beyond 4 KiB sixteen wait for one flush", () => {
  const bench = new Bench({ icmp: "reply", mtu: 65535 });
  const echo = icmpPacket(CLIENT, OWN, 8, 0, 1, counting(9000));
  for (let i = 0; i < 17; i++) bench.input(echo);
  expect(bench.stats.icmpQueueFull).toBe(1);
  expect(bench.sent()).toHaveLength(16);
  expect(bench.sent()).toEqual([]);
  expect(bench.pages.inUse).toBe(0);
});

test("a full sink is gone on with, in the middle of a fragmented reply too", () => {
  const bench = new Bench();
  bench.sink.room = 2;
  bench.input(icmpPacket(CLIENT, OWN, 8, 0, 1, counting(4000)));
  bench.input(icmpPacket(CLIENT, OWN, 8, 0, 2, counting(8)));
  expect(bench.icmp.flush(bench.sink)).toBe(false);
  expect(bench.sink.take()).toHaveLength(2);
  expect(bench.icmp.flush(bench.sink)).toBe(true);
  expect(bench.sink.take()).toHaveLength(2);
  expect(bench.icmp.isDirty).toBe(false);
  bench.sink.room = 0;
  bench.input(icmpPacket(CLIENT, OWN, 8, 0, 3, counting(8)));
  expect(bench.icmp.flush(bench.sink)).toBe(false);
  bench.sink.room = 1;
  expect(bench.sent()).toEqual(["icmp echo-reply 198.18.0.1 > 10.0.0.1 (8)"]);
});

test("an ICMP header that is cut is dropped and counted; so is a message no page is left for", () => {
  const bench = new Bench();
  bench.input(ipPacket(CLIENT, OWN, 1, counting(7)));
  expect(bench.stats.icmpTruncated).toBe(1);
  while (bench.pages.allocate64K() >= 0);
  bench.input(icmpPacket(CLIENT, OWN, 8, 0, 1, counting(1000)));
  expect(bench.stats.icmpNoMemory).toBe(1);
  expect(bench.sent()).toEqual([]);
});

test("a parameter problem points at what was wrong (RFC 4443 §3.4)", () => {
  const bench = new Bench();
  const unknown = Uint8Array.of(17, 0, 0x9e, 4, 0, 0, 0, 0, ...counting(8));
  const packet = ipPacket(CLIENT6, OTHER6, 60, unknown);
  expect(parseIp(bench.bytes, 0, bench.put(packet), bench.ip)).toBe(IpDrop.PARAMETER_PROBLEM);
  bench.icmp.parameterProblem(bench.ip);
  bench.icmp.flush(bench.sink);
  const { bytes } = bench.sink.packets[0];
  expect([...bytes.subarray(40, 42), ...bytes.subarray(44, 48)]).toEqual([4, 2, 0, 0, 0, 42]);
  expect(bytes.subarray(48)).toEqual(packet);
});
