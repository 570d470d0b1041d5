/**
 * The built-in SOCKS server: CONNECT, BIND and UDP ASSOCIATE (RFC 1928), user and password (RFC 1929); SOCKS4 and 4a.
 *
 * It is the default upstream and must not be the bottleneck, so it lives on the same sockets, poller and memory as
 * everything else. This file owns the listening socket, the bounds and what all connections share. Clients are
 * bounded by the memory it was given (two slots each, see {@link SlotPool}); at the bound, and when descriptors run
 * out, new clients wait in the kernel's queue.
 */

import { constants } from "node:os";
import { TunnelError } from "../errors.ts";
import { type Log, LogLimiter } from "../log.ts";
import { type Addon, DGRAM_RX_ROW, DGRAM_TX_ROW, Epoll } from "../native/binding.ts";
import type { Poller, PollHandler } from "../native/poller.ts";
import { Timer, type TimerHandler, type Timers } from "../stack/timer-wheel.ts";
import {
  type Cidr,
  Endpoint,
  formatAddress,
  formatEndpoint,
  parseAddress,
} from "../stack/wire/address.ts";
import { AccessPolicy, ownAddresses, type Verdict } from "./access.ts";
import type { AccessRule } from "./access-rules.ts";
import { SlotPool } from "./buffers.ts";
import { ClientTable } from "./client-table.ts";
import { CredentialTable } from "./credentials.ts";
import { type Lookup, NameResolver, type Turn } from "./name-resolver.ts";
import type { OwnSockets } from "./own-sockets.ts";
import { UDP_IDLE } from "./server-association.ts";
import { type ConnectionOwner, ServerConnection } from "./server-connection.ts";
import { MAX_DATAGRAMS } from "./server-datagram-port.ts";
import type { ConnectionEnvironment, ServerMemory } from "./server-environment.ts";
import { isExhaustion } from "./server-errno.ts";
import { ServerStats } from "./server-stats.ts";
import { SourceAddresses } from "./source-addresses.ts";
import { FragmentStore } from "./udp-reassembly.ts";
import { readWords, writeWords } from "./words.ts";

export interface SocksServerOptions {
  /** An IPv4 or IPv6 address; "::" serves both families. */
  readonly address: string;
  /** 0: one of the kernel's choice. */
  readonly port: number;
  /** User → password; null: anyone who reaches the port. */
  readonly credentials: ReadonlyMap<string, string> | null;
  /** Destinations, in order; what none matches is judged by `allowPrivate`. */
  readonly rules?: readonly AccessRule[];
  /** Who may be a client; none: everyone. */
  readonly allowClients?: readonly Cidr[];
  /** Clients at a time, at most as many as there is memory for; and of them with one address. 0: no other limit. */
  readonly maxClients?: number;
  readonly maxPerClient?: number;
  /** Silence, ms, that ends a connection, and one that one side has finished; 0: none does. */
  readonly tcpIdle?: number;
  readonly tcpHalfClosed?: number;
  /** Silence that ends an association, ms. */
  readonly udpIdle?: number;
  /** Opens private networks, link-local and this host itself to clients. */
  readonly allowPrivate: boolean;
  /** Listen beyond loopback without credentials. */
  readonly open: boolean;
  /** SO_MARK and SO_BINDTODEVICE of sockets towards targets. */
  readonly mark?: number;
  readonly device?: string;
  /** Addresses of this host that connections to targets leave from, in turn; none: the kernel's choice. */
  readonly sources?: readonly Endpoint[];
  /** Where BIND listens, an address of this host; none: one that suits the expected peer. */
  readonly bindAddress?: Endpoint;
  /** Where sockets that lead out are written down. */
  readonly ownSockets?: OwnSockets;
  /** Speaks SOCKS6, too (experimental). */
  readonly socks6?: boolean;
  /** Rewrites every destination in place, before the access rules; replies keep the address that was asked for. */
  readonly translate?: (destination: Endpoint) => void;
}

export interface SocksServerEnvironment {
  readonly addon: Addon;
  readonly poller: Poller;
  /**
   * Scratch and datagrams are borrowed for one call at a time. The pages belong to the server alone: next to a
   * stack, give it a part (splitPages of memory.ts).
   */
  readonly memory: ServerMemory;
  readonly timers: Timers;
  readonly log: Log;
  /** Names are resolved outside the loop: their answers enter it here. */
  readonly turn: Turn;
  /** getaddrinfo(3) unless a test has another. */
  readonly lookup?: Lookup;
}

/** Connections waiting to be accepted. */
const BACKLOG = 1024;
/** Accepted per event. */
const ACCEPTS_PER_EVENT = 64;
/** How long accepting pauses after EMFILE and the like. */
const ACCEPT_BACK_OFF = 100;
/** Associations and waiting BINDs of one client, where clients are limited at all: a quarter of either is for others. */
export const MAX_SHARE = 768;
/** How old the list of this host's addresses may be. */
const OWN_ADDRESSES_LIFE = 5000;

const { EADDRINUSE, EACCES, EADDRNOTAVAIL, EAGAIN } = constants.errno;

export class SocksServer
  implements PollHandler, TimerHandler, ConnectionEnvironment, ConnectionOwner
{
  readonly stats: ServerStats = new ServerStats();
  /** Clients at a time. */
  readonly maxConnections: number;
  readonly addon: Addon;
  readonly poller: Poller;
  readonly memory: ServerMemory;
  readonly timers: Timers;
  readonly log: Log;
  readonly slots: SlotPool;
  readonly names: NameResolver;
  readonly credentials: CredentialTable | null;
  readonly mark: number;
  readonly device: string;
  readonly bindAddress: Endpoint | null;
  readonly sources: SourceAddresses;
  readonly ownSockets: OwnSockets | null;
  readonly translate: ((destination: Endpoint) => void) | null;
  readonly socks6: boolean;
  readonly row: Int32Array = new Int32Array(2);
  readonly address: Int32Array = new Int32Array(5);
  readonly received: Int32Array = new Int32Array(MAX_DATAGRAMS * DGRAM_RX_ROW);
  readonly sending: Int32Array = new Int32Array(MAX_DATAGRAMS * DGRAM_TX_ROW);
  readonly #options: SocksServerOptions;
  readonly tcpIdle: number;
  readonly tcpHalfClosed: number;
  readonly udpIdle: number;
  readonly fragments: FragmentStore;
  readonly shares: ClientTable;
  readonly #policy: AccessPolicy;
  readonly #clients: ClientTable;
  readonly #connections = new Set<ServerConnection>();
  readonly #timer = new Timer(this);
  readonly #limiter = new LogLimiter();
  #listener = -1;
  #pollId = -1;
  #ownKnown = Number.NEGATIVE_INFINITY;

  constructor(options: SocksServerOptions, environment: SocksServerEnvironment) {
    const { memory, timers } = environment;
    this.#options = options;
    this.addon = environment.addon;
    this.poller = environment.poller;
    this.memory = memory;
    this.timers = timers;
    this.log = environment.log;
    this.slots = new SlotPool(memory.pagesStart, memory.pagesEnd, timers, memory.released);
    const room = Math.floor(this.slots.capacity / 2);
    this.maxConnections = Math.min(room, options.maxClients || room);
    this.names = new NameResolver(environment.turn, environment.lookup);
    this.credentials =
      options.credentials === null ? null : new CredentialTable(options.credentials);
    this.mark = options.mark ?? 0;
    this.device = options.device ?? "";
    this.bindAddress = options.bindAddress ?? null;
    this.sources = new SourceAddresses({
      addon: this.addon,
      timers,
      mark: this.mark,
      device: this.device,
      sources: options.sources ?? [],
    });
    this.ownSockets = options.ownSockets ?? null;
    this.translate = options.translate ?? null;
    this.socks6 = options.socks6 ?? false;
    this.tcpIdle = options.tcpIdle ?? 0;
    this.tcpHalfClosed = options.tcpHalfClosed ?? 0;
    this.udpIdle = options.udpIdle ?? UDP_IDLE;
    this.fragments = new FragmentStore(timers);
    this.#policy = new AccessPolicy(options.allowPrivate, options.rules);
    const { maxPerClient = 0 } = options;
    this.#clients = new ClientTable(options.allowClients ?? [], maxPerClient);
    this.shares = new ClientTable([], Math.min(maxPerClient, MAX_SHARE));
  }

  /**
   * Starts to listen; returns the address and port in use.
   *
   * @throws TunnelError ERR_PROXY_OPEN (beyond loopback, no credentials, not `open`), ERR_PERMISSION (a low port),
   * ERR_PROXY_LISTEN.
   */
  listen(): Endpoint {
    const { address, port, open } = this.#options;
    const endpoint = parseAddress(address);
    if (endpoint === null) {
      throw new TunnelError(
        "ERR_PROXY_LISTEN",
        `cannot listen on "${address}": not an IPv4 or IPv6 address; write 127.0.0.1, ::1 or another of this host`,
      );
    }
    endpoint.port = port;
    if (!endpoint.isLoopback && this.credentials === null && !open) {
      throw new TunnelError(
        "ERR_PROXY_OPEN",
        `will not listen on ${formatEndpoint(endpoint)}: whoever reaches it could use the proxy; set a user and password, listen on 127.0.0.1, or say --open`,
      );
    }
    writeWords(this.address, endpoint);
    let result = this.addon.tcpListen(this.address, BACKLOG);
    if (result >= 0) {
      this.#listener = result;
      result = this.poller.add(this.#listener, this, Epoll.IN);
    }
    if (result < 0) {
      this.close();
      const code = result === -EACCES ? "ERR_PERMISSION" : "ERR_PROXY_LISTEN";
      throw new TunnelError(code, listenFailure(endpoint, -result));
    }
    this.#pollId = result;
    this.addon.localAddress(this.#listener, this.address);
    endpoint.port = this.address[4] as number;
    return endpoint;
  }

  /** Stops listening and ends every connection. Idempotent. */
  close(): void {
    if (this.#pollId >= 0) this.poller.remove(this.#pollId, this.#listener);
    if (this.#listener >= 0) this.addon.close(this.#listener);
    this.#pollId = -1;
    this.#listener = -1;
    for (const connection of this.#connections) connection.close();
    this.names.close();
    this.slots.close();
    this.timers.clear(this.#timer);
  }

  /** The listening socket has clients. */
  onPoll(_bits: number): void {
    for (let i = 0; i < ACCEPTS_PER_EVENT; i++) {
      if (this.#connections.size >= this.maxConnections) {
        this.stats.acceptFull++;
        this.#warn("full", `${this.maxConnections} clients, new ones wait`);
        this.#listenFor(0);
        return;
      }
      const fd = this.addon.tcpAccept(this.#listener, this.address);
      if (fd === -EAGAIN) return;
      if (fd < 0) {
        // Else the client's fault (it left before it was accepted): on to the next.
        if (isExhaustion(-fd)) {
          this.#backOff();
          return;
        }
        continue;
      }
      this.#accept(fd);
    }
  }

  /** The back-off after exhaustion is over. */
  onTimer(): void {
    this.#listenFor(Epoll.IN);
  }

  /** ConnectionEnvironment: the access rules, with a recent list of this host's addresses. */
  judge(client: Endpoint, destination: Endpoint): Verdict {
    const now = this.timers.now();
    if (now - this.#ownKnown >= OWN_ADDRESSES_LIFE) {
      this.#ownKnown = now;
      this.#policy.setOwn(ownAddresses(this.addon));
    }
    return this.#policy.judge(client, destination);
  }

  /** Room, or a descriptor, for another client. */
  onConnectionClosed(connection: ServerConnection): void {
    const wasFull = this.#connections.size >= this.maxConnections;
    if (this.#connections.delete(connection)) {
      this.stats.activeConnections--;
      this.#clients.leave(connection.peer);
    }
    const wasExhausted = this.#timer.deadline >= 0;
    if (!wasFull && !wasExhausted) return;
    this.timers.clear(this.#timer);
    this.#listenFor(Epoll.IN);
  }

  /** ConnectionEnvironment: a connection to a target was not made for want of something of ours. */
  onExhausted(errno: number): void {
    this.stats.dialsExhausted++;
    if (errno === EADDRNOTAVAIL) {
      this.#warn(
        "ports",
        "no local port is free for a connection; widen net.ipv4.ip_local_port_range, or set net.ipv4.tcp_tw_reuse=1",
      );
    } else {
      this.#warn("exhausted", "no descriptor or memory for a connection; raise ulimit -n");
    }
  }

  #accept(fd: number): void {
    const peer = readWords(this.address, 0, new Endpoint());
    const admission = this.#clients.enter(peer);
    if (admission !== "admitted") {
      this.#turnAway(fd, peer, admission);
      return;
    }
    this.stats.accepted++;
    this.stats.activeConnections++;
    const connection = new ServerConnection(this, fd, peer, this);
    this.#connections.add(connection);
    connection.start();
  }

  #turnAway(fd: number, peer: Endpoint, why: "not-allowed" | "too-many"): void {
    this.addon.close(fd);
    if (why === "not-allowed") {
      this.stats.clientsNotAllowed++;
      this.log.debug?.(`proxy: ${formatEndpoint(peer)} may not be a client`);
    } else {
      this.stats.clientsTooMany++;
      this.#warn("per-client", `${formatAddress(peer)} has too many connections, more are closed`);
    }
  }

  #backOff(): void {
    this.stats.acceptExhausted++;
    this.#warn("exhausted", "no descriptor or memory for another client; raise ulimit -n");
    this.#listenFor(0);
    this.timers.set(this.#timer, this.timers.now() + ACCEPT_BACK_OFF);
  }

  #listenFor(bits: number): void {
    if (this.#pollId >= 0) this.poller.modify(this.#pollId, this.#listener, bits);
  }

  #warn(key: string, line: string): void {
    const suffix = this.#limiter.pass(key, this.timers.now());
    if (suffix !== null) this.log.warn?.(`proxy: ${line}${suffix}`);
  }
}

function listenFailure(endpoint: Endpoint, errno: number): string {
  const what = `cannot listen on ${formatEndpoint(endpoint)}`;
  switch (errno) {
    case EADDRINUSE:
      return `${what}: another program has the port; choose another port or stop that program`;
    case EACCES:
      return `${what}: ports below 1024 need CAP_NET_BIND_SERVICE; choose another port or run this as root`;
    case EADDRNOTAVAIL:
      return `${what}: this host has no such address; choose one that \`ip address\` shows`;
    default:
      return `${what}: ${errnoName(errno)}; choose another address or port`;
  }
}

function errnoName(errno: number): string {
  for (const [name, value] of Object.entries(constants.errno)) if (value === errno) return name;
  return `errno ${errno}`;
}
