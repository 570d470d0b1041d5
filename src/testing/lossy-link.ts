/**
 * One direction of a bad link: seeded loss, duplication, reordering, delay and corruption.
 *
 * The same seed gives the same link. Corruption flips one bit of one octet, which the Internet checksum
 * always notices (RFC 1071), so a corrupted packet is a lost one that wastes the receiver's time.
 */

import type { PacketMeta } from "./memory-device.ts";
import { checksum } from "./packet-builder.ts";

export interface LinkOptions {
  /** Probabilities per packet, 0 by default. */
  readonly loss?: number;
  readonly duplicate?: number;
  readonly corrupt?: number;
  /** Of packets that are ECT: congestion experienced (RFC 3168 §5). */
  readonly mark?: number;
  /** Probability that a packet is held back, and so is overtaken by those behind it. */
  readonly reorder?: number;
  /** One-way delay, ms; 1 by default. */
  readonly delay?: number;
  /** Up to so much more, ms; held-back packets get it three times. */
  readonly jitter?: number;
}

export interface LinkPacket {
  readonly bytes: Uint8Array;
  readonly meta: PacketMeta;
}

interface InFlight extends LinkPacket {
  readonly at: number;
}

/** A small seeded generator (xorshift32), uniform in [0, 1). */
export function seededRandom(seed: number): () => number {
  let state = (Math.imul(seed, 0x9e3779b1) ^ 0x6a09e667) | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 4294967296;
  };
}

export class LossyLink {
  readonly #options: LinkOptions;
  readonly #random: () => number;
  /** Sorted by arrival; equal arrivals keep their order. */
  readonly #inFlight: InFlight[] = [];
  /** In-order packets do not overtake each other. */
  #latest = 0;
  sent = 0;
  lost = 0;
  duplicated = 0;
  corrupted = 0;
  marked = 0;
  /** Held back, see {@link LinkOptions.reorder}. */
  reordered = 0;

  constructor(options: LinkOptions, random: () => number) {
    this.#options = options;
    this.#random = random;
  }

  /** Puts a packet on the link at time `now`. A packet with offloaded checksum is never corrupted. */
  send(bytes: Uint8Array, meta: PacketMeta, now: number): void {
    const { loss = 0, duplicate = 0, corrupt = 0, mark = 0 } = this.#options;
    this.sent++;
    if (this.#random() < loss) {
      this.lost++;
      return;
    }
    let octets = bytes;
    // Without the option the numbers of a seed are what they were before there was one.
    if (mark > 0 && isEct(bytes) && this.#random() < mark) {
      this.marked++;
      octets = withMark(bytes);
    }
    if (this.#random() < corrupt && (meta.flags ?? 0) === 0) {
      this.corrupted++;
      octets = octets.slice();
      octets[Math.floor(this.#random() * octets.length)]! ^= 1 << Math.floor(this.#random() * 8);
    }
    this.#schedule(octets, meta, now);
    if (this.#random() < duplicate) {
      this.duplicated++;
      this.#schedule(octets, meta, now);
    }
  }

  /** Packets on the link. */
  get inFlight(): number {
    return this.#inFlight.length;
  }

  /** When the next packet arrives; -1: the link is empty. */
  next(): number {
    return this.#inFlight[0]?.at ?? -1;
  }

  /** The next packet that has arrived by `now`. */
  receive(now: number): LinkPacket | undefined {
    const first = this.#inFlight[0];
    return first !== undefined && first.at <= now ? this.#inFlight.shift() : undefined;
  }

  #schedule(bytes: Uint8Array, meta: PacketMeta, now: number): void {
    const { delay = 1, jitter = 0, reorder = 0 } = this.#options;
    let at = now + delay + Math.floor(this.#random() * (jitter + 1));
    if (this.#random() < reorder) {
      this.reordered++;
      at += 1 + 3 * jitter;
    } else {
      at = Math.max(at, this.#latest);
      this.#latest = at;
    }
    let index = this.#inFlight.length;
    while (index > 0 && this.#inFlight[index - 1]!.at > at) index--;
    this.#inFlight.splice(index, 0, { bytes, meta, at });
  }
}

/** The ECN field is neither Not-ECT nor CE already. */
function isEct(packet: Uint8Array): boolean {
  const field = packet[0]! >> 4 === 4 ? packet[1]! & 3 : (packet[1]! >> 4) & 3;
  return field === 1 || field === 2;
}

function withMark(packet: Uint8Array): Uint8Array {
  const marked = packet.slice();
  if (packet[0]! >> 4 === 6) {
    marked[1]! |= 0x30;
    return marked;
  }
  marked[1]! |= 3;
  marked.fill(0, 10, 12);
  const sum = checksum(marked.subarray(0, (marked[0]! & 15) * 4));
  marked.set([sum >> 8, sum & 255], 10);
  return marked;
}
