/**
 * The timers of a connection: which there are, when they are due, what happens then.
 *
 * RETRANSMIT serves the SYN-ACK, unacknowledged data and the probing of a closed window, which exclude each
 * other (RFC 6298, RFC 9293 §3.8.6.1), and instead of the RTO the two waits of RACK-TLP that end before it
 * (RFC 8985 §8). All are re-armed lazily by the wheel.
 */

import type { CloseReason } from "../ports.ts";
import { close, endTimeWait } from "./closing.ts";
import type { Connection } from "./connection.ts";
import { isOver } from "./lifetimes.ts";
import { probeTimeout } from "./rack.ts";
import * as recovery from "./recovery.ts";
import { MAX_RTO } from "./rtt.ts";
import { State } from "./state.ts";

/** Kinds of a connection's timers. LIFE ends tombstones, silence, draining and TIME-WAIT (lifetimes.ts). */
export const TimerKind = { RETRANSMIT: 0, DELAYED_ACK: 1, LIFE: 2 } as const;

/** What RETRANSMIT waits for. */
export const Wait = { RTO: 0, PROBE: 1, REORDERING: 2 } as const;
export type Wait = (typeof Wait)[keyof typeof Wait];

/** Called by the wheel. */
export function expire(c: Connection, kind: number): void {
  if (kind === TimerKind.RETRANSMIT) expireRetransmission(c);
  else if (kind === TimerKind.DELAYED_ACK) expireDelayedAck(c);
  else expireLife(c);
}

/** Restarts the RTO (RFC 6298 §5). */
export function armRetransmission(c: Connection): void {
  c.rtoBase = c.context.timers.now();
  rearmRetransmission(c);
}

/** Sets the retransmission timer to what comes first (RFC 8985 §8), or clears it. */
export function rearmRetransmission(c: Connection): void {
  const { timers } = c.context;
  const { retransmitTimer, rack } = c;
  if (c.flight === 0 && !c.isProbing) {
    timers.clear(retransmitTimer);
    return;
  }
  // Below 2³¹: the RTO is at most a minute, and the wait is cut before it is shifted too far.
  const rto = c.rtoBase + Math.min(c.rtt.rto << Math.min(c.backoff, 10), MAX_RTO);
  if (rack.reorderingAt >= 0 && rack.reorderingAt < rto) {
    c.waitsFor = Wait.REORDERING;
    timers.set(retransmitTimer, rack.reorderingAt);
    return;
  }
  const probe = probeTimeout(c);
  c.waitsFor = probe < 0 ? Wait.RTO : Wait.PROBE;
  timers.set(retransmitTimer, probe < 0 ? rto : Math.min(timers.now() + probe, rto));
}

/** Starts the delayed ACK timer unless it runs (RFC 9293 §3.8.6.3). */
export function armDelayedAck(c: Connection): void {
  if (c.isAckDelayed) return;
  c.isAckDelayed = true;
  const { timers } = c.context;
  const latest = timers.now() + DELAYED_ACK;
  // The wheel may be a tick late and 40 ms is a promise: the tick that ends by then.
  timers.set(c.delayedAckTimer, latest - (latest % WHEEL_TICK));
}

function expireRetransmission(c: Connection): void {
  const { stats, timers } = c.context;
  if (c.state === State.SYN_RECEIVED && c.sndUna === c.iss) {
    if (c.timeouts >= MAX_SYN_ACKS) {
      close(c, "timeout");
      return;
    }
    c.timeouts++;
    c.backoff++;
    stats.tcpRetransmissions++;
    c.synAckDue = true;
    armRetransmission(c);
    c.markDirty();
    return;
  }
  if (c.waitsFor === Wait.REORDERING) {
    recovery.onReorderingTimeout(c);
    rearmRetransmission(c);
    c.markDirty();
    return;
  }
  if (c.waitsFor === Wait.PROBE) {
    // Output sends it and restarts the RTO. If it makes no sense any more, the RTO is still to come.
    if (probeTimeout(c) < 0) {
      rearmRetransmission(c);
      return;
    }
    c.tailProbeDue = true;
    c.markDirty();
    return;
  }
  const now = timers.now() | 0;
  if (c.timeouts === 0) c.firstTimeoutAt = now;
  else if (c.timeouts >= MAX_TIMEOUTS || ((now - c.firstTimeoutAt) | 0) >= GIVE_UP) {
    stats.tcpTimedOut++;
    close(c, "timeout");
    return;
  }
  if (c.isProbing) c.probeDue = true;
  else if (c.flight > 0) recovery.onTimeout(c);
  else return;
  stats.tcpTimeouts++;
  c.timeouts++;
  c.backoff++;
  armRetransmission(c);
  c.markDirty();
}

function expireDelayedAck(c: Connection): void {
  c.isAckDelayed = false;
  if (c.rcvNxt === c.rcvAcked) return;
  c.ackDue = true;
  c.markDirty();
}

function expireLife(c: Connection): void {
  if (c.state === State.TIME_WAIT) {
    endTimeWait(c);
  } else if (c.isForgotten) {
    c.context.remove(c);
  } else if (c.isDraining) {
    drained(c);
  } else if (isOver(c)) {
    c.context.stats.tcpIdle++;
    giveUp(c, "timeout");
  }
}

/** The end of resetWhenDrained. */
export function drained(c: Connection): void {
  c.isDraining = false;
  giveUp(c, "reset");
}

/** onClosed, and an RST at the next flush. */
function giveUp(c: Connection, reason: CloseReason): void {
  const { handler } = c;
  c.handler = null;
  c.rstDue = true;
  c.context.release(c);
  c.markDirty();
  handler?.onClosed(reason);
}

/** RFC 9293 §3.8.6.3 allows 500 ms. */
const DELAYED_ACK = 40;
/** One tick of the timer wheel. */
const WHEEL_TICK = 10;
/** Repetitions of the SYN-ACK: 1, 2, 4, 8, 16 s apart, then 32 s for an answer. */
const MAX_SYN_ACKS = 5;
/** R2 (RFC 9293 §3.8.3): so many retransmissions, or two minutes. */
const MAX_TIMEOUTS = 15;
const GIVE_UP = 120_000;
