/**
 * At most so many handshakes with the proxy at a time; the rest wait in order of arrival.
 *
 * Servers queue bursts badly (Dante negotiates with 96 clients per process), and every dial is a descriptor. The
 * queue is bounded by its callers: pending opens and UDP flows have bounds of their own.
 *
 * When as many wait as may dial, something floods us with opens that hang, and whoever comes now would wait for
 * minutes. Then the newcomer gets a place, and the dial that had it waits again. Half of the places are not taken from
 * those that have them longest: a proxy that is slow, not stuck, still answers half as many dials as it can, where
 * newcomers would leave nobody the time.
 */

/** Something that dials when its turn comes. */
export interface Dial {
  /** Called at once or later, at most once per `request`; never after `release`. */
  startDial(): void;
  /** Gives the handshake up; another `startDial` may follow. Without it the dial keeps its place. */
  stopDial?(): void;
}

/** Handshakes at a time by default. */
export const MAX_DIALS = 256;

export class DialQueue {
  readonly #limit: number;
  readonly #active = new Set<Dial>();
  /** In order of arrival. */
  readonly #waiting = new Set<Dial>();

  constructor(limit: number = MAX_DIALS) {
    this.#limit = limit;
  }

  get active(): number {
    return this.#active.size;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Starts `dial` now or when a place is free. */
  request(dial: Dial): void {
    if (this.#active.size >= this.#limit) {
      if (this.#waiting.size < this.#limit || !this.#interrupt()) {
        this.#waiting.add(dial);
        return;
      }
    }
    this.#active.add(dial);
    dial.startDial();
  }

  /** The handshake ended, however it did, or is not wanted any more. Idempotent. */
  release(dial: Dial): void {
    if (this.#waiting.delete(dial) || !this.#active.delete(dial)) return;
    for (const next of this.#waiting) {
      if (this.#active.size >= this.#limit) return;
      this.#waiting.delete(next);
      this.#active.add(next);
      next.startDial();
    }
  }

  /** Takes a place from the dial that has taken longest but for the half that is spared. False: nobody gives one up. */
  #interrupt(): boolean {
    let spared = this.#limit >> 1;
    for (const dial of this.#active) {
      if (spared-- > 0 || dial.stopDial === undefined) continue;
      this.#active.delete(dial);
      this.#waiting.add(dial);
      dial.stopDial();
      return true;
    }
    return false;
  }

  /** Forgets everybody. */
  clear(): void {
    this.#waiting.clear();
    this.#active.clear();
  }
}
