/**
 * RACK-TLP (RFC 8985): what is lost, judged by time, and the probe of a tail that nothing follows.
 *
 * What was sent before something that has arrived, and longer ago than that took plus a window for reordering, is
 * lost: first transmissions and retransmissions alike.
 */

import type { Connection } from "./connection.ts";
import * as flight from "./flight.ts";
import { Recovery } from "./flight.ts";
import { NONE } from "./ranges.ts";
import { seqAfter, seqBefore, seqMax } from "./seq.ts";

/** The variables of RFC 8985 §5.2. */
export class Rack {
  /** Of what arrived and was sent last: when (as flight.ts counts), its end, how long it took in ms. */
  xmitTs = 0;
  endSeq = 0;
  rtt = 0;
  /** The highest sequence number that arrived. */
  fack = 0;
  reorderingSeen = false;
  reoWndMult = 1;
  reoWndPersist: number = PERSIST;
  /** While SND.UNA is before it the window was widened already. */
  dsackRound = 0;
  isDsackRound = false;
  /** ms: what was sent before the last arrival is lost by then; -1: nothing is waited for. */
  reorderingAt = -1;
  /** A loss probe is out (RFC 8985 §7.1); whether it repeats octets, SND.NXT behind it, what is in flight with it. */
  isProbing = false;
  isProbeRepeat = false;
  probeEnd = 0;
  probeFlight = 0;

  /** The time of what was sent last, and whether that was a retransmission: flight.ts. */
  clock = 0;
  isClockOfRepeat = false;

  /** Nothing is in flight: all before `una` left before `time`, as flight.ts counts it. */
  start(una: number, time: number): void {
    this.fack = una;
    this.endSeq = una;
    this.xmitTs = time;
    this.clock = time;
  }
}

/** What the ACK says that is being worked on: one of a stack, since it is nothing that a connection keeps. */
export class RunningAck {
  /** Octets that were acknowledged or SACKed for the first time, and that were found lost. */
  delivered = 0;
  lost = 0;
  /** When the segment left that the ACK answers, by the timestamp it echoes. */
  hasEcho = false;
  echo = 0;
  /** ms, of what was SACKed, and of what was acknowledged; -1: no measurement. */
  sackRtt = -1;
  ackRtt = -1;
  hasDsack = false;
  dsackRight = 0;
  #fackBefore = 0;

  /** Before everything else. Where nothing is in flight nothing can arrive, and the flow's Rack is left alone. */
  begin(c: Connection, hasEcho: boolean, echo: number): void {
    this.delivered = 0;
    this.lost = 0;
    this.hasEcho = hasEcho;
    this.echo = echo;
    this.sackRtt = -1;
    this.ackRtt = -1;
    this.hasDsack = false;
    if (c.runHead !== NONE) this.#fackBefore = c.rack.fack;
  }

  takeDuplicate(right: number): void {
    this.hasDsack = true;
    this.dsackRight = right;
  }

  /** What ends at `end` is below what arrived with ACKs before this one (RFC 8985 §6.2 step 3). */
  isBelow(end: number): boolean {
    return seqBefore(end, this.#fackBefore);
  }
}

/** Takes what SND.UNA has passed out of the flight (RFC 8985 §6.2 steps 1 to 3). */
export function acknowledge(c: Connection): void {
  const { ranges } = c.context;
  let isAmbiguous = false;
  while (c.runHead !== NONE && seqBefore(ranges.seq[c.runHead], c.sndUna)) {
    const run = c.runHead;
    const end = seqBefore(c.sndUna, ranges.end[run]) ? c.sndUna : ranges.end[run];
    const flags = ranges.page[run];
    if (!(flags & flight.Run.SACKED)) {
      delivered(c, run, end, false);
      if (flags & flight.Run.RETRANSMITTED) isAmbiguous = true;
    }
    flight.shift(c, end);
  }
  // Karn: what came behind a retransmission may have arrived long before (RFC 6298 §3).
  if (isAmbiguous) c.context.ack.ackRtt = -1;
}

/** `run` up to `end` has arrived, as it was not known before. */
export function delivered(c: Connection, run: number, end: number, isSack: boolean): void {
  const { rack, rtt } = c;
  const { ack, ranges, timers } = c.context;
  const time = ranges.start[run];
  const took = flight.age(c, run);
  const isRetransmission = (ranges.page[run] & flight.Run.RETRANSMITTED) !== 0;
  ack.delivered += (end - ranges.seq[run]) | 0;
  rack.fack = seqMax(rack.fack, end);
  if (isRetransmission) {
    // The first transmission has arrived, not the last.
    if (ack.hasEcho && seqBefore(ack.echo, (timers.now() - took) | 0)) return;
    if (took < rtt.min) return;
  } else {
    if (ack.isBelow(end)) rack.reorderingSeen = true;
    if (isSack) ack.sackRtt = took;
    else if (ack.ackRtt < 0) ack.ackRtt = took;
    rtt.observe(took, timers.now());
  }
  rack.rtt = took;
  const later = (time - rack.xmitTs) | 0;
  if (later < 0 || (later === 0 && !seqAfter(end, rack.endSeq))) return;
  rack.xmitTs = time;
  rack.endSeq = end;
}

/** Adapts the reordering window to duplicates (RFC 8985 §6.2 step 4). `hasEnded`: a recovery has with this ACK. */
export function adaptWindow(c: Connection, hasEnded: boolean): void {
  const { rack } = c;
  if (rack.isDsackRound && !seqBefore(c.sndUna, rack.dsackRound)) rack.isDsackRound = false;
  if (c.context.ack.hasDsack && !rack.isDsackRound) {
    rack.isDsackRound = true;
    rack.dsackRound = c.sndNxt;
    rack.reoWndMult = Math.min(rack.reoWndMult + 1, MAX_MULTIPLE);
    rack.reoWndPersist = PERSIST;
  } else if (hasEnded && --rack.reoWndPersist <= 0) {
    rack.reoWndMult = 1;
    rack.reoWndPersist = PERSIST;
  }
}

/** Marks what is lost and notes until when to wait for the rest (RFC 8985 §6.2 step 5). */
export function detectLoss(c: Connection): void {
  const { rack } = c;
  rack.reorderingAt = -1;
  if (c.sackedOctets === 0 && c.recovery === Recovery.NONE) return;
  const { ranges, timers } = c.context;
  const allowed = rack.rtt + reorderingWindow(c);
  let wait = 0;
  let lost = 0;
  for (let run = c.runHead; run !== NONE; run = ranges.next[run]) {
    if (ranges.page[run] & (flight.Run.SACKED | flight.Run.LOST) || !isSentBefore(c, run)) continue;
    const remaining = allowed - flight.age(c, run);
    if (remaining > 0) {
      if (remaining > wait) wait = remaining;
      continue;
    }
    lost += (ranges.end[run] - ranges.seq[run]) | 0;
    flight.mark(c, run, ranges.page[run] | flight.Run.LOST);
  }
  if (wait > 0) rack.reorderingAt = timers.now() + wait;
  if (lost > 0) flight.join(c);
  c.context.ack.lost += lost;
}

/** The retransmission timer expired (RFC 8985 §6.3): the first is lost, and what had time to arrive. */
export function detectLossOnTimeout(c: Connection): void {
  const { ranges } = c.context;
  const allowed = c.rack.rtt + reorderingWindow(c);
  for (let run = c.runHead; run !== NONE; run = ranges.next[run]) {
    const flags = ranges.page[run];
    if (flags & (flight.Run.SACKED | flight.Run.LOST)) continue;
    if (flight.age(c, run) >= allowed || run === c.runHead)
      flight.mark(c, run, flags | flight.Run.LOST);
  }
  flight.join(c);
}

/** When to probe the tail, ms from now (RFC 8985 §7.2); -1: a probe would not help. */
export function probeTimeout(c: Connection): number {
  const { rack } = c;
  if (!c.sackOk || c.congestion === null || c.flight === 0 || c.sndWnd === 0) return -1;
  if (c.recovery !== Recovery.NONE || c.sackedOctets > 0) return -1;
  // §7.3: one probe at a time; a tail that has timed out has had its own.
  if (rack.isProbing || c.timeouts > 0 || c.isProbing) return -1;
  if (!c.rtt.isMeasured) return UNMEASURED_TIMEOUT;
  const wait = Math.max(2 * c.rtt.srtt, MIN_TIMEOUT);
  return c.flight <= c.sndMss ? wait + MAX_ACK_DELAY : wait;
}

/** A loss probe has left (RFC 8985 §7.3). */
export function probed(c: Connection, isRepeat: boolean): void {
  const { rack } = c;
  rack.isProbing = true;
  rack.isProbeRepeat = isRepeat;
  rack.probeEnd = c.sndNxt;
  rack.probeFlight = c.flight;
  c.context.stats.tcpLossProbes++;
}

/**
 * What an ACK says of the probe (RFC 8985 §7.4.2). `isPlainDuplicate`: it says nothing else. True: the probe
 * repaired a loss, which is one of congestion.
 */
export function probeAnswered(c: Connection, isPlainDuplicate: boolean): boolean {
  const { rack } = c;
  if (!rack.isProbing || seqBefore(c.sndUna, rack.probeEnd)) return false;
  if (rack.isProbeRepeat) {
    const { ack } = c.context;
    const isInVain = ack.hasDsack && ack.dsackRight === rack.probeEnd;
    const isPassed = seqAfter(c.sndUna, rack.probeEnd);
    if (!isInVain && !isPassed && !isPlainDuplicate) return false;
    rack.isProbing = false;
    return isPassed && !isInVain;
  }
  rack.isProbing = false;
  return false;
}

/** RFC 8985 §6.2 step 4, in ms: at least the granularity of our clock. */
function reorderingWindow(c: Connection): number {
  const { rack } = c;
  if (!rack.reorderingSeen) {
    if (c.recovery !== Recovery.NONE) return 0;
    // DupThresh of them, by octets as RFC 6675 §4 counts, or by the ACKs that told.
    if (c.sackedOctets > (DUPLICATES - 1) * c.sndMss || c.dupAcks >= DUPLICATES) return 0;
  }
  const quarter = Math.ceil((rack.reoWndMult * c.rtt.min) / 4);
  return Math.max(1, Math.min(quarter, c.rtt.srtt));
}

/** RACK_sent_after: what arrived last was sent after `run`. */
function isSentBefore(c: Connection, run: number): boolean {
  const { rack } = c;
  const { ranges } = c.context;
  const later = (rack.xmitTs - ranges.start[run]) | 0;
  return later > 0 || (later === 0 && seqAfter(rack.endSeq, ranges.end[run]));
}

/** DupThresh (RFC 6675 §2). */
export const DUPLICATES = 3;
/** RFC 8985 §6.2: recoveries without a duplicate after which the window is narrow again. */
const PERSIST = 16;
const MAX_MULTIPLE = 255;
/** RFC 8985 §7.2: before a measurement. */
const UNMEASURED_TIMEOUT = 1000;
/** Clients run on this machine and delay ACKs by 40 ms: a shorter silence tells of its scheduler, not of loss. */
const MIN_TIMEOUT = 120;
/** TLP.max_ack_delay (RFC 8985 §7.2): as long as Linux delays the ACK of a single segment. */
const MAX_ACK_DELAY = 200;
