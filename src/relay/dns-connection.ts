/**
 * One DNS-over-TCP connection through the proxy (RFC 7766): length-prefixed messages, pipelined, answers in any order.
 *
 * Queries of a connection that is being dialled wait in its output; the output and the message being read are the
 * only buffers, both bounded.
 */

import type { MemoryLayout } from "../memory.ts";
import type { Refusal, Stream, StreamHandler, Upstream } from "../socks/ports.ts";
import { Timer, type TimerHandler, type Timers } from "../stack/timer-wheel.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { Query } from "./dns-query.ts";

export interface DnsConnectionOwner {
  readonly memory: MemoryLayout;
  readonly timers: Timers;
  /** A message [start, end) of `bytes`, valid during the call. True: it answered a query. */
  received(connection: DnsConnection, bytes: Uint8Array, start: number, end: number): boolean;
  /** It ended; `refusal` when it never opened. `pending` are the queries without answer. Last call. */
  ended(connection: DnsConnection, refusal: Refusal | null): void;
}

/** Octets that wait to be sent. */
const MAX_OUTPUT = 256 * 1024;
/** Idle connections are closed by the client soon, lest they use the server up (RFC 7766 §6.2.3). */
const IDLE_LIFE = 30_000;
/** The largest message and its length. */
const MAX_FRAME = 65_535 + 2;
const FIRST_BUFFER = 2048;
/** Reads per event. */
const MAX_READS = 16;
const CHUNK = 65_536;

export class DnsConnection implements StreamHandler, TimerHandler {
  readonly server: Endpoint;
  /** Sent or to be sent, and not answered. */
  readonly pending: Set<Query> = new Set();
  /** Queries answered. */
  answers = 0;
  /** When the last message came, ms. */
  lastMessageAt = -1;
  readonly #owner: DnsConnectionOwner;
  readonly #stream: Stream;
  readonly #rows = new Int32Array(2);
  readonly #idle: Timer = new Timer(this);
  #open = false;
  #closed = false;
  #blocked = false;
  #output: Uint8Array = new Uint8Array(FIRST_BUFFER);
  #outputStart = 0;
  #outputEnd = 0;
  #input: Uint8Array = new Uint8Array(FIRST_BUFFER);
  #inputEnd = 0;

  /** Dials `server` through `upstream`. */
  constructor(owner: DnsConnectionOwner, upstream: Upstream, server: Endpoint) {
    this.#owner = owner;
    this.server = server.clone();
    this.#stream = upstream.connect({ name: null, endpoint: this.server }, this);
  }

  /** Sends a query; false when too much waits already. */
  send(query: Query): boolean {
    const { bytes } = query;
    if (this.#outputEnd - this.#outputStart + bytes.length + 2 > MAX_OUTPUT) return false;
    this.#reserve(bytes.length + 2);
    const output = this.#output;
    output[this.#outputEnd] = bytes.length >> 8;
    output[this.#outputEnd + 1] = bytes.length & 255;
    output.set(bytes, this.#outputEnd + 2);
    this.#outputEnd += bytes.length + 2;
    this.pending.add(query);
    query.connection = this;
    this.#owner.timers.clear(this.#idle);
    this.#push();
    return true;
  }

  /** `query` is answered, expired or evicted. */
  settle(query: Query): void {
    this.pending.delete(query);
    if (this.pending.size === 0 && !this.#closed) {
      this.#owner.timers.set(this.#idle, this.#owner.timers.now() + IDLE_LIFE);
    }
  }

  /** Closes without telling the owner. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#owner.timers.clear(this.#idle);
    this.#stream.close();
  }

  // ---- from the upstream ------------------------------------------------------------------------

  onOpen(): void {
    this.#open = true;
    this.#push();
  }

  onRefused(refusal: Refusal): void {
    this.#closed = true;
    this.#owner.timers.clear(this.#idle);
    this.#owner.ended(this, refusal);
  }

  onReadable(): void {
    const stream = this.#stream;
    const { memory } = this.#owner;
    if (stream.shape !== "direct") return;
    for (let i = 0; i < MAX_READS && !this.#closed; i++) {
      this.#rows[0] = memory.scratchStart;
      this.#rows[1] = CHUNK;
      const got = stream.recv(this.#rows, 1);
      if (got === -EAGAIN) return;
      if (got <= 0) {
        this.#end();
        return;
      }
      this.onBytes(memory.bytes, memory.scratchStart, memory.scratchStart + got);
      if (got < CHUNK) return;
    }
  }

  onBytes(bytes: Uint8Array, start: number, end: number): void {
    for (let at = start; at < end && !this.#closed; ) {
      const taken = Math.min(end - at, MAX_FRAME - this.#inputEnd);
      this.#append(bytes, at, at + taken);
      at += taken;
      this.#parse();
    }
  }

  onEnd(): void {
    this.#end();
  }

  onReset(): void {
    this.#end();
  }

  onWritable(): void {
    this.#blocked = false;
    this.#push();
  }

  /** Nothing to do for a while. */
  onTimer(): void {
    this.#end();
  }

  // ---- within ------------------------------------------------------------------------------------

  #end(): void {
    if (this.#closed) return;
    this.close();
    this.#owner.ended(this, null);
  }

  /** Sends what waits. A broken stream tells by its own event, so that the owner is never called from here. */
  #push(): void {
    while (this.#open && !this.#blocked && this.#outputStart < this.#outputEnd) {
      const length = Math.min(CHUNK, this.#outputEnd - this.#outputStart);
      const taken = this.#write(this.#outputStart, this.#outputStart + length);
      if (taken > 0) this.#outputStart += taken;
      if (taken < length) this.#blocked = true;
    }
    if (this.#outputStart === this.#outputEnd) {
      this.#outputStart = 0;
      this.#outputEnd = 0;
    }
  }

  #write(start: number, end: number): number {
    const stream = this.#stream;
    if (stream.shape === "layered") return stream.send(this.#output, start, end);
    const { memory } = this.#owner;
    memory.bytes.set(this.#output.subarray(start, end), memory.scratchStart);
    this.#rows[0] = memory.scratchStart;
    this.#rows[1] = end - start;
    return stream.send(this.#rows, 1);
  }

  /** Makes room for `octets` behind the output. */
  #reserve(octets: number): void {
    if (this.#outputEnd + octets <= this.#output.length) return;
    const waiting = this.#outputEnd - this.#outputStart;
    const target =
      waiting + octets <= this.#output.length
        ? this.#output
        : new Uint8Array(2 * (waiting + octets));
    target.set(this.#output.subarray(this.#outputStart, this.#outputEnd));
    this.#output = target;
    this.#outputStart = 0;
    this.#outputEnd = waiting;
  }

  #append(bytes: Uint8Array, start: number, end: number): void {
    const needed = this.#inputEnd + end - start;
    if (needed > this.#input.length) {
      const larger = new Uint8Array(Math.min(MAX_FRAME, 2 * needed));
      larger.set(this.#input.subarray(0, this.#inputEnd));
      this.#input = larger;
    }
    this.#input.set(bytes.subarray(start, end), this.#inputEnd);
    this.#inputEnd = needed;
  }

  /** Hands on every whole message. A full buffer always holds one. */
  #parse(): void {
    const input = this.#input;
    let at = 0;
    while (this.#inputEnd - at >= 2 && !this.#closed) {
      const stop = at + 2 + (((input[at] as number) << 8) | (input[at + 1] as number));
      if (stop > this.#inputEnd) break;
      this.lastMessageAt = this.#owner.timers.now();
      if (this.#owner.received(this, input, at + 2, stop)) this.answers++;
      at = stop;
    }
    input.copyWithin(0, at, this.#inputEnd);
    this.#inputEnd -= at;
  }
}

const EAGAIN = 11;
