/**
 * One client endpoint of UDP, and the order in which such flows were used.
 */

import { copyQuote, type Icmp } from "./icmp.ts";
import type { RefuseReason, StackListener, UdpFlow, UdpHandler } from "./ports.ts";
import type { StackStats } from "./stats.ts";
import { Timer, type TimerHandler, type Timers } from "./timer-wheel.ts";
import type { Endpoint } from "./wire/address.ts";
import type { IpHeader } from "./wire/ip.ts";

/** What a flow needs of the table it is in. */
export interface UdpOwner {
  readonly timers: Timers;
  readonly icmp: Icmp;
  readonly listener: StackListener;
  readonly stats: StackStats;
  /** See {@link UdpFlow.send}. */
  queue(flow: ClientFlow, from: Endpoint, start: number, end: number): boolean;
  /** The flow was used now. */
  touch(flow: ClientFlow): void;
  /** Takes the flow out of table, order and wheel. */
  remove(flow: ClientFlow): void;
}

export class ClientFlow implements UdpFlow, TimerHandler {
  readonly client: Endpoint;
  handler: UdpHandler | null = null;
  readonly index: number;
  readonly timer: Timer = new Timer(this);
  /** Idle life, ms. */
  timeout: number;
  isOpen = true;
  isInBatch = false;
  nextInBatch: ClientFlow | null = null;
  /** Neighbours in {@link FlowOrder}. */
  newer: ClientFlow | null = null;
  older: ClientFlow | null = null;
  readonly #owner: UdpOwner;
  /** The last datagram to each of the last targets: one row first, four when there is a second target. */
  #quotes: Uint8Array = new Uint8Array(QUOTE);
  readonly #targets: Endpoint[] = [];
  readonly #lengths: number[] = [];
  /** The row that gives way next. */
  #oldest = 0;

  constructor(owner: UdpOwner, client: Endpoint, index: number, timeout: number) {
    this.#owner = owner;
    this.client = client.clone();
    this.index = index;
    this.timeout = timeout;
  }

  send(from: Endpoint, start: number, end: number): boolean {
    return this.isOpen && this.#owner.queue(this, from, start, end);
  }

  refuse(target: Endpoint, reason: RefuseReason): void {
    const row = this.#rowOf(target);
    if (row < 0 || !this.#owner.icmp.takeToken()) return;
    const start = row * QUOTE;
    const end = start + this.#lengths[row];
    this.#owner.icmp.refuse(reason, target, this.client, this.#quotes, start, end);
  }

  tooBig(target: Endpoint, mtu: number): void {
    const row = this.#rowOf(target);
    if (row < 0 || !this.#owner.icmp.takeToken()) return;
    const start = row * QUOTE;
    const end = start + this.#lengths[row];
    this.#owner.icmp.tooBig(mtu, target, this.client, this.#quotes, start, end);
  }

  setTimeout(milliseconds: number): void {
    if (!this.isOpen) return;
    this.timeout = milliseconds;
    this.#owner.timers.set(this.timer, this.#owner.timers.now() + milliseconds);
  }

  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.handler = null;
    this.#owner.remove(this);
  }

  /** Closes and tells the handler. */
  end(): void {
    const handler = this.handler;
    this.close();
    handler?.onClosed();
  }

  onTimer(): void {
    this.#owner.stats.udpFlowsIdle++;
    this.end();
  }

  /** Keeps the head of a datagram to `target`, for an error about it. */
  remember(bytes: Uint8Array, ip: IpHeader, target: Endpoint): void {
    let row = this.#rowOf(target);
    if (row < 0) {
      row = this.#targets.length;
      if (row < TARGETS) {
        this.#targets.push(target.clone());
        this.#lengths.push(0);
        if (row === 1) {
          const quotes = new Uint8Array(TARGETS * QUOTE);
          quotes.set(this.#quotes);
          this.#quotes = quotes;
        }
      } else {
        row = this.#oldest;
        this.#oldest = (row + 1) % TARGETS;
        this.#targets[row].copy(target);
      }
    }
    this.#lengths[row] = copyQuote(bytes, ip, this.#quotes, row * QUOTE, QUOTE);
  }

  #rowOf(target: Endpoint): number {
    for (let row = 0; row < this.#targets.length; row++) {
      if (this.#targets[row].equals(target)) return row;
    }
    return -1;
  }
}

/** Flows from the longest idle to the last used: a list through the flows. */
export class FlowOrder {
  #oldest: ClientFlow | null = null;
  #newest: ClientFlow | null = null;

  /** The longest idle. There is one. */
  first(): ClientFlow {
    return this.#oldest as ClientFlow;
  }

  /** `flow` is the last used, be it new or not. */
  moveToEnd(flow: ClientFlow): void {
    if (this.#newest === flow) return;
    if (flow.newer !== null) this.remove(flow);
    flow.older = this.#newest;
    if (this.#newest !== null) this.#newest.newer = flow;
    else this.#oldest = flow;
    this.#newest = flow;
  }

  remove(flow: ClientFlow): void {
    if (flow.older !== null) flow.older.newer = flow.newer;
    else this.#oldest = flow.newer;
    if (flow.newer !== null) flow.newer.older = flow.older;
    else this.#newest = flow.older;
    flow.newer = null;
    flow.older = null;
  }
}

/** Octets kept of a datagram: an IP header of either family without much ado, and the UDP header. */
const QUOTE = 68;
const TARGETS = 4;
