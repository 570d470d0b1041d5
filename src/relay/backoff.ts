/**
 * How long to wait before the next try: nothing at first, then 1 s, doubling up to 60 s.
 *
 * Some servers end the control connection of an association right after their reply; without a pause that is a
 * loop that burns a core on both sides.
 */

const FIRST = 1_000;
const LAST = 60_000;

export class Backoff {
  /** Not before this time, ms. */
  retryAt = 0;
  #delay = 0;

  /** The try failed, or what it gained was lost, at `now`. */
  fail(now: number): void {
    this.#delay = this.#delay === 0 ? FIRST : Math.min(LAST, 2 * this.#delay);
    this.retryAt = now + this.#delay;
  }

  /** It proved to work: the next failure starts at 1 s again. */
  succeed(): void {
    this.#delay = 0;
    this.retryAt = 0;
  }
}
