/**
 * A TCP flow that is accepted before its upstream is known, so that its first octets can name its destination (`--sniff`).
 *
 *     LISTENING  accepted; octets come, or not: at most MAX_SNIFFED of them, for SNIFF_TIME
 *     DIALING    whoever decided has made a relay, which takes this for its connection
 *     OPEN       the relay's upstream is there: what waits goes to it
 *
 * To the relay it is a connection like others: accepting it hands over what has come, and refusing it is a reset, since
 * the client was told already that it is connected. This is the dishonest way, and only for ports that were asked for.
 */

import type { CloseReason, TcpConnection, TcpHandler } from "../stack/ports.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { RelayContext } from "./context.ts";
import { MAX_SNIFFED, sniffName } from "./sniffed-name.ts";

/** How long a client may be silent before its flow goes on without a name, ms: some wait for the server's first word. */
export const SNIFF_TIME = 500;

/** Who decides where flows go. */
export interface SniffedFlowOwner {
  /** The flow's name, if it told one. The owner makes a relay of `flow` and calls `lead`, or refuses it. */
  sniffed(flow: SniffedFlow, name: string | null): void;
  /** The flow ended before. */
  unsniffed(flow: SniffedFlow): void;
}

export class SniffedFlow implements TcpConnection, TcpHandler, TimerHandler {
  readonly client: Endpoint;
  readonly target: Endpoint;
  readonly #owner: SniffedFlowOwner;
  readonly #context: RelayContext;
  readonly #connection: TcpConnection;
  readonly #timer: Timer = new Timer(this);
  #decided = false;
  #finished = false;

  constructor(owner: SniffedFlowOwner, context: RelayContext, connection: TcpConnection) {
    this.client = connection.client;
    this.target = connection.target;
    this.#owner = owner;
    this.#context = context;
    this.#connection = connection;
  }

  /** Accepts it. */
  start(): void {
    const { timers } = this.#context;
    this.#connection.accept();
    timers.set(this.#timer, timers.now() + SNIFF_TIME);
  }

  /** `relay` has the flow from now on. */
  lead(relay: TcpHandler): void {
    this.#connection.handler = relay;
  }

  // ---- while it is listened to ----------------------------------------------------------------------

  onReadable(): void {
    if (this.#decided) return;
    const { memory, rows } = this.#context;
    const count = this.#connection.readable(rows);
    const octets = new Uint8Array(Math.min(this.#connection.readableOctets, MAX_SNIFFED));
    let length = 0;
    for (let row = 0; row < 2 * count && length < octets.length; row += 2) {
      const start = rows[row] as number;
      const taken = Math.min(rows[row + 1] as number, octets.length - length);
      octets.set(memory.bytes.subarray(start, start + taken), length);
      length += taken;
    }
    const sniffed = sniffName(octets, length);
    if (sniffed !== "more") this.#decide(sniffed.name);
  }

  onFin(): void {
    this.#finished = true;
    this.#decide(null);
  }

  onWritable(): void {}

  onClosed(_reason: CloseReason): void {
    this.#context.timers.clear(this.#timer);
    if (!this.#decided) this.#owner.unsniffed(this);
    this.#decided = true;
  }

  onTimer(): void {
    this.#decide(null);
  }

  #decide(name: string | null): void {
    if (this.#decided) return;
    this.#decided = true;
    this.#context.timers.clear(this.#timer);
    this.#owner.sniffed(this, name);
  }

  // ---- the connection of its relay --------------------------------------------------------------------

  /** The upstream is there: what has come meanwhile goes to it. */
  accept(): void {
    this.handler?.onReadable();
    if (this.#finished) this.handler?.onFin();
  }

  refuse(): void {
    this.#context.stats.sniffedRefused++;
    this.abort();
  }

  forget(): void {
    this.refuse();
  }

  /** Ends it, decided or not: the client sees a reset. */
  abort(): void {
    this.#context.timers.clear(this.#timer);
    this.#decided = true;
    this.#connection.abort();
  }

  get handler(): TcpHandler | null {
    return this.#connection.handler;
  }

  set handler(handler: TcpHandler | null) {
    this.#connection.handler = handler;
  }

  get nagle(): boolean {
    return this.#connection.nagle;
  }

  set nagle(nagle: boolean) {
    this.#connection.nagle = nagle;
  }

  get readableOctets(): number {
    return this.#connection.readableOctets;
  }

  readable(rows: Int32Array): number {
    return this.#connection.readable(rows);
  }

  consume(octets: number): void {
    this.#connection.consume(octets);
  }

  space(rows: Int32Array): number {
    return this.#connection.space(rows);
  }

  commit(octets: number): void {
    this.#connection.commit(octets);
  }

  write(bytes: Uint8Array, start: number, end: number): number {
    return this.#connection.write(bytes, start, end);
  }

  shutdown(): void {
    this.#connection.shutdown();
  }

  resetWhenDrained(): void {
    this.#connection.resetWhenDrained();
  }
}
