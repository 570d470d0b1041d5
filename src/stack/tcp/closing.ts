/**
 * How connections end: TIME-WAIT, the last event, the release of what they held.
 *
 * onClosed is the last event and means that nothing is left to be consumed either: a connection whose FINs have
 * passed stays, out of the table if need be, until the relay has taken everything.
 */

import type { CloseReason } from "../ports.ts";
import type { Connection } from "./connection.ts";
import { TIME_WAIT } from "./lifetimes.ts";
import { State } from "./state.ts";

/** Ends a connection at once, dropping what it holds, and tells its handler. */
export function close(c: Connection, reason: CloseReason): void {
  const { handler } = c;
  c.context.remove(c);
  handler?.onClosed(reason);
}

/**
 * Both directions have ended by FIN: onClosed("closed") follows in endBatch, or later if octets wait. The caller
 * has touched the connection.
 */
export function conclude(c: Connection): void {
  const { context } = c;
  c.ending = "closed";
  c.isDraining = false;
  context.releaseSender(c);
  context.timers.clear(c.retransmitTimer);
  if (c.state === State.CLOSED) context.detach(c);
}

/** Begins TIME-WAIT (RFC 9293 §3.6.1). The longest waiting gives way beyond the bound. */
export function beginTimeWait(c: Connection): void {
  const { context } = c;
  conclude(c);
  if (context.timeWait.size >= context.maxTimeWait) {
    endTimeWait(context.timeWait.head as Connection);
    context.stats.tcpTimeWaitEvicted++;
  }
  // It may wait for pages that it needs no more.
  c.list?.remove(c);
  context.timeWait.push(c);
  restartTimeWait(c);
}

/** A segment that shows that the client still waits for our last ACK restarts 2 MSL (RFC 9293 §3.10.7.4). */
export function restartTimeWait(c: Connection): void {
  const { timers } = c.context;
  timers.set(c.lifeTimer, timers.now() + TIME_WAIT);
}

/** Takes a connection out of the table, leaving what the relay has not consumed. */
export function endTimeWait(c: Connection): void {
  if (c.handler === null) {
    c.context.remove(c);
    return;
  }
  c.context.detach(c);
}

/**
 * The client's RST ends a connection: onClosed("reset") follows in endBatch, behind octets that came in order
 * before it. The caller has touched the connection.
 */
export function reset(c: Connection): void {
  c.ending = "reset";
  c.isDraining = false;
  c.context.releaseSender(c);
  c.context.detach(c);
}

/** The last event of a connection that is over, if it is time; after FINs that is when all is consumed. */
export function tellClosed(c: Connection): void {
  const { handler, ending } = c;
  if (ending === null || (ending === "closed" && c.readableOctets > 0)) return;
  c.ending = null;
  c.handler = null;
  if (c.index < 0) c.context.release(c);
  handler?.onClosed(ending);
}
