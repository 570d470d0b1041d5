/**
 * What the connections of one stack share: memory, time, counters, and the lists that carry them through a turn.
 *
 * Dirty connections have something to send or may have: flush visits them. Touched connections have something to
 * tell: endBatch visits them, or, when a mutator touched them, a timer that is due at once.
 */

import { FlowTable } from "../flow-table.ts";
import { share } from "../hand-over.ts";
import type { Icmp } from "../icmp.ts";
import type { PagePool } from "../page-pool.ts";
import type {
  CongestionName,
  Neighbours,
  StackListener,
  StackMemory,
  StackOptions,
} from "../ports.ts";
import type { StackStats } from "../stats.ts";
import type { Timer, Timers } from "../timer-wheel.ts";
import type { Endpoint } from "../wire/address.ts";
import { ACK, FIN, RST, SYN, type TcpSegment } from "../wire/tcp.ts";
import { ChallengeLimit } from "./challenge.ts";
import type { Connection } from "./connection.ts";
import { ConnectionList } from "./connection-list.ts";
import * as flight from "./flight.ts";
import { Lifetimes } from "./lifetimes.ts";
import { PendingOpens } from "./pending.ts";

import { RunningAck } from "./rack.ts";
import { NONE, Ranges } from "./ranges.ts";
import * as reassembly from "./reassembly.ts";
import * as receiveBuffer from "./receive-buffer.ts";
import { dropFillPage } from "./receive-pages.ts";
import { ResetQueue } from "./resets.ts";
import * as sendBuffer from "./send-buffer.ts";
import { seqAdd } from "./seq.ts";
import { State } from "./state.ts";
import { TurnQueue } from "./turn-queue.ts";

export class TcpContext {
  readonly bytes: Uint8Array;
  readonly pages: PagePool;
  readonly timers: Timers;
  readonly stats: StackStats;
  readonly listener: StackListener;
  readonly mtu: number;
  /** Pseudo-header sums only; the device does the rest. */
  readonly checksumOffload: boolean;
  readonly tso4: boolean;
  readonly tso6: boolean;
  readonly ranges: Ranges = new Ranges(MAX_RANGES);
  readonly table: FlowTable;
  readonly neighbours: Neighbours | null;
  /** By index in the table. */
  readonly connections: (Connection | null)[] = [];
  readonly pending: PendingOpens;
  readonly resets: ResetQueue;
  readonly challenges: ChallengeLimit;
  readonly ack: RunningAck = new RunningAck();
  readonly lifetimes: Lifetimes;
  /** Oldest first. */
  readonly timeWait: ConnectionList = new ConnectionList();
  readonly maxTimeWait: number;
  /** Accepted, and the client has not acknowledged the SYN-ACK yet. Oldest first. */
  readonly halfOpen: ConnectionList = new ConnectionList();
  readonly maxHalfOpen: number;
  readonly congestion: CongestionName;
  /** Waiting for pages to be freed. */
  readonly starved: ConnectionList = new ConnectionList();
  /** Delivers events that no batch will. */
  readonly eventTimer: Timer;
  /** Looks for pages when no batch does. */
  readonly #starvedTimer: Timer;
  readonly #dirty: TurnQueue = new TurnQueue();
  readonly #touched: TurnQueue = new TurnQueue();
  /** Touched, and out of the table. */
  readonly #orphans: Connection[] = [];
  /** Ranges offered by the last `space`, their order that of the rows; the first may be a tail. */
  readonly offered: Int32Array = new Int32Array(sendBuffer.MAX_OFFERED);
  offeredCount = 0;
  /** Room offered in the tail, and in all. */
  offeredTail = 0;
  offeredOctets = 0;
  readonly #pagesStart: number;
  /** How many ranges (and fill pages) hold a receive page, by its 4 KiB number. */
  readonly #holders: Uint16Array;
  /** Consumed ranges whose octets a handler may still look at. */
  #consumed: number = NONE;

  constructor(
    options: StackOptions,
    memory: StackMemory,
    pages: PagePool,
    timers: Timers,
    listener: StackListener,
    icmp: Icmp,
    stats: StackStats,
    eventTimer: Timer,
    starvedTimer: Timer,
  ) {
    this.bytes = memory.bytes;
    this.pages = pages;
    this.timers = timers;
    this.stats = stats;
    this.listener = listener;
    this.eventTimer = eventTimer;
    this.#starvedTimer = starvedTimer;
    this.mtu = options.mtu;
    this.checksumOffload = options.offload.checksum;
    this.tso4 = options.offload.checksum && options.offload.tso4;
    this.tso6 = options.offload.checksum && options.offload.tso6;
    this.table = new FlowTable(options.secret, options.maxTcpFlows ?? DEFAULT_MAX_FLOWS);
    this.neighbours = options.neighbours ?? null;
    this.maxTimeWait = options.maxTimeWait ?? DEFAULT_MAX_TIME_WAIT;
    this.challenges = new ChallengeLimit(options);
    this.maxHalfOpen = share(options.maxHalfOpen ?? DEFAULT_MAX_HALF_OPEN, options);
    this.congestion = options.congestion ?? "cubic";
    this.resets = new ResetQueue(memory.bytes, stats);
    this.lifetimes = new Lifetimes(options);
    this.pending = new PendingOpens(this, icmp, options);
    this.#pagesStart = memory.pagesStart;
    this.#holders = new Uint16Array((memory.pagesEnd - memory.pagesStart) >> 12);
  }

  markDirty(connection: Connection): void {
    // What is out of the table has nothing to send any more.
    if (connection.isDirty || connection.index < 0) return;
    connection.isDirty = true;
    this.#dirty.push(connection.index);
    this.listener.onDirty();
  }

  /** The first dirty connection; null: there is none. */
  firstDirty(): Connection | null {
    const dirty = this.#dirty;
    for (; dirty.first >= 0; dirty.shift()) {
      const c = this.connections[dirty.first];
      if (c?.isDirty) return c;
    }
    return null;
  }

  /** Takes the first dirty connection off the list, though it may be out of the table by now. */
  shiftDirty(connection: Connection): void {
    connection.isDirty = false;
    this.#dirty.shift();
  }

  /** Lets endBatch visit the connection. */
  touch(connection: Connection): void {
    if (connection.isTouched) return;
    connection.isTouched = true;
    if (connection.index < 0) this.#orphans.push(connection);
    else this.#touched.push(connection.index);
  }

  /** The same from a mutator, which may run when no batch is being read. */
  touchSoon(connection: Connection): void {
    this.touch(connection);
    if (this.eventTimer.deadline < 0) this.timers.set(this.eventTimer, this.timers.now());
  }

  /** Takes the head off the touched list; null: it is empty. */
  shiftTouched(): Connection | null {
    const touched = this.#touched;
    while (touched.first >= 0) {
      const c = this.connections[touched.first];
      touched.shift();
      if (!c?.isTouched) continue;
      c.isTouched = false;
      return c;
    }
    const orphan = this.#orphans.shift() ?? null;
    if (orphan !== null) orphan.isTouched = false;
    return orphan;
  }

  /** Queues the RST that answers a segment of no connection (RFC 9293 §3.10.7.1), from `src` to `dst`. */
  resetStray(src: Endpoint, dst: Endpoint, s: TcpSegment): void {
    if (s.flags & ACK) {
      this.resets.add(src, dst, s.ack, 0, RST);
    } else {
      const length =
        s.payloadEnd - s.payloadStart + (s.flags & SYN ? 1 : 0) + (s.flags & FIN ? 1 : 0);
      this.resets.add(src, dst, 0, seqAdd(s.seq, length), RST | ACK);
    }
    this.listener.onDirty();
  }

  /** A connection that found no page waits for one. Pages come free without a batch too: the timer looks. */
  starve(connection: Connection): void {
    if (connection.list !== null) return;
    this.starved.push(connection);
    this.stats.tcpStarved++;
    if (this.#starvedTimer.deadline < 0) this.retryStarved();
  }

  /** (Re)starts the wait for pages. */
  retryStarved(): void {
    this.timers.set(this.#starvedTimer, this.timers.now() + STARVED_RETRY);
  }

  /** Frees the connection's buffers, stops its timers and takes it out of the list it waits in. */
  release(connection: Connection): void {
    const { timers } = this;
    connection.list?.remove(connection);
    timers.clear(connection.retransmitTimer);
    timers.clear(connection.delayedAckTimer);
    connection.isAckDelayed = false;
    timers.clear(connection.lifeTimer);
    this.releaseSender(connection);
    receiveBuffer.clear(connection);
    reassembly.clear(connection);
    dropFillPage(connection);
  }

  /** Frees what sending needs: nothing is left to be sent. */
  releaseSender(connection: Connection): void {
    sendBuffer.clear(connection);
    flight.clear(connection);
    connection.rack.isProbing = false;
    connection.rack.reorderingAt = -1;
    connection.wantsWritable = false;
    connection.congestion = null;
  }

  /** Ends a connection: takes it out of every table and frees what it holds. */
  remove(connection: Connection): void {
    connection.handler = null;
    this.detach(connection);
    this.release(connection);
  }

  /** Takes a connection out of every table; what the relay has not consumed stays. Idempotent. */
  detach(connection: Connection): void {
    const { timers } = this;
    if (connection.index < 0) return;
    timers.clear(connection.retransmitTimer);
    timers.clear(connection.delayedAckTimer);
    connection.isAckDelayed = false;
    timers.clear(connection.lifeTimer);
    this.pending.leave(connection);
    connection.list?.remove(connection);
    connection.state = State.CLOSED;
    connection.rstDue = false;
    connection.isDirty = false;
    if (connection.isTouched) this.#orphans.push(connection);
    this.table.remove(connection.index);
    this.connections[connection.index] = null;
    connection.index = -1;
    this.neighbours?.release(connection.client, connection.target);
    this.stats.tcpFlows--;
  }

  /** One more range (or fill page) holds this receive page. */
  holdPage(page: number): void {
    this.#holders[(page - this.#pagesStart) >> 12]++;
  }

  /** One holder less; the last frees the page. */
  letGoOfPage(page: number): void {
    if (--this.#holders[(page - this.#pagesStart) >> 12] === 0) this.pages.free(page);
  }

  /** A consumed range: its page is let go of when no view can be left. */
  retire(range: number): void {
    const { ranges } = this;
    if (ranges.page[range] < 0) {
      ranges.give(range);
      return;
    }
    // The next flush lets go of it, whether or not there is something to send.
    if (this.#consumed === NONE) this.listener.onDirty();
    ranges.next[range] = this.#consumed;
    this.#consumed = range;
  }

  /** Lets go of everything retired. For the end of a batch and the start of a flush. */
  freeConsumed(): void {
    const { ranges } = this;
    for (let range = this.#consumed; range !== NONE; ) {
      const next = ranges.next[range];
      this.letGoOfPage(ranges.page[range]);
      ranges.give(range);
      range = next;
    }
    this.#consumed = NONE;
  }
}

/** Flows of one worker; a flow without octets costs some 1.5 KB. */
const DEFAULT_MAX_FLOWS = 131_072;
const DEFAULT_MAX_TIME_WAIT = 16_384;
/** A client behind a TUN answers within microseconds, and each of these holds a descriptor. */
const DEFAULT_MAX_HALF_OPEN = 1024;
/** How often connections without pages look again when no packet brings news. */
const STARVED_RETRY = 20;
/** Five words each: 20 MB, reached only by a client that punches a million holes. */
const MAX_RANGES = 1 << 20;
