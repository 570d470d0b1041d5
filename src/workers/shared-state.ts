/** What the workers of one device share, all of it in shared memory that is zero at first. */

import { directoryMemory } from "./flow-directory.ts";
import { ringMemory } from "./packet-ring.ts";

export interface SharedState {
  readonly workers: number;
  /** Four words; keys of the directory, and of every worker's stack. */
  readonly secret: Uint32Array;
  /** See flow-directory.ts. */
  readonly directory: SharedArrayBuffer;
  /** See packet-ring.ts; from worker i to j at [i × workers + j]. */
  readonly rings: readonly SharedArrayBuffer[];
  /** A word for each worker: somebody has pinged it. */
  readonly pinged: SharedArrayBuffer;
}

export interface SharedStateOptions {
  /** Buckets of the directory, octets of a ring, powers of two; both for tests. */
  readonly buckets?: number;
  readonly ringOctets?: number;
}

export function shareState(
  workers: number,
  secret: Uint32Array,
  options: SharedStateOptions = {},
): SharedState {
  const rings: SharedArrayBuffer[] = [];
  for (let i = 0; i < workers; i++) {
    // The ring of a worker to itself stands for nothing: it has no room.
    for (let j = 0; j < workers; j++) rings.push(ringMemory(i === j ? 0 : options.ringOctets));
  }
  return {
    workers,
    secret,
    directory: directoryMemory(options.buckets),
    rings,
    pinged: new SharedArrayBuffer(workers * Int32Array.BYTES_PER_ELEMENT),
  };
}
