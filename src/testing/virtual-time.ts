/**
 * Time for tests: the product's timer wheel under a clock that moves only when told.
 *
 * A minute of back-off passes in microseconds, and the order of events is the same in every run.
 */

import { type Timer, type Timers, TimerWheel } from "../stack/timer-wheel.ts";

/** More expiries than this without the clock moving are a timer that re-arms itself for ever. */
const MAX_STEPS = 1_000_000;

export class VirtualTime implements Timers {
  readonly #wheel: TimerWheel;
  #stepsInPlace = 0;

  /** The clock starts at `now` milliseconds. */
  constructor(now: number = 0) {
    this.#wheel = new TimerWheel(now);
  }

  now(): number {
    return this.#wheel.now();
  }

  set(timer: Timer, deadline: number): void {
    this.#wheel.set(timer, deadline);
  }

  clear(timer: Timer): void {
    this.#wheel.clear(timer);
  }

  /** The next time at which a timer may expire, ms; -1: none is set. */
  next(): number {
    return this.#wheel.next();
  }

  /**
   * Moves the clock to the next expiry not later than `limit` and lets it happen. False: nothing expires up
   * to `limit`, and the clock stands there.
   */
  step(limit: number): boolean {
    const before = this.now();
    const next = this.next();
    if (next < 0 || next > limit) {
      this.#wheel.advance(limit);
      return false;
    }
    this.#wheel.advance(Math.max(next, before));
    this.#stepsInPlace = this.now() > before ? 0 : this.#stepsInPlace + 1;
    if (this.#stepsInPlace > MAX_STEPS) throw new Error("a timer re-arms itself without end");
    return true;
  }

  /** Moves the clock to `to`, expiring everything on the way. */
  advance(to: number): void {
    while (this.step(to));
  }
}
