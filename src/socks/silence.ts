/**
 * When an upstream connection is given up: octets outstanding, and the peer silent for half a minute.
 *
 * The kernel does it (TCP_USER_TIMEOUT, RFC 5482), but counts a closed window as silence, and a receiver that pauses
 * is no dead one: without us its connection would live. So while octets are outstanding somebody looks now and then
 * whether it is the window that holds them, and has the kernel wait as long as that lasts. A peer that dies with its window
 * closed is given up by the kernel after its own number of probes (tcp_retries2).
 */

import type { Addon } from "../native/binding.ts";
import { Timer, type TimerHandler, type Timers } from "../stack/timer-wheel.ts";

/** TCP_USER_TIMEOUT, ms. */
export const USER_TIMEOUT = 30_000;

export class Silence implements TimerHandler {
  readonly #addon: Addon;
  readonly #timers: Timers;
  readonly #timer: Timer = new Timer(this);
  readonly #limit: number;
  #fd = -1;

  /** `limit`: the TCP_USER_TIMEOUT the descriptor was made with, ms. */
  constructor(addon: Addon, timers: Timers, limit: number) {
    this.#addon = addon;
    this.#timers = timers;
    this.#limit = limit;
  }

  /** Octets went to the socket. Costs a comparison but once in ten seconds. */
  sent(fd: number): void {
    if (this.#timer.deadline >= 0) return;
    this.#fd = fd;
    this.#look();
  }

  /** The descriptor is to be closed. Idempotent. */
  stop(): void {
    this.#timers.clear(this.#timer);
  }

  onTimer(): void {
    if (this.#addon.userTimeout(this.#fd, this.#limit) > 0) this.#look();
  }

  /** Often enough that a window which closes after one look is seen before the limit. */
  #look(): void {
    this.#timers.set(this.#timer, this.#timers.now() + Math.floor(this.#limit / 3));
  }
}
