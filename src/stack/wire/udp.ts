/**
 * The UDP header (RFC 768).
 */

import { read16, write16 } from "./octets.ts";

export const UDP_HEADER = 8;

/** Why a datagram cannot be used. */
export const UdpDrop = { TRUNCATED: -1, BAD_LENGTH: -2 } as const;

/** A parsed header. Reused: valid until the next parse. */
export class UdpHeader {
  srcPort = 0;
  dstPort = 0;
  /** Header and payload. */
  length = 0;
  /** 0: none was computed. */
  checksum = 0;
}

/** Parses the header at [start, end). Octets behind its length are padding. Returns 0 or a {@link UdpDrop}. */
export function parseUdp(bytes: Uint8Array, start: number, end: number, header: UdpHeader): number {
  if (end - start < UDP_HEADER) return UdpDrop.TRUNCATED;
  header.srcPort = read16(bytes, start);
  header.dstPort = read16(bytes, start + 2);
  header.length = read16(bytes, start + 4);
  header.checksum = read16(bytes, start + 6);
  if (header.length < UDP_HEADER || start + header.length > end) return UdpDrop.BAD_LENGTH;
  return 0;
}

/** Writes the header. `checksum` is the field as it stands (a pseudo-header sum under NEEDS_CSUM). */
export function emitUdp(
  bytes: Uint8Array,
  at: number,
  srcPort: number,
  dstPort: number,
  length: number,
  checksum: number,
): void {
  write16(bytes, at, srcPort);
  write16(bytes, at + 2, dstPort);
  write16(bytes, at + 4, length);
  write16(bytes, at + 6, checksum);
}
