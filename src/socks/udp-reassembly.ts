/**
 * Fragments of SOCKS5 datagrams (RFC 1928 §7) → whole ones, bounded in space and time, for client and server alike.
 *
 * FRAG 1 to 127 is a place in a sequence, and its high-order bit says that the sequence ends there. An association has
 * one queue. It is abandoned after {@link REASSEMBLY_TIME}, and when a datagram comes whose FRAG is less than the
 * highest so far, FRAG 0 included (call `interrupt`): so what was skipped can never be added, and a gap abandons the
 * queue at once. What comes out has FRAG 0 and the address that all of its fragments name.
 *
 * Sequences have no identification. One fragment lost of two sequences each, to one address within the time, can make
 * a datagram of both; where it shows (another address, another fragment in the same place), the queue is abandoned.
 */

import { Timer, type TimerHandler, type Timers } from "../stack/timer-wheel.ts";
import { udpFragment } from "./message.ts";

/** From the first fragment to the last, ms; the RFC asks for no less. */
export const REASSEMBLY_TIME = 5_000;
/** Octets that all queues of a store hold, the cost of a fragment included; the oldest queue gives way. */
export const MAX_FRAGMENT_OCTETS: number = 4 << 20;
/** What a fragment costs beside its octets. */
const FRAGMENT_COST = 128;
/** The longest payload of a UDP datagram, over IPv6: 65,535 − 8. */
const MAX_PAYLOAD = 65_527;

/** FRAG: a place, and whether the sequence ends there. */
const PLACE = 0x7f;
const LAST = 0x80;

/** What became of the fragments of one store. */
export class FragmentCounters {
  /** Fragments that came. */
  received = 0;
  /** Datagrams made of them. */
  reassembled = 0;
  /** Dropped: the same fragment once more. */
  duplicates = 0;
  /** Dropped: they neither begin a sequence nor continue one. */
  strays = 0;
  /** Dropped with their queue: another sequence began, or a place was skipped. */
  outOfOrder = 0;
  /** Dropped with their queue: a datagram that stands alone came. */
  interrupted = 0;
  /** Dropped with their queue: the rest did not come in time. */
  timedOut = 0;
  /** Dropped with their queue: together they exceed every datagram. */
  tooLong = 0;
  /** Dropped with their queue: it gave way to others. */
  evicted = 0;
}

/** What the queues of one client or server have in common: time, room, counters. */
export class FragmentStore {
  readonly counters: FragmentCounters = new FragmentCounters();
  readonly timers: Timers;
  /** Octets held, costs included. */
  octets = 0;
  readonly #limit: number;
  /** Those that hold something, the oldest first. */
  readonly #queues = new Set<FragmentQueue>();

  constructor(timers: Timers, limit: number = MAX_FRAGMENT_OCTETS) {
    this.timers = timers;
    this.#limit = limit;
  }

  /** `queue` holds `octets` more. Others give way for it, at last itself. */
  hold(queue: FragmentQueue, octets: number): void {
    this.#queues.add(queue);
    this.octets += octets;
    for (const oldest of this.#queues) {
      if (this.octets <= this.#limit) return;
      this.counters.evicted += oldest.count;
      oldest.clear();
    }
  }

  /** `queue` is empty again. */
  release(queue: FragmentQueue, octets: number): void {
    this.#queues.delete(queue);
    this.octets -= octets;
  }
}

/** The queue of one association. Make one when its first fragment comes; the path of FRAG 0 allocates nothing. */
export class FragmentQueue implements TimerHandler {
  /** Fragments held: the highest place. */
  count = 0;
  readonly #store: FragmentStore;
  readonly #timer = new Timer(this);
  /** ATYP, address and port, then the data of each fragment. */
  readonly #parts: Uint8Array[] = [];
  /** FRAG of the last part. */
  #fragment = 0;
  /** Octets of the whole so far: RSV, FRAG and all parts. */
  #length = 0;
  #held = 0;

  constructor(store: FragmentStore) {
    this.#store = store;
  }

  /**
   * Takes a datagram with FRAG ≠ 0: its header begins at `start`, its data is [data, end); both are copied. Returns 0,
   * or, when it ended its sequence, the octets of the whole datagram with its header: then `moveTo` or `clear` is next.
   */
  add(bytes: Uint8Array, start: number, data: number, end: number): number {
    const { counters, timers } = this.#store;
    const fragment = udpFragment(bytes, start);
    const place = fragment & PLACE;
    counters.received++;
    if (this.count > 0) {
      const isSameAddress = equal(this.#parts[0], bytes, start + 3, data);
      if (isSameAddress && fragment === this.#fragment && this.#isLast(bytes, data, end)) {
        counters.duplicates++;
        return 0;
      }
      if (!isSameAddress || place !== this.count + 1) {
        counters.outOfOrder += this.count;
        this.clear();
      }
    }
    if (this.count === 0) {
      if (place !== 1) {
        counters.strays++;
        return 0;
      }
      timers.set(this.#timer, timers.now() + REASSEMBLY_TIME);
      this.#parts.push(bytes.slice(start + 3, data));
      this.#length = data - start;
    }
    this.count++;
    const headerLength = 3 + (this.#parts[0] as Uint8Array).length;
    this.#length += end - data;
    if (this.#length - headerLength > MAX_PAYLOAD) {
      counters.tooLong += this.count;
      this.clear();
      return 0;
    }
    this.#parts.push(bytes.slice(data, end));
    this.#fragment = fragment;
    const cost = end - data + FRAGMENT_COST;
    this.#held += cost;
    this.#store.hold(this, cost);
    return (fragment & LAST) !== 0 && this.count > 0 ? this.#length : 0;
  }

  /** Writes the whole datagram with FRAG 0 at `at`, where there is room for it, and empties the queue. */
  moveTo(bytes: Uint8Array, at: number): void {
    bytes.fill(0, at, at + 3);
    let next = at + 3;
    for (const part of this.#parts) {
      bytes.set(part, next);
      next += part.length;
    }
    this.#store.counters.reassembled++;
    this.clear();
  }

  /** A datagram with FRAG 0 came. */
  interrupt(): void {
    if (this.count === 0) return;
    this.#store.counters.interrupted += this.count;
    this.clear();
  }

  onTimer(): void {
    this.#store.counters.timedOut += this.count;
    this.clear();
  }

  /** Forgets what is held. Also when the association ends; idempotent. */
  clear(): void {
    if (this.#parts.length === 0) return;
    this.#store.timers.clear(this.#timer);
    this.#store.release(this, this.#held);
    this.#parts.length = 0;
    this.#held = 0;
    this.count = 0;
  }

  #isLast(bytes: Uint8Array, data: number, end: number): boolean {
    return equal(this.#parts[this.count], bytes, data, end);
  }
}

function equal(part: Uint8Array | undefined, bytes: Uint8Array, from: number, to: number): boolean {
  if (part === undefined || part.length !== to - from) return false;
  for (let i = 0; i < part.length; i++) if (part[i] !== bytes[from + i]) return false;
  return true;
}
