/**
 * A client that asks our resolver over TCP (RFC 7766) under `--dns fake`, where it must hear the same as over UDP.
 *
 * Queries are read as they come and answered in any order. A client that does not read its answers is not listened to
 * meanwhile; one that sends what is no query is reset. Idle connections end by themselves (RFC 7766 §6.2.3).
 */

import type { TcpConnection, TcpHandler } from "../stack/ports.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { RelayContext } from "./context.ts";
import { isQuery } from "./dns-message.ts";
import type { DnsClient } from "./dns-query.ts";
import { type DnsRelay, MAX_QUERY } from "./dns-relay.ts";

/** Who is told when it has ended. */
export interface DnsStreamOwner {
  lookupsEnded(stream: DnsStream): void;
}

/** Octets of answers that wait for the client. */
const MAX_OUTPUT = 256 * 1024;
const IDLE_LIFE = 30_000;

export class DnsStream implements TcpHandler, TimerHandler, DnsClient {
  readonly isStream: boolean = true;
  /** Where answers go; null once the connection has ended. */
  flow: this | null = this;
  readonly #owner: DnsStreamOwner;
  readonly #context: RelayContext;
  readonly #dns: DnsRelay;
  readonly #connection: TcpConnection;
  readonly #target: Endpoint;
  readonly #idle: Timer = new Timer(this);
  /** Queries without answer. */
  #asked = 0;
  #finished = false;
  /** What the connection had no room for. */
  #output: Uint8Array = new Uint8Array(0);

  constructor(
    owner: DnsStreamOwner,
    context: RelayContext,
    dns: DnsRelay,
    connection: TcpConnection,
  ) {
    this.#owner = owner;
    this.#context = context;
    this.#dns = dns;
    this.#connection = connection;
    this.#target = connection.target.clone();
  }

  start(): void {
    this.#connection.accept();
    this.#rest();
  }

  close(): void {
    if (this.flow === null) return;
    this.#connection.abort();
    this.#end();
  }

  // ---- from the stack ---------------------------------------------------------------------------

  onReadable(): void {
    while (this.flow !== null && this.#output.length === 0) {
      const length = this.#nextQuery();
      if (length < 0) break;
      const { memory, stats } = this.#context;
      const start = memory.scratchStart;
      if (length > MAX_QUERY || !isQuery(memory.bytes, start, start + length)) {
        stats.dnsMalformed++;
        this.close();
        return;
      }
      this.#connection.consume(2 + length);
      this.#asked++;
      this.#dns.query(this, this.#target, start, start + length);
    }
    this.#dns.flush();
  }

  onFin(): void {
    this.#finished = true;
    this.#rest();
  }

  onWritable(): void {
    const output = this.#output;
    if (output.length === 0) return;
    this.#output = output.subarray(this.#connection.write(output, 0, output.length));
    if (this.#output.length > 0) return;
    this.onReadable();
    this.#rest();
  }

  onClosed(): void {
    if (this.flow !== null) this.#end();
  }

  onTimer(): void {
    if (this.#asked === 0 && this.#output.length === 0) this.#connection.shutdown();
  }

  // ---- from the lookups -------------------------------------------------------------------------

  /** An answer: [start, end) of the memory. */
  send(_from: Endpoint, start: number, end: number): boolean {
    const waiting = this.#output.length;
    if (waiting + 2 + end - start > MAX_OUTPUT) {
      this.close();
      return false;
    }
    const output = new Uint8Array(waiting + 2 + end - start);
    output.set(this.#output);
    output[waiting] = (end - start) >> 8;
    output[waiting + 1] = end - start;
    output.set(this.#context.memory.bytes.subarray(start, end), waiting + 2);
    const taken = waiting > 0 ? 0 : this.#connection.write(output, 0, output.length);
    this.#output = output.subarray(taken);
    this.#asked--;
    this.#rest();
    return true;
  }

  // ---- within ------------------------------------------------------------------------------------

  /** Copies the next message into the scratch. Returns its length; -1: it is not all there. */
  #nextQuery(): number {
    const { memory, rows } = this.#context;
    const count = this.#connection.readable(rows);
    const at = memory.scratchStart;
    let held = 0;
    for (let row = 0; row < 2 * count && held < 2 + MAX_QUERY; row += 2) {
      const start = rows[row] as number;
      const length = Math.min(rows[row + 1] as number, 2 + MAX_QUERY - held);
      memory.bytes.copyWithin(at + held, start, start + length);
      held += length;
    }
    if (held < 2) return -1;
    const length = ((memory.bytes[at] as number) << 8) | (memory.bytes[at + 1] as number);
    if (length > MAX_QUERY) return length;
    if (held < 2 + length) return -1;
    memory.bytes.copyWithin(at, at + 2, at + 2 + length);
    return length;
  }

  /** Nothing is owed to the client: its end is ours, its silence too. */
  #rest(): void {
    if (this.flow === null || this.#asked > 0 || this.#output.length > 0) return;
    const { timers } = this.#context;
    if (this.#finished) this.#connection.shutdown();
    else timers.set(this.#idle, timers.now() + IDLE_LIFE);
  }

  #end(): void {
    this.flow = null;
    this.#context.timers.clear(this.#idle);
    this.#owner.lookupsEnded(this);
  }
}
