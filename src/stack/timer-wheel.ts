/**
 * One coarse timer wheel per worker, shared by stack, relay and SOCKS, so that everything runs in virtual time.
 */

export interface TimerHandler {
  /** `timer.kind` says which of the handler's timers expired. The timer is no longer set. */
  onTimer(timer: Timer): void;
}

/** The port of stack, relay and socks. Times are integer milliseconds counted from the start of the worker. */
export interface Timers {
  now(): number;
  /** Sets or moves a timer. A deadline not later than now expires at the next advance. */
  set(timer: Timer, deadline: number): void;
  /** Idempotent. */
  clear(timer: Timer): void;
}

/** An intrusive timer: embed one per purpose, never share it. */
export class Timer {
  readonly handler: TimerHandler;
  readonly kind: number;
  /** Milliseconds, or -1 when not set. */
  deadline = -1;

  constructor(handler: TimerHandler, kind = 0) {
    this.handler = handler;
    this.kind = kind;
  }
}
