/** A stream of a pool: at one upstream after the other until one grants or refuses it, then there for life. */

import type { Destination, Refusal, StreamHandler } from "../socks/ports.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { Endpoint } from "../stack/wire/address.ts";
import type { Pool } from "./pool.ts";
import type { Attempt, PoolMember } from "./pool-member.ts";
import { StandInStream } from "./stand-in-stream.ts";

export class PoolStream extends StandInStream implements TimerHandler {
  readonly #pool: Pool;
  readonly #destination: Destination;
  readonly #deadline: number;
  #attempt: Attempt | null = null;
  #tried: PoolMember[] = NOBODY;
  /** Null until it is needed: most flows open where they are sent first. */
  #timer: Timer | null = null;
  /** Of the last attempt. */
  #refusal: Refusal | null = null;

  constructor(pool: Pool, { name, endpoint }: Destination, handler: StreamHandler) {
    super(handler);
    this.#pool = pool;
    this.#destination = { name, endpoint: new Endpoint().copy(endpoint) };
    this.#deadline = pool.timers.now() + pool.dialDeadline;
    if (!this.#dial()) this.#wait(pool.timers.now());
  }

  override onOpen(): void {
    this.#pool.opened(this.#attempt as Attempt);
    this.#stopWaiting();
    this.#tried = NOBODY;
    super.onOpen();
  }

  onRefused(refusal: Refusal): void {
    const attempt = this.#attempt as Attempt;
    const mayGoOn = this.#pool.refused(attempt, refusal);
    this.#endAttempt();
    this.#refusal = refusal;
    if (!mayGoOn) {
      this.refuse(refusal);
      return;
    }
    if (this.#tried === NOBODY) this.#tried = [];
    this.#tried.push(attempt.member);
    const isInTime = this.#pool.timers.now() < this.#deadline;
    if (!isInTime || !this.#dial()) this.refuse(this.#pool.refusal(false, refusal));
    else this.#pool.sentOn++;
  }

  /** Nobody works; or the time is over, which the upstream that has it now is not to blame for. */
  onTimer(): void {
    const { stream } = this;
    stream?.close();
    this.refuse(this.#refusal ?? this.#pool.refusal(false, null));
  }

  protected release(): void {
    this.#stopWaiting();
    this.#endAttempt();
  }

  /** False: nobody works whom it has not been at. */
  #dial(): boolean {
    const member = this.#pool.choose(this.#tried, false);
    if (member === null) return false;
    this.#attempt = member.begin();
    this.stream = member.upstream.connect(this.#destination, this);
    if (this.#tried !== NOBODY) this.#wait(this.#deadline);
    return true;
  }

  #wait(until: number): void {
    this.#timer ??= new Timer(this);
    this.#pool.timers.set(this.#timer, until);
  }

  #stopWaiting(): void {
    if (this.#timer !== null) this.#pool.timers.clear(this.#timer);
  }

  #endAttempt(): void {
    const attempt = this.#attempt;
    this.#attempt = null;
    attempt?.member.end(attempt);
  }
}

const NOBODY: PoolMember[] = [];
