/**
 * How long a connection may live in each state: every state has an end, whatever its client does or does not do.
 *
 *     PENDING                   until the relay answers (its dial takes 30 s at most); forgotten: see pending.ts
 *     SYN_RECEIVED              63 s: six SYN-ACKs without an answer (timers.ts)
 *     ESTABLISHED               2 h 4 min without a segment from the client; `--tcp-idle`
 *     CLOSE_WAIT, FIN_WAIT_1,   10 min without one; `--tcp-half-closed`. There is no shorter FIN-WAIT-2 as for
 *       FIN_WAIT_2              sockets that nobody reads: a relay reads until both directions have ended
 *     CLOSING, LAST_ACK         4 min, silent or not: only the acknowledgement of our FIN is missing
 *     TIME_WAIT                 10 s (2 MSL), 16,384 at most
 *     draining                  10 s after the upstream broke
 *
 * Any segment counts as life, keep-alives of the client and answers to ours too (RFC 5382 §5, RFC 9293 §3.8.4). Data
 * in flight that nobody acknowledges ends a connection sooner: 15 retransmissions or 2 min (R2, RFC 9293 §3.8.3).
 *
 * Keep-alives of ours are off by default, as RFC 9293 §3.8.4 wants it, and not needed to be rid of clients that
 * vanished: they are silent, and silence ends. With `tcpKeepAlive` an established flow whose client has said nothing
 * for so long asks whether it is there; one that answers is not silent and lives on beyond the idle limit, one that
 * leaves nine questions unanswered is gone. The default interval would be no less than two hours; whoever turns them
 * on chooses it.
 *
 * A segment costs a store: the timer runs to what was the limit when it was set, looks, and goes on from there.
 */

import type { StackOptions } from "../ports.ts";
import type { Connection } from "./connection.ts";
import { State } from "./state.ts";

/** RFC 5382 REQ-5 asks a NAT for no less: two hours until a keep-alive is sent, four minutes for an answer. */
export const IDLE: number = 124 * 60_000;
/** One direction has ended and the other says nothing. RFC 5382 REQ-5: no less than four minutes. */
export const HALF_CLOSED: number = 10 * 60_000;
/** Both FINs have left. The transitory idle-timeout of RFC 5382 REQ-5. */
export const LAST_ACK: number = 4 * 60_000;
/** 2 MSL. RFC 9293 §3.4.2 says four minutes; behind a TUN nothing wanders for long, and ports are few. */
export const TIME_WAIT = 10_000;
/** What is not acknowledged 10 s after the upstream broke never will be. */
export const DRAIN = 10_000;

/** Between keep-alives that are not answered, and how many may be: as Linux and BSD have it (include/net/tcp.h). */
export const KEEP_ALIVE_INTERVAL = 75_000;
export const KEEP_ALIVES = 9;

/** The limits of one stack, ms. */
export class Lifetimes {
  readonly idle: number;
  readonly halfClosed: number;
  /** Silence after which the client is asked whether it is there; 0: never. */
  readonly keepAlive: number;

  constructor(options: StackOptions) {
    this.idle = options.tcpIdle ?? IDLE;
    this.halfClosed = options.tcpHalfClosed ?? HALF_CLOSED;
    this.keepAlive = options.tcpKeepAlive ?? 0;
  }

  /** How long a connection may be in `state`, or its client be silent in it, ms; 0: something else ends it. */
  of(state: State): number {
    switch (state) {
      case State.ESTABLISHED:
        return this.idle;
      case State.CLOSE_WAIT:
      case State.FIN_WAIT_1:
      case State.FIN_WAIT_2:
        return this.halfClosed;
      case State.CLOSING:
      case State.LAST_ACK:
        return LAST_ACK;
      default:
        return 0;
    }
  }
}

/** Starts the limit of the state just entered. */
export function watch(c: Connection): void {
  const limit = c.context.lifetimes.of(c.state);
  if (limit > 0 && !c.isDraining) wait(c, limit);
}

/** The limit has passed since it was set. False: it counts from what the client said since, and goes on. */
export function isOver(c: Connection): boolean {
  const { timers, lifetimes } = c.context;
  if (c.state === State.CLOSING || c.state === State.LAST_ACK) return true;
  const silence = ((timers.now() | 0) - c.heardAt) | 0;
  const left = lifetimes.of(c.state) - silence;
  if (left <= 0) return true;
  const { keepAlive } = lifetimes;
  if (keepAlive === 0 || c.state !== State.ESTABLISHED || silence < keepAlive) {
    wait(c, left, silence);
    return false;
  }
  if (((c.heardAt - c.keepAliveAt) | 0) >= 0) c.keepAlives = 0;
  // RFC 9293 §3.8.4: one that is not answered proves nothing.
  if (c.keepAlives === KEEP_ALIVES) return true;
  ask(c);
  timers.set(c.lifeTimer, timers.now() + Math.min(left, KEEP_ALIVE_INTERVAL));
  return false;
}

/** Sets the timer to the end of the limit, of which `left` is left, or to the first keep-alive. */
function wait(c: Connection, left: number, silence: number = 0): void {
  const { timers, lifetimes } = c.context;
  const asks = lifetimes.keepAlive > 0 && c.state === State.ESTABLISHED;
  const next = asks ? Math.min(left, lifetimes.keepAlive - silence) : left;
  timers.set(c.lifeTimer, timers.now() + next);
}

/** A keep-alive at the next flush; what is in flight asks by itself (RFC 9293 §3.8.4). */
function ask(c: Connection): void {
  if (c.flight > 0) return;
  c.keepAlives++;
  c.keepAliveAt = c.context.timers.now() | 0;
  c.keepAliveDue = true;
  c.context.stats.tcpKeepAlives++;
  c.markDirty();
}
