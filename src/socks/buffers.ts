/**
 * The built-in server's buffers: slots of 112 KiB in the worker's memory, lent for a moment.
 *
 * A slot is taken for each read and given back when the other side took all of it, so a busy server uses one warm
 * slot, and only a connection whose reader is slow keeps one: at most one for each direction. There are two slots
 * for every client the server admits, so `take` never fails. Slots not used for five seconds return to the system.
 */

import { Timer, type TimerHandler, type Timers } from "../stack/timer-wheel.ts";

/**
 * Octets of a slot: also the most that one read takes. 64 KiB cost a quarter more processor time per octet than 128; this
 * is the most that leaves room for 9,305 clients in 2 GiB, which is as far as an int32 reaches.
 */
export const SLOT_OCTETS = 114688;

/** A page of the kernel: what can be released. */
const PAGE = 4096;
/** How long a slot lies unused before its memory goes back to the system. */
const WARM = 5000;

export class SlotPool implements TimerHandler {
  /** Slots lent now. */
  lent = 0;
  readonly capacity: number;
  readonly #timers: Timers;
  readonly #released: (start: number, end: number) => void;
  readonly #timer = new Timer(this);
  /** A stack of offsets: what was given last is taken first, so what is never needed stays at the bottom. */
  readonly #warm: number[] = [];
  /** Offsets given back to the system. */
  readonly #cold: number[] = [];
  /** The smallest height of `#warm` since the timer was set. */
  #low = 0;
  /** The first octet never lent. */
  #fresh: number;

  constructor(
    start: number,
    end: number,
    timers: Timers,
    released: (start: number, end: number) => void,
  ) {
    this.#fresh = Math.ceil(start / PAGE) * PAGE;
    this.capacity = Math.max(0, Math.floor((end - this.#fresh) / SLOT_OCTETS));
    this.#timers = timers;
    this.#released = released;
  }

  /** The offset of a slot. The caller keeps within `capacity`. */
  take(): number {
    if (this.lent === this.capacity) throw new Error("more slots taken than the pool has");
    this.lent++;
    const warm = this.#warm.pop();
    if (warm !== undefined) {
      if (this.#warm.length < this.#low) this.#low = this.#warm.length;
      return warm;
    }
    const cold = this.#cold.pop();
    if (cold !== undefined) return cold;
    const at = this.#fresh;
    this.#fresh += SLOT_OCTETS;
    return at;
  }

  give(slot: number): void {
    this.lent--;
    this.#warm.push(slot);
    if (this.#timer.deadline < 0) this.#watch();
  }

  onTimer(): void {
    for (const slot of this.#warm.splice(0, this.#low)) {
      this.#released(slot, slot + SLOT_OCTETS);
      this.#cold.push(slot);
    }
    if (this.#warm.length > 0) this.#watch();
  }

  /** Ends the timer; lent slots are forgotten with the server. */
  close(): void {
    this.#timers.clear(this.#timer);
  }

  #watch(): void {
    this.#low = this.#warm.length;
    this.#timers.set(this.#timer, this.#timers.now() + WARM);
  }
}
