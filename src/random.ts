/** Random octets of the kernel: node:crypto has them too, and takes 3 ms to load. */

import { closeSync, openSync, readSync } from "node:fs";

/** Fills `octets` with what nobody can guess (random(4)). */
export function fillRandom<T extends Uint8Array | Uint32Array>(octets: T): T {
  const descriptor = openSync("/dev/urandom", "r");
  try {
    if (readSync(descriptor, octets) !== octets.byteLength) throw new Error("short /dev/urandom");
  } finally {
    closeSync(descriptor);
  }
  return octets;
}
