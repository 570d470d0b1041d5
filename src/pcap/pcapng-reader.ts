/**
 * The pcapng file format (draft-ietf-opsawg-pcapng): sections in either byte order, interfaces with their own link
 * type and clock, Enhanced, Simple and (obsolete) Packet Blocks. Other blocks are skipped without holding them.
 */

import {
  type CapturedPacket,
  type CaptureFormat,
  captureError,
  MAX_CAPTURED_OCTETS,
} from "./captured-packet.ts";
import type { OctetQueue } from "./octet-queue.ts";

/** The first four octets of a file, the same in both byte orders. */
export const PCAPNG_MAGIC = 0x0a0d0d0a;
/** Interfaces of one section. */
export const MAX_INTERFACES = 4096;
/** Octets of a block that is read: the largest packet and room for options. */
export const MAX_BLOCK_OCTETS: number = 4 * MAX_CAPTURED_OCTETS;

export class PcapngReader implements CaptureFormat {
  #isLittle = false;
  #interfaces: Interface[] = [];
  /** Octets left of the body of a block that is skipped, before its trailing length; -1: none is. */
  #skip = -1;
  #skippedLength = 0;
  #skippedOffset = 0;

  get isBetweenRecords(): boolean {
    return this.#skip < 0;
  }

  next(input: OctetQueue): CapturedPacket | null {
    for (;;) {
      if (this.#skip >= 0) {
        if (!this.#skipOn(input)) return null;
        continue;
      }
      if (input.length < BLOCK_HEADER) return null;
      const type = input.view.getUint32(input.start);
      if (type === PCAPNG_MAGIC) {
        if (input.length < BLOCK_HEADER + 4) return null;
        this.#isLittle = readByteOrder(input);
      }
      const length = input.view.getUint32(input.start + 4, this.#isLittle);
      if (length < SHORTEST_BLOCK || length % 4 !== 0) {
        throw captureError(input.offset, `a block of ${length} octets cannot be`);
      }
      const blockType = input.view.getUint32(input.start, this.#isLittle);
      if (!READ_BLOCKS.has(blockType)) {
        this.#skip = length - SHORTEST_BLOCK;
        this.#skippedLength = length;
        this.#skippedOffset = input.offset;
        input.take(BLOCK_HEADER);
        continue;
      }
      if (length > MAX_BLOCK_OCTETS) {
        throw captureError(input.offset, `a block of ${length} octets is too long`);
      }
      if (input.length < length) return null;
      const trailing = input.view.getUint32(input.start + length - 4, this.#isLittle);
      if (trailing !== length) throw captureError(input.offset, LENGTHS_DIFFER);
      const packet = this.#readBlock(input, blockType, length);
      input.take(length);
      if (packet !== null) return packet;
    }
  }

  /** True when the skipped block is over. */
  #skipOn(input: OctetQueue): boolean {
    const octets = Math.min(this.#skip, input.length);
    input.take(octets);
    this.#skip -= octets;
    if (this.#skip > 0 || input.length < 4) return false;
    const trailing = input.view.getUint32(input.start, this.#isLittle);
    if (trailing !== this.#skippedLength) throw captureError(this.#skippedOffset, LENGTHS_DIFFER);
    input.take(4);
    this.#skip = -1;
    return true;
  }

  #readBlock(input: OctetQueue, type: number, length: number): CapturedPacket | null {
    const block = new Block(input, length, this.#isLittle);
    switch (type) {
      case PCAPNG_MAGIC: {
        const major = block.u16(12);
        if (major !== 1) throw block.error(`pcapng version ${major} is not known (1 is)`);
        this.#interfaces = [];
        return null;
      }
      case INTERFACE_DESCRIPTION:
        if (this.#interfaces.length === MAX_INTERFACES) {
          throw block.error(`more than ${MAX_INTERFACES} interfaces`);
        }
        this.#interfaces.push(readInterface(block));
        return null;
      case SIMPLE_PACKET: {
        const originalLength = block.u32(8);
        const snapLength = this.#interface(block, 0).snapLength;
        return this.#packet(block, 0, false, 12, Math.min(originalLength, snapLength), 8);
      }
      case ENHANCED_PACKET:
        return this.#packet(block, block.u32(8), true, 28, block.u32(20), 24);
      default:
        return this.#packet(block, block.u16(8), true, 28, block.u32(20), 24);
    }
  }

  #interface(block: Block, id: number): Interface {
    const found = this.#interfaces[id];
    if (found === undefined) throw block.error(`there is no interface ${id}`);
    return found;
  }

  /** `dataAt` and `originalAt` are offsets into the block; the time, if any, lies at 12. */
  #packet(
    block: Block,
    id: number,
    hasTime: boolean,
    dataAt: number,
    captured: number,
    originalAt: number,
  ): CapturedPacket {
    const from = this.#interface(block, id);
    const originalLength = block.u32(originalAt);
    if (captured > MAX_CAPTURED_OCTETS || captured > block.length - dataAt - 4) {
      throw block.error(`a packet of ${captured} octets in a block of ${block.length}`);
    }
    return {
      time: hasTime ? timeOf(block, from) : null,
      linkType: from.linkType,
      interface: id,
      bytes: block.slice(dataAt, captured),
      originalLength,
      truncated: captured < originalLength,
    };
  }
}

interface Interface {
  readonly linkType: number;
  /** Infinity: no limit. */
  readonly snapLength: number;
  /** Nanoseconds are ticks * multiplier / divisor + offset. */
  readonly multiplier: bigint;
  readonly divisor: bigint;
  readonly offset: bigint;
}

/** A whole block; reads at offsets from its start, which fail at its trailing length. */
class Block {
  readonly length: number;
  readonly #input: OctetQueue;
  readonly #isLittle: boolean;

  constructor(input: OctetQueue, length: number, isLittle: boolean) {
    this.#input = input;
    this.length = length;
    this.#isLittle = isLittle;
  }

  u16(at: number): number {
    return this.#input.view.getUint16(this.#at(at, 2), this.#isLittle);
  }

  u32(at: number): number {
    return this.#input.view.getUint32(this.#at(at, 4), this.#isLittle);
  }

  u8(at: number): number {
    return this.#input.view.getUint8(this.#at(at, 1));
  }

  i64(at: number): bigint {
    return this.#input.view.getBigInt64(this.#at(at, 8), this.#isLittle);
  }

  slice(at: number, octets: number): Uint8Array {
    const start = this.#at(at, octets);
    return this.#input.bytes.subarray(start, start + octets);
  }

  error(why: string): Error {
    return captureError(this.#input.offset, why);
  }

  #at(at: number, octets: number): number {
    if (at + octets > this.length - 4) throw this.error("a block is too short for its fields");
    return this.#input.start + at;
  }
}

/** True: little-endian. */
function readByteOrder(input: OctetQueue): boolean {
  const mark = input.view.getUint32(input.start + BLOCK_HEADER);
  if (mark === BYTE_ORDER_MAGIC) return false;
  if (mark === BYTE_ORDER_SWAPPED) return true;
  throw captureError(input.offset, "a section without a byte order");
}

function readInterface(block: Block): Interface {
  const snapLength = block.u32(12);
  let resolution = MICROSECONDS;
  let offset = 0n;
  const end = block.length - 4;
  for (let at = 16; at + 4 <= end; ) {
    const code = block.u16(at);
    const length = block.u16(at + 2);
    if (code === END_OF_OPTIONS) break;
    if (at + 4 + length > end) throw block.error("an option is longer than its block");
    if (code === TIME_RESOLUTION && length === 1) resolution = block.u8(at + 4);
    if (code === TIME_OFFSET && length === 8) offset = block.i64(at + 4);
    at += 4 + ((length + 3) & ~3);
  }
  // The highest bit chooses the base; the rest is a negative power of it.
  const power = BigInt(resolution & 0x7f);
  return {
    linkType: block.u16(8),
    snapLength: snapLength === 0 ? Number.POSITIVE_INFINITY : snapLength,
    multiplier: NANOSECONDS,
    divisor: (resolution & 0x80) !== 0 ? 1n << power : 10n ** power,
    offset: offset * NANOSECONDS,
  };
}

function timeOf(block: Block, from: Interface): bigint {
  const ticks = (BigInt(block.u32(12)) << 32n) | BigInt(block.u32(16));
  return (ticks * from.multiplier) / from.divisor + from.offset;
}

const INTERFACE_DESCRIPTION = 1;
const OBSOLETE_PACKET = 2;
const SIMPLE_PACKET = 3;
const ENHANCED_PACKET = 6;
const READ_BLOCKS: ReadonlySet<number> = new Set([
  PCAPNG_MAGIC,
  INTERFACE_DESCRIPTION,
  OBSOLETE_PACKET,
  SIMPLE_PACKET,
  ENHANCED_PACKET,
]);
/** Type and total length. */
const BLOCK_HEADER = 8;
/** Type and total length twice. */
const SHORTEST_BLOCK = 12;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const BYTE_ORDER_SWAPPED = 0x4d3c2b1a;
const END_OF_OPTIONS = 0;
/** if_tsresol. */
const TIME_RESOLUTION = 9;
/** if_tsoffset, in seconds. */
const TIME_OFFSET = 14;
/** Default of if_tsresol: 10⁻⁶. */
const MICROSECONDS = 6;
const NANOSECONDS = 1_000_000_000n;
const LENGTHS_DIFFER = "the two lengths of a block differ";
