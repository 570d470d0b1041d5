/**
 * One client of the built-in server, from accept to close: negotiation (RFC 1928 §3, RFC 1929), request (§4), and
 * the way to its target; then a {@link ServerRelay} or a {@link ServerAssociation} takes over.
 *
 * Messages may come in any pieces, glued together, and followed by early data. A client has {@link NEGOTIATION} ms
 * for its request; resolving and connecting have {@link CONNECTING} ms, longer than a patient client waits, so that
 * the client's own deadline is what it sees. A refusal is followed by FIN and by reading what still comes, for
 * {@link LINGER} ms: closing at once would answer unread octets with RST, which can destroy the reply on its way.
 */

import { constants } from "node:os";
import type { Log } from "../log.ts";
import type { MemoryLayout } from "../memory.ts";
import { Epoll } from "../native/binding.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { Endpoint, formatEndpoint } from "../stack/wire/address.ts";
import type { Verdict } from "./access.ts";
import type { CredentialTable } from "./credentials.ts";
import {
  AddressType,
  Command,
  credentialsNeed,
  greetingNeed,
  greetingOffers,
  MAX_MESSAGE,
  Method,
  PASSWORD_VERSION,
  Reply,
  readAddress,
  readName,
  replyName,
  requestNeed,
  VERSION,
  writeCredentialsStatus,
  writeMethod,
  writeReply,
} from "./message.ts";
import type { NameHandler, NameResolver } from "./name-resolver.ts";
import { type AssociationOwner, ServerAssociation } from "./server-association.ts";
import { type LegOwner, ServerLeg } from "./server-leg.ts";
import { type RelayEnvironment, type RelayOwner, ServerRelay } from "./server-relay.ts";
import type { ServerStats } from "./server-stats.ts";
import { readWords, writeWords } from "./words.ts";

/** What the server lends to its connections. */
export interface ConnectionEnvironment extends RelayEnvironment {
  readonly memory: ServerMemory;
  readonly stats: ServerStats;
  readonly names: NameResolver;
  /** Null: no authentication. */
  readonly credentials: CredentialTable | null;
  readonly log: Log;
  /** Of sockets towards targets. */
  readonly mark: number;
  readonly device: string;
  /** Rewrites every destination, or null. */
  readonly translate: ((destination: Endpoint) => void) | null;
  /** Five int32 for the call at hand. */
  readonly address: Int32Array;
  /** Rows of datagrams for the call at hand. */
  readonly received: Int32Array;
  readonly sending: Int32Array;
  /** Applies the access rules. */
  judge(client: Endpoint, destination: Endpoint): Verdict;
  onConnectionClosed(connection: ServerConnection): void;
}

/** The parts of the worker's memory that the server uses; the page region holds its slots. */
export type ServerMemory = Pick<
  MemoryLayout,
  "bytes" | "scratchStart" | "scratchEnd" | "datagrams" | "pagesStart" | "pagesEnd" | "released"
>;

/** From accept to a whole request. */
export const NEGOTIATION = 10_000;
/** From the request to its reply. */
export const CONNECTING = 60_000;
/** For one address while others are left to try. */
export const ATTEMPT = 5000;
/** From a refusal to close. RFC 1928 §6: not more than 10 s. */
export const LINGER = 2000;
/** Octets read at a time before the relay begins. */
const READ_OCTETS = 4096;
/** Early data kept until the target is connected; more stays in the socket. */
const MAX_EARLY = 16384;
/** Associations of one server; each has three descriptors. */
export const MAX_ASSOCIATIONS = 1024;
/** Dead peers: first probe after a minute of silence, given up after two. */
const KEEP_ALIVE_IDLE = 60;
const KEEP_ALIVE_INTERVAL = 15;
const KEEP_ALIVE_COUNT = 4;

const Phase = {
  GREETING: 0,
  CREDENTIALS: 1,
  REQUEST: 2,
  RESOLVING: 3,
  CONNECTING: 4,
  SERVING: 5,
  REFUSED: 6,
  CLOSED: 7,
} as const;
type Phase = (typeof Phase)[keyof typeof Phase];

const { EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM } = constants.errno;

export class ServerConnection
  implements LegOwner, TimerHandler, NameHandler, RelayOwner, AssociationOwner
{
  readonly #environment: ConnectionEnvironment;
  readonly #client: ServerLeg;
  readonly #target: ServerLeg;
  /** The client's address and port. */
  readonly #peer: Endpoint;
  readonly #destination = new Endpoint();
  readonly #timer = new Timer(this);
  #phase: Phase = Phase.GREETING;
  /** Octets read and not used: part of a message, or early data. */
  #held: Uint8Array | null = null;
  /** Addresses to try, and the next one's index. */
  #addresses: readonly Endpoint[] = [];
  #next = 0;
  /** REP if no address is left. */
  #reply: number = Reply.HOST_UNREACHABLE;
  #deadline = 0;
  #relay: ServerRelay | null = null;
  #association: ServerAssociation | null = null;

  /** Takes over the accepted descriptor. */
  constructor(environment: ConnectionEnvironment, fd: number, peer: Endpoint) {
    this.#environment = environment;
    this.#peer = peer;
    this.#client = new ServerLeg(environment, this);
    this.#target = new ServerLeg(environment, this);
    this.#client.fd = fd;
  }

  /** Begins to read. False: the descriptor cannot be watched, and the connection is closed. */
  start(): boolean {
    if (this.#client.watch(Epoll.IN) < 0) {
      this.close();
      return false;
    }
    this.#arm(NEGOTIATION);
    return true;
  }

  /** Closes everything at once. Idempotent. */
  close(): void {
    if (this.#phase === Phase.CLOSED) return;
    this.#phase = Phase.CLOSED;
    this.#environment.timers.clear(this.#timer);
    this.#association?.close();
    if (this.#relay !== null) {
      this.#relay.close();
    } else {
      this.#client.close();
      this.#target.close();
    }
    this.#environment.onConnectionClosed(this);
  }

  onLeg(leg: ServerLeg, bits: number): void {
    if (leg === this.#target) {
      this.#onConnected();
      return;
    }
    switch (this.#phase) {
      case Phase.RESOLVING:
      case Phase.CONNECTING:
        if ((bits & (Epoll.ERR | Epoll.HUP)) !== 0) this.#abandon();
        else this.#read();
        break;
      case Phase.SERVING:
      case Phase.REFUSED:
        this.#discard();
        break;
      default:
        this.#read();
    }
  }

  onTimer(): void {
    const { stats, timers } = this.#environment;
    if (this.#phase === Phase.CONNECTING && timers.now() < this.#deadline) {
      this.#target.close();
      this.#connectNext();
    } else if (this.#phase === Phase.RESOLVING || this.#phase === Phase.CONNECTING) {
      this.#target.close();
      this.#refuse(this.#reply);
    } else {
      if (this.#phase !== Phase.REFUSED) stats.negotiationTimeouts++;
      this.close();
    }
  }

  onAddresses(addresses: readonly Endpoint[]): void {
    if (this.#phase !== Phase.RESOLVING) return;
    this.#addresses = addresses;
    this.#connectNext();
  }

  onRelayEnd(): void {
    this.close();
  }

  onAssociationEnd(): void {
    this.close();
  }

  // ---- reading before the relay --------------------------------------------------------------------------------

  #read(): void {
    const { addon, memory, row } = this.#environment;
    const { bytes, scratchStart: start } = memory;
    const held = this.#held;
    if (held !== null) bytes.set(held, start);
    row[0] = start + (held?.length ?? 0);
    row[1] = READ_OCTETS;
    const received = addon.recv(this.#client.fd, row, 1);
    if (received === -EAGAIN) return;
    if (received <= 0) {
      this.#onInputEnd(received);
      return;
    }
    const end = (row[0] as number) + received;
    const used = this.#phase <= Phase.REQUEST ? this.#negotiate(start, end) : start;
    if (this.#phase >= Phase.SERVING) return;
    this.#held = used < end ? bytes.slice(used, end) : null;
    if (this.#phase > Phase.REQUEST && end - used >= MAX_EARLY) this.#client.watch(0);
  }

  /** End of stream (0) or an error before the reply. */
  #onInputEnd(received: number): void {
    if (this.#phase <= Phase.REQUEST) {
      this.#environment.stats.negotiationClosed++;
      this.close();
    } else if (received === 0 && this.#held !== null) {
      // A client that sent data with its request may end its stream with it.
      this.#client.ended = true;
      this.#client.watch(0);
    } else {
      this.#abandon();
    }
  }

  #abandon(): void {
    this.#environment.stats.abandoned++;
    this.close();
  }

  /** Reads and forgets what comes after a refusal, or on the control connection of an association. */
  #discard(): void {
    const { addon, memory, row } = this.#environment;
    row[0] = memory.scratchStart;
    row[1] = memory.scratchEnd - memory.scratchStart;
    const received = addon.recv(this.#client.fd, row, 1);
    if (received <= 0 && received !== -EAGAIN) this.close();
  }

  /** Answers the whole messages in [start, end); returns where the rest begins. */
  #negotiate(start: number, end: number): number {
    let at = start;
    while (this.#phase <= Phase.REQUEST && at < end) {
      const next = this.#message(at, end);
      if (next < 0) break;
      at = next;
    }
    return at;
  }

  /** Answers the message at `at`; returns the offset behind it, -1 while it is incomplete or after a failure. */
  #message(at: number, end: number): number {
    const { bytes } = this.#environment.memory;
    const version = this.#phase === Phase.CREDENTIALS ? PASSWORD_VERSION : VERSION;
    if (bytes[at] !== version) {
      this.#environment.stats.negotiationMalformed++;
      this.close();
      return -1;
    }
    const need =
      this.#phase === Phase.GREETING
        ? greetingNeed(bytes, at, end)
        : this.#phase === Phase.CREDENTIALS
          ? credentialsNeed(bytes, at, end)
          : requestNeed(bytes, at, end);
    if (need < 0) {
      this.#refuse(Reply.ADDRESS_TYPE_NOT_SUPPORTED);
      return -1;
    }
    if (need > end - at) return -1;
    if (this.#phase === Phase.GREETING) this.#onGreeting(at);
    else if (this.#phase === Phase.CREDENTIALS) this.#onCredentials(at);
    else this.#onRequest(at, end);
    return at + need;
  }

  /** RFC 1928 §3. With users only their method is acceptable, without only "none". */
  #onGreeting(at: number): void {
    const { credentials, memory, stats } = this.#environment;
    const method = credentials === null ? Method.NONE : Method.PASSWORD;
    const reply = this.#replyAt();
    if (greetingOffers(memory.bytes, at, method)) {
      this.#phase = credentials === null ? Phase.REQUEST : Phase.CREDENTIALS;
      this.#send(writeMethod(memory.bytes, reply, method));
    } else {
      stats.methodRefused++;
      this.#send(writeMethod(memory.bytes, reply, Method.UNACCEPTABLE));
      this.#linger();
    }
  }

  /** RFC 1929 §2. */
  #onCredentials(at: number): void {
    const { credentials, memory, stats, log } = this.#environment;
    const { bytes } = memory;
    const userEnd = at + 2 + (bytes[at + 1] as number);
    const passwordEnd = userEnd + 1 + (bytes[userEnd] as number);
    const reply = this.#replyAt();
    if (credentials?.matches(bytes, at + 2, userEnd, userEnd + 1, passwordEnd) === true) {
      this.#phase = Phase.REQUEST;
      this.#send(writeCredentialsStatus(bytes, reply, 0));
    } else {
      stats.passwordRefused++;
      log.debug?.(`proxy: wrong user or password from ${formatEndpoint(this.#peer)}`);
      this.#send(writeCredentialsStatus(bytes, reply, 1));
      this.#linger();
    }
  }

  /** RFC 1928 §4. */
  #onRequest(at: number, end: number): void {
    const { bytes } = this.#environment.memory;
    const command = bytes[at + 1];
    readAddress(bytes, at + 3, end, this.#destination);
    if (command === Command.UDP_ASSOCIATE) {
      this.#associate();
    } else if (command !== Command.CONNECT) {
      this.#refuse(Reply.COMMAND_NOT_SUPPORTED);
    } else {
      this.#arm(CONNECTING);
      this.#deadline = this.#environment.timers.now() + CONNECTING;
      this.#phase = Phase.RESOLVING;
      if (bytes[at + 3] === AddressType.NAME) this.#resolve(readName(bytes, at + 3) as string);
      else this.onAddresses([this.#destination]);
    }
  }

  // ---- towards the target ----------------------------------------------------------------------------------------

  #resolve(name: string): void {
    if (!isResolvable(name)) this.#refuse(Reply.HOST_UNREACHABLE);
    else if (!this.#environment.names.resolve(name, this)) this.#refuse(Reply.GENERAL_FAILURE);
  }

  /** Tries the addresses that are left, in order. */
  #connectNext(): void {
    const { addon, address, mark, device, timers } = this.#environment;
    this.#phase = Phase.CONNECTING;
    while (this.#next < this.#addresses.length) {
      const { w0, w1, w2, w3 } = this.#addresses[this.#next++] as Endpoint;
      const destination = this.#destination.set(w0, w1, w2, w3, this.#destination.port);
      this.#environment.translate?.(destination);
      if (this.#environment.judge(this.#peer, destination) !== "allowed") {
        this.#note(Reply.NOT_ALLOWED);
        continue;
      }
      writeWords(address, destination);
      const fd = addon.tcpConnect(address, mark, device, 0);
      if (fd >= 0) {
        this.#target.fd = fd;
        if (this.#target.watch(Epoll.OUT) < 0) {
          this.#note(Reply.GENERAL_FAILURE);
          break;
        }
        const last = this.#next === this.#addresses.length;
        const attempt = last ? this.#deadline : timers.now() + ATTEMPT;
        timers.set(this.#timer, Math.min(attempt, this.#deadline));
        return;
      }
      this.#note(replyOfErrno(-fd));
    }
    this.#refuse(this.#reply);
  }

  /** The connect has ended, one way or the other. */
  #onConnected(): void {
    const failure = this.#environment.addon.socketError(this.#target.fd);
    if (failure === 0) {
      this.#grant();
      return;
    }
    this.#target.close();
    this.#note(replyOfErrno(failure));
    this.#connectNext();
  }

  /** Remembers why an address failed. "Refused" tells most (the host is there), then whatever came last. */
  #note(reply: number): void {
    if (this.#reply !== Reply.CONNECTION_REFUSED) this.#reply = reply;
  }

  #grant(): void {
    const { addon, memory, slots, timers, stats, address } = this.#environment;
    const client = this.#client;
    const target = this.#target;
    timers.clear(this.#timer);
    addon.localAddress(target.fd, address);
    addon.keepAlive(client.fd, KEEP_ALIVE_IDLE, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_COUNT);
    addon.keepAlive(target.fd, KEEP_ALIVE_IDLE, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_COUNT);
    const reply = this.#replyAt();
    if (!this.#send(writeReply(memory.bytes, reply, Reply.SUCCEEDED, toEndpoint(address)))) return;
    stats.granted++;
    this.#phase = Phase.SERVING;
    const held = this.#held;
    if (held !== null) {
      this.#held = null;
      const slot = slots.take();
      memory.bytes.set(held, slot);
      target.keep(slot, slot, slot + held.length);
    }
    this.#relay = new ServerRelay(this.#environment, client, target, this);
    this.#relay.start();
  }

  /** RFC 1928 §7. */
  #associate(): void {
    const { addon, memory, timers, stats, address } = this.#environment;
    if (stats.activeAssociations >= MAX_ASSOCIATIONS) {
      stats.associationsFull++;
      this.#refuse(Reply.GENERAL_FAILURE);
      return;
    }
    addon.localAddress(this.#client.fd, address);
    const association = new ServerAssociation(this.#environment, this.#peer, this);
    const failure = association.open(address, this.#destination);
    if (failure < 0) {
      this.#refuse(replyOfErrno(-failure));
      return;
    }
    this.#association = association;
    timers.clear(this.#timer);
    this.#phase = Phase.SERVING;
    addon.keepAlive(this.#client.fd, KEEP_ALIVE_IDLE, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_COUNT);
    if (this.#send(writeReply(memory.bytes, this.#replyAt(), Reply.SUCCEEDED, association.bound))) {
      stats.granted++;
    }
  }

  // ---- replies ---------------------------------------------------------------------------------------------------

  #refuse(reply: number): void {
    const { memory, stats, log } = this.#environment;
    if (reply === Reply.NOT_ALLOWED) stats.notAllowed++;
    else stats.failed++;
    log.debug?.(
      `proxy: ${formatEndpoint(this.#peer)} to ${formatEndpoint(this.#destination)}: ${replyName(reply)}`,
    );
    if (this.#send(writeReply(memory.bytes, this.#replyAt(), reply, NOWHERE))) this.#linger();
  }

  /** No more from us; reads on for a while. */
  #linger(): void {
    if (this.#phase === Phase.CLOSED) return;
    this.#phase = Phase.REFUSED;
    this.#held = null;
    this.#client.shutdown();
    if (this.#client.ended) {
      this.close();
      return;
    }
    this.#client.watch(Epoll.IN);
    this.#arm(LINGER);
  }

  /** Replies are built at the end of the scratch, behind what was read. */
  #replyAt(): number {
    return this.#environment.memory.scratchEnd - MAX_MESSAGE;
  }

  /** Sends the reply that ends at `end`, in one write. False: the connection is closed, having lost its client. */
  #send(end: number): boolean {
    const { addon, row } = this.#environment;
    const at = this.#replyAt();
    row[0] = at;
    row[1] = end - at;
    if (addon.send(this.#client.fd, row, 1) === end - at) return true;
    this.#abandon();
    return false;
  }

  #arm(delay: number): void {
    const { timers } = this.#environment;
    timers.set(this.#timer, timers.now() + delay);
  }
}

/**
 * REP of RFC 1928 §6 for an errno of connect(2). A time-out is 04: 06 tells of an expired IP TTL, which Linux too
 * reports as EHOSTUNREACH. 02 is what a firewall or a prohibiting route says.
 */
export function replyOfErrno(errno: number): number {
  const { errno: code } = constants;
  switch (errno) {
    case code.ECONNREFUSED:
      return Reply.CONNECTION_REFUSED;
    case code.ENETUNREACH:
    case code.ENETDOWN:
      return Reply.NETWORK_UNREACHABLE;
    case code.EHOSTUNREACH:
    case EHOSTDOWN:
    case code.ETIMEDOUT:
      return Reply.HOST_UNREACHABLE;
    case code.EACCES:
    case code.EPERM:
      return Reply.NOT_ALLOWED;
    case code.EAFNOSUPPORT:
      return Reply.ADDRESS_TYPE_NOT_SUPPORTED;
    default:
      return Reply.GENERAL_FAILURE;
  }
}

/** include/uapi/asm-generic/errno.h; node:os does not have it. */
const EHOSTDOWN = 112;

/** True for errno values that say "no descriptor or memory left", which waiting may cure. */
export function isExhaustion(errno: number): boolean {
  return errno === EMFILE || errno === ENFILE || errno === ENOBUFS || errno === ENOMEM;
}

/** A name without control characters and spaces: what getaddrinfo can be asked. */
function isResolvable(name: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return name.length > 0 && !/[\u0000-\u0020\u007f]/.test(name);
}

const NOWHERE: Endpoint = new Endpoint().set(0, 0, 0xffff, 0, 0);

const bound = new Endpoint();

function toEndpoint(address: Int32Array): Endpoint {
  return readWords(address, 0, bound);
}
