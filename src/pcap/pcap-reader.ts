/**
 * The pcap file format (draft-ietf-opsawg-pcap): both byte orders, microseconds and nanoseconds.
 */

import {
  type CapturedPacket,
  type CaptureFormat,
  captureError,
  MAX_CAPTURED_OCTETS,
} from "./captured-packet.ts";
import type { OctetQueue } from "./octet-queue.ts";

/** True when a file that starts with these four octets (read big-endian) is pcap. */
export function isPcapMagic(magic: number): boolean {
  return magic === MICROSECONDS || magic === NANOSECONDS || isSwapped(magic);
}

export class PcapReader implements CaptureFormat {
  #hasHeader = false;
  #isLittle = false;
  #nanosecondsPerUnit = 1000n;
  #linkType = 0;

  get isBetweenRecords(): boolean {
    return this.#hasHeader;
  }

  next(input: OctetQueue): CapturedPacket | null {
    if (!this.#hasHeader) {
      if (input.length < FILE_HEADER) return null;
      this.#readHeader(input);
    }
    if (input.length < RECORD_HEADER) return null;
    const { view, start } = input;
    const isLittle = this.#isLittle;
    const captured = view.getUint32(start + 8, isLittle);
    if (captured > MAX_CAPTURED_OCTETS) {
      throw captureError(input.offset, `a packet of ${captured} octets cannot be`);
    }
    if (input.length < RECORD_HEADER + captured) return null;
    const seconds = BigInt(view.getUint32(start, isLittle));
    const fraction = BigInt(view.getUint32(start + 4, isLittle));
    const originalLength = view.getUint32(start + 12, isLittle);
    const at = start + RECORD_HEADER;
    const bytes = input.bytes.subarray(at, at + captured);
    input.take(RECORD_HEADER + captured);
    return {
      time: seconds * 1_000_000_000n + fraction * this.#nanosecondsPerUnit,
      linkType: this.#linkType,
      interface: 0,
      bytes,
      originalLength,
      truncated: captured < originalLength,
    };
  }

  #readHeader(input: OctetQueue): void {
    const { view, start } = input;
    const magic = view.getUint32(start);
    const isLittle = isSwapped(magic);
    this.#isLittle = isLittle;
    if (magic === NANOSECONDS || magic === NANOSECONDS_SWAPPED) this.#nanosecondsPerUnit = 1n;
    const major = view.getUint16(start + 4, isLittle);
    const minor = view.getUint16(start + 6, isLittle);
    if (major !== 2 || minor !== 4) {
      throw captureError(input.offset + 4, `pcap version ${major}.${minor} is not known (2.4 is)`);
    }
    const network = view.getUint32(start + 20, isLittle);
    if ((network & LINK_TYPE_RESERVED) !== 0) {
      throw captureError(input.offset + 20, "reserved bits of the link type are set");
    }
    this.#linkType = network & 0xffff;
    this.#hasHeader = true;
    input.take(FILE_HEADER);
  }
}

function isSwapped(magic: number): boolean {
  return magic === MICROSECONDS_SWAPPED || magic === NANOSECONDS_SWAPPED;
}

const MICROSECONDS = 0xa1b2c3d4;
const MICROSECONDS_SWAPPED = 0xd4c3b2a1;
const NANOSECONDS = 0xa1b23c4d;
const NANOSECONDS_SWAPPED = 0x4d3cb2a1;
const FILE_HEADER = 24;
const RECORD_HEADER = 16;
/** Between the link type and the length of the frame check sequence. */
const LINK_TYPE_RESERVED = 0x03ff0000;
