import { expect, test } from "vitest";
import { printPacket, printTcp } from "../../src/stack/wire/print.ts";
import { counting, endpoint, fragment, icmpPacket, ipPacket, udpPacket } from "./kit.ts";

const CLIENT = endpoint("10.0.0.1:40000");
const TARGET = endpoint("1.2.3.4:443");

/** A TCP header by hand: ports 40000 > 443, then the given 32-bit and 16-bit fields. */
function tcp(seq: number, ack: number, flags: number, win: number, rest: number[], data = 0) {
  const header = Uint8Array.of(
    ...[0x9c, 0x40, 0x01, 0xbb],
    ...[24, 16, 8, 0].map((shift) => seq >>> shift),
    ...[24, 16, 8, 0].map((shift) => ack >>> shift),
    ((20 + rest.length) / 4) << 4,
    flags,
    win >> 8,
    win,
    ...[0, 0, 0, 0],
    ...rest,
    ...counting(data),
  );
  return ipPacket(CLIENT, TARGET, 6, header);
}

function print(packet: Uint8Array, relative?: { seq: number; ack: number }): string {
  return printPacket(packet, 0, packet.length, relative === undefined ? {} : { relative });
}

test("a SYN shows its options", () => {
  const list = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
  expect(print(tcp(5000, 0, 0x02, 65535, list), { seq: 5000, ack: 0 })).toBe(
    "S 0:0(0) win 65535 <mss 1460,sackOK,TS val 1 ecr 0,wscale 7>",
  );
});

test("numbers are relative to both sides, across the wrap", () => {
  const packet = tcp(0xfffffff0, 0x20, 0x19, 512, [], 100);
  expect(print(packet, { seq: 0xffffff00 | 0, ack: 0x10 })).toBe("FP. 240:340(100) ack 16 win 512");
});

test("SACK blocks are relative to what is acknowledged", () => {
  const list = [1, 1, 5, 18, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 12, 0, 0, 0, 16, 0];
  expect(print(tcp(1, 11, 0x10, 1, list), { seq: 0, ack: 10 })).toBe(
    ". 1 ack 1 win 1 <sack 1014:2038 3062:4086>",
  );
});

test("without a base the endpoints and the numbers of the wire are printed", () => {
  expect(print(tcp(7, 0, 0x04, 0, []))).toBe("10.0.0.1:40000 > 1.2.3.4:443 R 7:7(0) win 0");
});

test("all flags have their letter, none is a dash", () => {
  const none = { flags: 0, seq: 1, length: 0, ack: 0, win: 0 };
  expect(printTcp(none)).toBe("- 1:1(0) win 0");
  expect(printTcp({ ...none, flags: 0xff })).toBe("FSRP.UEW 1:1(0) ack 0 win 0");
});

test("UDP, ICMP, fragments and the rest are one line each", () => {
  const quote = tcp(1, 0, 2, 0, []);
  expect(print(udpPacket(CLIENT, TARGET, counting(20)))).toBe(
    "udp 10.0.0.1:40000 > 1.2.3.4:443 (20)",
  );
  expect(print(icmpPacket(TARGET, CLIENT, 3, 1, 0, quote))).toBe(
    "icmp host-unreachable 1.2.3.4 > 10.0.0.1 (tcp 10.0.0.1:40000 > 1.2.3.4:443)",
  );
  expect(print(icmpPacket(TARGET, CLIENT, 13, 0, 0, counting(12)))).toBe(
    "icmp type 13 code 0 1.2.3.4 > 10.0.0.1 (12)",
  );
  expect(print(fragment(CLIENT, TARGET, 17, 9, counting(100), 16, 40))).toBe(
    "fragment 10.0.0.1 > 1.2.3.4 id 9 16:40(24)+",
  );
  expect(print(ipPacket(CLIENT, TARGET, 47, counting(4)))).toBe(
    "protocol 47 10.0.0.1 > 1.2.3.4 (4)",
  );
});

test("malformed packets are named as such", () => {
  expect(print(Uint8Array.of(0x45, 0, 0))).toBe("malformed ip (-1, 3)");
  expect(print(ipPacket(CLIENT, TARGET, 6, counting(19)))).toBe("malformed tcp 10.0.0.1 > 1.2.3.4");
  expect(print(ipPacket(CLIENT, TARGET, 17, counting(7)))).toBe("malformed udp 10.0.0.1 > 1.2.3.4");
  expect(print(ipPacket(CLIENT, TARGET, 1, counting(9)))).toBe("malformed icmp 10.0.0.1 > 1.2.3.4");
});
