/**
 * A plain reassembly of TCP streams, the kind that keeps every octet: for comparison with the ground truth only.
 */

import { createHash } from "node:crypto";
import { ACK, SYN, type TcpSegment } from "../../src/stack/wire/tcp.ts";

interface Segment {
  readonly seq: number;
  readonly payload: Uint8Array;
}

/** The octets one end sent. */
export class Side {
  /** Sequence number of the first octet. */
  #base: number | null = null;
  #hasSyn = false;
  readonly #segments: Segment[] = [];

  /** True for the SYN of another connection: its ISN is not ours. */
  isOther(seq: number): boolean {
    return this.#base !== null && ((seq + 1) | 0) !== this.#base;
  }

  add(segment: TcpSegment, payload: Uint8Array): void {
    const isSyn = (segment.flags & SYN) !== 0;
    const seq = (segment.seq + (isSyn ? 1 : 0)) | 0;
    if (this.#base === null || (isSyn && !this.#hasSyn)) this.#base = seq;
    this.#hasSyn ||= isSyn;
    if (payload.length > 0) this.#segments.push({ seq, payload });
  }

  /** Octets up to the first gap. Of octets that came twice the first copy counts. */
  get octets(): Uint8Array {
    const base = this.#base ?? 0;
    const positions = this.#segments.map(({ seq }) => (seq - base) | 0);
    const end = this.#segments.reduce(
      (most, { payload }, i) => Math.max(most, positions[i] + payload.length),
      0,
    );
    const octets = new Uint8Array(end);
    const isThere = new Uint8Array(end + 1);
    for (const [i, { payload }] of this.#segments.entries()) {
      for (let j = Math.max(0, -positions[i]); j < payload.length; j++) {
        const at = positions[i] + j;
        if (isThere[at] === 0) octets[at] = payload[j];
        isThere[at] = 1;
      }
    }
    return octets.subarray(0, isThere.indexOf(0));
  }

  get sha256(): string | null {
    const octets = this.octets;
    return octets.length === 0 ? null : createHash("sha256").update(octets).digest("hex");
  }
}

export class Stream {
  packets = 0;
  readonly sides: Map<string, Side> = new Map();

  constructor(one: string, other: string) {
    this.sides.set(one, new Side());
    this.sides.set(other, new Side());
  }
}

export class TcpStreams {
  /** By the number of the first packet, from 1. */
  readonly byFirstFrame: Map<number, Stream> = new Map();
  readonly #current: Map<string, Stream> = new Map();

  add(frame: number, src: string, dst: string, segment: TcpSegment, payload: Uint8Array): void {
    const key = src < dst ? `${src} ${dst}` : `${dst} ${src}`;
    let stream = this.#current.get(key);
    const opens = (segment.flags & (SYN | ACK)) === SYN;
    if (stream === undefined || (opens && stream.sides.get(src)?.isOther(segment.seq))) {
      stream = new Stream(src, dst);
      this.#current.set(key, stream);
      this.byFirstFrame.set(frame, stream);
    }
    stream.packets++;
    stream.sides.get(src)?.add(segment, payload);
  }
}
