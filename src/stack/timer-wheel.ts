/**
 * One coarse timer wheel per worker, shared by stack, relay and SOCKS, so that everything runs in virtual time.
 *
 * Time is cut into ticks of 10 ms; a timer never expires before its deadline and at most one tick after it.
 * Six levels of 64 slots hold timers by distance: slots of one tick, of 64 ticks, of 64² … When time reaches a
 * slot of a higher level, its timers move down. Slots are circular lists through the timers themselves.
 *
 * Re-arming is lazy: moving a timer later only stores its deadline. It stays in its earlier slot and moves on
 * when that slot comes, so a retransmission timer that every ACK pushes back costs a store.
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
  /** The wheel's: the tick of the slot the timer is in; meaningless when it is in none. */
  tick = 0;
  /** The wheel's: neighbours in the slot; null when the timer is in none. */
  next: Timer | null = null;
  previous: Timer | null = null;

  constructor(handler: TimerHandler, kind = 0) {
    this.handler = handler;
    this.kind = kind;
  }
}

export class TimerWheel implements Timers {
  #now: number;
  /** The last tick whose slot was emptied. */
  #tick: number;
  /** Timers that are set. */
  #count = 0;
  /** No slot comes before this tick. */
  #earliest = Number.POSITIVE_INFINITY;
  /** Heads of circular lists: [level × 64 + slot]. */
  readonly #slots: Timer[] = [];
  /** Timers whose deadline was not later than now when they were set. */
  readonly #due: Timer = newList();
  /** What the running advance is about to look at. */
  readonly #expiring: Timer = newList();

  constructor(now = 0) {
    this.#now = now;
    this.#tick = Math.floor(now / TICK);
    for (let i = 0; i < LEVELS * SLOTS; i++) this.#slots.push(newList());
  }

  now(): number {
    return this.#now;
  }

  set(timer: Timer, deadline: number): void {
    const isDue = deadline <= this.#now;
    const tick = isDue ? this.#tick : Math.ceil(deadline / TICK);
    // -1 says that it is not set; no time is before the worker's start.
    timer.deadline = deadline < 0 ? 0 : deadline;
    if (timer.next === null) this.#count++;
    // Too early is put right when the slot comes.
    else if (timer.tick <= tick) return;
    else unlink(timer);
    if (isDue) {
      timer.tick = tick;
      append(this.#due, timer);
    } else {
      this.#file(timer, tick);
    }
  }

  clear(timer: Timer): void {
    if (timer.next === null) return;
    timer.deadline = -1;
    unlink(timer);
    this.#count--;
  }

  /**
   * When to call `advance` next, ms; -1: no timer is set. May be early by a timer that was moved or cleared,
   * once: the advance then finds the true time.
   */
  next(): number {
    if (this.#count === 0) return -1;
    if (!isEmpty(this.#due) || !isEmpty(this.#expiring)) return this.#now;
    return this.#earliest * TICK;
  }

  /**
   * Moves time to `now` (never back) and calls the handlers of the timers that are due, in the order of their
   * ticks. Handlers may set and clear any timer; what they set to now or earlier waits for the next call.
   */
  advance(now: number): void {
    // A timer that was due and then moved waits for its tick, as it would have without the detour.
    const before = this.#now;
    if (now > this.#now) this.#now = now;
    const target = Math.floor(this.#now / TICK);
    moveAll(this.#due, this.#expiring);
    this.#expire(before);
    while (this.#earliest <= target) {
      const tick = this.#earliest;
      this.#tick = tick;
      for (let level = 0; level < LEVELS && tick % SPANS[level] === 0; level++) {
        moveAll(this.#slots[level * SLOTS + ((tick / SPANS[level]) % SLOTS)], this.#expiring);
      }
      // Before the handlers run, as what they set may come before the next slot that is filled.
      this.#earliest = this.#findEarliest();
      this.#expire(tick * TICK);
    }
    this.#tick = target;
  }

  /** Calls the handlers of what has expired by `limit` and files the rest anew. */
  #expire(limit: number): void {
    const list = this.#expiring;
    for (let timer = list.next as Timer; timer !== list; timer = list.next as Timer) {
      unlink(timer);
      if (timer.deadline > limit) {
        this.#file(timer, Math.ceil(timer.deadline / TICK));
        continue;
      }
      timer.deadline = -1;
      this.#count--;
      timer.handler.onTimer(timer);
    }
  }

  /** Puts a timer into the slot of `tick`, which lies ahead. */
  #file(timer: Timer, tick: number): void {
    const distance = tick - this.#tick;
    let level = 0;
    while (level < LEVELS - 1 && distance >= SPANS[level + 1]) level++;
    const span = SPANS[level];
    // Beyond the wheel's horizon: the last slot, and on from there.
    const turn = Math.min(Math.floor(tick / span), Math.floor(this.#tick / span) + SLOTS);
    timer.tick = turn * span;
    append(this.#slots[level * SLOTS + (turn % SLOTS)], timer);
    if (timer.tick < this.#earliest) this.#earliest = timer.tick;
  }

  /** The first tick at which a slot that is not empty comes. */
  #findEarliest(): number {
    let earliest = Number.POSITIVE_INFINITY;
    for (let level = 0; level < LEVELS; level++) {
      const span = SPANS[level];
      const turn = Math.floor(this.#tick / span);
      for (let ahead = 1; ahead <= SLOTS; ahead++) {
        if ((turn + ahead) * span >= earliest) break;
        if (!isEmpty(this.#slots[level * SLOTS + ((turn + ahead) % SLOTS)])) {
          earliest = (turn + ahead) * span;
          break;
        }
      }
    }
    return earliest;
  }
}

function newList(): Timer {
  const head = new Timer({ onTimer() {} });
  head.next = head;
  head.previous = head;
  return head;
}

function isEmpty(head: Timer): boolean {
  return head.next === head;
}

function append(head: Timer, timer: Timer): void {
  const last = head.previous as Timer;
  last.next = timer;
  timer.previous = last;
  timer.next = head;
  head.previous = timer;
}

function unlink(timer: Timer): void {
  const next = timer.next as Timer;
  const previous = timer.previous as Timer;
  next.previous = previous;
  previous.next = next;
  timer.next = null;
  timer.previous = null;
}

/** Appends all of `from` to `to`. */
function moveAll(from: Timer, to: Timer): void {
  if (isEmpty(from)) return;
  const first = from.next as Timer;
  const last = from.previous as Timer;
  const end = to.previous as Timer;
  end.next = first;
  first.previous = end;
  last.next = to;
  to.previous = last;
  from.next = from;
  from.previous = from;
}

/** Milliseconds per tick. */
const TICK = 10;
const SLOTS = 64;
/** 64⁶ ticks are 21 years. */
const LEVELS = 6;
/** Ticks per slot of each level. */
const SPANS: readonly number[] = [1, 64, 4096, 262144, 16777216, 1073741824];
