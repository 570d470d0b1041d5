/**
 * Packets on their way from one worker to another: a ring in shared memory, one writer, one reader.
 *
 *     head | tail | records: octets, flags, gsoSize, 0, then the packet, padded to 16
 *
 * Positions run on and are masked; a record is never torn at the end of the ring, a record of -1 fills the rest. The
 * writer publishes a whole record by storing the tail, the reader frees it by storing the head.
 */

export class PacketRing {
  /** Octets of the ring. */
  readonly bytes: Uint8Array;
  readonly #positions: Int32Array;
  readonly #words: Int32Array;
  readonly #size: number;
  /** Where the record begins that was reserved, or that is at the front. */
  #at = 0;
  #octets = 0;

  constructor(memory: SharedArrayBuffer) {
    this.#positions = new Int32Array(memory, 0, 2);
    this.bytes = new Uint8Array(memory, POSITIONS);
    this.#words = new Int32Array(memory, POSITIONS);
    this.#size = this.bytes.length;
  }

  /** Writer: where a packet of `octets` octets goes in `bytes`; -1: there is no room. `publish` follows. */
  reserve(octets: number, flags: number, gsoSize: number): number {
    const need = RECORD + padded(octets);
    const positions = this.#positions;
    const head = Atomics.load(positions, HEAD);
    let tail = positions[TAIL] as number;
    const toEnd = this.#size - (tail & (this.#size - 1));
    const skip = toEnd < need ? toEnd : 0;
    if (((tail - head) | 0) + skip + need > this.#size) return -1;
    if (skip > 0) {
      this.#words[(tail & (this.#size - 1)) >> 2] = SKIP;
      tail = (tail + skip) | 0;
    }
    const word = (tail & (this.#size - 1)) >> 2;
    this.#words[word] = octets;
    this.#words[word + 1] = flags;
    this.#words[word + 2] = gsoSize;
    this.#at = (tail + need) | 0;
    return (word << 2) + RECORD;
  }

  /** Writer: the reserved packet is whole. */
  publish(): void {
    Atomics.store(this.#positions, TAIL, this.#at);
  }

  /** Reader: octets of the packet at the front; 0: the ring is empty. */
  front(): number {
    const positions = this.#positions;
    let head = positions[HEAD] as number;
    const tail = Atomics.load(positions, TAIL);
    if (head === tail) return 0;
    const index = head & (this.#size - 1);
    // Behind what fills the rest there is a record: both were published at once.
    if (this.#words[index >> 2] === SKIP) head = (head + this.#size - index) | 0;
    this.#at = head;
    this.#octets = this.#words[(head & (this.#size - 1)) >> 2] as number;
    return this.#octets;
  }

  /** Reader: where the packet at the front begins in `bytes`, and what came with it. */
  get start(): number {
    return (this.#at & (this.#size - 1)) + RECORD;
  }

  get flags(): number {
    return this.#words[(this.start >> 2) - 3] as number;
  }

  get gsoSize(): number {
    return this.#words[(this.start >> 2) - 2] as number;
  }

  /** Reader: the packet at the front is done with. */
  shift(): void {
    Atomics.store(this.#positions, HEAD, (this.#at + RECORD + padded(this.#octets)) | 0);
  }
}

/** The memory of a ring of `size` octets, a power of two. */
export function ringMemory(size: number = RING_OCTETS): SharedArrayBuffer {
  return new SharedArrayBuffer(POSITIONS + size);
}

function padded(octets: number): number {
  return (octets + 15) & ~15;
}

const HEAD = 0;
const TAIL = 1;
/** Octets before the records: the two positions, and what keeps the records aligned. */
const POSITIONS = 16;
const RECORD = 16;
const SKIP = -1;
/** Seven of the largest packets, or some 330 of 1,500 octets: what a flow that changed its queue has under way. */
const RING_OCTETS: number = 512 << 10;
