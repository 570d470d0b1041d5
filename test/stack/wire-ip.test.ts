import { expect, test } from "vitest";
import { formatAddress } from "../../src/stack/wire/address.ts";
import { complement, sumOctets } from "../../src/stack/wire/checksum.ts";
import { IpDrop, IpHeader, Protocol, parseIp } from "../../src/stack/wire/ip.ts";
import { write16 } from "../../src/stack/wire/octets.ts";
import { counting, endpoint, ipPacket } from "./kit.ts";

const A4 = endpoint("10.0.0.1");
const B4 = endpoint("192.0.2.1");
const A6 = endpoint("fd00::1");
const B6 = endpoint("2001:db8::2");
const header = new IpHeader();

function parse(packet: Uint8Array): number {
  return parseIp(packet, 0, packet.length, header);
}

/** An IPv4 header with the given options, checksum right. */
function withOptions(list: Uint8Array): Uint8Array {
  const packet = new Uint8Array(20 + list.length + 4);
  packet.set(ipPacket(A4, B4, 17, new Uint8Array(4)));
  packet.set(list, 20);
  packet[0] = 0x40 | ((20 + list.length) >> 2);
  write16(packet, 2, packet.length);
  write16(packet, 10, 0);
  write16(packet, 10, complement(sumOctets(packet, 0, 20 + list.length)));
  return packet;
}

/** An IPv6 packet whose body starts with extension headers. */
function extended(next: number, ...parts: number[][]): Uint8Array {
  return ipPacket(A6, B6, next, Uint8Array.from(parts.flat()));
}

test("an IPv4 header gives its fields", () => {
  const packet = ipPacket(A4, B4, Protocol.UDP, counting(12));
  expect(parse(packet)).toBe(0);
  expect(formatAddress(header.src)).toBe("10.0.0.1");
  expect(formatAddress(header.dst)).toBe("192.0.2.1");
  expect(header).toMatchObject({
    version: 4,
    payloadStart: 20,
    totalEnd: 32,
    protocol: 17,
    ttl: 64,
    id: 7,
    dontFragment: true,
    isFragment: false,
  });
});

test("octets behind the total length are padding (RFC 791 §3.1)", () => {
  const packet = new Uint8Array(60);
  packet.set(ipPacket(A4, B4, 17, counting(8)));
  expect(parse(packet)).toBe(0);
  expect(header.totalEnd).toBe(28);
});

test("any length that a header can be cut to is refused", () => {
  for (const packet of [ipPacket(A4, B4, 17, counting(8)), ipPacket(A6, B6, 17, counting(8))]) {
    for (let end = 0; end < packet.length; end++) {
      expect(parseIp(packet, 0, end, header)).toBe(IpDrop.TRUNCATED);
    }
  }
  expect(parseIp(new Uint8Array(1), 0, 0, header)).toBe(IpDrop.TRUNCATED);
});

test("a wrong version, header length or header checksum is refused by its reason (RFC 1122 §3.2.1.1, §3.2.1.2)", () => {
  const packet = ipPacket(A4, B4, 17, counting(8));
  expect(parse(Uint8Array.from(packet, (octet, i) => (i === 0 ? 0x55 : octet)))).toBe(
    IpDrop.BAD_VERSION,
  );
  expect(parse(Uint8Array.from(packet, (octet, i) => (i === 0 ? 0x44 : octet)))).toBe(
    IpDrop.BAD_HEADER_LENGTH,
  );
  expect(parse(Uint8Array.from(packet, (octet, i) => (i === 0 ? 0x4f : octet)))).toBe(
    IpDrop.BAD_HEADER_LENGTH,
  );
  expect(parse(Uint8Array.from(packet, (octet, i) => (i === 10 ? octet ^ 1 : octet)))).toBe(
    IpDrop.BAD_CHECKSUM,
  );
});

test("IPv4 options are passed over (RFC 1122 §3.2.1.8)", () => {
  // No-operation, record route with no room left, end of list, and octets behind it.
  expect(parse(withOptions(Uint8Array.of(1, 7, 3, 4, 0, 99, 0, 0)))).toBe(0);
  expect(header.payloadStart).toBe(28);
});

test.each([
  ["that ends the list by length 0", [7, 0, 0, 0]],
  ["of length 1", [7, 1, 0, 0]],
  ["that reaches into the payload", [7, 5, 0, 0]],
  ["without a length", [1, 1, 1, 7]],
  ["that is a loose source route (RFC 7126 §4.3)", [131, 3, 4, 0]],
  ["that is a strict source route (RFC 7126 §4.4)", [137, 3, 4, 0]],
])("an IPv4 option %s is refused (RFC 791 §3.1, RFC 7126 §4)", (_, list) => {
  expect(parse(withOptions(Uint8Array.from(list)))).toBe(IpDrop.BAD_OPTIONS);
});

test("nobody can be answered at a multicast or broadcast source (RFC 1122 §3.2.1.3, RFC 4291 §2.7)", () => {
  for (const src of ["224.0.0.1", "255.255.255.255", "ff02::1"]) {
    const source = endpoint(src);
    const packet = ipPacket(source, source.isV4 ? B4 : B6, 17, counting(8));
    expect(parse(packet)).toBe(IpDrop.BAD_SOURCE);
  }
});

test("an IPv6 header gives its fields", () => {
  const packet = ipPacket(A6, B6, Protocol.TCP, counting(20));
  packet[0] |= 0x0a;
  packet[1] |= 0xb0;
  expect(parse(packet)).toBe(0);
  expect(formatAddress(header.dst)).toBe("2001:db8::2");
  expect(header).toMatchObject({
    version: 6,
    headerLength: 40,
    totalEnd: 60,
    protocol: 6,
    ttl: 64,
    trafficClass: 0xab,
  });
});

test("v4-mapped addresses on the wire are refused (RFC 4038 §4.2)", () => {
  for (const at of [8, 24]) {
    const packet = ipPacket(A6, B6, 17, counting(8));
    packet.fill(0, at, at + 16).fill(0xff, at + 10, at + 12);
    expect(parse(packet)).toBe(at === 8 ? IpDrop.BAD_SOURCE : IpDrop.BAD_DESTINATION);
  }
});

test("hop-by-hop options, routing, destination options and an atomic fragment lead to UDP (RFC 8200 §4.1, RFC 6946 §4)", () => {
  const packet = extended(
    0,
    [43, 0, 1, 4, 0, 0, 0, 0], // hop-by-hop: PadN
    [60, 0, 0, 0, 0, 0, 0, 0], // routing, no segments left
    [44, 0, 0x1e, 1, 9, 0, 0, 0], // destination options: an unknown one to be skipped
    [17, 0, 0, 0, 1, 2, 3, 4], // atomic fragment (RFC 6946)
    [1, 2, 3],
  );
  expect(parse(packet)).toBe(0);
  expect(header.protocol).toBe(17);
  expect(header.payloadStart).toBe(72);
  expect(header.isFragment).toBe(false);
  expect(header.protocolPointer).toBe(64);
});

test("of an IPv6 fragment offset, flag, identification and next header are known", () => {
  expect(parse(extended(44, [17, 0, 0, 0x11, 1, 2, 3, 4], [9, 9, 9, 9, 9, 9, 9, 9]))).toBe(0);
  expect(header).toMatchObject({
    protocol: 17,
    id: 0x01020304,
    fragmentOffset: 16,
    moreFragments: true,
    isFragment: true,
    payloadStart: 48,
  });
});

const PAD = [60, 0, 1, 4, 0, 0, 0, 0];
const LAST_PAD = [17, 0, 1, 4, 0, 0, 0, 0];

test("eight extension headers are walked, a ninth is refused (RFC 8504 §5.3)", () => {
  const seven = new Array<number[]>(7).fill(PAD);
  expect(parse(extended(60, ...seven, LAST_PAD, [1]))).toBe(0);
  expect(parse(extended(60, ...seven, PAD, LAST_PAD, [1]))).toBe(IpDrop.BAD_EXTENSION);
});

test("an extension header that is cut off is refused", () => {
  expect(parse(extended(60, [17, 0, 1, 4]))).toBe(IpDrop.BAD_EXTENSION);
  expect(parse(extended(60, [17, 5, 1, 4, 0, 0, 0, 0]))).toBe(IpDrop.BAD_EXTENSION);
  expect(parse(extended(44, [17, 0, 0, 1]))).toBe(IpDrop.BAD_EXTENSION);
});

test.each([
  ["reaches beyond its header", [17, 0, 0x1e, 5, 0, 0, 0, 0]],
  ["has no length", [17, 0, 1, 3, 0, 0, 0, 0x1e]],
])("an IPv6 option that %s is refused (RFC 8200 §4.2)", (_, header) => {
  expect(parse(extended(60, header, [1, 2, 3]))).toBe(IpDrop.BAD_OPTIONS);
});

test("a jumbogram is a parameter problem (RFC 2675 §1, RFC 8200 §4.2)", () => {
  expect(parse(extended(0, [17, 0, 0xc2, 4, 0, 1, 0, 0], [1]))).toBe(IpDrop.JUMBOGRAM);
  expect(header).toMatchObject({ problemCode: 2, problemPointer: 42 });
});

test.each([
  ["unknown, skip", 0x1e, 0, 0],
  ["unknown, discard", 0x5e, IpDrop.BAD_OPTIONS, 0],
  ["unknown, discard and tell", 0x9e, IpDrop.PARAMETER_PROBLEM, 42],
  ["unknown, discard and tell unless multicast", 0xde, IpDrop.PARAMETER_PROBLEM, 42],
])("an option %s is treated as its high bits say (RFC 8200 §4.2)", (_, type, drop, pointer) => {
  expect(parse(extended(60, [17, 0, type, 4, 0, 0, 0, 0], [1]))).toBe(drop);
  if (pointer > 0) expect(header).toMatchObject({ problemCode: 2, problemPointer: pointer });
});

test("segments left in a routing header are a parameter problem (RFC 8200 §4.4)", () => {
  expect(parse(extended(43, [17, 0, 0, 1, 0, 0, 0, 0], [1]))).toBe(IpDrop.PARAMETER_PROBLEM);
  expect(header).toMatchObject({ problemCode: 0, problemPointer: 42 });
});

test("hop-by-hop options behind another header are a parameter problem (RFC 8200 §4.1)", () => {
  expect(parse(extended(60, [0, 0, 1, 4, 0, 0, 0, 0], LAST_PAD, [1]))).toBe(
    IpDrop.PARAMETER_PROBLEM,
  );
  expect(header.problemCode).toBe(1);
});
