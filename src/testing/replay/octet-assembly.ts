/**
 * A stream put together from segments that come in any order: it keeps every octet. Of octets that come twice the
 * first copy counts.
 */

export class OctetAssembly {
  /** Behind the furthest octet, and behind the octets without a gap from the start. */
  end = 0;
  prefix = 0;
  #octets: Uint8Array = new Uint8Array(1024);
  #isThere: Uint8Array = new Uint8Array(1024);

  /** Octets up to the first gap: a view. */
  get octets(): Uint8Array {
    return this.#octets.subarray(0, this.prefix);
  }

  has(at: number): boolean {
    return at < this.end && this.#isThere[at] === 1;
  }

  /** Adds octets at the offset `at`; those before 0, and what lies absurdly far ahead, are no part of the stream. */
  add(at: number, octets: Uint8Array): void {
    const end = at + octets.length;
    if (end <= 0 || octets.length === 0 || at > this.end + MAX_JUMP) return;
    this.#reserve(end);
    for (let i = Math.max(0, at); i < end; i++) {
      if (this.#isThere[i] === 1) continue;
      this.#octets[i] = octets[i - at];
      this.#isThere[i] = 1;
    }
    this.#moved(end);
  }

  /** Puts zeros where nothing is in [start, end) and `other`, if given, has nothing either. Returns how many. */
  fill(start: number, end: number, other?: OctetAssembly): number {
    this.#reserve(end);
    let filled = 0;
    for (let i = start; i < end; i++) {
      if (this.#isThere[i] === 1 || other?.has(i)) continue;
      this.#isThere[i] = 1;
      filled++;
    }
    this.#moved(end);
    return filled;
  }

  #moved(end: number): void {
    if (end > this.end) this.end = end;
    while (this.prefix < this.end && this.#isThere[this.prefix] === 1) this.prefix++;
  }

  #reserve(end: number): void {
    if (end <= this.#octets.length) return;
    const [octets, isThere] = [this.#octets, this.#isThere];
    this.#octets = new Uint8Array(2 * end);
    this.#isThere = new Uint8Array(2 * end);
    this.#octets.set(octets);
    this.#isThere.set(isThere);
  }
}

/** More than any window: a segment or an acknowledgement beyond it belongs to no stream that was captured. */
export const MAX_JUMP: number = 16 << 20;

/** The offset in a stream of a sequence number close to `near`; `base` is that of the first octet. */
export function streamOffset(seq: number, base: number, near: number): number {
  return near + ((seq - base - near) | 0);
}
