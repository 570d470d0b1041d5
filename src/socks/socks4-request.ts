/**
 * SOCKS4 and 4a as a server reads and answers them ("SOCKS: A protocol for TCP proxy across firewalls" and "SOCKS 4A: A
 * Simple Extension to SOCKS 4 Protocol", Ying-Da Lee, NEC; socks4.protocol and socks4a.protocol of openssh.com/txt).
 *
 *     request   VN 4, CD, DSTPORT, DSTIP, USERID, NUL; 4a: DSTIP is 0.0.0.x, x ≠ 0, and a name and NUL follow
 *     reply     VN 0, CD, DSTPORT, DSTIP
 *
 * Pure, like message.ts. Neither paper bounds the two texts; here they have {@link MAX_TEXT} octets each, as in SOCKS5.
 */

import type { Endpoint } from "../stack/wire/address.ts";
import { MAX_TEXT } from "./message.ts";

/** VN of a request. */
export const SOCKS4_VERSION = 0x04;

/** CD of a reply. */
export const Socks4Reply = { GRANTED: 90, REJECTED: 91, NO_IDENT: 92, USER_MISMATCH: 93 } as const;

/** Octets in front of USERID, and of a reply. */
const FIXED = 8;

/**
 * Octets of the request at `start` as far as known, as the `…Need` functions of message.ts; -1: a text is too long for
 * it to become one.
 */
export function socks4RequestNeed(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < FIXED + 1) return FIXED + 1;
  let last = terminator(bytes, start + FIXED, end);
  if (last >= 0 && last < end && hasName(bytes, start)) last = terminator(bytes, last + 1, end);
  return last < 0 ? -1 : last + 1 - start;
}

/** Reads a whole request: the destination into `into` (zero where a name stands), and returns the name or null. */
export function readSocks4Request(
  bytes: Uint8Array,
  start: number,
  end: number,
  into: Endpoint,
): string | null {
  const port = ((bytes[start + 2] as number) << 8) | (bytes[start + 3] as number);
  if (!hasName(bytes, start)) {
    into.set(0, 0, 0xffff, readWord(bytes, start + 4), port);
    return null;
  }
  into.set(0, 0, 0, 0, port);
  const nameStart = terminator(bytes, start + FIXED, end) + 1;
  return decoder.decode(bytes.subarray(nameStart, terminator(bytes, nameStart, end)));
}

/** Writes a reply; returns the offset behind it. An IPv6 address does not fit: zeros, "as the proxy itself" to a client. */
export function writeSocks4Reply(
  bytes: Uint8Array,
  at: number,
  code: number,
  bound: Endpoint,
): number {
  const word = bound.isV4 ? bound.w3 : 0;
  bytes[at] = 0;
  bytes[at + 1] = code;
  bytes[at + 2] = bound.port >>> 8;
  bytes[at + 3] = bound.port;
  bytes[at + 4] = word >>> 24;
  bytes[at + 5] = word >>> 16;
  bytes[at + 6] = word >>> 8;
  bytes[at + 7] = word;
  return at + FIXED;
}

const decoder = new TextDecoder();

/** 4a: DSTIP is 0.0.0.x with x ≠ 0. */
function hasName(bytes: Uint8Array, start: number): boolean {
  const word = readWord(bytes, start + 4);
  return word >>> 8 === 0 && word !== 0;
}

/** The offset of the NUL of the text at `start`; `end` while it has not come; -1: the text is too long. */
function terminator(bytes: Uint8Array, start: number, end: number): number {
  const limit = start + MAX_TEXT + 1;
  for (let i = start; i < end && i < limit; i++) if (bytes[i] === 0) return i;
  return end < limit ? end : -1;
}

function readWord(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  );
}
