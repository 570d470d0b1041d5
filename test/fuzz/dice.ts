/** Seeded choices: everything the fuzzer decides comes from here, so a seed is a whole run. */

import { seededRandom } from "../../src/testing/index.ts";

export class Dice {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
    // The first numbers of neighbouring seeds are alike.
    for (let i = 0; i < 8; i++) this.#random();
  }

  /** True with probability `p`. */
  chance(p: number): boolean {
    return this.#random() < p;
  }

  /** An integer in [0, n). */
  below(n: number): number {
    return Math.floor(this.#random() * n);
  }

  /** An integer in [from, to]. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1);
  }

  /** One of `items`, which are not empty. */
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  /** Numbers at which code errs: edges of fields, small steps, anything. All fit into 32 bits. */
  awkward(): number {
    switch (this.below(4)) {
      case 0:
        return this.pick(EDGES);
      case 1:
        return this.below(64);
      case 2:
        return (this.pick(EDGES) + this.between(-2, 2)) >>> 0;
      default:
        return this.below(2 ** 32);
    }
  }

  octets(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

const EDGES: readonly number[] = [
  0, 1, 2, 3, 4, 7, 8, 20, 40, 127, 128, 255, 256, 536, 1279, 1280, 1460, 1500, 32767, 32768, 65535,
  65536, 0x7fffffff, 0x80000000, 0xffffffff,
];
