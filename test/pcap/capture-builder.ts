/**
 * Made-up captures in either format and byte order.
 */

import { expect } from "vitest";
import type { CapturedPacket } from "../../src/pcap/captured-packet.ts";
import { readCapture } from "../../src/pcap/read-capture.ts";

/** Fields in one byte order. */
export class Fields {
  readonly #parts: Buffer[] = [];
  readonly #isLittle: boolean;

  constructor(isLittle: boolean) {
    this.#isLittle = isLittle;
  }

  u16(...values: number[]): this {
    for (const value of values) {
      const part = Buffer.alloc(2);
      if (this.#isLittle) part.writeUInt16LE(value);
      else part.writeUInt16BE(value);
      this.#parts.push(part);
    }
    return this;
  }

  u32(...values: number[]): this {
    for (const value of values) {
      const part = Buffer.alloc(4);
      if (this.#isLittle) part.writeUInt32LE(value);
      else part.writeUInt32BE(value);
      this.#parts.push(part);
    }
    return this;
  }

  i64(value: bigint): this {
    const part = Buffer.alloc(8);
    if (this.#isLittle) part.writeBigInt64LE(value);
    else part.writeBigInt64BE(value);
    this.#parts.push(part);
    return this;
  }

  /** With `padded`, zeros up to a multiple of four octets follow. */
  octets(bytes: Uint8Array, padded = false): this {
    this.#parts.push(Buffer.from(bytes));
    if (padded) this.#parts.push(Buffer.alloc(-bytes.length & 3));
    return this;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

export interface PcapRecord {
  readonly seconds?: number;
  readonly fraction?: number;
  readonly bytes: Uint8Array;
  readonly originalLength?: number;
}

export interface PcapShape {
  readonly isLittle?: boolean;
  readonly nanoseconds?: boolean;
  readonly network?: number;
}

export function pcap(records: readonly PcapRecord[], shape: PcapShape = {}): Buffer {
  const { isLittle = true, nanoseconds = false, network = 101 } = shape;
  const file = new Fields(isLittle)
    .u32(nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4)
    .u16(2, 4)
    .u32(0, 0, 65535, network);
  for (const { seconds = 0, fraction = 0, bytes, originalLength } of records) {
    file.u32(seconds, fraction, bytes.length, originalLength ?? bytes.length).octets(bytes);
  }
  return file.bytes;
}

/** The blocks of a pcapng file, each with both lengths right. */
export class Blocks {
  readonly #isLittle: boolean;

  constructor(isLittle = true) {
    this.#isLittle = isLittle;
  }

  block(type: number, body: Uint8Array): Buffer {
    const length = 12 + body.length;
    return new Fields(this.#isLittle).u32(type, length).octets(body).u32(length).bytes;
  }

  section(): Buffer {
    return this.block(0x0a0d0d0a, this.#fields().u32(0x1a2b3c4d).u16(1, 0).i64(-1n).bytes);
  }

  interface(linkType: number, snapLength = 0, options: Uint8Array = new Uint8Array(0)): Buffer {
    return this.block(1, this.#fields().u16(linkType, 0).u32(snapLength).octets(options).bytes);
  }

  resolution(value: number): Buffer {
    return this.#fields().u16(9, 1).octets(Uint8Array.of(value), true).bytes;
  }

  offset(seconds: bigint): Buffer {
    return this.#fields().u16(14, 8).i64(seconds).bytes;
  }

  enhanced(id: number, ticks: bigint, bytes: Uint8Array, originalLength = bytes.length): Buffer {
    const body = this.#fields()
      .u32(id, Number(ticks >> 32n), Number(ticks & 0xffffffffn), bytes.length, originalLength)
      .octets(bytes, true);
    return this.block(6, body.bytes);
  }

  obsolete(id: number, ticks: bigint, bytes: Uint8Array, originalLength = bytes.length): Buffer {
    const body = this.#fields()
      .u16(id, 0)
      .u32(Number(ticks >> 32n), Number(ticks & 0xffffffffn), bytes.length, originalLength)
      .octets(bytes, true);
    return this.block(2, body.bytes);
  }

  simple(bytes: Uint8Array, originalLength = bytes.length): Buffer {
    return this.block(3, this.#fields().u32(originalLength).octets(bytes, true).bytes);
  }

  #fields(): Fields {
    return new Fields(this.#isLittle);
  }
}

export async function* chunked(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export interface Outcome {
  readonly packets: CapturedPacket[];
  /** Null: the capture was whole. */
  readonly error: unknown;
}

/** Reads a capture to its end or to its damage. */
export async function readAll(bytes: Uint8Array, chunk = 65536): Promise<Outcome> {
  const packets: CapturedPacket[] = [];
  try {
    for await (const packet of readCapture(chunked(bytes, chunk))) packets.push(packet);
  } catch (error) {
    return { packets, error };
  }
  return { packets, error: null };
}

/** What a damaged capture is refused with, for `toMatchObject`. */
export function damageAt(offset: number, why: string): object {
  const message = expect.stringMatching(new RegExp(`: ${why}.*, at octet ${offset};`));
  return { code: "ERR_CAPTURE", message };
}
