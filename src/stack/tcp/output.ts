/**
 * What leaves now: the only place where packets of a connection are decided (segment.ts builds them).
 *
 *     RST        and nothing else
 *     SYN-ACK    while SYN_RECEIVED, and an ACK for what is not acceptable then
 *     tail       a loss probe, whatever cwnd says (RFC 8985 §7.3)
 *     lost       runs of the flight that are (rack.ts), as cwnd − pipe allows (recovery.ts)
 *     new        octets behind SND.NXT, as the client's window and cwnd − pipe allow; FIN behind the last
 *     probe      of a window that is closed
 *     keep-alive where silence has to be understood (lifetimes.ts)
 *     ACK        if one is due and nothing above carried it; more for duplicates and SACK (sack-reports.ts)
 *
 * A segment is as large as the device takes: a super-segment under TSO, else one MSS. Runts are not sent while
 * more octets wait (RFC 9293 §3.8.6.2.1), except the last of what was written: Nagle is off, a relay must not
 * add 40 ms.
 */

import type { PacketSink } from "../ports.ts";
import { ACK, CWR, FIN, PSH, RST } from "../wire/tcp.ts";
import type { Connection } from "./connection.ts";
import * as ecn from "./ecn.ts";
import * as flight from "./flight.ts";
import * as rack from "./rack.ts";
import { NONE } from "./ranges.ts";
import * as recovery from "./recovery.ts";
import { emitReset } from "./resets.ts";
import { headersLength, payloadOf, segment, synAckSegment } from "./segment.ts";
import * as sendBuffer from "./send-buffer.ts";
import { seqAdd, seqBefore } from "./seq.ts";
import { Event, hasSentFin, State } from "./state.ts";
import { armRetransmission, rearmRetransmission } from "./timers.ts";

/** What {@link output} found. */
export const Output = {
  /** Nothing is left to be sent now. */
  DONE: 0,
  /** The sink is full: write it and come back. */
  FULL: 1,
  /** There is more, but it is another connection's turn. */
  MORE: 2,
} as const;
export type Output = (typeof Output)[keyof typeof Output];

/** Emits what the connection may send, at most a few packets. */
export function output(c: Connection, sink: PacketSink): Output {
  if (c.rstDue) return reset(c, sink);
  if (c.state === State.PENDING || c.state === State.CLOSED) return Output.DONE;
  if (c.state === State.SYN_RECEIVED && (c.synAckDue || !c.ackDue)) return synAck(c, sink);
  if (c.state !== State.SYN_RECEIVED && c.state !== State.TIME_WAIT) {
    for (let packets = 0; ; packets++) {
      const result = nextSegment(c, sink);
      if (result === FULL) return Output.FULL;
      if (result === NOTHING) break;
      if (packets === QUANTUM) return Output.MORE;
    }
  }
  if (c.keepAliveDue) {
    // RFC 9293 §3.8.4: SEG.SEQ = SND.NXT - 1, no data. Whoever is there has to acknowledge it.
    if (!segment(c, sink, seqAdd(c.sndNxt, -1), 0, 0)) return Output.FULL;
    c.keepAliveDue = false;
  }
  if (c.ackDue) {
    if (!segment(c, sink, c.sndNxt, 0, 0)) return Output.FULL;
    if (c.duplicatesDue > 0) c.duplicatesDue--;
  }
  while (c.duplicatesDue > 0) {
    if (!segment(c, sink, c.sndNxt, 0, 0)) return Output.FULL;
    c.duplicatesDue--;
  }
  while (c.sackReportsDue > 0) if (!segment(c, sink, c.sndNxt, 0, 0)) return Output.FULL;
  return Output.DONE;
}

const SENT = 0;
const NOTHING = 1;
const FULL = 2;

function nextSegment(c: Connection, sink: PacketSink): number {
  const { congestion } = c;
  if (congestion === null) return NOTHING;
  const headers = headersLength(c);
  const mss = payloadOf(c);
  if (c.tailProbeDue) return probeTail(c, sink, mss);
  const lost = flight.firstLost(c);
  if (lost !== NONE) return repeat(c, sink, lost, mss, headers);
  const unsent = sendBuffer.unsent(c);
  if (c.probeDue) return probe(c, sink, unsent, mss);
  // An ACK of what left while the window was full still counts for its growth.
  if (!seqBefore(c.sndUna, c.limitedUntil)) c.cwndLimited = false;
  if (unsent === 0) {
    return c.finQueued && !hasSentFin(c.state) ? fresh(c, sink, 0) : NOTHING;
  }
  const usable = (c.sndUna + c.sndWnd - c.sndNxt) | 0;
  const largest = sendBuffer.largestPayload(c, headers, mss);
  let length = Math.min(unsent, usable, largest);
  if (length <= 0) return stalled(c);
  if (c.flight === 0) restartIfIdle(c);
  const inNetwork = recovery.pipe(c);
  const room = recovery.window(c) - inNetwork;
  if (room < length) {
    c.cwndLimited = true;
    c.limitedUntil = c.sndNxt;
    if (room < mss && inNetwork > 0) return NOTHING;
    length = Math.min(length, Math.max(mss, room - (room % mss)));
  }
  if (length < unsent) {
    if (length >= mss) length -= length % mss;
    // RFC 9293 §3.8.6.2.1: a runt is worth it when it is half of the largest window seen.
    else if (2 * length < c.maxSndWnd) return stalled(c);
  }
  if (c.nagle && length === unsent && !c.finQueued && (c.flight > 0 || length > mss)) {
    length -= length % mss;
    if (length === 0) return NOTHING;
  }
  return fresh(c, sink, length);
}

/** Sends the lost `run` again, or as much of it as may leave. */
function repeat(
  c: Connection,
  sink: PacketSink,
  run: number,
  mss: number,
  headers: number,
): number {
  const { ranges } = c.context;
  const seq = ranges.seq[run];
  let room = recovery.window(c) - recovery.pipe(c);
  if (room < mss) {
    // The first of them leaves whatever the pipe holds (RFC 6675 §5 (4.3), RFC 6582 §3.2).
    if (seq !== c.sndUna) return NOTHING;
    room = mss;
  }
  const largest = sendBuffer.largestPayload(c, headers, mss);
  const length = Math.min((ranges.end[run] - seq) | 0, room - (room % mss), largest);
  const end = seqAdd(seq, length);
  if (end !== ranges.end[run] && !flight.split(c, run, end, 0)) return NOTHING;
  if (!emit(c, sink, seq, length)) return FULL;
  flight.resent(c, run);
  flight.join(c);
  recovery.repeated(c, length);
  c.context.stats.tcpRetransmissions++;
  if (seq === c.sndUna) armRetransmission(c);
  return SENT;
}

/** The probe of a tail (RFC 8985 §7.3): the next segment, or the last one again. Afterwards the RTO runs. */
function probeTail(c: Connection, sink: PacketSink, mss: number): number {
  c.tailProbeDue = false;
  const tail = c.runTail;
  if (tail === NONE || rack.probeTimeout(c) < 0) {
    rearmRetransmission(c);
    return SENT;
  }
  const next = Math.min(sendBuffer.unsent(c), mss);
  const usable = (c.sndUna + c.sndWnd - c.sndNxt) | 0;
  const isNew = next > 0 && next <= usable && flight.canSend(c);
  if (isNew ? fresh(c, sink, next) === FULL : !repeatTail(c, sink, tail, mss)) {
    c.tailProbeDue = true;
    return FULL;
  }
  rack.probed(c, !isNew);
  armRetransmission(c);
  return SENT;
}

/** Sends the last segment again; the runs of a flight begin where segments do. False: the sink is full. */
function repeatTail(c: Connection, sink: PacketSink, tail: number, mss: number): boolean {
  const { ranges } = c.context;
  const length = (ranges.end[tail] - ranges.seq[tail]) | 0;
  const fin = length > 1 && hasSentFin(c.state) ? 1 : 0;
  const last = ((length - fin - 1) % mss) + 1 + fin;
  const seq = (ranges.end[tail] - last) | 0;
  const isWhole = last === length || !flight.split(c, tail, seq, 0);
  if (!emit(c, sink, seq, last)) return false;
  flight.resent(c, isWhole ? tail : c.runTail);
  c.context.stats.tcpRetransmissions++;
  return true;
}

/** Sends `length` octets from SND.NXT, and FIN behind the last. */
function fresh(c: Connection, sink: PacketSink, length: number): number {
  const seq = c.sndNxt;
  if (!flight.canSend(c)) {
    // Nothing in flight will free a run: look again when others may have.
    if (c.flight === 0) c.context.starve(c);
    return NOTHING;
  }
  const isLast = c.finQueued && seqAdd(seq, length) === c.sndEnd;
  const count = isLast ? length + 1 : length;
  const isNew = !c.hasProbed || !seqBefore(seq, c.probedUntil);
  const field = c.ecnOk && length > 0 && isNew ? ecn.Ecn.ECT_0 : ecn.Ecn.NOT_ECT;
  // FIN is part of the segment because sndNxt will be behind it: see emit.
  if (!emit(c, sink, seq, count, field)) return FULL;
  if (field !== ecn.Ecn.NOT_ECT) ecn.cwrSent(c);
  if (c.flight === 0 || c.isProbing) c.rtoBase = c.context.timers.now();
  c.sndNxt = seqAdd(seq, count);
  if (c.hasProbed && !seqBefore(c.sndNxt, c.probedUntil)) c.hasProbed = false;
  flight.sent(c, seq, c.sndNxt);
  c.prrOut += count;
  if (c.flight > c.roundFlight) c.roundFlight = c.flight;
  if (isLast) c.enter(Event.CLOSE);
  c.isProbing = false;
  rearmRetransmission(c);
  return SENT;
}

/** The window does not allow what waits: unless an ACK is on its way, the timer has to ask. */
function stalled(c: Connection): number {
  if (c.flight === 0 && !c.isProbing) {
    c.isProbing = true;
    armRetransmission(c);
  }
  return NOTHING;
}

/** RFC 9293 §3.8.6.1: at least one octet, whatever the window says; what it allows, if it allows something. */
function probe(c: Connection, sink: PacketSink, unsent: number, mss: number): number {
  c.probeDue = false;
  if (unsent === 0 && c.flight === 0) return NOTHING;
  const usable = (c.sndUna + c.sndWnd - c.sndNxt) | 0;
  const length = c.flight > 0 ? c.flight : Math.max(1, Math.min(usable, unsent, mss));
  if (!emit(c, sink, c.sndUna, length)) {
    c.probeDue = true;
    return FULL;
  }
  if (c.flight === 0 && flight.canSend(c)) flight.sent(c, c.sndUna, seqAdd(c.sndUna, length));
  c.sndNxt = seqAdd(c.sndUna, length);
  if (c.runTail !== NONE) flight.resent(c, c.runTail);
  c.context.stats.tcpProbes++;
  // The one octet is all that leaves while the window is closed.
  return NOTHING;
}

/** RFC 5681 §4.1. */
function restartIfIdle(c: Connection): void {
  const idle = ((c.context.timers.now() | 0) - c.lastSentAt) | 0;
  if (idle > c.rtt.rto) c.congestion?.restarted(c.sndMss);
}

/**
 * Emits [seq, seq + count) of the send sequence space, in which FIN comes behind the last octet. `field`: the ECN field
 * of the IP header; new octets of a flow that speaks ECN have one.
 */
function emit(c: Connection, sink: PacketSink, seq: number, count: number, field = 0): boolean {
  const waiting = (c.sndEnd - seq) | 0;
  const isLast = count > waiting;
  const length = isLast ? waiting : count;
  let flags = isLast ? FIN : 0;
  if (length > 0 && length === waiting) flags |= PSH;
  if (field !== ecn.Ecn.NOT_ECT && ecn.owesCwr(c)) flags |= CWR;
  if (!segment(c, sink, seq, length, flags, field)) return false;
  c.lastSentAt = c.context.timers.now() | 0;
  return true;
}

/** The SYN-ACK, the first or another. */
function synAck(c: Connection, sink: PacketSink): Output {
  if (!c.synAckDue) return Output.DONE;
  if (!synAckSegment(c, sink)) return Output.FULL;
  c.synAckDue = false;
  c.isTiming = c.sndNxt === c.iss;
  c.timedAt = c.context.timers.now() | 0;
  c.sndNxt = seqAdd(c.iss, 1);
  if (c.retransmitTimer.deadline < 0) armRetransmission(c);
  return Output.DONE;
}

/** The RST of abort and refuse, behind which the connection is gone. */
function reset(c: Connection, sink: PacketSink): Output {
  const { context } = c;
  const seq = c.state === State.PENDING ? 0 : c.sndNxt;
  if (!emitReset(context.bytes, c.target, c.client, seq, c.rcvNxt, RST | ACK, sink)) {
    return Output.FULL;
  }
  context.stats.tcpSegmentsOut++;
  context.stats.tcpResetsOut++;
  context.remove(c);
  return Output.DONE;
}

/** Packets of one connection before the next has its turn: a megabyte of super-segments. */
const QUANTUM = 16;
