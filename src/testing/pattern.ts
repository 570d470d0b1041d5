/**
 * The content of every test stream: an octet is a function of its place, so any loss, repetition or
 * exchange shows wherever it happens. Two streams (client 0, upstream 1) differ everywhere.
 */

export type Stream = 0 | 1;

/** The octet at `offset` of `stream`. Neighbouring multiples of 256, 4,096 and 65,536 differ. */
export function patternOctet(stream: Stream, offset: number): number {
  const high = Math.floor(offset / 256);
  return (offset + high * 37 + (high >>> 4) * 11 + (high >>> 8) * 7 + stream * 128) & 255;
}

/** Writes octets [offset, offset + end − start) of `stream` to bytes[start, end). */
export function fillPattern(
  stream: Stream,
  offset: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): void {
  for (let at = start; at < end; at++) bytes[at] = patternOctet(stream, offset + at - start);
}

/** A copy of octets [offset, offset + length) of `stream`. */
export function pattern(stream: Stream, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  fillPattern(stream, offset, bytes, 0, length);
  return bytes;
}

/** The first place in bytes[start, end) that differs from the stream at `offset`; -1: none. */
export function patternFault(
  stream: Stream,
  offset: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): number {
  for (let at = start; at < end; at++) {
    if (bytes[at] !== patternOctet(stream, offset + at - start)) return offset + at - start;
  }
  return -1;
}
