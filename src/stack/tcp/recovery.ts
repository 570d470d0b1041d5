/**
 * What an ACK, or its absence, means for what is in flight: when recovery begins and ends, and how much may be sent
 * meanwhile.
 *
 *     NONE ──a loss is found──▶ FAST ──SND.UNA ≥ recover──▶ NONE          window: PRR (RFC 9937)
 *      any ──RTO──────────────▶ LOSS ──SND.UNA ≥ recover──▶ NONE          window: slow start
 *     FAST, LOSS ──it was spurious──▶ NONE                                window: what it was before
 *
 * With SACK losses are found by time (rack.ts, RFC 8985), without by three duplicates, one segment at a time
 * (RFC 6582). Each duplicate then stands for a segment that left the network.
 */

import type { Connection } from "./connection.ts";
import * as flight from "./flight.ts";
import { Recovery } from "./flight.ts";
import * as rack from "./rack.ts";
import { NONE } from "./ranges.ts";
import { seqBefore } from "./seq.ts";

/** Octets in the network (RFC 6675 §4 SetPipe). */
export function pipe(c: Connection): number {
  const there = c.flight - c.lostOctets;
  if (c.sackOk) return there - c.sackedOctets;
  // RFC 3042: before recovery the first two duplicates let a new segment each leave.
  const left = c.recovery === Recovery.NONE ? Math.min(c.dupAcks, rack.DUPLICATES - 1) : c.dupAcks;
  return Math.max(0, there - left * c.sndMss);
}

/** Octets that may be in the network. */
export function window(c: Connection): number {
  if (c.congestion === null) return 0;
  return c.recovery === Recovery.FAST && c.sackOk ? c.prrWindow : c.congestion.cwnd;
}

/**
 * An ACK, when SND.UNA and the flight are up to date. It acknowledged `acked` octets; `isDuplicate`: it shows that
 * something left the network behind a hole; `isPlainDuplicate`: it says nothing new at all.
 */
export function onAck(
  c: Connection,
  acked: number,
  isDuplicate: boolean,
  isPlainDuplicate: boolean,
): void {
  if (rack.probeAnswered(c, isPlainDuplicate) && c.recovery === Recovery.NONE) {
    c.isUndoable = false;
    c.cwrDue = c.ecnOk;
    c.congestion?.lost(c.rack.probeFlight, c.sndMss);
  }
  if (isSpurious(c, acked)) undo(c);
  const hasEnded = c.recovery !== Recovery.NONE && !seqBefore(c.sndUna, c.recover);
  if (hasEnded) c.recovery = Recovery.NONE;
  if (hasEnded || (acked > 0 && c.recovery === Recovery.NONE)) c.dupAcks = 0;
  if (isDuplicate) c.dupAcks++;
  rack.adaptWindow(c, hasEnded);
  if (c.sackOk) rack.detectLoss(c);
  else countDuplicates(c, acked, isDuplicate);
  if (c.lostOctets > 0 && c.recovery === Recovery.NONE) begin(c, acked);
  if (c.recovery === Recovery.FAST) reduce(c, acked > 0 && c.context.ack.lost === 0);
}

/** The wait for what may only have been reordered is over (RFC 8985 §6.2 step 5). */
export function onReorderingTimeout(c: Connection): void {
  c.context.ack.begin(c, false, 0);
  rack.detectLoss(c);
  if (c.lostOctets > 0 && c.recovery === Recovery.NONE) begin(c, 0);
}

/** The retransmission timer expired (RFC 5681 §3.1, RFC 6298 §5.4). */
export function onTimeout(c: Connection): void {
  const { ranges } = c.context;
  const isFirst = c.timeouts === 0;
  // RFC 2018 §8: a client that does not acknowledge what it SACKed may have dropped it.
  const isReneged = c.runHead !== NONE && (ranges.page[c.runHead] & flight.Run.SACKED) !== 0;
  if (isReneged || !isFirst || !c.sackOk) loseAll(c);
  else rack.detectLossOnTimeout(c);
  c.congestion?.timedOut(c.flight, c.sndMss, isFirst);
  if (isFirst) watch(c);
  c.recovery = Recovery.LOSS;
  c.recover = c.sndNxt;
  c.dupAcks = 0;
  c.rack.isProbing = false;
  c.rack.reorderingAt = -1;
}

/** All that is in flight was dropped, SACKed or not. */
export function loseAll(c: Connection): void {
  const { ranges } = c.context;
  for (let run = c.runHead; run !== NONE; run = ranges.next[run]) {
    flight.mark(c, run, flight.Run.LOST | flight.Run.RETRANSMITTED);
  }
  flight.join(c);
}

/** `octets` that were lost have been sent again. */
export function repeated(c: Connection, octets: number): void {
  c.prrOut += octets;
  c.repeatedOctets += octets;
  if (c.hasRepeated) return;
  c.hasRepeated = true;
  c.repeatedAt = c.context.timers.now() | 0;
}

/** Fast recovery begins. */
function begin(c: Connection, acked: number): void {
  const before = sentFlight(c, acked);
  c.congestion?.lost(before, c.sndMss);
  c.recovery = Recovery.FAST;
  c.recover = c.sndNxt;
  c.rack.isProbing = false;
  watch(c);
  // RFC 9937 §6: RecoverFS counts what this ACK delivers, not what was SACKed before. ACKs of the same batch let
  // nothing go yet: where the window was full, what they delivered counts as well.
  const now = c.flight - c.sackedOctets + c.context.ack.delivered;
  c.prrFlight = Math.max(c.cwndLimited ? before : 0, now, c.sndMss);
  c.prrDelivered = c.prrFlight - now;
  c.prrOut = 0;
  c.prrWindow = pipe(c) + c.sndMss;
  c.context.stats.tcpFastRecoveries++;
}

/** RFC 9937 §6, for an ACK in fast recovery; `isSafe`: it makes progress and shows no further loss. */
function reduce(c: Connection, isSafe: boolean): void {
  const { delivered } = c.context.ack;
  if (c.congestion === null || delivered === 0) return;
  const { ssthresh } = c.congestion;
  const inNetwork = pipe(c);
  c.prrDelivered += delivered;
  let more: number;
  if (inNetwork > ssthresh) {
    more = Math.ceil((c.prrDelivered * ssthresh) / c.prrFlight) - c.prrOut;
  } else {
    more = Math.max(c.prrDelivered - c.prrOut, delivered) + (isSafe ? c.sndMss : 0);
    more = Math.min(more, ssthresh - inNetwork);
  }
  // The retransmission that begins recovery leaves whatever this says: see repeat in output.ts.
  c.prrWindow = inNetwork + Math.max(0, more);
}

/**
 * FlightSize as it was when the lost segment was in the network. Acknowledgements have taken from c.flight since, and
 * those of the same batch, or of a client whose window is full, have let nothing go instead. Where cwnd was full, it is
 * what was in flight (RFC 9438 §4.6); limited transmit is not counted (RFC 5681 §3.2 step 2).
 */
function sentFlight(c: Connection, acked: number): number {
  const cwnd = c.congestion?.cwnd ?? 0;
  if (c.cwndLimited) return cwnd;
  return Math.min(cwnd, Math.max(c.flight + Math.max(0, acked), c.roundFlight, c.lastRoundFlight));
}

/** SND.UNA has moved: the largest flights of two round trips are remembered (RFC 7661 §4.2, in octets sent). */
export function countRound(c: Connection): void {
  if (seqBefore(c.sndUna, c.roundEnd)) return;
  c.lastRoundFlight = c.roundFlight;
  c.roundFlight = c.flight;
  c.roundEnd = c.sndNxt;
}

/** Without SACK (RFC 5681 §3.2, RFC 6582 §3.2). */
function countDuplicates(c: Connection, acked: number, isDuplicate: boolean): void {
  if (c.recovery === Recovery.FAST) {
    if (acked <= 0) return;
    // Step 3, a partial ACK: one segment more is lost; the duplicates that it stood for are gone.
    c.dupAcks = Math.max(0, c.dupAcks + 1 - Math.ceil(acked / c.sndMss));
    flight.loseHead(c, c.sndMss);
  } else if (c.recovery === Recovery.LOSS) {
    if (acked > 0) c.dupAcks = 0;
  } else if (isDuplicate && c.dupAcks >= rack.DUPLICATES && c.sndUna !== c.recover) {
    // Step 2: duplicates of what was sent again before say nothing new.
    flight.loseHead(c, c.sndMss);
  }
}

/** The window is reduced: from here on it is seen whether rightly so. */
function watch(c: Connection): void {
  c.isUndoable = true;
  c.undoFrom = c.sndUna;
  c.hasRepeated = false;
  c.repeatedOctets = 0;
}

/** Whether what was taken for lost has arrived as it was sent first. */
function isSpurious(c: Connection, acked: number): boolean {
  if (!c.isUndoable) return false;
  // What was taken for lost has arrived before it could be sent again (tcp_packet_delayed in net/ipv4/tcp_input.c).
  if (!c.hasRepeated) return c.recovery === Recovery.FAST && c.lostOctets === 0;
  // RFC 3708 §3: all that was sent again arrived twice.
  if (c.repeatedOctets === 0) return true;
  // RFC 3522 §3.2: the ACK answers something older than the first retransmission.
  const { hasEcho, echo } = c.context.ack;
  return acked > 0 && c.recovery !== Recovery.NONE && hasEcho && seqBefore(echo, c.repeatedAt);
}

/** RFC 4015 §3.2, RFC 9438 §4.9: sending goes on as if nothing had been taken for lost. */
function undo(c: Connection): void {
  c.isUndoable = false;
  c.congestion?.undo();
  c.rack.reorderingSeen = true;
  c.context.stats.tcpReductionsUndone++;
  if (c.recovery === Recovery.NONE) return;
  c.recovery = Recovery.NONE;
  c.dupAcks = 0;
  flight.findLost(c);
}

/** What is in flight was too long for the path and is sent again, without blame (RFC 1191 §6.4, RFC 8201 §5.4). */
export function onTooBig(c: Connection): void {
  const { ranges } = c.context;
  for (let run = c.runHead; run !== NONE; run = ranges.next[run]) {
    const flags = ranges.page[run];
    if (!(flags & flight.Run.SACKED)) flight.mark(c, run, flags | flight.Run.LOST);
  }
  flight.join(c);
  c.recovery = Recovery.LOSS;
  c.recover = c.sndNxt;
  c.isUndoable = false;
  c.dupAcks = 0;
  c.rack.isProbing = false;
  c.rack.reorderingAt = -1;
}
