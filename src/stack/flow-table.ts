/**
 * A pair of endpoints → a dense index, for arrays of flows.
 *
 * Open addressing with linear probing over Int32Arrays; deletion shifts back, so there are no tombstones.
 * The hash is HalfSipHash-1-3 under a secret key (Aumasson, Bernstein: "SipHash: a fast short-input PRF"; the
 * 32-bit variant that Linux keys its own tables with, lib/siphash.c): a program inside cannot choose ports
 * that all collide. An IPv4 pair hashes three words, an IPv6 pair nine.
 */

import type { Endpoint } from "./wire/address.ts";

export class FlowTable {
  /** Pairs in the table. */
  size = 0;
  /** The most pairs it takes. */
  readonly bound: number;
  readonly #key0: number;
  readonly #key1: number;
  readonly #scratch: Int32Array = new Int32Array(KEY_WORDS);
  /** Pairs of index + 1, or 0, and hash; a power of two of them, at least twice the capacity. */
  #slots: Int32Array;
  #mask: number;
  /** Per index the key's nine words and their hash, side by side: with many flows a look-up waits for memory. */
  #rows: Int32Array;
  /** Stack of indices that were freed. */
  #free: Int32Array;
  #freeCount = 0;
  /** No index at or above was ever used. */
  #top = 0;

  /** `secret`: at least two words. Starts small and doubles up to `bound` pairs. */
  constructor(secret: Uint32Array, bound: number) {
    const capacity = Math.min(INITIAL_CAPACITY, bound);
    this.bound = bound;
    this.#key0 = secret[0] | 0;
    this.#key1 = secret[1] | 0;
    this.#slots = new Int32Array(2 * slotsFor(capacity));
    this.#mask = slotsFor(capacity) - 1;
    this.#rows = new Int32Array(capacity * ROW);
    this.#free = new Int32Array(capacity);
  }

  /** The index of the pair, or -1. */
  find(src: Endpoint, dst: Endpoint): number {
    const key = this.#scratch;
    const hash = this.#load(src, dst);
    const slots = this.#slots;
    const mask = this.#mask;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const index = slots[2 * slot] - 1;
      if (index < 0) return -1;
      if (slots[2 * slot + 1] === hash && this.#sameKey(index * ROW, key)) return index;
    }
  }

  /** What `find` does, in steps for look-ahead.ts: the hash of a pair; */
  hash(src: Endpoint, dst: Endpoint): number {
    return this.#load(src, dst);
  }

  /** what is in its first slot; */
  slot(hash: number): number {
    return this.#slots[2 * (hash & this.#mask)];
  }

  /** the index of a pair with that hash, very likely the one meant, or -1; */
  guess(hash: number): number {
    const slots = this.#slots;
    const mask = this.#mask;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const index = slots[2 * slot] - 1;
      if (index < 0 || slots[2 * slot + 1] === hash) return index;
    }
  }

  /** a word of its row; */
  row(index: number): number {
    return this.#rows[index * ROW];
  }

  /** whether it is. `index` was in the table some time. */
  isAt(index: number, src: Endpoint, dst: Endpoint): boolean {
    const rows = this.#rows;
    const at = index * ROW;
    return (
      rows[at + IN_USE] === 1 &&
      rows[at] === ((src.port << 16) | dst.port) &&
      rows[at + 1] === src.w3 &&
      rows[at + 2] === dst.w3 &&
      rows[at + 3] === src.w2 &&
      rows[at + 4] === dst.w2 &&
      rows[at + 5] === src.w1 &&
      rows[at + 6] === dst.w1 &&
      rows[at + 7] === src.w0 &&
      rows[at + 8] === dst.w0
    );
  }

  /** Copies the pair of `index`, which is in the table, into two endpoints. */
  read(index: number, src: Endpoint, dst: Endpoint): void {
    const rows = this.#rows;
    const at = index * ROW;
    const ports = rows[at];
    src.set(rows[at + 7], rows[at + 5], rows[at + 3], rows[at + 1], ports >>> 16);
    dst.set(rows[at + 8], rows[at + 6], rows[at + 4], rows[at + 2], ports & 0xffff);
  }

  /** Adds a pair that is not in the table. Returns its index, below `bound`; -1: the table is full. */
  insert(src: Endpoint, dst: Endpoint): number {
    if (this.size >= this.bound) return -1;
    if (this.#freeCount === 0 && this.#top === this.#free.length) this.#grow();
    const index = this.#freeCount > 0 ? this.#free[--this.#freeCount] : this.#top++;
    const hash = this.#load(src, dst);
    this.#rows.set(this.#scratch, index * ROW);
    this.#rows[index * ROW + HASH] = hash;
    this.#rows[index * ROW + IN_USE] = 1;
    this.#place(index, hash);
    this.size++;
    return index;
  }

  /** Takes the pair of `index` out; the index is used again for another pair. */
  remove(index: number): void {
    const slots = this.#slots;
    const mask = this.#mask;
    const rows = this.#rows;
    let hole = rows[index * ROW + HASH] & mask;
    while (slots[2 * hole] !== index + 1) hole = (hole + 1) & mask;
    // Entries behind the hole move into it unless their home lies behind it (Knuth, TAOCP 3, 6.4 R).
    for (let slot = (hole + 1) & mask; slots[2 * slot] !== 0; slot = (slot + 1) & mask) {
      const home = slots[2 * slot + 1] & mask;
      if (((slot - home) & mask) >= ((slot - hole) & mask)) {
        slots[2 * hole] = slots[2 * slot];
        slots[2 * hole + 1] = slots[2 * slot + 1];
        hole = slot;
      }
    }
    slots[2 * hole] = 0;
    rows[index * ROW + IN_USE] = 0;
    this.#free[this.#freeCount++] = index;
    this.size--;
  }

  /** Writes the pair's key into the scratch words and returns its hash. */
  #load(src: Endpoint, dst: Endpoint): number {
    const key = this.#scratch;
    key[0] = (src.port << 16) | dst.port;
    key[1] = src.w3;
    key[2] = dst.w3;
    key[3] = src.w2;
    key[4] = dst.w2;
    key[5] = src.w1;
    key[6] = dst.w1;
    key[7] = src.w0;
    key[8] = dst.w0;
    return keyedHash(key, src.isV4 && dst.isV4 ? 3 : KEY_WORDS, this.#key0, this.#key1);
  }

  #sameKey(at: number, key: Int32Array): boolean {
    const rows = this.#rows;
    for (let word = 0; word < KEY_WORDS; word++) {
      if (rows[at + word] !== key[word]) return false;
    }
    return true;
  }

  #place(index: number, hash: number): void {
    let slot = hash & this.#mask;
    while (this.#slots[2 * slot] !== 0) slot = (slot + 1) & this.#mask;
    this.#slots[2 * slot] = index + 1;
    this.#slots[2 * slot + 1] = hash;
  }

  #grow(): void {
    const capacity = Math.min(this.#free.length * 2, this.bound);
    const rows = new Int32Array(capacity * ROW);
    rows.set(this.#rows);
    this.#rows = rows;
    // Growth happens only when no index is free.
    this.#free = new Int32Array(capacity);
    this.#slots = new Int32Array(2 * slotsFor(capacity));
    this.#mask = slotsFor(capacity) - 1;
    for (let index = 0; index < this.#top; index++) this.#place(index, rows[index * ROW + HASH]);
  }
}

/** HalfSipHash-1-3 of the first `count` words: 32 bits as int32. For flow tables and ISNs (RFC 6528). */
export function keyedHash(words: Int32Array, count: number, key0: number, key1: number): number {
  let v0 = key0;
  let v1 = key1;
  let v2 = key0 ^ 0x6c796765;
  let v3 = key1 ^ 0x74656462;
  // One round per word and three to finish: the rounds at the end take no word.
  for (let round = 0; round < count + 4; round++) {
    // The word behind the last holds the length in octets, as in SipHash's padding.
    const word = round < count ? words[round] : round === count ? count << 26 : 0;
    if (round === count + 1) v2 ^= 0xff;
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  return v1 ^ v3;
}

/** A power of two at least twice the capacity: probe runs stay short. */
function slotsFor(capacity: number): number {
  return 1 << (33 - Math.clz32(Math.max(capacity, 2) - 1));
}

const KEY_WORDS = 9;
const HASH = KEY_WORDS;
const IN_USE: number = KEY_WORDS + 1;
/** One cache line. */
const ROW = 16;
const INITIAL_CAPACITY = 64;
