/**
 * What is lost and what of it is sent again (RFC 6675; RFC 6582 where the client has no SACK).
 *
 * One picture serves fast recovery and the time after a time-out:
 *
 *     SND.UNA          HighRxt              lostEnd                      SND.NXT
 *        │ sent again ····│ lost, to be sent ···│ presumed to be in flight ···│
 *
 * SACKed octets are out of it wherever they are. Without SACK each duplicate ACK stands for one segment that left
 * the network, and exactly one segment is lost at a time.
 */

import type { Connection } from "./connection.ts";
import { NONE } from "./ranges.ts";
import * as sack from "./sack.ts";
import { seqAdd, seqAfter, seqBefore, seqMax, seqMin } from "./seq.ts";

/** What is being repaired. */
export const Recovery = {
  NONE: 0,
  /** After three duplicates or by SACK (RFC 6582, RFC 6675). */
  FAST: 1,
  /** After the retransmission timer (RFC 5681 §3.1). */
  LOSS: 2,
} as const;
export type Recovery = (typeof Recovery)[keyof typeof Recovery];

/** Octets in the network (RFC 6675 §4 SetPipe). */
export function pipe(c: Connection): number {
  const outstanding = c.flight;
  if (c.recovery === Recovery.NONE) {
    if (c.sackOk) return outstanding - c.sackedOctets;
    // RFC 3042: the first two duplicates let a new segment each leave.
    return Math.max(0, outstanding - Math.min(c.dupAcks, sack.DUPLICATES - 1) * c.sndMss);
  }
  const lost = sack.holes(c, seqMax(c.highRxt, c.sndUna), c.lostEnd);
  const left = c.sackOk ? c.sackedOctets : c.dupAcks * c.sndMss;
  return Math.max(0, outstanding - left - lost);
}

/** The next lost octet to be sent again; behind lostEnd: there is none. */
export function nextLost(c: Connection): number {
  return sack.skip(c, seqMax(c.highRxt, c.sndUna));
}

/** A duplicate ACK, or new SACKed octets, may say that something is lost (RFC 5681 §3.2, RFC 6675 §5). */
export function onDuplicate(c: Connection): void {
  c.dupAcks++;
  if (c.recovery === Recovery.LOSS) return;
  if (c.recovery === Recovery.FAST) {
    if (c.sackOk) c.lostEnd = seqMax(c.lostEnd, seqMin(sack.lostEnd(c), c.recover));
    return;
  }
  const lost = c.sackOk ? sack.lostEnd(c) : c.sndUna;
  if (c.dupAcks < sack.DUPLICATES && !seqAfter(lost, c.sndUna)) return;
  // RFC 6582 §3.2 step 2: duplicates of what was sent again before say nothing new.
  if (!c.sackOk && c.sndUna === c.recover) return;
  c.recovery = Recovery.FAST;
  c.recover = c.sndNxt;
  c.highRxt = c.sndUna;
  c.lostEnd = seqAfter(lost, c.sndUna) ? lost : firstSegment(c);
  c.congestion?.lost(sentFlight(c), c.sndMss);
  c.isTiming = false;
  c.context.stats.tcpFastRecoveries++;
}

/**
 * FlightSize as it was when the lost segment was in the network. Acknowledgements of the same batch have taken from
 * c.flight what they would have let go had they come alone; where the window was full, it is what was in flight
 * (RFC 9438 §4.6), and limited transmit is not counted (RFC 5681 §3.2 step 2).
 */
function sentFlight(c: Connection): number {
  return c.cwndLimited && c.congestion !== null ? c.congestion.cwnd : c.flight;
}

/** SND.UNA moved by `octets`. */
export function onProgress(c: Connection, octets: number): void {
  if (c.recovery === Recovery.NONE) {
    c.dupAcks = 0;
    return;
  }
  if (!seqBefore(c.sndUna, c.recover)) {
    c.recovery = Recovery.NONE;
    c.dupAcks = 0;
    return;
  }
  if (c.sackOk) {
    if (c.recovery === Recovery.FAST) {
      c.lostEnd = seqMax(c.lostEnd, seqMin(sack.lostEnd(c), c.recover));
      // A partial ACK: what follows it is lost even if too little is SACKed above (RFC 6582 §3.2 step 3).
      if (!seqAfter(c.highRxt, c.sndUna)) c.lostEnd = seqMax(c.lostEnd, firstSegment(c));
    }
    return;
  }
  if (c.recovery === Recovery.LOSS) return;
  // RFC 6582 §3.2 step 3: one segment more; the duplicates that it stood for are gone.
  c.dupAcks = Math.max(0, c.dupAcks + 1 - Math.ceil(octets / c.sndMss));
  c.highRxt = c.sndUna;
  c.lostEnd = firstSegment(c);
}

/** Where the first outstanding segment ends, at most. */
function firstSegment(c: Connection): number {
  return sack.holeEnd(c, c.sndUna, seqMin(seqAdd(c.sndUna, c.sndMss), c.recover));
}

/** The retransmission timer expired: everything that is not SACKed is lost (RFC 5681 §3.1, RFC 6298 §5.4). */
export function onTimeout(c: Connection): void {
  const { ranges } = c.context;
  // RFC 2018 §8: a client that does not acknowledge what it SACKed may have dropped it.
  const reneged = c.sackHead !== NONE && ranges.seq[c.sackHead] === c.sndUna;
  if (reneged || c.timeouts > 0) sack.clear(c);
  c.congestion?.timedOut(c.flight, c.sndMss, c.timeouts === 0);
  c.recovery = Recovery.LOSS;
  c.recover = c.sndNxt;
  c.highRxt = c.sndUna;
  c.lostEnd = c.sndNxt;
  c.dupAcks = 0;
  c.isTiming = false;
}

/** What is in flight was too long for the path and is sent again, without blame (RFC 1191 §6.4, RFC 8201 §5.4). */
export function onTooBig(c: Connection): void {
  c.recovery = Recovery.LOSS;
  c.recover = c.sndNxt;
  c.highRxt = c.sndUna;
  c.lostEnd = c.sndNxt;
  c.dupAcks = 0;
  c.isTiming = false;
}
