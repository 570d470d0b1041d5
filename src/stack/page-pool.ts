/**
 * 4 KiB and 64 KiB pages of the worker's memory, bounded.
 *
 * The page region is cut into 64 KiB slabs. A slab is one big page, or sixteen small ones. Slabs used a
 * moment ago are used again first (they are in cache and have memory behind them); what nobody needed for
 * five seconds is told to the host in runs, which takes the memory back. Bookkeeping is typed arrays.
 */

import type { StackMemory } from "./ports.ts";
import { Timer, type TimerHandler, type Timers } from "./timer-wheel.ts";

export const SMALL_PAGE = 4096;
export const BIG_PAGE = 65536;

export class PagePool implements TimerHandler {
  /** Octets handed out. */
  inUse = 0;
  /** Largest `inUse` so far. */
  peak = 0;
  /** Octets of slabs in use, what `limit` bounds: a slab counts whole while one of its small pages is in use. */
  held = 0;
  /** Allocations refused. */
  exhausted = 0;
  readonly limit: number;
  readonly #memory: StackMemory;
  readonly #timers: Timers;
  readonly #timer: Timer = new Timer(this);
  readonly #state: Uint8Array;
  /** Of a split slab: bit n is set while small page n is in use. */
  readonly #used: Uint16Array;
  /** Bit n is set when small page n may have memory behind it. */
  readonly #touched: Uint16Array;
  /** When something of the slab was freed last. */
  readonly #freedAt: Float64Array;
  /** Links of two lists, as a slab is in one at most: warm (free) and partial (split, with room). */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  #warm = -1;
  #partial = -1;
  /** No cold slab is below. */
  #coldFrom = 0;
  /** No slab at or above was ever used. */
  #highWater = 0;

  /** `limit`: octets of slabs, at most the page region. */
  constructor(memory: StackMemory, timers: Timers, limit: number = Number.POSITIVE_INFINITY) {
    const slabs = (memory.pagesEnd - memory.pagesStart) >>> 16;
    this.#memory = memory;
    this.#timers = timers;
    this.limit = Math.min(limit, slabs * BIG_PAGE);
    this.#state = new Uint8Array(slabs);
    this.#used = new Uint16Array(slabs);
    this.#touched = new Uint16Array(slabs);
    this.#freedAt = new Float64Array(slabs);
    this.#next = new Int32Array(slabs);
    this.#previous = new Int32Array(slabs);
  }

  /** Octets up to the highest slab ever used. */
  get highWater(): number {
    return this.#highWater * BIG_PAGE;
  }

  /** The offset of a 64 KiB page (64 KiB aligned); -1: none left. Contents are arbitrary. */
  allocate64K(): number {
    const slab = this.#takeSlab();
    if (slab < 0) return -1;
    this.#state[slab] = WHOLE;
    this.#touched[slab] = ALL;
    this.#count(BIG_PAGE);
    return this.#memory.pagesStart + slab * BIG_PAGE;
  }

  /** The offset of a 4 KiB page (4 KiB aligned); -1: none left. Contents are arbitrary. */
  allocate4K(): number {
    let slab = this.#partial;
    if (slab < 0) {
      slab = this.#takeSlab();
      if (slab < 0) return -1;
      this.#state[slab] = SPLIT;
      this.#used[slab] = 0;
      this.#partial = this.#push(this.#partial, slab);
    }
    const free = ~this.#used[slab] & ALL;
    // Pages with memory behind them first.
    const choice = free & this.#touched[slab] || free;
    const bit = choice & -choice;
    this.#used[slab] |= bit;
    this.#touched[slab] |= bit;
    if (this.#used[slab] === ALL) this.#partial = this.#remove(this.#partial, slab);
    this.#count(SMALL_PAGE);
    return this.#memory.pagesStart + slab * BIG_PAGE + (31 - Math.clz32(bit)) * SMALL_PAGE;
  }

  /** Gives back a page of either size by its offset. */
  free(offset: number): void {
    const slab = (offset - this.#memory.pagesStart) >>> 16;
    const state = this.#state[slab];
    if (state === WHOLE) {
      this.inUse -= BIG_PAGE;
      this.#freeSlab(slab);
      return;
    }
    const bit = 1 << ((offset >>> 12) & 15);
    if (state !== SPLIT || (this.#used[slab] & bit) === 0) {
      throw new Error(`page ${offset} is not in use`);
    }
    this.inUse -= SMALL_PAGE;
    if (this.#used[slab] === ALL) this.#partial = this.#push(this.#partial, slab);
    this.#used[slab] &= ~bit;
    if (this.#used[slab] === 0) {
      this.#partial = this.#remove(this.#partial, slab);
      this.#freeSlab(slab);
    } else {
      this.#noteFreed(slab);
    }
  }

  /** Octets of the page at `offset`. */
  sizeOf(offset: number): number {
    const slab = (offset - this.#memory.pagesStart) >>> 16;
    return this.#state[slab] === WHOLE ? BIG_PAGE : SMALL_PAGE;
  }

  onTimer(): void {
    const now = this.#timers.now();
    let earliest = Number.POSITIVE_INFINITY;
    let runStart = -1;
    let runEnd = -1;
    for (let slab = 0; slab < this.#highWater; slab++) {
      const state = this.#state[slab];
      const free = state === WARM ? ALL : state === SPLIT ? ~this.#used[slab] & ALL : 0;
      const idle = free & this.#touched[slab];
      if (idle === 0) continue;
      if (now - this.#freedAt[slab] < KEEP) {
        earliest = Math.min(earliest, this.#freedAt[slab] + KEEP);
        continue;
      }
      this.#touched[slab] &= ~idle;
      if (state === WARM) {
        this.#warm = this.#remove(this.#warm, slab);
        this.#state[slab] = COLD;
        if (slab < this.#coldFrom) this.#coldFrom = slab;
      }
      const base = this.#memory.pagesStart + slab * BIG_PAGE;
      for (let page = 0; page < 16; page++) {
        if ((idle & (1 << page)) === 0) continue;
        const at = base + page * SMALL_PAGE;
        if (at !== runEnd) {
          if (runEnd > 0) this.#memory.released(runStart, runEnd);
          runStart = at;
        }
        runEnd = at + SMALL_PAGE;
      }
    }
    if (runEnd > 0) this.#memory.released(runStart, runEnd);
    // At most one walk per second, however steadily pages are freed.
    if (earliest < Number.POSITIVE_INFINITY) {
      this.#timers.set(this.#timer, Math.max(earliest, now + 1000));
    }
  }

  #takeSlab(): number {
    if (this.held + BIG_PAGE > this.limit) {
      this.exhausted++;
      return -1;
    }
    let slab = this.#warm;
    if (slab >= 0) {
      this.#warm = this.#remove(slab, slab);
    } else {
      // Below the limit some slab is free, and none is warm.
      slab = this.#coldFrom;
      while (this.#state[slab] !== COLD) slab++;
      this.#coldFrom = slab + 1;
      if (slab >= this.#highWater) this.#highWater = slab + 1;
    }
    this.held += BIG_PAGE;
    return slab;
  }

  #freeSlab(slab: number): void {
    this.held -= BIG_PAGE;
    this.#state[slab] = WARM;
    this.#warm = this.#push(this.#warm, slab);
    this.#noteFreed(slab);
  }

  #noteFreed(slab: number): void {
    const now = this.#timers.now();
    this.#freedAt[slab] = now;
    if (this.#timer.deadline < 0) this.#timers.set(this.#timer, now + KEEP);
  }

  #count(octets: number): void {
    this.inUse += octets;
    if (this.inUse > this.peak) this.peak = this.inUse;
  }

  /** Puts `slab` before `head`; returns the new head. */
  #push(head: number, slab: number): number {
    this.#next[slab] = head;
    this.#previous[slab] = -1;
    if (head >= 0) this.#previous[head] = slab;
    return slab;
  }

  /** Takes `slab` out of the list of `head`; returns the new head. */
  #remove(head: number, slab: number): number {
    const next = this.#next[slab];
    const previous = this.#previous[slab];
    if (next >= 0) this.#previous[next] = previous;
    if (previous >= 0) this.#next[previous] = next;
    return slab === head ? next : head;
  }
}

/** Free pages keep their memory for so long, ms: longer than a pause between two bursts. */
const KEEP = 5000;
const ALL = 0xffff;

// States of a slab.
/** Free, nothing behind it. */
const COLD = 0;
/** Free, but with memory behind it. */
const WARM = 1;
const WHOLE = 2;
const SPLIT = 3;
