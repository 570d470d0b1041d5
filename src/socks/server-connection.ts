/**
 * One client of the built-in server, from accept to close: negotiation (RFC 1928 §3, RFC 1929), request (§4), and
 * a {@link ServerDial}; then a {@link ServerRelay} or a {@link ServerAssociation} takes over.
 *
 * Messages may come in any pieces, glued together, and followed by early data. A client has {@link NEGOTIATION} ms
 * for its request. A refusal is followed by FIN and by reading what still comes, for {@link LINGER} ms: closing at
 * once would answer unread octets with RST, which can destroy the reply on its way.
 */

import { constants } from "node:os";
import { Epoll } from "../native/binding.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { Endpoint, formatEndpoint } from "../stack/wire/address.ts";
import {
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
import { type AssociationOwner, ServerAssociation } from "./server-association.ts";
import { type DialOwner, ServerDial } from "./server-dial.ts";
import type { ConnectionEnvironment } from "./server-environment.ts";
import { replyOfErrno } from "./server-errno.ts";
import { type LegOwner, ServerLeg } from "./server-leg.ts";
import { type RelayOwner, ServerRelay } from "./server-relay.ts";
import { readWords } from "./words.ts";

export interface ConnectionOwner {
  /** Its descriptors are closed. Last call. */
  onConnectionClosed(connection: ServerConnection): void;
}

/** From accept to a whole request. */
export const NEGOTIATION = 10_000;
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
  DIALLING: 3,
  SERVING: 4,
  REFUSED: 5,
  CLOSED: 6,
} as const;
type Phase = (typeof Phase)[keyof typeof Phase];

const { EAGAIN } = constants.errno;

export class ServerConnection
  implements LegOwner, TimerHandler, DialOwner, RelayOwner, AssociationOwner
{
  readonly #environment: ConnectionEnvironment;
  readonly #owner: ConnectionOwner;
  readonly #client: ServerLeg;
  /** The client's address and port. */
  readonly #peer: Endpoint;
  readonly #destination = new Endpoint();
  readonly #timer = new Timer(this);
  #phase: Phase = Phase.GREETING;
  /** Octets read and not used: part of a message, or early data. */
  #held: Uint8Array | null = null;
  #dial: ServerDial | null = null;
  #relay: ServerRelay | null = null;
  #association: ServerAssociation | null = null;

  /** Takes over the accepted descriptor. */
  constructor(
    environment: ConnectionEnvironment,
    fd: number,
    peer: Endpoint,
    owner: ConnectionOwner,
  ) {
    this.#environment = environment;
    this.#peer = peer;
    this.#owner = owner;
    this.#client = new ServerLeg(environment, this);
    this.#client.fd = fd;
  }

  /** Begins to read, or closes if the descriptor cannot be watched. */
  start(): void {
    if (this.#client.watch(Epoll.IN) < 0) this.close();
    else this.#arm(NEGOTIATION);
  }

  /** Closes everything at once. Idempotent. */
  close(): void {
    if (this.#phase === Phase.CLOSED) return;
    this.#phase = Phase.CLOSED;
    this.#environment.timers.clear(this.#timer);
    this.#dial?.close();
    this.#association?.close();
    this.#relay?.close();
    this.#client.close();
    this.#owner.onConnectionClosed(this);
  }

  onLeg(_leg: ServerLeg, bits: number): void {
    if (this.#phase >= Phase.SERVING) this.#discard();
    else if (this.#phase === Phase.DIALLING && (bits & (Epoll.ERR | Epoll.HUP)) !== 0)
      this.#abandon();
    else this.#read();
  }

  onTimer(): void {
    if (this.#phase !== Phase.REFUSED) this.#environment.stats.negotiationTimeouts++;
    this.close();
  }

  onDialFailed(reply: number): void {
    this.#refuse(reply);
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
      this.#environment.timers.clear(this.#timer);
      this.#phase = Phase.DIALLING;
      this.#dial = new ServerDial(this.#environment, this.#peer, this.#destination, this);
      this.#dial.start(readName(bytes, at + 3));
    }
  }

  // ---- serving ---------------------------------------------------------------------------------------------------

  /** The target is connected: RFC 1928 §6. */
  onConnected(): void {
    const { addon, memory, slots, stats, address } = this.#environment;
    const client = this.#client;
    const { target } = this.#dial as ServerDial;
    addon.localAddress(target.fd, address);
    addon.keepAlive(client.fd, KEEP_ALIVE_IDLE, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_COUNT);
    addon.keepAlive(target.fd, KEEP_ALIVE_IDLE, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_COUNT);
    const reply = this.#replyAt();
    readWords(address, 0, bound);
    if (!this.#send(writeReply(memory.bytes, reply, Reply.SUCCEEDED, bound))) {
      target.close();
      return;
    }
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

const NOWHERE: Endpoint = new Endpoint().set(0, 0, 0xffff, 0, 0);

const bound = new Endpoint();
