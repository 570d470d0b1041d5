/**
 * All associations of client endpoints, the longest idle first, and the bound on their number.
 *
 * An association costs two descriptors here and as many at the proxy. At the bound the longest idle one that was ever
 * answered gives way: one that still waits for its first answer is a conversation just begun.
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

/** How far eviction looks for an answered one before it takes the oldest. */
const MAX_LOOK = 64;

/** The bound on associations of a process that may open `nofile` descriptors. */
export function maxAssociations(nofile: number): number {
  const limit = Math.floor((nofile - RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_ASSOCIATION);
  return Math.max(MIN_ASSOCIATIONS, limit);
}

export class AssociationTable {
  readonly limit: number;
  #size = 0;
  #oldest: AssociationEntry | null = null;
  #youngest: AssociationEntry | null = null;

  constructor(limit: number) {
    this.limit = limit;
  }

  get size(): number {
    return this.#size;
  }

  /** Adds `entry` as the youngest; true when another one gave way for it. */
  add(entry: AssociationEntry): boolean {
    const full = this.#size >= this.limit;
    if (full) {
      const victim = this.#victim();
      this.remove(victim);
      victim.giveWay();
    }
    this.#append(entry);
    this.#size++;
    return full;
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
