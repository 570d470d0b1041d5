import { expect, test } from "vitest";
import {
  addSums,
  complement,
  pseudoHeaderSum,
  sumOctets,
  swapSum,
} from "../../src/stack/wire/checksum.ts";
import { counting, endpoint } from "./kit.ts";

test("the example sums to ddf2 (RFC 1071 §3)", () => {
  const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  expect(sumOctets(bytes, 0, 8)).toBe(0xddf2);
  expect(complement(0xddf2)).toBe(0x220d);
});

test("an odd last octet counts as the high octet of a word (RFC 1071 §4.1)", () => {
  expect(sumOctets(Uint8Array.of(1, 2, 3), 0, 3)).toBe(0x0402);
});

test("65,535 octets of ff sum to the same as one word does, without overflow", () => {
  expect(sumOctets(new Uint8Array(65534).fill(0xff), 0, 65534)).toBe(0xffff);
});

test("a piece that begins at an odd offset is swapped before it is added (RFC 1071 §2 (B))", () => {
  const bytes = counting(101, 7);
  const whole = sumOctets(bytes, 0, 101);
  const parts = addSums(sumOctets(bytes, 0, 33), swapSum(sumOctets(bytes, 33, 101)));
  expect(parts).toBe(whole);
});

test("of v4-mapped addresses only the IPv4 word is in the pseudo-header (RFC 4291 §2.5.5.2)", () => {
  const sum = pseudoHeaderSum(endpoint("10.0.0.1"), endpoint("192.168.1.2"), 17, 12);
  expect(sum).toBe(0x0a00 + 0x0001 + 0xc0a8 + 0x0102 + 17 + 12);
});

test("an IPv6 pseudo-header has all words (RFC 8200 §8.1)", () => {
  const sum = pseudoHeaderSum(endpoint("2001:db8::1"), endpoint("fd00::2"), 58, 65535);
  let expected = 0x2001 + 0xdb8 + 1 + 0xfd00 + 2 + 58 + 65535;
  while (expected > 0xffff) expected = (expected & 0xffff) + (expected >>> 16);
  expect(sum).toBe(expected);
});
