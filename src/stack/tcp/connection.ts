/**
 * One connection: the transmission control block (RFC 9293 §3.3.1) and the relay's mutators.
 *
 * No protocol decision is taken here. Fields have the RFC's names; sequence numbers are int32. Mutators change
 * fields and mark the flow dirty: packets leave in flush, events in endBatch.
 */

import type {
  CloseReason,
  RefuseReason,
  SynAckProfile,
  TcpConnection,
  TcpHandler,
} from "../ports.ts";
import { Timer, type TimerHandler } from "../timer-wheel.ts";
import type { Endpoint } from "../wire/address.ts";
import { pseudoHeaderSum } from "../wire/checksum.ts";
import { Protocol } from "../wire/ip.ts";
import { TIMESTAMPS_LENGTH } from "../wire/tcp.ts";
import { firstWindow } from "./budget.ts";
import type { CongestionControl } from "./congestion.ts";
import type { ConnectionList } from "./connection-list.ts";
import type { TcpContext } from "./context.ts";
import { Recovery } from "./flight.ts";
import { DRAIN, watch } from "./lifetimes.ts";
import { Rack } from "./rack.ts";
import { NONE } from "./ranges.ts";
import * as receiveBuffer from "./receive-buffer.ts";
import { RttEstimator } from "./rtt.ts";
import type { SackReports } from "./sack-reports.ts";
import * as sendBuffer from "./send-buffer.ts";
import { seqAdd } from "./seq.ts";
import { Event, State, transition } from "./state.ts";
import { expire, TimerKind, Wait } from "./timers.ts";

export class Connection implements TcpConnection, TimerHandler {
  // What a segment in order and its acknowledgement need comes first: V8 lays fields out in this order, and with many
  // flows a packet waits for every cache line that it touches. Nine lines in a row; what is rarer follows below.
  readonly context: TcpContext;
  handler: TcpHandler | null = null;
  state: State = State.PENDING;
  /** In the flow table; -1: taken out. */
  index = -1;
  /** The pseudo-header's sum without a length. */
  readonly pseudoSum: number = 0;
  readonly isV4: boolean = true;
  /** When a segment came last, ms as int32. */
  heardAt = 0;

  /** It is in the lists of context.ts. */
  isTouched = false;
  isDirty = false;

  // Receive sequence space (RFC 9293 §3.3.1)
  rcvNxt = 0;
  /** The furthest right edge ever offered; never moves left. */
  rcvAdv = 0;
  /** The last acknowledgement number sent (RFC 7323 §4.3 Last.ACK.sent). */
  rcvAcked = 0;
  /** Shift of the windows we send. */
  rcvScale = 0;
  /** Octets that may wait for the relay: what windows are made of. Chosen by `accept`, grows with the flow. */
  rcvLimit = 0;
  /** The largest segment seen: what "full-sized" means for the ACK policy (RFC 5681 §4.2). */
  rcvMss = 536;

  // Receive buffer: octets in order the relay has not consumed
  rcvHead: number = NONE;
  rcvTail: number = NONE;
  readableOctets = 0;
  /** Some of them lie in packets of the running batch. */
  hasBatchOctets = false;
  /** New octets in order since the last onReadable. */
  hasNews = false;
  /** Consumed since the window grew last. */
  consumedSinceGrowth = 0;
  /** The page that copies are put into. */
  fillPage: number = NONE;

  // Reassembly: octets out of order
  oooHead: number = NONE;
  oooCount = 0;
  /** How many ACKs owe the client some of it. */
  sackReportsDue = 0;
  /** The client's FIN was seen; it counts once RCV.NXT gets there. */
  finSeen = false;

  // ACK policy
  /** An ACK has to leave at the next flush. */
  ackDue = false;
  /** Decide at the end of the batch that it does. */
  ackNow = false;
  /** The delayed ACK timer runs: the timer itself is memory of its own. */
  isAckDelayed = false;
  /** Duplicate ACKs owed beyond the first, for a client without SACK. */
  duplicatesDue = 0;
  /** Segments that are still acknowledged at once. */
  quickAcks: number = QUICK_ACKS;

  // Send sequence space (RFC 9293 §3.3.1)
  sndUna = 0;
  /** Behind everything sent, FIN included. Retransmissions do not move it. */
  sndNxt = 0;
  /** Behind the last octet committed. */
  sndEnd = 0;
  /** Scaled. */
  sndWnd = 0;
  sndWl1 = 0;
  sndWl2 = 0;
  /** The largest window seen (RFC 9293 §3.8.6.2.1, RFC 5961 §5.2). */
  maxSndWnd = 0;
  /** Shift of the windows the client sends (RFC 7323 §2). */
  sndScale = 0;
  /** Payload of a full segment: its MSS less the options of every segment. */
  sndMss = 0;

  // Options that both ends have, and what they add to a segment
  sackOk = false;
  timestamps = false;
  /** TS.Recent (RFC 7323 §4.3) and when it was taken, ms as int32. */
  tsRecent = 0;
  tsRecentAge = 0;
  tsOffset = 0;
  /** ECN (RFC 3168). */
  ecnOk = false;
  /** A mark came: our segments say ECE until the client says CWR. */
  ecnEcho = false;

  // What a segment looks at, whether there is something to be done: loss recovery
  congestion: CongestionControl | null = null;
  recovery: Recovery = Recovery.NONE;
  /** The flight: runs in order, SND.UNA first. */
  runHead: number = NONE;
  /** Lost, and not sent again since. */
  lostOctets = 0;
  /** The congestion window, not the client's, ended the flight; SND.NXT when it did last. */
  cwndLimited = false;
  limitedUntil = 0;
  /** The timer of the loss probe has expired: output sends it (RFC 8985 §7.3). */
  tailProbeDue = false;
  /** The window is closed, or too small to be worth a segment: the timer probes (RFC 9293 §3.8.6.1). */
  isProbing = false;
  probeDue = false;

  // And the relay's wishes, and ends
  /** `space` or `write` had to be refused. */
  wantsWritable = false;
  /** `shutdown` was called: FIN behind sndEnd. */
  finQueued = false;
  /** RST is to leave, or a keep-alive. */
  rstDue = false;
  keepAliveDue = false;
  /** RST once everything is acknowledged: `resetWhenDrained`. */
  isDraining = false;
  /** Over as far as the wire goes: what onClosed will say, after FINs once everything is consumed. */
  ending: CloseReason | null = null;

  // From here on: what is rarer.

  /** Segments take addresses and ports from the flow table, whose row the look-up has just read: see segment.ts. */
  readonly client: Endpoint;
  readonly target: Endpoint;
  nagle = false;

  iss = 0;
  irs = 0;
  /** Where the client's FIN is. */
  finSeq = 0;

  // Options of the handshake
  /** The MSS the SYN-ACK offers, 0: none; -1: what the MTU has room for. */
  synAckMss = -1;
  /** Both ends offered window scaling. */
  scalesWindows = false;

  // ECN
  /** An echo shrank the window; another does not before something behind `reducedUntil` is acknowledged. */
  isReduced = false;
  reducedUntil = 0;
  /** The next new octets say CWR; they do as well when `recover` has moved from here. */
  cwrDue = false;
  cwrRecover = 0;

  // Send buffer: ranges in order, SND.UNA first
  sndHead: number = NONE;
  sndTail: number = NONE;
  /** The range found last. */
  sndCursor: number = NONE;
  /** Offers filled completely: two make a flow busy. */
  fullOffers = 0;

  // Receive buffer and reassembly
  /** The next free octet of `fillPage`. */
  fillNext = 0;
  oooTail: number = NONE;
  /** What ACKs tell of octets out of order, null: nothing yet. */
  sackReports: SackReports | null = null;

  /** When challenge ACKs began to count, ms as int32, and how many (RFC 5961 §7). */
  challengesAt = 0;
  challenges = 0;

  // Loss recovery
  readonly rtt: RttEstimator = new RttEstimator();
  dupAcks = 0;
  /** SND.NXT when recovery began (RFC 6675 RecoveryPoint, RFC 6582 recover). */
  recover = 0;
  readonly rack: Rack = new Rack();
  runTail: number = NONE;
  runCount = 0;
  sackedOctets = 0;
  // Proportional rate reduction (RFC 9937 §6): RecoverFS, prr_delivered, prr_out, and the window they make
  prrFlight = 0;
  prrDelivered = 0;
  prrOut = 0;
  prrWindow = 0;
  // What tells a reduction of the window that was not called for: SND.UNA when it began, when something was sent
  // again first, and the octets that were and did not arrive twice (RFC 3522, RFC 3708)
  isUndoable = false;
  undoFrom = 0;
  hasRepeated = false;
  repeatedAt = 0;
  repeatedOctets = 0;
  /** Time-outs in a row. */
  timeouts = 0;
  /** Doublings of the RTO, until something is measured (RFC 6298 §5.5). */
  backoff = 0;
  /** What the retransmission timer waits for, and what the RTO counts from, ms. */
  waitsFor: Wait = Wait.RTO;
  rtoBase = 0;
  /** When the first of them was, ms as int32. */
  firstTimeoutAt = 0;
  /** The SYN-ACK was sent once, and when (RFC 6298 §3). */
  isTiming = false;
  timedAt = 0;
  /** When data was sent last, ms as int32. */
  lastSentAt = 0;
  /** The largest flight since what `roundEnd` says was sent, and in the round trip before. */
  roundFlight = 0;
  lastRoundFlight = 0;
  /** SND.NXT when the running round trip began. */
  roundEnd = 0;
  /** Octets before `probedUntil` were in a probe and are new no more, though they leave from SND.NXT once again. */
  hasProbed = false;
  probedUntil = 0;

  // Opens and ends
  synAckDue = false;
  /** `forget` was called: a tombstone. */
  isForgotten = false;
  /** Of a pending open: its row in the quotes, its source, and when its first SYN came, ms as int32. */
  pendingSlot = -1;
  pendingSource = 0;
  openedAt = 0;
  /** Keep-alives that were not answered, when the last was sent, ms as int32. */
  keepAlives = 0;
  keepAliveAt = 0;
  list: ConnectionList | null = null;
  listNext: Connection | null = null;
  listPrevious: Connection | null = null;

  readonly retransmitTimer: Timer;
  readonly delayedAckTimer: Timer;
  /** Tombstone, silence, draining, 2 MSL. */
  readonly lifeTimer: Timer;

  constructor(context: TcpContext, client: Endpoint, target: Endpoint) {
    this.context = context;
    this.client = client.clone();
    this.target = target.clone();
    this.isV4 = target.isV4;
    this.pseudoSum = pseudoHeaderSum(client, target, Protocol.TCP, 0);
    this.retransmitTimer = new Timer(this, TimerKind.RETRANSMIT);
    this.delayedAckTimer = new Timer(this, TimerKind.DELAYED_ACK);
    this.lifeTimer = new Timer(this, TimerKind.LIFE);
  }

  /** Octets in flight by sequence number, FIN included. */
  get flight(): number {
    return (this.sndNxt - this.sndUna) | 0;
  }

  /** Follows an edge of the table in state.ts. @throws Error where there is none: a bug. */
  enter(event: Event): void {
    const next = transition(this.state, event);
    if (next < 0) throw new Error(`event ${event} in state ${this.state}`);
    this.state = next as State;
    watch(this);
  }

  onTimer(timer: Timer): void {
    expire(this, timer.kind);
  }

  markDirty(): void {
    this.context.markDirty(this);
  }

  accept(profile?: SynAckProfile): void {
    if (this.state !== State.PENDING || this.rstDue || this.isForgotten) return;
    if (profile !== undefined) this.#imitate(profile);
    this.context.pending.leave(this);
    this.enter(Event.ACCEPT);
    this.context.halfOpen.push(this);
    this.rcvLimit = firstWindow(this);
    this.synAckDue = true;
    this.markDirty();
  }

  refuse(reason: RefuseReason): void {
    if (this.state !== State.PENDING || this.rstDue) return;
    if (reason !== "reset") this.context.pending.sendRefusal(this, reason);
    this.#reset();
  }

  forget(): void {
    if (this.state !== State.PENDING || this.rstDue || this.isForgotten) return;
    this.handler = null;
    this.isForgotten = true;
    this.context.pending.bury(this);
  }

  readable(rows: Int32Array): number {
    return receiveBuffer.readable(this, rows);
  }

  consume(octets: number): void {
    receiveBuffer.consume(this, octets);
  }

  space(rows: Int32Array): number {
    return this.#takesOctets() ? sendBuffer.space(this, rows) : 0;
  }

  commit(octets: number): void {
    if (sendBuffer.commit(this, octets)) this.markDirty();
  }

  write(bytes: Uint8Array, start: number, end: number): number {
    if (!this.#takesOctets()) return 0;
    const taken = sendBuffer.write(this, bytes, start, end);
    if (taken > 0) this.markDirty();
    return taken;
  }

  shutdown(): void {
    if (this.finQueued || !this.#takesOctets()) return;
    this.finQueued = true;
    this.wantsWritable = false;
    this.markDirty();
  }

  abort(): void {
    if (this.rstDue) return;
    if (this.ending !== null || this.state === State.TIME_WAIT) this.#leave();
    else if (this.state !== State.CLOSED) this.#reset();
  }

  resetWhenDrained(): void {
    if (this.rstDue || this.isDraining) return;
    if (this.ending !== null || this.state === State.CLOSED || this.state === State.PENDING) {
      this.abort();
      return;
    }
    this.isDraining = true;
    this.wantsWritable = false;
    receiveBuffer.clear(this);
    this.context.timers.set(this.lifeTimer, this.context.timers.now() + DRAIN);
    // Nothing may be left to be acknowledged, and then no packet would come to notice it.
    this.context.touchSoon(this);
  }

  /** Both FINs have passed: an RST has nothing left to reset. The octets that wait are dropped. */
  #leave(): void {
    this.handler = null;
    this.ending = null;
    receiveBuffer.clear(this);
    if (this.index < 0) this.context.release(this);
  }

  /** RST at the next flush, no event. */
  #reset(): void {
    this.handler = null;
    this.rstDue = true;
    // No longer a candidate for eviction: its client would hear nothing.
    this.context.pending.leave(this);
    this.context.release(this);
    this.markDirty();
  }

  /** Offers what `profile` has, of what the SYN offered. */
  #imitate(profile: SynAckProfile): void {
    this.synAckMss = profile.mss;
    this.sackOk &&= profile.sackPermitted;
    if (this.timestamps && !profile.timestamps) {
      this.timestamps = false;
      this.sndMss += TIMESTAMPS_LENGTH;
    }
    this.scalesWindows &&= profile.windowScale >= 0;
    this.rcvScale = this.scalesWindows ? profile.windowScale : 0;
    if (!this.scalesWindows) this.sndScale = 0;
  }

  #takesOctets(): boolean {
    return (
      !this.finQueued &&
      !this.rstDue &&
      !this.isDraining &&
      (this.state === State.SYN_RECEIVED ||
        this.state === State.ESTABLISHED ||
        this.state === State.CLOSE_WAIT)
    );
  }

  /** Takes the parameters of the SYN (the caller has parsed it) and chooses ours. */
  open(irs: number, iss: number): void {
    this.irs = irs;
    this.rcvNxt = seqAdd(irs, 1);
    this.rcvAcked = this.rcvNxt;
    this.rcvAdv = this.rcvNxt;
    this.iss = iss;
    this.sndUna = iss;
    this.sndNxt = iss;
    this.sndEnd = seqAdd(iss, 1);
    this.recover = iss;
    this.cwrRecover = iss;
  }
}

/** The first segments of a flow are acknowledged at once: a sender in slow start waits for each ACK. */
const QUICK_ACKS = 16;
