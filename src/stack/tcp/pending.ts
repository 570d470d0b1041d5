/**
 * SYNs that the relay has not answered: bounded in all and per source, with what a refusal has to quote.
 *
 * When there are too many, one of the source that has most gives way, so that a flood from one address does not shut
 * out another; sources are kept by weight, so that finding it costs the same however many there are. Of its opens the
 * older half is spared: if each newcomer took the place of the oldest, a source that opens a little faster than the
 * proxy answers would have every open taken just before its answer, and none would get through.
 * A forgotten open stays as a tombstone that absorbs its SYN's duplicates.
 */

import { share } from "../hand-over.ts";
import type { Icmp } from "../icmp.ts";
import { copyQuote } from "../icmp.ts";
import type { RefuseReason, StackOptions } from "../ports.ts";
import type { IpHeader } from "../wire/ip.ts";
import type { Connection } from "./connection.ts";
import { ConnectionList } from "./connection-list.ts";
import type { TcpContext } from "./context.ts";

export class PendingOpens {
  /** Opens that wait for the relay. */
  size = 0;
  readonly tombstones: ConnectionList = new ConnectionList();
  readonly #context: TcpContext;
  readonly #icmp: Icmp;
  readonly #bound: number;
  readonly #boundPerSource: number;
  /** By the keyed hash of the address: 32 bits that nobody can make collide. */
  readonly #sources: Map<number, Source> = new Map();
  /** [n]: the sources with n opens, in the order in which they came to have so many. */
  readonly #byWeight: SourceList[] = [];
  /** The most opens of one source. */
  #heaviest = 0;
  /** The SYNs, as far as an ICMP error quotes them. */
  readonly #quotes: Uint8Array;
  readonly #quoteLengths: Uint8Array;
  readonly #freeSlots: Int32Array;
  #freeCount: number;

  constructor(context: TcpContext, icmp: Icmp, options: StackOptions) {
    this.#context = context;
    this.#icmp = icmp;
    this.#bound = share(options.maxPending ?? DEFAULT_MAX_PENDING, options);
    this.#boundPerSource = share(options.maxPendingPerSource ?? DEFAULT_MAX_PER_SOURCE, options);
    this.#quotes = new Uint8Array(this.#bound * QUOTE);
    this.#quoteLengths = new Uint8Array(this.#bound);
    this.#freeSlots = new Int32Array(this.#bound);
    this.#freeCount = this.#bound;
    for (let i = 0; i < this.#bound; i++) this.#freeSlots[i] = this.#bound - 1 - i;
    for (let i = 0; i <= this.#boundPerSource; i++) this.#byWeight.push(new SourceList());
  }

  /** Who has to give way before an open of `source` can enter; null: nobody. */
  victim(source: number): Connection | null {
    const own = this.#sources.get(source);
    if (own !== undefined && own.opens.size >= this.#boundPerSource) return givesWay(own.opens);
    if (this.size < this.#bound) return null;
    const heaviest = this.#byWeight[this.#heaviest].head;
    return heaviest === null ? null : givesWay(heaviest.opens);
  }

  /** Enters an open; there is room (see {@link victim}). `ip` describes its SYN. */
  enter(connection: Connection, source: number, ip: IpHeader): void {
    let entry = this.#sources.get(source);
    if (entry === undefined) {
      entry = new Source();
      this.#sources.set(source, entry);
    }
    entry.opens.push(connection);
    this.#weigh(entry, entry.opens.size - 1);
    this.size++;
    const slot = this.#freeSlots[--this.#freeCount];
    connection.pendingSlot = slot;
    connection.pendingSource = source;
    const { bytes } = this.#context;
    this.#quoteLengths[slot] = copyQuote(bytes, ip, this.#quotes, slot * QUOTE, QUOTE);
  }

  /** Takes a connection out that is answered, gone or forgotten. Idempotent. */
  leave(connection: Connection): void {
    if (connection.pendingSlot < 0) return;
    const entry = this.#sources.get(connection.pendingSource) as Source;
    entry.opens.remove(connection);
    this.#weigh(entry, entry.opens.size + 1);
    if (entry.opens.size === 0) this.#sources.delete(connection.pendingSource);
    this.#freeSlots[this.#freeCount++] = connection.pendingSlot;
    connection.pendingSlot = -1;
    this.size--;
  }

  /** Makes a tombstone of a pending open. */
  bury(connection: Connection): void {
    this.leave(connection);
    const { timers, stats } = this.#context;
    if (this.tombstones.size >= MAX_TOMBSTONES) {
      this.#context.remove(this.tombstones.head as Connection);
    }
    this.tombstones.push(connection);
    stats.tcpForgotten++;
    timers.set(connection.lifeTimer, timers.now() + DUPLICATES_STOP);
  }

  /** A duplicate SYN came to a tombstone: another may follow, but not for ever. */
  prolong(connection: Connection): void {
    const { timers } = this.#context;
    const now = timers.now();
    const left = TOMBSTONE_LIFE - (((now | 0) - connection.openedAt) | 0);
    timers.set(connection.lifeTimer, now + Math.max(0, Math.min(left, DUPLICATES_STOP)));
  }

  /** Queues the ICMP error that refuses a pending open. */
  sendRefusal(connection: Connection, reason: RefuseReason): void {
    const slot = connection.pendingSlot;
    if (slot < 0) return;
    const start = slot * QUOTE;
    const end = start + this.#quoteLengths[slot];
    this.#icmp.refuse(reason, connection.target, connection.client, this.#quotes, start, end);
  }

  /** A source that had `before` opens has one more or one less. */
  #weigh(source: Source, before: number): void {
    const now = source.opens.size;
    if (before > 0) this.#byWeight[before].remove(source);
    if (now > 0) this.#byWeight[now].push(source);
    if (now > this.#heaviest || this.#byWeight[this.#heaviest].head === null) this.#heaviest = now;
  }
}

/** The oldest but for the half that is older. */
function givesWay(opens: ConnectionList): Connection | null {
  let connection = opens.head;
  for (let spared = opens.size >> 1; spared > 0 && connection !== null; spared--) {
    connection = connection.listNext;
  }
  return connection;
}

/** The opens of one address, oldest first. */
class Source {
  readonly opens: ConnectionList = new ConnectionList();
  next: Source | null = null;
  previous: Source | null = null;
}

/** A doubly linked list through sources; a source is in one at most. */
class SourceList {
  head: Source | null = null;
  #tail: Source | null = null;

  push(source: Source): void {
    source.previous = this.#tail;
    source.next = null;
    if (this.#tail === null) this.head = source;
    else this.#tail.next = source;
    this.#tail = source;
  }

  remove(source: Source): void {
    const { next, previous } = source;
    if (previous === null) this.head = next;
    else previous.next = next;
    if (next === null) this.#tail = previous;
    else next.previous = previous;
  }
}

const DEFAULT_MAX_PENDING = 1024;
const DEFAULT_MAX_PER_SOURCE = 256;
const MAX_TOMBSTONES = 1024;
/** The largest SYN: IPv4 with 40 octets of options, or IPv6, and 60 octets of TCP. */
const QUOTE = 128;
/** Linux repeats a SYN at most 64 s after the one before (tcp_syn_retries 6), … */
const DUPLICATES_STOP = 67_000;
/** … and gives up 127 s after the first. */
const TOMBSTONE_LIFE = 130_000;
