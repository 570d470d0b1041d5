/**
 * The Internet checksum (RFC 1071).
 *
 * A *sum* here is a one's complement sum folded to 16 bits, not complemented: the form a virtio device
 * wants in the checksum field under NEEDS_CSUM, and the form in which partial sums can be added.
 * A correct packet, its checksum field included, sums to 0xffff.
 */

import type { Endpoint } from "./address.ts";

/**
 * Sums [start, end); an odd last octet is padded with zero. `initial` is a sum to continue from, of an
 * even number of octets (else see {@link swapSum}).
 */
export function sumOctets(bytes: Uint8Array, start: number, end: number, initial = 0): number {
  // High and low octets are summed apart, so that no shift is needed per word; 128 KiB of either stay
  // below 2²⁵.
  let high = 0;
  let low = 0;
  let at = start;
  for (const last = end - 8; at <= last; at += 8) {
    high += bytes[at] + bytes[at + 2] + bytes[at + 4] + bytes[at + 6];
    low += bytes[at + 1] + bytes[at + 3] + bytes[at + 5] + bytes[at + 7];
  }
  for (; at + 1 < end; at += 2) {
    high += bytes[at];
    low += bytes[at + 1];
  }
  if (at < end) high += bytes[at];
  return fold((high & 0xffff) * 256 + (high >>> 16) * 256 + low + initial);
}

/** Adds two sums. */
export function addSums(a: number, b: number): number {
  const sum = a + b;
  return (sum & 0xffff) + (sum >>> 16);
}

/** The sum of a piece that begins at an odd offset of its packet (RFC 1071 §2 (B)). */
export function swapSum(sum: number): number {
  return ((sum & 0xff) << 8) | (sum >>> 8);
}

/** The checksum field of a sum. UDP sends 0 as 0xffff (RFC 768). */
export function complement(sum: number): number {
  return ~sum & 0xffff;
}

/**
 * The pseudo-header's sum (RFC 768, RFC 9293 §3.1, RFC 8200 §8.1). Both headers sum alike but for the
 * address words: of a v4-mapped address only the IPv4 word counts. `length`: header and payload.
 */
export function pseudoHeaderSum(
  src: Endpoint,
  dst: Endpoint,
  protocol: number,
  length: number,
): number {
  let sum = protocol + (length & 0xffff) + (length >>> 16);
  sum += (src.w3 >>> 16) + (src.w3 & 0xffff) + (dst.w3 >>> 16) + (dst.w3 & 0xffff);
  if (!dst.isV4) {
    sum += (src.w0 >>> 16) + (src.w0 & 0xffff) + (dst.w0 >>> 16) + (dst.w0 & 0xffff);
    sum += (src.w1 >>> 16) + (src.w1 & 0xffff) + (dst.w1 >>> 16) + (dst.w1 & 0xffff);
    sum += (src.w2 >>> 16) + (src.w2 & 0xffff) + (dst.w2 >>> 16) + (dst.w2 & 0xffff);
  }
  return fold(sum);
}

/** Folds a non-negative integer below 2³¹ to 16 bits. */
function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}
