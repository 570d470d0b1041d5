/**
 * All associations of client endpoints, the longest idle first, and the bound on their number.
 *
 * An association costs two descriptors here and as many at the proxy. At the bound the longest idle one that was ever
 * answered gives way: one that still waits for its first answer is a conversation just begun. A proxy may have a lower
 * bound of its own, which it tells by refusing (RFC 1928 §6: general failure); then ours is lower for some minutes.
 */

/** An association as the table sees it. The links belong to the table. */
export interface AssociationEntry {
  older: AssociationEntry | null;
  younger: AssociationEntry | null;
  /** Something came back through it. */
  readonly answered: boolean;
  /** Closes the association; the table has forgotten it already. */
  giveWay(): void;
}

/** Descriptors kept for everything else. */
const RESERVED_DESCRIPTORS = 512;
/** Two per association, and as many again for TCP flows. */
const DESCRIPTORS_PER_ASSOCIATION = 4;
const MIN_ASSOCIATIONS = 16;
/** What a full proxy may still be closing when others are made in their place: one in so many. */
const CLOSING_SHARE = 16;
/** How long a proxy is believed to be full, and the least time between two lessons, ms. */
const LEARNED_LIFE = 5 * 60_000;
const LESSON = 1000;

/** How far eviction looks for an answered one before it takes the oldest. */
const MAX_LOOK = 64;

/** The bound on associations of a process that may open `nofile` descriptors. */
export function maxAssociations(nofile: number): number {
  const limit = Math.floor((nofile - RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_ASSOCIATION);
  return Math.max(MIN_ASSOCIATIONS, limit);
}

export class AssociationTable {
  readonly #most: number;
  #limit: number;
  #learnedAt = Number.NEGATIVE_INFINITY;
  #size = 0;
  #oldest: AssociationEntry | null = null;
  #youngest: AssociationEntry | null = null;

  constructor(limit: number) {
    this.#most = limit;
    this.#limit = limit;
  }

  get limit(): number {
    return this.#limit;
  }

  get size(): number {
    return this.#size;
  }

  /** Adds `entry` as the youngest. Returns how many gave way for it. */
  add(entry: AssociationEntry, now: number): number {
    if (now - this.#learnedAt >= LEARNED_LIFE) this.#limit = this.#most;
    let evicted = 0;
    for (; this.#size >= this.#limit; evicted++) {
      const victim = this.#victim();
      this.remove(victim);
      victim.giveWay();
    }
    this.#append(entry);
    this.#size++;
    return evicted;
  }

  /**
   * The proxy refused one more beside those that are here. True: it is believed to be full, the bound is below their
   * number, and another try makes room; false: they are so few that the reason must be another.
   */
  isFull(now: number): boolean {
    if (this.#size <= MIN_ASSOCIATIONS) return false;
    if (now - this.#learnedAt >= LESSON) {
      this.#learnedAt = now;
      this.#limit = Math.max(MIN_ASSOCIATIONS, this.#size - Math.ceil(this.#size / CLOSING_SHARE));
    }
    return true;
  }

  /** `entry` carried a datagram. */
  touch(entry: AssociationEntry): void {
    if (entry === this.#youngest) return;
    this.#unlink(entry);
    this.#append(entry);
  }

  remove(entry: AssociationEntry): void {
    this.#unlink(entry);
    this.#size--;
  }

  #victim(): AssociationEntry {
    const oldest = this.#oldest as AssociationEntry;
    let entry: AssociationEntry | null = oldest;
    for (let i = 0; i < MAX_LOOK && entry !== null; i++, entry = entry.younger) {
      if (entry.answered) return entry;
    }
    return oldest;
  }

  #append(entry: AssociationEntry): void {
    entry.older = this.#youngest;
    entry.younger = null;
    if (this.#youngest === null) this.#oldest = entry;
    else this.#youngest.younger = entry;
    this.#youngest = entry;
  }

  #unlink(entry: AssociationEntry): void {
    if (entry.older === null) this.#oldest = entry.younger;
    else entry.older.younger = entry.younger;
    if (entry.younger === null) this.#youngest = entry.older;
    else entry.younger.older = entry.older;
    entry.older = null;
    entry.younger = null;
  }
}
