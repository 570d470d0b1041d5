/**
 * SEGMENT ARRIVES (RFC 9293 §3.10.7), one function per step, in the RFC's order.
 *
 * Octets in order join the receive buffer and move RCV.NXT at once; FIN counts at the end of the batch, when what
 * precedes it is safe in pages. Nothing is sent and, but for a reset, no handler is called here: fields are set, and
 * the connection is touched (endBatch tells) and marked dirty (flush sends).
 */

import type { TcpSegment } from "../wire/tcp.ts";
import { ACK, FIN, RST, SYN } from "../wire/tcp.ts";
import { answer, challenge } from "./challenge.ts";
import { beginTimeWait, conclude, reset, restartTimeWait } from "./closing.ts";
import { createCongestionControl } from "./congestion.ts";
import type { Connection } from "./connection.ts";
import * as ecn from "./ecn.ts";
import * as flight from "./flight.ts";
import * as rack from "./rack.ts";
import * as reassembly from "./reassembly.ts";
import * as receiveBuffer from "./receive-buffer.ts";
import * as recovery from "./recovery.ts";
import * as sack from "./sack.ts";
import * as sendBuffer from "./send-buffer.ts";
import { seqAdd, seqAfter, seqBefore, seqMax, seqMin } from "./seq.ts";
import { Event, hasReceivedFin, hasSentFin, State, transition } from "./state.ts";
import { armRetransmission, rearmRetransmission } from "./timers.ts";

/** A segment of an accepted connection. SYNs that begin a new one are not for here: see flows.ts. */
export function segmentArrives(c: Connection, s: TcpSegment): void {
  const { context } = c;
  if (c.rstDue) return;
  c.heardAt = context.timers.now() | 0;
  context.touch(c);
  const length = s.payloadEnd - s.payloadStart;
  if (!checkTimestamps(c, s) || !checkSequence(c, s, length)) return;
  takeTimestamp(c, s);
  if (s.flags & RST) {
    checkReset(c, s);
    return;
  }
  if (s.flags & SYN) {
    // RFC 5961 §4: whatever its number. The SYN of our own handshake wants its answer again.
    if (c.state === State.SYN_RECEIVED && s.seq === c.irs) repeatSynAck(c);
    else challenge(c);
    return;
  }
  if (!(s.flags & ACK)) {
    context.stats.tcpWithoutAck++;
    return;
  }
  if (c.state === State.SYN_RECEIVED && !establish(c, s)) return;
  if (!checkAck(c, s, length)) return;
  if (length > 0) {
    if (c.ecnOk) ecn.dataArrived(c, s);
    takeOctets(c, s, length);
  }
  if (s.flags & FIN) noteFin(c, seqAdd(s.seq, length));
}

/** RFC 7323 §3.2, §5.3 (R1). False: the segment is dropped. */
function checkTimestamps(c: Connection, s: TcpSegment): boolean {
  if (!c.timestamps || s.flags & RST) return true;
  const { stats, timers } = c.context;
  if (!s.hasTimestamps) {
    stats.tcpWithoutTimestamps++;
    return false;
  }
  const now = timers.now() | 0;
  if (((s.tsVal - c.tsRecent) | 0) < 0 && (now - c.tsRecentAge) >>> 0 < PAWS_IDLE) {
    stats.tcpPaws++;
    refuseOld(c, s);
    return false;
  }
  return true;
}

/** Octets from the past are answered, and told where they came twice (RFC 7323 §5.3 (R1), RFC 2883 §4). */
function refuseOld(c: Connection, s: TcpSegment): void {
  const length = s.payloadEnd - s.payloadStart;
  if (length === 0) {
    challenge(c);
    return;
  }
  if (seqBefore(s.seq, c.rcvNxt)) {
    reassembly.noteDuplicate(c, s.seq, seqMin(seqAdd(s.seq, length), c.rcvNxt));
  }
  c.ackDue = true;
  c.markDirty();
}

/** TS.Recent (RFC 7323 §5.3 (R3)), once the sequence number is acceptable: nothing else may move it. */
function takeTimestamp(c: Connection, s: TcpSegment): void {
  // The SYN-ACK echoes the first SYN, however often it came: Linux takes another echo for a loss.
  if (!c.timestamps || !s.hasTimestamps || s.flags & (SYN | RST)) return;
  // An older one passes PAWS only where TS.Recent has lost its meaning (RFC 7323 §5.5).
  if (seqAfter(s.seq, c.rcvAcked)) return;
  c.tsRecent = s.tsVal;
  c.tsRecentAge = c.context.timers.now() | 0;
}

/** First: the sequence number (RFC 9293 §3.10.7.4). False: the segment is dropped. */
function checkSequence(c: Connection, s: TcpSegment, length: number): boolean {
  const window = Math.max(0, (c.rcvAdv - c.rcvNxt) | 0);
  const offset = (s.seq - c.rcvNxt) | 0;
  const octets = length + (s.flags & (SYN | FIN) ? 1 : 0);
  // A client that used up its window acknowledges from the very edge, while what precedes is on its way.
  if (octets === 0 && offset >= 0 && offset <= window) return true;
  if (octets > 0 && offset + octets > 0 && offset < window) return true;
  // With a closed window nothing is acceptable, but the ACK of what comes at RCV.NXT counts.
  if (offset === 0) return true;
  if (s.flags & RST) {
    // The client's FIN may be noted and not counted yet.
    if (c.finSeen && s.seq === seqAdd(c.finSeq, 1)) return true;
    c.context.stats.tcpOutOfWindow++;
    return false;
  }
  c.context.stats.tcpOutOfWindow++;
  if (s.flags & SYN) return true;
  if (octets > 0) {
    // A retransmission: its ACK was lost, and with it that of a FIN behind it.
    if (c.state === State.TIME_WAIT) restartTimeWait(c);
    if (length > 0 && offset + length <= 0) {
      reassembly.noteDuplicate(c, s.seq, seqAdd(s.seq, length));
    }
    c.ackDue = true;
    c.markDirty();
  } else {
    answer(c);
  }
  return false;
}

/** Second: RST (RFC 5961 §3): exactly at RCV.NXT it counts, in the window it is challenged. */
function checkReset(c: Connection, s: TcpSegment): void {
  const isExact = s.seq === c.rcvNxt || (c.finSeen && s.seq === seqAdd(c.finSeq, 1));
  if (!isExact) {
    challenge(c);
    return;
  }
  c.context.stats.tcpResetsIn++;
  // Deviation from RFC 1337: on a TUN no old duplicate wanders, and a client that resets will use the port again.
  if (c.state === State.TIME_WAIT && c.handler !== null) c.context.detach(c);
  else reset(c);
}

function repeatSynAck(c: Connection): void {
  c.synAckDue = true;
  c.markDirty();
}

/** SYN-RECEIVED: the ACK of our SYN (RFC 9293 §3.10.7.4, fifth). False: the segment is dropped. */
function establish(c: Connection, s: TcpSegment): boolean {
  const { context } = c;
  if (s.ack !== seqAdd(c.iss, 1) || c.sndNxt === c.iss) {
    context.resetStray(c.target, c.client, s);
    return false;
  }
  c.enter(Event.ACK_OF_SYN);
  c.list?.remove(c);
  c.congestion = createCongestionControl(context.congestion, c.sndMss);
  c.sndUna = s.ack;
  c.roundEnd = s.ack;
  c.rack.start(s.ack, context.timers.now() << 4);
  measureHandshake(c, s);
  // With these the window of this segment is news.
  c.sndWl1 = s.seq;
  c.sndWl2 = s.ack;
  c.timeouts = 0;
  c.backoff = 0;
  context.timers.clear(c.retransmitTimer);
  context.stats.tcpEstablished++;
  c.markDirty();
  return true;
}

/** Fifth: the acknowledgement (RFC 9293 §3.10.7.4, RFC 5961 §5.2). False: the segment is dropped. */
function checkAck(c: Connection, s: TcpSegment, length: number): boolean {
  const acked = (s.ack - c.sndUna) | 0;
  if (acked > c.flight || acked < -c.maxSndWnd) {
    c.context.stats.tcpBadAck++;
    challenge(c);
    return false;
  }
  if (c.state === State.TIME_WAIT) return true;
  const { ack } = c.context;
  ack.begin(c, c.timestamps && s.hasTimestamps, (s.tsEcr - c.tsOffset) | 0);
  const news = c.sackOk && s.sackCount > 0 ? sack.take(c, s) : 0;
  if (c.ecnOk && acked >= 0) ecn.acknowledged(c, s);
  const wasClosed = c.sndWnd === 0;
  const wasFast = c.recovery === flight.Recovery.FAST;
  const opened = acked >= 0 && updateWindow(c, s, acked);
  // RFC 5681 §2: what a duplicate is. With SACK it has to tell something (RFC 6675 §2).
  const isPlain = acked === 0 && length === 0 && !opened && !(s.flags & FIN) && s.sackCount === 0;
  const canBe = acked === 0 && c.flight > 0 && !c.isProbing;
  const isDuplicate = canBe && (c.sackOk ? news > 0 : isPlain);
  if (acked > 0) progress(c, s);
  if (acked > 0 || news > 0 || isPlain || ack.hasDsack) {
    recovery.onAck(c, acked, isDuplicate, isPlain);
    if (ack.delivered > 0) rearmRetransmission(c);
    c.markDirty();
  }
  if (acked > 0) {
    grow(c, acked, wasFast);
    if (hasSentFin(c.state) && c.sndUna === c.sndNxt) takeAckOfFin(c);
  } else if (acked === 0 && c.flight > 0) {
    if (wasClosed && opened) repeatDropped(c);
    answerProbe(c);
    c.markDirty();
  } else if (opened) {
    answerProbe(c);
    c.markDirty();
  }
  return true;
}

/**
 * SND.WND (RFC 9293 §3.10.7.4). An ACK of new octets is newer than what was heard before it even on a retransmission,
 * and its window counts from there: an old one would reach too far. True: it changed.
 */
function updateWindow(c: Connection, s: TcpSegment, acked: number): boolean {
  const isNewer = seqBefore(c.sndWl1, s.seq) || (c.sndWl1 === s.seq && !seqAfter(c.sndWl2, s.ack));
  if (!isNewer && acked <= 0) return false;
  const window = s.window << c.sndScale;
  const changed = window !== c.sndWnd;
  c.sndWnd = window;
  if (isNewer) c.sndWl1 = s.seq;
  c.sndWl2 = s.ack;
  if (window > c.maxSndWnd) c.maxSndWnd = window;
  return changed;
}

/**
 * The client answers while its window is closed: it lives, and is not given up (RFC 1122 §4.2.2.17). When the
 * window has opened probing ends.
 */
function answerProbe(c: Connection): void {
  if (c.sndWnd === 0) {
    c.firstTimeoutAt = c.context.timers.now() | 0;
    if (c.timeouts > MAX_PROBE_BACKOFF) c.timeouts = MAX_PROBE_BACKOFF;
    if (c.backoff > MAX_PROBE_BACKOFF) c.backoff = MAX_PROBE_BACKOFF;
    return;
  }
  if (!c.isProbing) return;
  c.isProbing = false;
  c.probeDue = false;
  c.timeouts = 0;
  c.backoff = 0;
  // The octet of the probe was not taken: it goes out again as the first of what may be sent now.
  if (!hasSentFin(c.state)) {
    if (c.flight > 0) {
      // A longer probe may have come before.
      c.probedUntil = c.hasProbed ? seqMax(c.probedUntil, c.sndNxt) : c.sndNxt;
      c.hasProbed = true;
    }
    c.sndNxt = c.sndUna;
    flight.clear(c);
  }
  if (c.flight === 0) c.context.timers.clear(c.retransmitTimer);
}

/**
 * The window has opened, and what was in flight while it was closed has timed out: the client dropped it, and wants
 * it now rather than when a timer that has backed off comes round.
 */
function repeatDropped(c: Connection): void {
  if (c.recovery !== flight.Recovery.LOSS) return;
  c.timeouts = 0;
  c.backoff = 0;
  recovery.loseAll(c);
  armRetransmission(c);
}

/** SND.UNA moves. */
function progress(c: Connection, s: TcpSegment): void {
  c.sndUna = s.ack;
  recovery.countRound(c);
  rack.acknowledge(c);
  sendBuffer.acknowledge(c, s.ack);
  measure(c);
  c.timeouts = 0;
  c.isProbing = false;
  c.probeDue = false;
  c.rtoBase = c.context.timers.now();
}

/** The congestion window: what was acknowledged while nothing was, or is now, being repaired by fast recovery. */
function grow(c: Connection, acked: number, wasFast: boolean): void {
  if (wasFast || c.recovery === flight.Recovery.FAST) return;
  if (!c.cwndLimited && c.recovery !== flight.Recovery.LOSS) return;
  c.congestion?.acked(acked, c.sndMss, c.rtt.srtt, c.context.timers.now());
}

function takeAckOfFin(c: Connection): void {
  // FIN-WAIT-2 has had it.
  if (transition(c.state, Event.ACK_OF_FIN) < 0) return;
  c.enter(Event.ACK_OF_FIN);
  if (c.state === State.TIME_WAIT) beginTimeWait(c);
  else if (c.state === State.CLOSED) conclude(c);
}

/**
 * The round trip of what was sent once and acknowledged or SACKed now; where all of it was sent again only a
 * timestamp can tell (RFC 6298 §3, RFC 7323 §4). A measurement ends the back-off (RFC 6298 §5.7).
 */
function measure(c: Connection): void {
  const { ack, timers } = c.context;
  let rtt = ack.ackRtt >= 0 ? ack.ackRtt : ack.sackRtt;
  if (rtt < 0 && ack.hasEcho) rtt = ((timers.now() | 0) - ack.echo) | 0;
  if (rtt < 0 || rtt >= MAX_RTT) return;
  c.rtt.sample(rtt);
  c.backoff = 0;
}

/** The SYN-ACK's round trip: by its timestamp, or if it was sent once. */
function measureHandshake(c: Connection, s: TcpSegment): void {
  const now = c.context.timers.now();
  const sentAt = c.timestamps ? (s.tsEcr - c.tsOffset) | 0 : c.timedAt;
  const rtt = ((now | 0) - sentAt) | 0;
  if ((!c.timestamps && !c.isTiming) || rtt < 0 || rtt >= MAX_RTT) return;
  c.rtt.sample(rtt);
  c.rtt.observe(rtt, now);
}

/** Seventh: the octets (RFC 9293 §3.10.7.4), cut to what is new and inside the window. */
function takeOctets(c: Connection, s: TcpSegment, length: number): void {
  const { stats } = c.context;
  if (hasReceivedFin(c.state) || c.isDraining || c.handler === null) {
    stats.tcpUnwanted++;
    return;
  }
  const size = s.gsoSize > 0 && s.gsoSize < length ? s.gsoSize : length;
  if (size > c.rcvMss) c.rcvMss = Math.min(size, MAX_RCV_MSS);
  if (c.quickAcks > 0) {
    c.quickAcks = Math.max(0, c.quickAcks - Math.ceil(length / size));
    c.ackNow = true;
  }
  let offset = (s.seq - c.rcvNxt) | 0;
  let start = s.payloadStart;
  let end = s.payloadEnd;
  if (offset < 0) {
    reassembly.noteDuplicate(c, s.seq, c.rcvNxt);
    start -= offset;
    offset = 0;
    c.ackNow = true;
  }
  const edge = c.finSeen && seqBefore(c.finSeq, c.rcvAdv) ? c.finSeq : c.rcvAdv;
  const excess = (offset + end - start - ((edge - c.rcvNxt) | 0)) | 0;
  if (excess > 0) {
    end -= excess;
    c.ackNow = true;
    stats.tcpBeyondWindow++;
  }
  if (start >= end) return;
  if (offset === 0) {
    if (!receiveBuffer.append(c, start, end)) return;
    if (c.oooCount > 0) {
      // RFC 5681 §4.2: the sender waits for news of the hole.
      reassembly.advance(c);
      c.ackNow = true;
    }
    return;
  }
  stats.tcpOutOfOrder++;
  reassembly.insert(c, seqAdd(c.rcvNxt, offset), start, end - start);
  // Without SACK the client counts duplicates: one per segment, as far as they are worth something.
  if (!c.sackOk && c.duplicatesDue < MAX_DUPLICATES) c.duplicatesDue++;
  c.ackNow = true;
}

/** Eighth: FIN, at `seq`. It counts in endBatch, once RCV.NXT is there. */
function noteFin(c: Connection, seq: number): void {
  if (c.finSeen || hasReceivedFin(c.state)) return;
  // Part of a segment that does not fit the window is not here yet; one before RCV.NXT makes no sense.
  if (seqAfter(seq, c.rcvAdv) || seqBefore(seq, c.rcvNxt)) return;
  c.finSeen = true;
  c.finSeq = seq;
  c.ackNow = true;
}

/** RFC 7323 §5.5: after 24 days the clock may have wrapped. */
const PAWS_IDLE = 24 * 86_400_000;
/** An echo older than this was never ours. */
const MAX_RTT = 600_000;
/** Per batch: three start fast retransmit, one more is an ACK that precedes them. */
const MAX_DUPLICATES = 4;
/** An answered probe waits no longer than 2⁸ RTOs for the next, at most a minute. */
const MAX_PROBE_BACKOFF = 8;
/** What a device can carry. */
const MAX_RCV_MSS = 65_535 - 40;
