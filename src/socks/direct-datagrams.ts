/**
 * An association's socket on the addon: recvmmsg into the arena of the turn, sendmmsg from wherever the payload is.
 */

import { constants } from "node:os";
import { type Addon, DGRAM_RX_ROW, DGRAM_SLOT, DGRAM_TX_ROW, Epoll } from "../native/binding.ts";
import type { PollHandler } from "../native/poller.ts";
import { Endpoint } from "../stack/wire/address.ts";
import {
  type AssociationCounters,
  type DatagramHandler,
  type DatagramSocket,
  MAX_QUEUED,
} from "./datagram-socket.ts";
import type { SocketEnvironment } from "./environment.ts";
import { writeWords } from "./words.ts";

const { EAGAIN, ECONNREFUSED, EBADF, EMSGSIZE } = constants.errno;

/** Messages received with one system call. */
const BATCH = 64;

/** What the associations of one proxy share, because each needs it only within a turn. */
export class DatagramRows {
  readonly rx: Int32Array = new Int32Array(BATCH * DGRAM_RX_ROW);
  readonly #free: Int32Array[] = [];

  take(): Int32Array {
    return this.#free.pop() ?? new Int32Array(MAX_QUEUED * DGRAM_TX_ROW);
  }

  give(rows: Int32Array): void {
    if (this.#free.length < MAX_FREE) this.#free.push(rows);
  }
}

/** Queues that are kept: associations that send in the same turn, roughly. */
const MAX_FREE = 64;

export class DirectDatagrams implements DatagramSocket, PollHandler {
  readonly #environment: SocketEnvironment;
  readonly #addon: Addon;
  readonly #rows: DatagramRows;
  readonly #counters: AssociationCounters;
  readonly #handler: DatagramHandler;
  readonly #relay = new Endpoint();
  readonly #from = new Endpoint();
  #fd = -1;
  #id = -1;
  /** Queue, while something is queued. */
  #queue: Int32Array | null = null;
  #queued = 0;

  constructor(
    environment: SocketEnvironment,
    rows: DatagramRows,
    counters: AssociationCounters,
    handler: DatagramHandler,
  ) {
    this.#environment = environment;
    this.#addon = environment.addon as Addon;
    this.#rows = rows;
    this.#counters = counters;
    this.#handler = handler;
  }

  hasRoute(relay: Endpoint): boolean {
    const { mark, device } = this.#environment;
    const fd = this.#addon.udpOpen(null, !relay.isV4, mark, device);
    if (fd < 0) return false;
    const words = new Int32Array(5);
    writeWords(words, relay);
    const result = this.#addon.udpConnect(fd, words);
    this.#addon.close(fd);
    return result === 0;
  }

  open(relay: Endpoint): number {
    const { mark, device, poller, sources = [] } = this.#environment;
    this.#relay.copy(relay);
    // The relay takes datagrams only from where the control connection comes from: see SourceAddresses.
    const source = sources.find(({ isV4 }) => isV4 === relay.isV4);
    let bound: Int32Array | null = null;
    if (source !== undefined) {
      bound = new Int32Array(5);
      writeWords(bound, source);
      bound[4] = 0;
    }
    const fd = this.#addon.udpOpen(bound, !relay.isV4, mark, device);
    if (fd < 0) return fd;
    const id = poller?.add(fd, this, Epoll.IN) ?? -EBADF;
    if (id < 0) {
      this.#addon.close(fd);
      return id;
    }
    this.#fd = fd;
    this.#id = id;
    return 0;
  }

  // ---- out -----------------------------------------------------------------------------------------------------

  get room(): number {
    return MAX_QUEUED - this.#queued;
  }

  queue(header: number, headerLength: number, start: number, length: number): void {
    this.#queue ??= this.#rows.take();
    const rows = this.#queue;
    const relay = this.#relay;
    const at = this.#queued++ * DGRAM_TX_ROW;
    rows[at] = header;
    rows[at + 1] = headerLength;
    rows[at + 2] = start;
    rows[at + 3] = length;
    rows[at + 4] = relay.w0;
    rows[at + 5] = relay.w1;
    rows[at + 6] = relay.w2;
    rows[at + 7] = relay.w3;
    rows[at + 8] = relay.port;
    rows[at + 9] = 0;
  }

  flush(): void {
    const rows = this.#queue;
    if (rows === null) return;
    let left = this.#queued;
    // Each round sends or drops at least one.
    while (left > 0) {
      const sent = this.#addon.sendBatch(this.#fd, rows, left);
      if (sent === -EAGAIN) {
        this.#counters.sendFull += left;
        break;
      }
      if (sent > 0) this.#counters.sent += sent;
      else this.#refused(-sent, rows);
      const done = Math.max(1, sent);
      left -= done;
      if (left > 0) rows.copyWithin(0, done * DGRAM_TX_ROW, (done + left) * DGRAM_TX_ROW);
    }
    this.#forgetQueue();
  }

  /** The system did not take the first of `rows`. */
  #refused(errno: number, rows: Int32Array): void {
    if (errno !== EMSGSIZE) {
      this.#counters.sendErrors++;
      return;
    }
    this.#counters.sendTooBig++;
    this.#handler.onTooBig((rows[1] as number) + (rows[3] as number));
  }

  #forgetQueue(): void {
    if (this.#queue !== null) this.#rows.give(this.#queue);
    this.#queue = null;
    this.#queued = 0;
  }

  // ---- in ------------------------------------------------------------------------------------------------------

  onPoll(bits: number): void {
    // An ICMP error about one datagram says nothing about the next; reading it clears it.
    if ((bits & Epoll.ERR) !== 0) {
      const error = this.#addon.socketError(this.#fd);
      if (error < 0) {
        this.close();
        this.#handler.onBroken(-error);
        return;
      }
    }
    this.#receive();
  }

  #receive(): void {
    const { memory } = this.#environment;
    const arena = memory.datagrams;
    const rows = this.#rows.rx;
    // Without room it waits for the next turn: the poll is level-triggered.
    if (arena.end - arena.next < DGRAM_SLOT) return;
    const count = this.#addon.recvBatch(this.#fd, rows, arena.next, arena.end);
    if (count < 0) {
      if (count === -EAGAIN || count === -ECONNREFUSED) return;
      this.close();
      this.#handler.onBroken(-count);
      return;
    }
    // All are taken before the first is delivered, because handlers take memory from the arena as well.
    for (let i = 0, row = 0; i < count; i++, row += DGRAM_RX_ROW) {
      const end = (rows[row] as number) + (rows[row + 1] as number);
      arena.next = Math.max(arena.next, (end + 7) & ~7);
    }
    for (let i = 0, row = 0; i < count && this.#fd >= 0; i++, row += DGRAM_RX_ROW) {
      this.#deliver(rows, row);
    }
  }

  #deliver(rows: Int32Array, row: number): void {
    if (rows[row + 7] !== 0) {
      this.#counters.truncated++;
      return;
    }
    this.#from.set(
      rows[row + 2] as number,
      rows[row + 3] as number,
      rows[row + 4] as number,
      rows[row + 5] as number,
      rows[row + 6] as number,
    );
    const start = rows[row] as number;
    const end = start + (rows[row + 1] as number);
    const step = (rows[row + 8] as number) || end - start;
    // An empty datagram is one, too.
    let at = start;
    do {
      this.#handler.onReceived(this.#from, at, Math.min(at + step, end));
      at += step;
    } while (at < end && this.#fd >= 0);
  }

  close(): void {
    this.#forgetQueue();
    if (this.#fd < 0) return;
    this.#environment.poller?.remove(this.#id, this.#fd);
    this.#addon.close(this.#fd);
    this.#fd = -1;
  }
}
