/**
 * Which worker has which flow: a table in shared memory, asked when a worker has no flow for a packet.
 *
 *     bucket = hash(ends) mod buckets:   lock | unlisted | 8 × (the ends, nine words | owner + 1, 0: free)
 *
 * A flow is claimed when it begins and released when it ends, both under its bucket's lock, so that an entry is whole
 * before anybody reads it, and of two workers that see the same SYN one gets it. Nothing is probed beyond the bucket: a
 * flow that finds it full belongs to the worker its hash names, and is counted in `unlisted`. While that is not zero a
 * flow of the bucket that is in no entry is that worker's.
 */

import { keyedHash } from "../stack/flow-table.ts";
import { Owner } from "../stack/ports.ts";
import type { Endpoint } from "../stack/wire/address.ts";

export class FlowDirectory {
  /** Flows that we claimed and that found their bucket full, so far. */
  unlisted = 0;
  readonly #words: Int32Array;
  readonly #mask: number;
  readonly #key0: number;
  readonly #key1: number;
  readonly #own: number;
  readonly #workers: number;
  readonly #key: Int32Array = new Int32Array(KEY_WORDS);
  #hash = 0;

  /** A view for worker `own` of `workers`. `secret`: two words, the same for all. */
  constructor(memory: SharedArrayBuffer, secret: Uint32Array, own: number, workers: number) {
    this.#words = new Int32Array(memory);
    this.#mask = this.#words.length / BUCKET - 1;
    this.#key0 = secret[0] as number | 0;
    this.#key1 = secret[1] as number | 0;
    this.#own = own;
    this.#workers = workers;
  }

  /** See Neighbours of src/stack/ports.ts. */
  claim(src: Endpoint, dst: Endpoint): number {
    const words = this.#words;
    const bucket = this.#lock(src, dst);
    let owner: number = Owner.OURS;
    let free = -1;
    for (let at = bucket + HEAD; at < bucket + BUCKET; at += ENTRY) {
      const holder = words[at + OWNER] as number;
      if (holder === 0) {
        if (free < 0) free = at;
      } else if (this.#isKey(at)) {
        this.#unlock(bucket);
        return this.#name(holder - 1);
      }
    }
    // One that found no room may be meant: it can only be where its hash says.
    if (free < 0 || words[bucket + UNLISTED] !== 0) owner = this.#byHash();
    if (owner === Owner.OURS) {
      if (free < 0) {
        words[bucket + UNLISTED]++;
        this.unlisted++;
      } else {
        words.set(this.#key, free);
        words[free + OWNER] = this.#own + 1;
      }
    }
    this.#unlock(bucket);
    return owner;
  }

  /** See Neighbours of src/stack/ports.ts. */
  find(src: Endpoint, dst: Endpoint): number {
    const words = this.#words;
    const bucket = this.#lock(src, dst);
    let owner: number = words[bucket + UNLISTED] === 0 ? Owner.OURS : this.#byHash();
    for (let at = bucket + HEAD; at < bucket + BUCKET; at += ENTRY) {
      const holder = words[at + OWNER] as number;
      if (holder !== 0 && this.#isKey(at)) owner = this.#name(holder - 1);
    }
    this.#unlock(bucket);
    return owner === Owner.OURS ? Owner.NOBODY : owner;
  }

  /** There is an entry, whoever's it is. */
  isListed(src: Endpoint, dst: Endpoint): boolean {
    const words = this.#words;
    const bucket = this.#lock(src, dst);
    let isListed = false;
    for (let at = bucket + HEAD; at < bucket + BUCKET; at += ENTRY) {
      if (words[at + OWNER] !== 0 && this.#isKey(at)) isListed = true;
    }
    this.#unlock(bucket);
    return isListed;
  }

  /** See Neighbours of src/stack/ports.ts. */
  release(src: Endpoint, dst: Endpoint): void {
    const words = this.#words;
    const bucket = this.#lock(src, dst);
    let isListed = false;
    for (let at = bucket + HEAD; at < bucket + BUCKET; at += ENTRY) {
      if (words[at + OWNER] === this.#own + 1 && this.#isKey(at)) {
        words[at + OWNER] = 0;
        isListed = true;
      }
    }
    if (!isListed) words[bucket + UNLISTED]--;
    this.#unlock(bucket);
  }

  /** The worker that the last look-up's hash names: bits that did not choose the bucket. */
  #byHash(): number {
    return this.#name((this.#hash >>> 20) % this.#workers);
  }

  #name(worker: number): number {
    return worker === this.#own ? Owner.OURS : worker;
  }

  /** Sets the key, and locks its bucket. */
  #lock(src: Endpoint, dst: Endpoint): number {
    const key = this.#key;
    key[0] = (src.port << 16) | dst.port;
    key[1] = src.w3;
    key[2] = dst.w3;
    key[3] = src.w2;
    key[4] = dst.w2;
    key[5] = src.w1;
    key[6] = dst.w1;
    key[7] = src.w0;
    key[8] = dst.w0;
    this.#hash = keyedHash(key, KEY_WORDS, this.#key0, this.#key1);
    const bucket = (this.#hash & this.#mask) * BUCKET;
    lock(this.#words, bucket);
    return bucket;
  }

  #unlock(bucket: number): void {
    unlock(this.#words, bucket);
  }

  #isKey(at: number): boolean {
    const words = this.#words;
    const key = this.#key;
    for (let word = 0; word < KEY_WORDS; word++) {
      if (words[at + word] !== key[word]) return false;
    }
    return true;
  }
}

/** The memory of a directory; `buckets` is a power of two. */
export function directoryMemory(buckets: number = BUCKETS): SharedArrayBuffer {
  return new SharedArrayBuffer(buckets * BUCKET * Int32Array.BYTES_PER_ELEMENT);
}

/** Takes the lock at words[at]: held for some tens of loads and stores, so the wait is short. */
export function lock(words: Int32Array, at: number): void {
  if (Atomics.compareExchange(words, at, FREE, HELD) === FREE) return;
  while (Atomics.exchange(words, at, AWAITED) !== FREE) Atomics.wait(words, at, AWAITED);
}

export function unlock(words: Int32Array, at: number): void {
  if (Atomics.exchange(words, at, FREE) === AWAITED) Atomics.notify(words, at, 1);
}

/** A lock is held, and somebody sleeps until it is not. */
const FREE = 0;
const HELD = 1;
const AWAITED = 2;

const KEY_WORDS = 9;
const OWNER = KEY_WORDS;
const ENTRY: number = KEY_WORDS + 1;
/** Entries of a bucket. Half full, one bucket in fifty overflows; a quarter full, one in four thousand. */
const WAYS = 8;
const UNLISTED = 1;
const HEAD = 2;
const BUCKET: number = HEAD + WAYS * ENTRY;
/** 262,144 entries, 10 MiB of which only touched pages cost memory: twice the flows of a stack. */
const BUCKETS = 32_768;
