/**
 * Records of octet ranges, linked into lists: the send buffers, receive buffers, reassembly queues and flights
 * of all connections share one pool, so that a connection is a few integers and no array.
 *
 * A list belongs to whoever holds its first index. Arrays are replaced when the pool grows: read them anew after
 * `take`.
 */

/** No range. */
export const NONE = -1;
/** The value of `page` of octets that lie in the packets of the running batch. */
export const IN_BATCH = -1;

export class Ranges {
  /** Ranges in use. */
  size = 0;
  /** Sequence number of the first octet. */
  seq: Int32Array;
  /** Octets [start, end) of the memory; in a flight, [seq, end) are sequence numbers: see flight.ts. */
  start: Int32Array;
  end: Int32Array;
  /** Page that holds them, or {@link IN_BATCH}. */
  page: Int32Array;
  next: Int32Array;
  readonly #bound: number;
  #free = NONE;
  /** No range at or above was ever used. */
  #top = 0;

  constructor(bound: number) {
    this.#bound = bound;
    const capacity = Math.min(bound, 256);
    this.seq = new Int32Array(capacity);
    this.start = new Int32Array(capacity);
    this.end = new Int32Array(capacity);
    this.page = new Int32Array(capacity);
    this.next = new Int32Array(capacity);
  }

  /** {@link take} would find none. */
  get isFull(): boolean {
    return this.#free === NONE && this.#top === this.#bound;
  }

  /** A new range without a successor; {@link NONE}: the bound is reached. */
  take(seq: number, start: number, end: number, page: number): number {
    let range = this.#free;
    if (range !== NONE) {
      this.#free = this.next[range];
    } else {
      if (this.#top === this.seq.length && !this.#grow()) return NONE;
      range = this.#top++;
    }
    this.seq[range] = seq;
    this.start[range] = start;
    this.end[range] = end;
    this.page[range] = page;
    this.next[range] = NONE;
    this.size++;
    return range;
  }

  /** Gives a range back; its successor is the caller's to remember. */
  give(range: number): void {
    this.next[range] = this.#free;
    this.#free = range;
    this.size--;
  }

  #grow(): boolean {
    const capacity = Math.min(this.#bound, 2 * this.seq.length);
    if (capacity === this.seq.length) return false;
    this.seq = grown(this.seq, capacity);
    this.start = grown(this.start, capacity);
    this.end = grown(this.end, capacity);
    this.page = grown(this.page, capacity);
    this.next = grown(this.next, capacity);
    return true;
  }
}

function grown(array: Int32Array, capacity: number): Int32Array {
  const result = new Int32Array(capacity);
  result.set(array);
  return result;
}
