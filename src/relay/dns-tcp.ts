/**
 * Lookups over TCP through CONNECT: one reused connection per resolver, few resolvers at a time (RFC 7766 §6.2.1).
 *
 * A connection that closes on queries is dialled anew for them; a query on which a second one closes without any
 * answer has failed. Dials do not pass the dial queue: they are few, and names must resolve while it is full.
 */

import type { MemoryLayout } from "../memory.ts";
import type { Refusal, Upstream } from "../socks/ports.ts";
import type { Timers } from "../stack/timer-wheel.ts";
import type { RelayContext } from "./context.ts";
import { DnsConnection, type DnsConnectionOwner } from "./dns-connection.ts";
import type { Query } from "./dns-query.ts";

export interface DnsTcpOwner {
  /** A message of `connection`: [start, end) of `bytes`, valid during the call. True: it answered a query. */
  received(connection: DnsConnection, bytes: Uint8Array, start: number, end: number): boolean;
  /** There is no way to get an answer. */
  failed(query: Query): void;
}

/** Connections at a time. */
export const MAX_DNS_CONNECTIONS = 8;

export class DnsTcp implements DnsConnectionOwner {
  readonly memory: MemoryLayout;
  readonly timers: Timers;
  readonly #owner: DnsTcpOwner;
  readonly #context: RelayContext;
  readonly #upstream: Upstream;
  /** The least recently used first. */
  readonly #connections: DnsConnection[] = [];

  constructor(owner: DnsTcpOwner, context: RelayContext, upstream: Upstream) {
    this.#owner = owner;
    this.#context = context;
    this.#upstream = upstream;
    this.memory = context.memory;
    this.timers = context.timers;
  }

  /** Sends a query to its server; `failed` may follow within the call. */
  send(query: Query): void {
    if (!this.#connection(query).send(query)) this.#owner.failed(query);
  }

  /** Gives up a connection that does not answer; its queries move to a new one. */
  replace(connection: DnsConnection): void {
    connection.close();
    this.ended(connection, null);
  }

  close(): void {
    for (const connection of this.#connections) connection.close();
    this.#connections.length = 0;
  }

  received(connection: DnsConnection, bytes: Uint8Array, start: number, end: number): boolean {
    return this.#owner.received(connection, bytes, start, end);
  }

  ended(connection: DnsConnection, refusal: Refusal | null): void {
    this.#forget(connection);
    if (refusal !== null) {
      this.#context.logRefusal(this.#upstream, refusal);
      this.#context.log.debug?.(`dns: no connection to the resolver: ${refusal.error.message}`);
    }
    for (const query of connection.pending) {
      query.connection = null;
      const again = refusal === null && (connection.answers > 0 || !query.retried);
      if (connection.answers === 0) query.retried = true;
      if (again) this.send(query);
      else this.#owner.failed(query);
    }
    connection.pending.clear();
  }

  #connection(query: Query): DnsConnection {
    const connections = this.#connections;
    for (let i = 0; i < connections.length; i++) {
      const connection = connections[i] as DnsConnection;
      if (!connection.server.equals(query.server)) continue;
      connections.splice(i, 1);
      connections.push(connection);
      return connection;
    }
    if (connections.length >= MAX_DNS_CONNECTIONS) this.#evict();
    const connection = new DnsConnection(this, this.#upstream, query.server);
    connections.push(connection);
    return connection;
  }

  /** Closes an idle connection, or else the least recently used one; its queries fail. */
  #evict(): void {
    const victim =
      this.#connections.find((connection) => connection.pending.size === 0) ??
      (this.#connections[0] as DnsConnection);
    this.#forget(victim);
    victim.close();
    for (const query of victim.pending) {
      query.connection = null;
      this.#owner.failed(query);
    }
    victim.pending.clear();
  }

  #forget(connection: DnsConnection): void {
    const at = this.#connections.indexOf(connection);
    if (at >= 0) this.#connections.splice(at, 1);
  }
}
