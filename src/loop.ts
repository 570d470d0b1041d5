/**
 * The turn: one per wake-up of Node's event loop, the only place with a real clock.
 *
 *     enter()  read the clock once, expire timers
 *     …        packets into the stack, octets from sockets (events run handlers, mutators mark flows dirty)
 *     leave()  participants flush (one batched write), datagram memory is freed, one timeout is armed
 *
 * Sockets that became readable in one poll share one turn, and so do the packets of one batch. Whoever marks
 * something dirty outside a turn (a Node.js stream, a promise) calls `schedule`.
 */

import type { MemoryLayout } from "./memory.ts";
import type { Addon } from "./native/binding.ts";
import { Poller } from "./native/poller.ts";
import { TimerWheel } from "./stack/timer-wheel.ts";

export interface LoopParticipant {
  /** The last phase of every turn: write what is to be written. */
  flush(): void;
}

export class Loop {
  readonly timers: TimerWheel = new TimerWheel();
  /** Null without the addon. */
  readonly poller: Poller | null;
  readonly memory: MemoryLayout;
  readonly #participants: LoopParticipant[] = [];
  readonly #origin: number;
  #inTurn = false;
  #immediate: NodeJS.Immediate | null = null;
  #timeout: NodeJS.Timeout | null = null;
  #armed = 0;
  #closed = false;

  /** Time counts from `origin`, ms since the epoch, which loops of several threads share; from now by default. */
  constructor(addon: Addon | null, memory: MemoryLayout, origin?: number) {
    this.memory = memory;
    this.#origin = origin === undefined ? performance.now() : origin - performance.timeOrigin;
    this.poller = addon === null ? null : new Poller(addon);
    this.poller?.start(
      () => this.enter(),
      () => this.leave(),
    );
  }

  add(participant: LoopParticipant): void {
    this.#participants.push(participant);
  }

  remove(participant: LoopParticipant): void {
    const at = this.#participants.indexOf(participant);
    if (at >= 0) this.#participants.splice(at, 1);
  }

  /** Starts a turn. Every callback that touches stack, relay or sockets runs between enter and leave. */
  enter(): void {
    this.#inTurn = true;
    this.timers.advance(Math.floor(performance.now() - this.#origin));
  }

  leave(): void {
    try {
      for (const participant of this.#participants) participant.flush();
    } finally {
      this.memory.datagrams.clear();
      this.#inTurn = false;
      this.#arm();
    }
  }

  /** Asks for a turn soon. Cheap inside a turn. */
  schedule(): void {
    if (this.#inTurn || this.#immediate !== null || this.#closed) return;
    this.#immediate = setImmediate(this.#onImmediate);
  }

  /** Stops polling and timing. Idempotent. */
  close(): void {
    this.#closed = true;
    this.poller?.stop();
    if (this.#immediate !== null) clearImmediate(this.#immediate);
    if (this.#timeout !== null) clearTimeout(this.#timeout);
    this.#immediate = null;
    this.#timeout = null;
  }

  readonly #onImmediate = (): void => {
    this.#immediate = null;
    this.#turn();
  };

  readonly #onTimeout = (): void => {
    this.#timeout = null;
    this.#turn();
  };

  #turn(): void {
    try {
      this.enter();
    } finally {
      this.leave();
    }
  }

  #arm(): void {
    const next = this.timers.next();
    if (next < 0 || this.#closed) return;
    // A timeout that is armed too early costs one empty turn, which is cheaper than moving it at every turn.
    if (this.#timeout !== null) {
      if (this.#armed <= next) return;
      clearTimeout(this.#timeout);
    }
    this.#armed = next;
    this.#timeout = setTimeout(this.#onTimeout, Math.max(1, next - this.timers.now()));
  }
}
