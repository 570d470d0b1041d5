/**
 * Initial sequence numbers and timestamp offsets (RFC 6528, RFC 7323 §5.4): a keyed hash of the flow, plus a clock.
 */

import { keyedHash } from "../flow-table.ts";
import type { Endpoint } from "../wire/address.ts";

export class IsnGenerator {
  readonly #key0: number;
  readonly #key1: number;
  readonly #words: Int32Array = new Int32Array(10);

  /** `secret`: four words. The keys are derived, since parts of the secret show in other places. */
  constructor(secret: Uint32Array) {
    const words = this.#words;
    words[0] = secret[2] | 0;
    words[1] = secret[3] | 0;
    words[2] = 1;
    this.#key0 = keyedHash(words, 3, secret[0] | 0, secret[1] | 0);
    words[2] = 2;
    this.#key1 = keyedHash(words, 3, secret[0] | 0, secret[1] | 0);
  }

  /** RFC 6528 §3: the clock counts once per 4 µs. */
  isn(local: Endpoint, remote: Endpoint, now: number): number {
    return (this.#hash(local, remote, 0) + Math.imul(now | 0, 250)) | 0;
  }

  /** What this flow's timestamps are ahead of the clock. */
  timestampOffset(local: Endpoint, remote: Endpoint): number {
    return this.#hash(local, remote, 1);
  }

  /** A word that stands for the address of `source` alone. */
  source(source: Endpoint): number {
    const words = this.#words;
    words[0] = source.w0;
    words[1] = source.w1;
    words[2] = source.w2;
    words[3] = source.w3;
    return keyedHash(words, 4, this.#key0, this.#key1);
  }

  #hash(local: Endpoint, remote: Endpoint, purpose: number): number {
    const words = this.#words;
    words[0] = (local.port << 16) | remote.port;
    words[1] = local.w0;
    words[2] = local.w1;
    words[3] = local.w2;
    words[4] = local.w3;
    words[5] = remote.w0;
    words[6] = remote.w1;
    words[7] = remote.w2;
    words[8] = remote.w3;
    words[9] = purpose;
    return keyedHash(words, 10, this.#key0, this.#key1);
  }
}
