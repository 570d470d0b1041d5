import { expect, test } from "vitest";
import { formatEndpoint } from "../../src/stack/wire/address.ts";
import { IcmpDrop, IcmpKind, IcmpMessage, parseIcmp } from "../../src/stack/wire/icmp.ts";
import { IpHeader, parseIp } from "../../src/stack/wire/ip.ts";
import { parseUdp, UdpDrop, UdpHeader } from "../../src/stack/wire/udp.ts";
import { counting, endpoint, fragment, icmpPacket, ipPacket, udpBody, udpPacket } from "./kit.ts";

const US = endpoint("192.0.2.1:53");
const CLIENT = endpoint("10.0.0.1:40000");
const US6 = endpoint("[2001:db8::1]:53");
const CLIENT6 = endpoint("[fd00::1]:40000");

function parse(packet: Uint8Array): [number, IcmpMessage] {
  const ip = new IpHeader();
  const message = new IcmpMessage();
  const drop = parseIp(packet, 0, packet.length, ip) || parseIcmp(packet, ip, true, message);
  return [drop, message];
}

test("a UDP header gives its fields", () => {
  const header = new UdpHeader();
  const body = udpBody(CLIENT, US, counting(5));
  expect(parseUdp(body, 0, body.length, header)).toBe(0);
  expect(header).toMatchObject({ srcPort: 40000, dstPort: 53, length: 13 });
});

test("a UDP header that is cut, too short for itself or longer than its packet is refused (RFC 768)", () => {
  const header = new UdpHeader();
  const body = udpBody(CLIENT, US, counting(5));
  expect(parseUdp(body, 0, 7, header)).toBe(UdpDrop.TRUNCATED);
  expect(parseUdp(body, 0, 12, header)).toBe(UdpDrop.BAD_LENGTH);
  body[5] = 7;
  expect(parseUdp(body, 0, 13, header)).toBe(UdpDrop.BAD_LENGTH);
  body[5] = 0;
  expect(parseUdp(body, 0, 13, header)).toBe(UdpDrop.BAD_LENGTH);
});

test("an unreachable names the flow it is about", () => {
  const [drop, message] = parse(
    icmpPacket(CLIENT, US, 3, 3, 0, udpPacket(US, CLIENT, counting(1)).subarray(0, 28)),
  );
  expect(drop).toBe(0);
  expect(message).toMatchObject({ kind: IcmpKind.ERROR, type: 3, code: 3, quotedProtocol: 17 });
  expect(formatEndpoint(message.quotedSrc)).toBe("192.0.2.1:53");
  expect(formatEndpoint(message.quotedDst)).toBe("10.0.0.1:40000");
});

test("fragmentation needed carries an MTU of 16 bits (RFC 1191 §4)", () => {
  const quote = udpPacket(US, CLIENT, counting(1));
  const [, message] = parse(icmpPacket(CLIENT, US, 3, 4, 0x12340578, quote));
  expect(message).toMatchObject({ kind: IcmpKind.TOO_BIG, mtu: 0x578 });
});

test("packet too big carries an MTU of 32 bits; an absurd one stays positive (RFC 4443 §3.2)", () => {
  const quote = udpPacket(US6, CLIENT6, counting(1));
  expect(parse(icmpPacket(CLIENT6, US6, 2, 0, 1280, quote))[1]).toMatchObject({
    kind: IcmpKind.TOO_BIG,
    mtu: 1280,
    quotedProtocol: 17,
  });
  expect(parse(icmpPacket(CLIENT6, US6, 2, 0, -1, quote))[1].mtu).toBeGreaterThan(0);
});

test("an error that quotes a later fragment, too little or another protocol is about no flow (RFC 5927 §4.1)", () => {
  const body = udpBody(US, CLIENT, counting(60));
  const later = fragment(US, CLIENT, 17, 1, body, 16, 40);
  expect(parse(icmpPacket(CLIENT, US, 3, 1, 0, later))[1].kind).toBe(IcmpKind.OTHER);
  const whole = udpPacket(US, CLIENT, counting(9));
  expect(parse(icmpPacket(CLIENT, US, 3, 1, 0, whole.subarray(0, 27)))[1].kind).toBe(
    IcmpKind.OTHER,
  );
  expect(parse(icmpPacket(CLIENT, US, 3, 1, 0, ipPacket(US, CLIENT, 47, body)))[1].kind).toBe(
    IcmpKind.OTHER,
  );
  const later6 = fragment(US6, CLIENT6, 17, 1, body, 16, 40);
  expect(parse(icmpPacket(CLIENT6, US6, 1, 0, 0, later6))[1].kind).toBe(IcmpKind.OTHER);
});

test("an ICMPv6 error about the first of our fragments is about its flow", () => {
  const first = fragment(US6, CLIENT6, 17, 1, udpBody(US6, CLIENT6, counting(60)), 0, 16);
  const [, message] = parse(icmpPacket(CLIENT6, US6, 1, 4, 0, first));
  expect(message.kind).toBe(IcmpKind.ERROR);
  expect(formatEndpoint(message.quotedDst)).toBe("[fd00::1]:40000");
});

test("a wrong checksum and a cut header are refused by their reasons", () => {
  for (const packet of [
    icmpPacket(CLIENT, US, 8, 0, 1, counting(4)),
    icmpPacket(CLIENT6, US6, 128, 0, 1, counting(4)),
  ]) {
    expect(parse(packet)[1].kind).toBe(IcmpKind.ECHO);
    packet[packet.length - 1] ^= 1;
    expect(parse(packet)[0]).toBe(IcmpDrop.BAD_CHECKSUM);
  }
  expect(parse(ipPacket(CLIENT, US, 1, counting(7)))[0]).toBe(IcmpDrop.TRUNCATED);
});
