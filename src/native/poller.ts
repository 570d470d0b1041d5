/**
 * Descriptors and who cares: one epoll per worker, one callback per wake-up, direct calls to handlers.
 *
 * Level-triggered: a handler that stops reading must take IN out of its bits, and one whose descriptor reports
 * ERR or HUP must read on, remove it, or close it, or the loop spins.
 */

import type { Addon } from "./binding.ts";

export interface PollHandler {
  /** `bits` as Epoll of binding.ts. Called at most once per wake-up and descriptor. */
  onPoll(bits: number): void;
}

/** Events of one wake-up. */
const MAX_EVENTS = 256;

export class Poller {
  readonly #addon: Addon;
  readonly #events: Int32Array = new Int32Array(2 * MAX_EVENTS);
  readonly #handlers: Array<PollHandler | null> = [];
  readonly #free: number[] = [];
  /** Ids given up during a batch: reusable only after it, lest a stale event reach a newcomer. */
  readonly #retired: number[] = [];
  #beforeBatch: () => void = () => {};
  #afterBatch: () => void = () => {};
  #open = false;
  #dispatching = false;

  constructor(addon: Addon) {
    this.#addon = addon;
  }

  /** Starts polling; `beforeBatch` and `afterBatch` run around the handlers of each wake-up. */
  start(beforeBatch: () => void, afterBatch: () => void): void {
    this.#beforeBatch = beforeBatch;
    this.#afterBatch = afterBatch;
    this.#open = true;
    this.#addon.pollStart(this.#events, (count) => this.#onEvents(count));
  }

  /** Watches `fd`. Returns an id for modify and remove, or -errno. */
  add(fd: number, handler: PollHandler, bits: number): number {
    const id = this.#free.pop() ?? this.#handlers.length;
    const result = this.#addon.pollAdd(fd, id, bits);
    if (result < 0) {
      this.#free.push(id);
      if (id === this.#handlers.length) this.#handlers.push(null);
      return result;
    }
    this.#handlers[id] = handler;
    return id;
  }

  modify(id: number, fd: number, bits: number): void {
    this.#addon.pollModify(fd, id, bits);
  }

  /** Stops watching. Call before closing the descriptor. */
  remove(id: number, fd: number): void {
    if (this.#handlers[id] == null) return;
    this.#handlers[id] = null;
    this.#addon.pollRemove(fd);
    this.#retired.push(id);
    if (!this.#dispatching) this.#recycle();
  }

  stop(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#addon.pollStop();
  }

  #onEvents(count: number): void {
    this.#dispatching = true;
    const events = this.#events;
    try {
      this.#beforeBatch();
      for (let i = 0; i < count; i++) {
        const handler = this.#handlers[events[2 * i] as number];
        if (handler != null) handler.onPoll(events[2 * i + 1] as number);
      }
    } finally {
      this.#dispatching = false;
      this.#recycle();
      this.#afterBatch();
    }
  }

  #recycle(): void {
    while (this.#retired.length > 0) this.#free.push(this.#retired.pop() as number);
  }
}
