/**
 * Big-endian reads and writes on a Uint8Array.
 *
 * 32-bit values are int32 (a uint32 above 2³¹ would be a heap double); print them with `>>> 0`.
 * The caller has checked bounds: reads outside give 0, writes outside are lost.
 */

/** Reads 16 bits, 0..65535. */
export function read16(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 8) | bytes[at + 1];
}

/** Reads 32 bits as int32. */
export function read32(bytes: Uint8Array, at: number): number {
  return (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
}

/** Writes the low 16 bits of `value`. */
export function write16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value;
}

/** Writes the 32 bits of an int32 (or uint32). */
export function write32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 24;
  bytes[at + 1] = value >> 16;
  bytes[at + 2] = value >> 8;
  bytes[at + 3] = value;
}
