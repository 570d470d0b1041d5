/** An association of a pool: at one upstream after the other until one grants it, then there for life. */

import type { Association, AssociationHandler, Destination, Refusal } from "../socks/ports.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { Pool } from "./pool.ts";
import type { Attempt, PoolMember } from "./pool-member.ts";

export class PoolAssociation implements Association, AssociationHandler, TimerHandler {
  readonly #pool: Pool;
  readonly #handler: AssociationHandler;
  readonly #deadline: number;
  readonly #tried: PoolMember[] = [];
  #timer: Timer | null = null;
  #association: Association | null = null;
  #attempt: Attempt | null = null;
  /** Of the last attempt. */
  #refusal: Refusal | null = null;

  constructor(pool: Pool, handler: AssociationHandler) {
    this.#pool = pool;
    this.#handler = handler;
    this.#deadline = pool.timers.now() + pool.dialDeadline;
    if (!this.#dial()) this.#wait(pool.timers.now());
  }

  // ---- events ----------------------------------------------------------------------------------------------------

  onOpen(): void {
    this.#pool.opened(this.#attempt as Attempt);
    this.#stopWaiting();
    this.#tried.length = 0;
    this.#handler.onOpen();
  }

  onRefused(refusal: Refusal): void {
    const attempt = this.#attempt as Attempt;
    const mayGoOn = this.#pool.refusedUdp(attempt, refusal);
    this.#endAttempt();
    this.#refusal = refusal;
    if (!mayGoOn) {
      this.#refuse(refusal);
      return;
    }
    this.#tried.push(attempt.member);
    const isInTime = this.#pool.timers.now() < this.#deadline;
    if (!isInTime || !this.#dial()) this.#refuse(this.#pool.refusal(true, refusal));
    else this.#pool.sentOn++;
  }

  onDatagram(from: Endpoint, start: number, end: number): void {
    this.#handler.onDatagram(from, start, end);
  }

  onLost(): void {
    this.#endAttempt();
    this.#handler.onLost();
  }

  /** Nobody works; or the time is over. */
  onTimer(): void {
    this.#association?.close();
    this.#refuse(this.#pool.refusal(true, this.#refusal));
  }

  // ---- calls -----------------------------------------------------------------------------------------------------

  maxPayload(to: Destination): number {
    return (this.#association as Association).maxPayload(to);
  }

  send(to: Destination, start: number, end: number, segment: number): boolean {
    return (this.#association as Association).send(to, start, end, segment);
  }

  flush(): void {
    this.#association?.flush();
  }

  close(): void {
    this.#stopWaiting();
    this.#association?.close();
    this.#endAttempt();
  }

  // ---- within ----------------------------------------------------------------------------------------------------

  #refuse(refusal: Refusal): void {
    this.#stopWaiting();
    this.#endAttempt();
    this.#handler.onRefused(refusal);
  }

  /** False: nobody works whom it has not been at. */
  #dial(): boolean {
    const member = this.#pool.choose(this.#tried, true);
    if (member === null) return false;
    this.#attempt = member.begin();
    this.#association = member.upstream.associate(this);
    if (this.#tried.length > 0) this.#wait(this.#deadline);
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
    this.#association = null;
    attempt?.member.end(attempt);
  }
}
