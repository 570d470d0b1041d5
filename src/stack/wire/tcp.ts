/**
 * The TCP header and its options (RFC 9293 §3.1, RFC 7323, RFC 2018), parsed into a reused TcpSegment.
 *
 * Parsing never throws. Options that are cut off or have an impossible length end the option list; what stood
 * before them counts (RFC 9293 §3.1, MUST-7).
 */

import { read16, read32, write16, write32 } from "./octets.ts";

/** Control bits. */
export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;
export const URG = 0x20;
export const ECE = 0x40;
export const CWR = 0x80;

export const TCP_HEADER = 20;
/** Offset of the checksum in the header: what virtio calls csum_offset. */
export const TCP_CHECKSUM = 16;
/** Offset of the control bits. */
export const TCP_FLAGS = 13;
/** SACK blocks that fit into the option space. */
export const MAX_SACK_BLOCKS = 4;

/** Why a segment cannot be used. */
export const TcpDrop = { TRUNCATED: -1, BAD_OFFSET: -2 } as const;

/** A parsed segment. Reused: valid until the next parse. Offsets are absolute, sequence numbers int32. */
export class TcpSegment {
  srcPort = 0;
  dstPort = 0;
  seq = 0;
  ack = 0;
  flags = 0;
  /** The field as it stands, not scaled. */
  window = 0;
  payloadStart = 0;
  payloadEnd = 0;
  /** Size of the segments that a super-segment stands for; 0: it is one segment. The caller's. */
  gsoSize = 0;
  /** The ECN field of its IP header. The caller's. */
  ecn = 0;
  /** 0: no option. */
  mss = 0;
  /** -1: no option. */
  windowScale = -1;
  sackPermitted = false;
  hasTimestamps = false;
  tsVal = 0;
  tsEcr = 0;
  sackCount = 0;
  /** Left and right edges of the blocks. */
  readonly sackEdges: Int32Array = new Int32Array(2 * MAX_SACK_BLOCKS);
}

/** Parses the segment at [start, end). Returns 0 or a {@link TcpDrop}. */
export function parseTcp(
  bytes: Uint8Array,
  start: number,
  end: number,
  segment: TcpSegment,
): number {
  if (end - start < TCP_HEADER) return TcpDrop.TRUNCATED;
  const headerLength = (bytes[start + 12] >> 4) << 2;
  if (headerLength < TCP_HEADER || start + headerLength > end) return TcpDrop.BAD_OFFSET;
  segment.srcPort = read16(bytes, start);
  segment.dstPort = read16(bytes, start + 2);
  segment.seq = read32(bytes, start + 4);
  segment.ack = read32(bytes, start + 8);
  segment.flags = bytes[start + 13];
  segment.window = read16(bytes, start + 14);
  segment.payloadStart = start + headerLength;
  segment.payloadEnd = end;
  segment.mss = 0;
  segment.windowScale = -1;
  segment.sackPermitted = false;
  segment.hasTimestamps = false;
  segment.sackCount = 0;
  if (headerLength > TCP_HEADER) {
    parseOptions(bytes, start + TCP_HEADER, start + headerLength, segment);
  }
  return 0;
}

function parseOptions(bytes: Uint8Array, start: number, end: number, segment: TcpSegment): void {
  // Nearly every segment of an established connection has these twelve octets and nothing else.
  if (end - start === 12 && read32(bytes, start) === NOP_NOP_TIMESTAMPS) {
    segment.hasTimestamps = true;
    segment.tsVal = read32(bytes, start + 4);
    segment.tsEcr = read32(bytes, start + 8);
    return;
  }
  for (let at = start; at < end; ) {
    const kind = bytes[at];
    if (kind === Option.END) return;
    if (kind === Option.NOP) {
      at++;
      continue;
    }
    const length = at + 1 < end ? bytes[at + 1] : 0;
    if (length < 2 || at + length > end) return;
    parseOption(bytes, at, kind, length, segment);
    at += length;
  }
}

function parseOption(
  bytes: Uint8Array,
  at: number,
  kind: number,
  length: number,
  segment: TcpSegment,
): void {
  if (kind === Option.MSS && length === 4) {
    segment.mss = read16(bytes, at + 2);
  } else if (kind === Option.WINDOW_SCALE && length === 3) {
    // RFC 7323 §2.3: a shift above 14 counts as 14.
    segment.windowScale = Math.min(bytes[at + 2], 14);
  } else if (kind === Option.SACK_PERMITTED && length === 2) {
    segment.sackPermitted = true;
  } else if (kind === Option.TIMESTAMPS && length === 10) {
    segment.hasTimestamps = true;
    segment.tsVal = read32(bytes, at + 2);
    segment.tsEcr = read32(bytes, at + 6);
  } else if (kind === Option.SACK && length >= 10 && (length - 2) % 8 === 0) {
    const edges = Math.min((length - 2) >> 2, 2 * MAX_SACK_BLOCKS);
    for (let i = 0; i < edges; i++) segment.sackEdges[i] = read32(bytes, at + 2 + 4 * i);
    segment.sackCount = edges >> 1;
  }
}

/** Writes the header without its options; `headerLength` counts them. The checksum is as it stands. */
export function emitTcp(
  bytes: Uint8Array,
  at: number,
  srcPort: number,
  dstPort: number,
  seq: number,
  ack: number,
  headerLength: number,
  flags: number,
  window: number,
  checksum: number,
): void {
  write16(bytes, at, srcPort);
  write16(bytes, at + 2, dstPort);
  write32(bytes, at + 4, seq);
  write32(bytes, at + 8, ack);
  bytes[at + 12] = headerLength << 2;
  bytes[at + 13] = flags;
  write16(bytes, at + 14, window);
  write16(bytes, at + TCP_CHECKSUM, checksum);
  write16(bytes, at + 18, 0);
}

/** Writes the maximum segment size. Returns the next offset, as the others do. */
export function emitMss(bytes: Uint8Array, at: number, mss: number): number {
  write16(bytes, at, (Option.MSS << 8) | 4);
  write16(bytes, at + 2, mss);
  return at + 4;
}

/** Writes NOP, window scale. */
export function emitWindowScale(bytes: Uint8Array, at: number, shift: number): number {
  write32(bytes, at, (Option.NOP << 24) | (Option.WINDOW_SCALE << 16) | (3 << 8) | shift);
  return at + 4;
}

/** Writes NOP, NOP, SACK permitted. */
export function emitSackPermitted(bytes: Uint8Array, at: number): number {
  write32(bytes, at, (Option.NOP << 24) | (Option.NOP << 16) | (Option.SACK_PERMITTED << 8) | 2);
  return at + 4;
}

/** Writes NOP, NOP, timestamps: {@link TIMESTAMPS_LENGTH} octets. */
export function emitTimestamps(
  bytes: Uint8Array,
  at: number,
  tsVal: number,
  tsEcr: number,
): number {
  write32(bytes, at, NOP_NOP_TIMESTAMPS);
  write32(bytes, at + 4, tsVal);
  write32(bytes, at + 8, tsEcr);
  return at + TIMESTAMPS_LENGTH;
}

/** Writes NOP, NOP, SACK with `count` blocks: 4 + 8 × count octets. */
export function emitSack(bytes: Uint8Array, at: number, edges: Int32Array, count: number): number {
  const length = 2 + 8 * count;
  write32(bytes, at, (Option.NOP << 24) | (Option.NOP << 16) | (Option.SACK << 8) | length);
  for (let i = 0; i < 2 * count; i++) write32(bytes, at + 4 + 4 * i, edges[i]);
  return at + 4 + 8 * count;
}

/** What the timestamps option takes of every segment. */
export const TIMESTAMPS_LENGTH = 12;

/** Option kinds (IANA "TCP Option Kind Numbers"). */
const Option = {
  END: 0,
  NOP: 1,
  MSS: 2,
  WINDOW_SCALE: 3,
  SACK_PERMITTED: 4,
  SACK: 5,
  TIMESTAMPS: 8,
} as const;
const NOP_NOP_TIMESTAMPS = 0x0101080a;
