/**
 * All connections of a stack: which one a segment belongs to, opens, the events of a batch, the flush.
 */

import { handOver } from "../hand-over.ts";
import type { Icmp } from "../icmp.ts";
import type { PagePool } from "../page-pool.ts";
import {
  Owner,
  PacketFlag,
  type PacketSink,
  type StackListener,
  type StackMemory,
  type StackOptions,
} from "../ports.ts";
import type { StackStats } from "../stats.ts";
import { Timer, type TimerHandler, type Timers } from "../timer-wheel.ts";
import type { Endpoint } from "../wire/address.ts";
import { pseudoHeaderSum, sumOctets } from "../wire/checksum.ts";
import { IcmpKind, type IcmpMessage } from "../wire/icmp.ts";
import { IPV4_HEADER, IPV6_HEADER, type IpHeader, Protocol } from "../wire/ip.ts";
import {
  ACK,
  FIN,
  parseTcp,
  RST,
  SYN,
  TCP_HEADER,
  TcpDrop,
  TcpSegment,
  TIMESTAMPS_LENGTH,
} from "../wire/tcp.ts";
import { beginTimeWait, close, conclude, endTimeWait, tellClosed } from "./closing.ts";
import { Connection } from "./connection.ts";
import { TcpContext } from "./context.ts";
import { isOffered } from "./ecn.ts";
import { segmentArrives } from "./input.ts";
import { IsnGenerator } from "./isn.ts";
import { LookAhead } from "./look-ahead.ts";
import { Output, output } from "./output.ts";
import { tooBig } from "./path-mtu.ts";
import * as reassembly from "./reassembly.ts";
import * as receiveBuffer from "./receive-buffer.ts";
import { passOver } from "./sack-reports.ts";
import * as sendBuffer from "./send-buffer.ts";
import { seqAdd, seqAfter, seqInWindow } from "./seq.ts";
import { Event, hasReceivedFin, State } from "./state.ts";
import { armDelayedAck, drained } from "./timers.ts";

export class TcpFlows implements TimerHandler {
  readonly #context: TcpContext;
  readonly #listener: StackListener;
  readonly #stats: StackStats;
  readonly #isn: IsnGenerator;
  readonly #lookAhead: LookAhead;
  readonly #segment: TcpSegment = new TcpSegment();
  /** Of the packet that is read. */
  #flags = 0;
  readonly #eventTimer: Timer;
  readonly #starvedTimer: Timer;

  constructor(
    options: StackOptions,
    memory: StackMemory,
    pages: PagePool,
    timers: Timers,
    listener: StackListener,
    icmp: Icmp,
    stats: StackStats,
  ) {
    this.#eventTimer = new Timer(this, EVENTS);
    this.#starvedTimer = new Timer(this, STARVED);
    this.#context = new TcpContext(
      options,
      memory,
      pages,
      timers,
      listener,
      icmp,
      stats,
      this.#eventTimer,
      this.#starvedTimer,
    );
    this.#listener = listener;
    this.#stats = stats;
    this.#lookAhead = new LookAhead(this.#context);
    this.#isn = new IsnGenerator(options.secret);
  }

  /** Ranges in use. */
  get ranges(): number {
    return this.#context.ranges.size;
  }

  /** A TCP packet. `flags` as Stack.input has them, 0 for a reassembled one. Sets the ports of `ip`. */
  input(ip: IpHeader, flags: number, gsoSize: number): void {
    const stats = this.#stats;
    const s = this.#segment;
    const { bytes } = this.#context;
    stats.tcpSegmentsIn++;
    const drop = parseTcp(bytes, ip.payloadStart, ip.totalEnd, s);
    if (drop !== 0) {
      if (drop === TcpDrop.TRUNCATED) stats.tcpTruncated++;
      else stats.tcpBadOffset++;
      return;
    }
    if ((flags & (PacketFlag.NEEDS_CSUM | PacketFlag.DATA_VALID)) === 0) {
      const length = ip.totalEnd - ip.payloadStart;
      const pseudo = pseudoHeaderSum(ip.src, ip.dst, Protocol.TCP, length);
      if (sumOctets(bytes, ip.payloadStart, ip.totalEnd, pseudo) !== 0xffff) {
        stats.tcpBadChecksum++;
        return;
      }
    }
    this.#flags = flags;
    s.gsoSize = gsoSize;
    s.ecn = ip.trafficClass & 3;
    ip.src.port = s.srcPort;
    ip.dst.port = s.dstPort;
    const { connections, table } = this.#context;
    let index = this.#lookAhead.guess(ip.start);
    if (index < 0 || !table.isAt(index, ip.src, ip.dst)) index = table.find(ip.src, ip.dst);
    if (index >= 0) this.#arrives(connections[index] as Connection, ip, s);
    else this.#arrivesAtNone(ip, s);
  }

  /** Packets are about to come: see Stack.lookAhead. */
  lookAhead(rows: Int32Array, count: number, stride: number): void {
    this.#lookAhead.read(rows, count, stride);
  }

  /**
   * An ICMP error: it ends an open that is not established (RFC 1122 §4.2.3.9, RFC 5461 §4.1) or shortens the
   * segments of a flow; all others, hard ones too, are only counted (RFC 5927 §5.2).
   */
  icmpError(message: IcmpMessage, ip: IpHeader, flags: number): void {
    const { table, connections } = this.#context;
    // About a packet of ours, or about the client's own SYN.
    let index = table.find(message.quotedDst, message.quotedSrc);
    const isOurs = index >= 0;
    if (!isOurs) index = table.find(message.quotedSrc, message.quotedDst);
    this.#flags = flags;
    if (index < 0 && this.#isElsewhere(message.quotedDst, message.quotedSrc, ip, 0)) return;
    if (index < 0 && this.#isElsewhere(message.quotedSrc, message.quotedDst, ip, 0)) return;
    const c = index < 0 ? null : (connections[index] as Connection);
    if (c !== null && message.kind === IcmpKind.TOO_BIG && isOurs && tooBig(c, message)) return;
    if (c !== null && message.kind === IcmpKind.ERROR && !c.rstDue) {
      const isPending = c.state === State.PENDING && (isOurs || message.quotedSeq === c.irs);
      // RFC 5927 §4.1: the quoted number has to be one in flight.
      const isOpening = c.state === State.SYN_RECEIVED && isOurs && message.quotedSeq === c.iss;
      if (isPending || isOpening) {
        this.#stats.tcpCancelled++;
        close(c, "refused-by-client");
        return;
      }
    }
    this.#stats.tcpIcmpIgnored++;
  }

  /** Tells every touched connection's handler what is new; afterwards no view is valid. */
  endBatch(): void {
    const context = this.#context;
    context.timers.clear(this.#eventTimer);
    // Handlers may touch connections; those wait for the next round, not for ever.
    for (let c = context.shiftTouched(); c !== null; c = context.shiftTouched()) deliver(c);
    context.freeConsumed();
    if (context.starved.size > 0) this.#feed();
  }

  onTimer(timer: Timer): void {
    if (timer.kind === EVENTS) this.endBatch();
    else this.#feed();
  }

  /** Lets dirty connections send in turn. False: the sink is full; write it and call again. */
  flush(sink: PacketSink): boolean {
    const context = this.#context;
    context.freeConsumed();
    if (!context.resets.flush(sink)) return false;
    for (let c = context.firstDirty(); c !== null; c = context.firstDirty()) {
      const result = output(c, sink);
      if (result === Output.FULL) return false;
      context.shiftDirty(c);
      if (result === Output.MORE) context.markDirty(c);
    }
    return true;
  }

  #arrives(c: Connection, ip: IpHeader, s: TcpSegment): void {
    if (c.state === State.PENDING) {
      this.#arrivesAtPending(c, ip, s);
      return;
    }
    if ((s.flags & (SYN | ACK | RST | FIN)) === SYN && s.seq !== c.irs && !c.rstDue) {
      // A client that opens anew knows that the old connection is over: RFC 9293 §3.6.1 for TIME-WAIT; where
      // the client's FIN has been answered by ours, only an ACK of it can be missing.
      if (c.state === State.TIME_WAIT || c.state === State.LAST_ACK || c.state === State.CLOSING) {
        const last = c.sndNxt;
        this.#supersede(c);
        this.#open(ip, s, last);
        return;
      }
      // RFC 9293 §3.10.7.4, fourth: back to LISTEN, where this SYN is the first.
      if (c.state === State.SYN_RECEIVED) {
        close(c, "replaced");
        this.#open(ip, s, c.sndNxt);
        return;
      }
    }
    segmentArrives(c, s);
  }

  #arrivesAtPending(c: Connection, ip: IpHeader, s: TcpSegment): void {
    if (c.rstDue) return;
    if (s.flags & RST) {
      if (s.flags & ACK || !seqInWindow(s.seq, c.irs, 2)) {
        // RST|ACK answers something we never sent, unless it is at the right place.
        if (s.seq !== c.rcvNxt) return;
      }
      this.#stats.tcpResetsIn++;
      close(c, "refused-by-client");
      return;
    }
    if ((s.flags & (SYN | ACK | FIN)) !== SYN) {
      this.#stats.tcpUnwanted++;
      return;
    }
    if (s.seq === c.irs) {
      this.#stats.tcpDuplicateSyns++;
      if (c.isForgotten) this.#context.pending.prolong(c);
      // RFC 3168 §6.1.1: who has sent a SYN without does not speak it.
      if (!isOffered(s)) c.ecnOk = false;
      return;
    }
    close(c, "replaced");
    this.#open(ip, s, c.iss);
  }

  /** RFC 9293 §3.10.7.1 and §3.10.7.2. */
  #arrivesAtNone(ip: IpHeader, s: TcpSegment): void {
    const isOpen = (s.flags & (SYN | ACK | RST | FIN)) === SYN;
    if (isOpen && s.srcPort !== 0 && s.dstPort !== 0) {
      this.#open(ip, s, 0);
      return;
    }
    if (this.#isElsewhere(ip.src, ip.dst, ip, s.gsoSize)) return;
    if (s.flags & RST) {
      this.#stats.tcpStrayResets++;
      return;
    }
    this.#stats.tcpStray++;
    this.#context.resetStray(ip.dst, ip.src, s);
  }

  /** A SYN for a new connection. `last`: SND.NXT of the connection before it, which our ISN has to exceed. */
  #open(ip: IpHeader, s: TcpSegment, last: number): void {
    const context = this.#context;
    const { neighbours, pending, table, timers } = context;
    const owner = neighbours === null ? Owner.OURS : neighbours.claim(ip.src, ip.dst);
    if (neighbours !== null && owner !== Owner.OURS) {
      handOver(neighbours, this.#stats, owner, ip, this.#flags, 0);
      return;
    }
    const source = this.#isn.source(ip.src);
    const victim = pending.victim(source);
    if (victim !== null) {
      this.#stats.tcpPendingEvicted++;
      close(victim, "evicted");
    }
    // A flood that the proxy says yes to. Here, as `accept` may tell nobody: pending ones may come on top.
    const { halfOpen } = context;
    if (halfOpen.head !== null && halfOpen.size >= context.maxHalfOpen) {
      this.#stats.tcpHalfOpenEvicted++;
      close(halfOpen.head, "evicted");
    }
    let index = table.insert(ip.src, ip.dst);
    if (index < 0 && context.timeWait.head !== null) {
      this.#stats.tcpTimeWaitEvicted++;
      endTimeWait(context.timeWait.head);
      index = table.insert(ip.src, ip.dst);
    }
    if (index < 0) {
      this.#stats.tcpTableFull++;
      neighbours?.release(ip.src, ip.dst);
      return;
    }
    const c = new Connection(context, ip.src, ip.dst);
    c.index = index;
    if (index === context.connections.length) context.connections.push(c);
    else context.connections[index] = c;
    this.#stats.tcpFlows++;
    this.#stats.tcpOpens++;
    const now = timers.now();
    let iss = this.#isn.isn(ip.dst, ip.src, now);
    if (last !== 0 && !seqAfter(iss, seqAdd(last, 65535))) iss = seqAdd(last, 65536);
    c.open(s.seq, iss);
    c.openedAt = now | 0;
    this.#negotiate(c, s, now);
    pending.enter(c, source, ip);
    const handler = this.#listener.onTcpOpen(c);
    if (handler === null && c.state === State.PENDING && !c.rstDue && !c.isForgotten) {
      context.remove(c);
    } else if (c.handler === null && !c.rstDue && !c.isForgotten) {
      c.handler = handler;
    }
  }

  /** The packet is of a flow, between these two ends, that a neighbour has, and is given to it. */
  #isElsewhere(src: Endpoint, dst: Endpoint, ip: IpHeader, gsoSize: number): boolean {
    const { neighbours } = this.#context;
    const owner = neighbours === null ? Owner.NOBODY : neighbours.find(src, dst);
    if (neighbours === null || owner === Owner.NOBODY) return false;
    handOver(neighbours, this.#stats, owner, ip, this.#flags, gsoSize);
    return true;
  }

  /** Takes the options of the SYN (RFC 7323 §2.2, §3.2, RFC 2018 §2, RFC 6691, RFC 3168 §6.1.1). */
  #negotiate(c: Connection, s: TcpSegment, now: number): void {
    const { mtu } = this.#context;
    const isV4 = c.target.isV4;
    const own = mtu - (isV4 ? IPV4_HEADER : IPV6_HEADER) - TCP_HEADER;
    const offered = s.mss === 0 ? (isV4 ? DEFAULT_MSS : DEFAULT_MSS_V6) : s.mss;
    c.sackOk = s.sackPermitted;
    c.ecnOk = isOffered(s);
    if (s.windowScale >= 0) {
      c.scalesWindows = true;
      c.sndScale = s.windowScale;
      c.rcvScale = RECEIVE_SCALE;
    }
    if (s.hasTimestamps) {
      c.timestamps = true;
      c.tsRecent = s.tsVal;
      c.tsRecentAge = now | 0;
      c.tsOffset = this.#isn.timestampOffset(c.target, c.client);
    }
    const options = c.timestamps ? TIMESTAMPS_LENGTH : 0;
    c.sndMss = Math.min(Math.max(offered, MIN_MSS), own) - options;
    // The window of a SYN is never scaled.
    c.sndWnd = s.window;
    c.maxSndWnd = s.window;
  }

  /** Makes room for a new connection of the same pair. What the old one holds is still delivered. */
  #supersede(c: Connection): void {
    if (c.handler === null) {
      this.#context.remove(c);
      return;
    }
    this.#context.detach(c);
    conclude(c);
    this.#context.touch(c);
  }

  /** Tells connections that found no page that there may be some again. */
  #feed(): void {
    const { pages, starved, timers } = this.#context;
    for (let left = starved.size; left > 0 && pages.inUse < pages.limit; left--) {
      const c = starved.head as Connection;
      starved.remove(c);
      c.markDirty();
      if (c.wantsWritable) {
        c.wantsWritable = false;
        c.handler?.onWritable();
      }
    }
    if (starved.size > 0) this.#context.retryStarved();
    else timers.clear(this.#starvedTimer);
  }
}

/** The events of one connection, in the order of what happened to it. Handlers may call any mutator. */
function deliver(c: Connection): void {
  if (c.hasNews) {
    c.hasNews = false;
    c.handler?.onReadable();
  }
  receiveBuffer.hold(c);
  if (c.finSeen && c.finSeq === c.rcvNxt && !c.rstDue && !c.isDraining) takeFin(c);
  if (c.isDraining && c.sndUna === c.sndNxt && sendBuffer.unsent(c) === 0) drained(c);
  if (c.wantsWritable && c.list === null && sendBuffer.hasRoomAgain(c)) {
    c.wantsWritable = false;
    c.handler?.onWritable();
  }
  tellClosed(c);
  if (c.state !== State.CLOSED && !c.rstDue) decideAck(c);
}

/** The client's FIN is in order and everything before it is safe (RFC 9293 §3.10.7.4, eighth). */
function takeFin(c: Connection): void {
  if (hasReceivedFin(c.state) || c.state < State.ESTABLISHED) return;
  c.enter(Event.FIN);
  c.rcvNxt = seqAdd(c.rcvNxt, 1);
  c.ackNow = true;
  reassembly.clear(c);
  if (c.state === State.TIME_WAIT) beginTimeWait(c);
  c.handler?.onFin();
}

/** One ACK per flow and batch: now, with the next segment, or within 40 ms (RFC 5681 §4.2). */
function decideAck(c: Connection): void {
  const waiting = (c.rcvNxt - c.rcvAcked) | 0;
  if (c.sackReportsDue > 0) passOver(c, false);
  if (c.ackNow || waiting >= 2 * c.rcvMss) {
    c.ackNow = false;
    c.ackDue = true;
    c.markDirty();
  } else if (waiting > 0) {
    armDelayedAck(c);
  }
}

/** Kinds of timers. */
const EVENTS = 0;
const STARVED = 1;

/** RFC 9293 §3.7.1. */
const DEFAULT_MSS = 536;
const DEFAULT_MSS_V6 = 1220;
/** A client that asks for less would have us send headers. */
const MIN_MSS = 64;
/** 4 MiB fit into 16 bits shifted so far. */
const RECEIVE_SCALE = 7;
