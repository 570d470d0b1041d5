/**
 * Lookups of all clients over one association, or over TCP: `--dns auto|udp|tcp`, and what `fake` leaves of them.
 *
 * Every query gets an id of ours, drawn at random among the free ones (RFC 5452 §9.2); an answer counts only if id,
 * question and server are those of a query in flight. Queries live for LIFE; one that cannot be answered ends in
 * SERVFAIL rather than in silence, so that a program says "temporary failure" instead of hanging.
 *
 * `auto` starts over UDP. When the upstream refuses it, or an association that never answered anything stays silent
 * for PROBE_TIME, lookups move to TCP, and it is remembered.
 */

import type { Association, AssociationHandler, Refusal } from "../socks/ports.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { type Endpoint, formatEndpoint } from "../stack/wire/address.ts";
import { Place } from "./address-plan.ts";
import { Backoff } from "./backoff.ts";
import { AddressDestination, type RelayContext } from "./context.ts";
import type { DnsConnection } from "./dns-connection.ts";
import {
  advertisedSize,
  answers,
  emptyAnswer,
  HEADER,
  isQuery,
  MIN_UDP_SIZE,
  questionText,
  Rcode,
} from "./dns-message.ts";
import { type DnsClient, Query } from "./dns-query.ts";
import { DnsTcp, type DnsTcpOwner } from "./dns-tcp.ts";
import type { FakeResolver } from "./fake-resolver.ts";
import type { HostName } from "./host-name.ts";
import type { UdpUpstream } from "./udp-upstream.ts";

export type { DnsClient } from "./dns-query.ts";

export interface DnsRelayOptions {
  readonly mode: "auto" | "udp" | "tcp";
  /** The resolver behind ours; null: there is none. */
  readonly server: Endpoint | null;
  /** Fills its argument with random numbers. */
  readonly random: (ids: Uint16Array) => void;
}

/** Queries in flight; the oldest gives way. */
export const MAX_QUERIES = 4096;
/** Longer than a resolver's own try (5 s in glibc), so that a slow answer still finds it. */
const LIFE = 8_000;
/** How long an association may owe its very first answer. */
const PROBE_TIME = 2_000;
/** How long lookups stay on TCP after UDP was silent. */
const TCP_TIME = 10 * 60_000;
/** A query of a stub resolver is far below. */
export const MAX_QUERY = 4096;
/** Random numbers drawn at a time. */
const DRAW = 64;

const EXPIRE = 0;
const PROBE = 1;
const RETRY = 2;

export class DnsRelay implements AssociationHandler, DnsTcpOwner, TimerHandler {
  readonly #context: RelayContext;
  readonly #upstream: UdpUpstream;
  readonly #options: DnsRelayOptions;
  readonly #hostName: HostName;
  readonly #fake: FakeResolver | null;
  readonly #tcp: DnsTcp;
  /** By id, the oldest first: all have the same life. */
  readonly #queries = new Map<number, Query>();
  readonly #expire: Timer = new Timer(this, EXPIRE);
  readonly #probe: Timer = new Timer(this, PROBE);
  readonly #retry: Timer = new Timer(this, RETRY);
  readonly #backoff = new Backoff();
  readonly #destination: AddressDestination = new AddressDestination();
  readonly #ids = new Uint16Array(DRAW);
  #idsLeft = 0;
  #association: Association | null = null;
  #open = false;
  #dirty = false;
  /** An answer has come over UDP. */
  #proven = false;
  #lastAnswerAt = -1;
  /** When the association was opened, ms. */
  #openedAt = -1;
  #tcpUntil = 0;

  constructor(
    context: RelayContext,
    upstream: UdpUpstream,
    options: DnsRelayOptions,
    hostName: HostName,
    fake: FakeResolver | null,
  ) {
    this.#context = context;
    this.#upstream = upstream;
    this.#options = options;
    this.#hostName = hostName;
    this.#fake = fake;
    this.#tcp = new DnsTcp(this, context, upstream.upstream);
  }

  /** Forwards the datagram [start, end) of the memory, sent by `client` to `target`. Call `flush` afterwards. */
  query(client: DnsClient, target: Endpoint, start: number, end: number): void {
    const { memory, stats, log } = this.#context;
    if (!isQuery(memory.bytes, start, end) || end - start > MAX_QUERY) {
      stats.dnsMalformed++;
      return;
    }
    stats.dnsQueries++;
    const bytes = memory.bytes.slice(start, end);
    if (this.#hostName.isAskedBy(memory.bytes, start)) {
      stats.dnsLocal++;
      this.#reply(client, target, this.#hostName.answer(bytes));
      return;
    }
    const ours = this.#context.plan.place(target) === Place.RESOLVER;
    const local = ours && this.#fake !== null ? this.#fake.answer(bytes) : null;
    if (local !== null) {
      this.#reply(client, target, fitted(client, bytes, local));
      return;
    }
    const server = ours ? this.#options.server : target;
    log.debug?.(
      `dns: ${questionText(bytes, 0, bytes.length)} from ${server && formatEndpoint(server)}`,
    );
    if (server === null) {
      stats.dnsFailed++;
      this.#reply(client, target, emptyAnswer(bytes, Rcode.SERVFAIL));
      return;
    }
    if (this.#queries.size >= MAX_QUERIES) this.#evict();
    const now = this.#context.timers.now();
    const query = new Query(this.#freeId(), client, target, server, bytes, now, now + LIFE);
    this.#queries.set(query.id, query);
    if (this.#expire.deadline < 0) this.#context.timers.set(this.#expire, query.deadline);
    this.#transmit(query, now);
  }

  /** Hands queries to the kernel. */
  flush(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    this.#association?.flush();
  }

  close(): void {
    const { timers } = this.#context;
    timers.clear(this.#expire);
    timers.clear(this.#probe);
    timers.clear(this.#retry);
    this.#queries.clear();
    this.#association?.close();
    this.#association = null;
    this.#open = false;
    this.#tcp.close();
  }

  // ---- from the association -----------------------------------------------------------------------

  onOpen(): void {
    this.#upstream.granted();
    this.#open = true;
    this.#openedAt = this.#context.timers.now();
    for (const query of this.#queries.values()) {
      if (query.connection === null) this.#sendDatagram(query);
    }
    this.flush();
  }

  onRefused(refusal: Refusal): void {
    const context = this.#context;
    this.#upstream.refused(refusal, context);
    this.#withoutAssociation();
    if (this.#options.mode === "auto") this.#moveToTcp();
    else this.#failDatagrams();
  }

  onDatagram(from: Endpoint, start: number, end: number): void {
    const { memory, stats, timers } = this.#context;
    const query = this.#match(memory.bytes, start, end, null);
    if (query === null || !query.server.equals(from)) {
      stats.dnsUnmatched++;
      return;
    }
    this.#proven = true;
    this.#lastAnswerAt = timers.now();
    timers.clear(this.#probe);
    this.#backoff.succeed();
    this.#queries.delete(query.id);
    stats.dnsAnswers++;
    memory.bytes[start] = query.clientId >> 8;
    memory.bytes[start + 1] = query.clientId & 255;
    query.client.flow?.send(query.target, start, end);
  }

  onLost(): void {
    this.#context.stats.associationsLost++;
    this.#withoutAssociation();
    if (this.#options.mode === "auto") this.#moveToTcp();
    else if (this.#queries.size > 0) {
      this.#context.timers.set(this.#retry, this.#backoff.retryAt);
    }
  }

  // ---- from the connections -----------------------------------------------------------------------

  received(connection: DnsConnection, bytes: Uint8Array, start: number, end: number): boolean {
    const query = this.#match(bytes, start, end, connection);
    if (query === null) {
      this.#context.stats.dnsUnmatched++;
      return false;
    }
    this.#queries.delete(query.id);
    connection.settle(query);
    this.#context.stats.dnsAnswers++;
    this.#answer(query, fitted(query.client, query.bytes, bytes.slice(start, end)));
    return true;
  }

  failed(query: Query): void {
    if (!this.#queries.delete(query.id)) return;
    this.#context.stats.dnsFailed++;
    this.#answer(query, emptyAnswer(query.bytes, Rcode.SERVFAIL));
  }

  onTimer(timer: Timer): void {
    const now = this.#context.timers.now();
    if (timer.kind === EXPIRE) this.#expireQueries(now);
    else if (timer.kind === PROBE) this.#giveUpUdp(now);
    else if (this.#queries.size > 0 && this.#association === null) this.#associate();
  }

  // ---- within ------------------------------------------------------------------------------------

  #transmit(query: Query, now: number): void {
    const { mode } = this.#options;
    const resting = this.#association === null && now < this.#backoff.retryAt;
    const lacking = this.#upstream.isLacking(now);
    const isStream = query.client.isStream === true;
    if (
      isStream ||
      mode === "tcp" ||
      (mode === "auto" && (resting || lacking || now < this.#tcpUntil))
    ) {
      this.#tcp.send(query);
    } else if (lacking) {
      this.failed(query);
    } else if (resting) {
      if (this.#retry.deadline < 0) this.#context.timers.set(this.#retry, this.#backoff.retryAt);
    } else {
      if (this.#association === null) this.#associate();
      if (mode === "auto" && !this.#proven && this.#probe.deadline < 0) {
        this.#context.timers.set(this.#probe, now + PROBE_TIME);
      }
      if (this.#open) this.#sendDatagram(query);
    }
  }

  #associate(): void {
    this.#association = this.#upstream.upstream.associate(this);
  }

  #sendDatagram(query: Query): void {
    const association = this.#association as Association;
    const { memory, stats } = this.#context;
    const { bytes } = query;
    const at = memory.datagrams.take(bytes.length);
    if (at < 0) {
      stats.datagramsDropped++;
      return;
    }
    memory.bytes.set(bytes, at);
    const to = this.#destination.at(query.server);
    if (!association.send(to, at, at + bytes.length, 0)) {
      association.flush();
      if (!association.send(to, at, at + bytes.length, 0)) stats.datagramsDropped++;
    }
    this.#dirty = true;
  }

  #withoutAssociation(): void {
    this.#association = null;
    this.#open = false;
    this.#dirty = false;
    this.#context.timers.clear(this.#probe);
    this.#backoff.fail(this.#context.timers.now());
  }

  /** The association owes its first answer for too long. */
  #giveUpUdp(now: number): void {
    if (this.#proven) return;
    this.#tcpUntil = now + TCP_TIME;
    this.#association?.close();
    this.#association = null;
    this.#open = false;
    const { label } = this.#upstream.upstream;
    this.#context.log.info?.(`${label}: no answer to lookups over UDP: asking over TCP`);
    this.#moveToTcp();
  }

  #moveToTcp(): void {
    this.#context.stats.dnsFallbacks++;
    for (const query of this.#queries.values()) {
      if (query.connection === null) this.#tcp.send(query);
    }
  }

  #failDatagrams(): void {
    for (const query of this.#queries.values()) {
      if (query.connection === null) this.failed(query);
    }
  }

  #expireQueries(now: number): void {
    const dead: DnsConnection[] = [];
    let isDeaf = false;
    for (const query of this.#queries.values()) {
      if (query.deadline > now) {
        this.#context.timers.set(this.#expire, query.deadline);
        break;
      }
      const { connection } = query;
      if (connection === null) {
        if (this.#lastAnswerAt <= query.sentAt) isDeaf = true;
      } else {
        connection.settle(query);
        // It took the query and said nothing since: it is dead, whatever its socket believes.
        if (connection.lastMessageAt < query.sentAt && !dead.includes(connection)) {
          dead.push(connection);
        }
      }
      this.failed(query);
    }
    if (isDeaf) this.#replaceAssociation(now);
    for (const connection of dead) this.#tcp.replace(connection);
  }

  /**
   * Nothing was answered since a query that has expired: whatever the control connection believes, the association may
   * be gone. `auto` has it prove itself or moves to TCP; otherwise it is made anew, at most once in the life of a query.
   */
  #replaceAssociation(now: number): void {
    this.#proven = false;
    if (this.#options.mode === "auto" || !this.#open || now - this.#openedAt < PROBE_TIME) return;
    this.#association?.close();
    this.#association = null;
    this.#open = false;
    this.#dirty = false;
    if (this.#queries.size > 0) this.#associate();
  }

  #evict(): void {
    for (const query of this.#queries.values()) {
      this.#context.stats.dnsEvicted++;
      this.#queries.delete(query.id);
      query.connection?.settle(query);
      return;
    }
  }

  /** The query in flight over `connection` (null: UDP) that the message answers. */
  #match(
    bytes: Uint8Array,
    start: number,
    end: number,
    connection: DnsConnection | null,
  ): Query | null {
    if (end - start < HEADER) return null;
    const id = ((bytes[start] as number) << 8) | (bytes[start + 1] as number);
    const query = this.#queries.get(id);
    if (query === undefined || query.connection !== connection) return null;
    return answers(query.bytes, bytes, start, end) ? query : null;
  }

  /** Sends `message`, whose id does not matter, to the client of `query`. */
  #answer(query: Query, message: Uint8Array): void {
    message[0] = query.clientId >> 8;
    message[1] = query.clientId & 255;
    this.#reply(query.client, query.target, message);
  }

  #reply(client: DnsClient, target: Endpoint, message: Uint8Array): void {
    const { memory, stats } = this.#context;
    const at = memory.datagrams.take(message.length);
    if (at < 0) {
      stats.datagramsDropped++;
      return;
    }
    memory.bytes.set(message, at);
    client.flow?.send(target, at, at + message.length);
  }

  /** A random id that no query in flight has: with 4,096 of 65,536 taken, the next free one is near. */
  #freeId(): number {
    if (this.#idsLeft === 0) {
      this.#options.random(this.#ids);
      this.#idsLeft = DRAW;
    }
    let id = this.#ids[--this.#idsLeft] as number;
    while (this.#queries.has(id)) id = (id + 1) & 0xffff;
    return id;
  }
}

/** `answer`, or one that sends the client to TCP when it takes no datagram of that size. */
function fitted(client: DnsClient, query: Uint8Array, answer: Uint8Array): Uint8Array {
  const { length } = answer;
  if (
    client.isStream === true ||
    length <= MIN_UDP_SIZE ||
    length <= Math.min(advertisedSize(query), MAX_UDP)
  )
    return answer;
  return emptyAnswer(query, ((answer[3] as number) & 15) as Rcode, true);
}

/** What a UDP datagram holds. */
const MAX_UDP = 65_507;
