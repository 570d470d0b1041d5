/**
 * Sequence arithmetic modulo 2³² (RFC 9293 §3.4) on int32: what lies less than 2³¹ ahead is later.
 */

/** a − b as int32: positive when `a` is later. */
export function seqDiff(a: number, b: number): number {
  return (a - b) | 0;
}

/** n octets further. */
export function seqAdd(a: number, n: number): number {
  return (a + n) | 0;
}

export function seqBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

export function seqAfter(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}

export function seqMax(a: number, b: number): number {
  return ((a - b) | 0) < 0 ? b : a;
}

export function seqMin(a: number, b: number): number {
  return ((a - b) | 0) < 0 ? a : b;
}

/** start ≤ a < start + size. */
export function seqInWindow(a: number, start: number, size: number): boolean {
  const offset = (a - start) | 0;
  return offset >= 0 && offset < size;
}
