/**
 * One client of the built-in server, from accept to close: a {@link ServerNegotiation}, then a {@link ServerDial} for
 * CONNECT or a {@link ServerBind} for BIND; then a {@link ServerRelay} or a {@link ServerAssociation} takes over.
 *
 * Messages may come in any pieces, glued together, and followed by early data. A client has {@link NEGOTIATION} ms
 * for its request. A refusal is followed by FIN and by reading what still comes, for {@link LINGER} ms: closing at
 * once would answer unread octets with RST, which can destroy the reply on its way.
 */

import { constants } from "node:os";
import { Epoll } from "../native/binding.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { Endpoint, formatEndpoint } from "../stack/wire/address.ts";
import { Command, MAX_MESSAGE, Reply, replyName } from "./message.ts";
import { type AssociationOwner, ServerAssociation } from "./server-association.ts";
import { type BindOwner, MAX_BINDS, ServerBind } from "./server-bind.ts";
import { ServerDial } from "./server-dial.ts";
import type { ConnectionEnvironment } from "./server-environment.ts";
import { replyOfErrno } from "./server-errno.ts";
import { type LegOwner, ServerLeg } from "./server-leg.ts";
import { ServerNegotiation, Step } from "./server-negotiation.ts";
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
  NEGOTIATING: 0,
  /** A dial or a BIND is under way. */
  WAITING: 1,
  SERVING: 2,
  REFUSED: 3,
  CLOSED: 4,
} as const;
type Phase = (typeof Phase)[keyof typeof Phase];

const { EAGAIN } = constants.errno;

export class ServerConnection
  implements LegOwner, TimerHandler, BindOwner, RelayOwner, AssociationOwner
{
  /** The client's address and port. */
  readonly peer: Endpoint;
  readonly #environment: ConnectionEnvironment;
  readonly #owner: ConnectionOwner;
  readonly #client: ServerLeg;
  readonly #timer = new Timer(this);
  #phase: Phase = Phase.NEGOTIATING;
  /** Until the request is granted. */
  #negotiation: ServerNegotiation | null;
  /** Octets read and not used: part of a message, or early data. */
  #held: Uint8Array | null = null;
  /** What brings the target, until it is there. */
  #source: ServerDial | ServerBind | null = null;
  #relay: ServerRelay | null = null;
  #association: ServerAssociation | null = null;
  /** Its association or BIND counts as one of its client's. */
  #hasShare = false;

  /** Takes over the accepted descriptor. */
  constructor(
    environment: ConnectionEnvironment,
    fd: number,
    peer: Endpoint,
    owner: ConnectionOwner,
  ) {
    this.#environment = environment;
    this.peer = peer;
    this.#owner = owner;
    this.#client = new ServerLeg(environment, this);
    this.#client.fd = fd;
    this.#negotiation = new ServerNegotiation(environment, peer);
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
    this.#giveShare();
    this.#source?.close();
    this.#association?.close();
    this.#relay?.close();
    this.#client.close();
    this.#owner.onConnectionClosed(this);
  }

  onLeg(_leg: ServerLeg, bits: number): void {
    if (this.#phase >= Phase.SERVING) this.#discard();
    else if (this.#phase === Phase.WAITING && (bits & (Epoll.ERR | Epoll.HUP)) !== 0)
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
    const used = this.#phase === Phase.NEGOTIATING ? this.#negotiate(start, end) : start;
    if (this.#phase >= Phase.SERVING) return;
    this.#held = used < end ? bytes.slice(used, end) : null;
    if (this.#phase !== Phase.NEGOTIATING && end - used >= MAX_EARLY) this.#client.watch(0);
  }

  /** End of stream (0) or an error before the reply. */
  #onInputEnd(received: number): void {
    if (this.#phase === Phase.NEGOTIATING) {
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
    const negotiation = this.#negotiation as ServerNegotiation;
    let at = start;
    while (this.#phase === Phase.NEGOTIATING && at < end) {
      const step = negotiation.next(at, end, this.#replyAt());
      if (step === Step.MORE) break;
      at = negotiation.used;
      this.#onStep(step, negotiation);
    }
    return at;
  }

  #onStep(step: Step, negotiation: ServerNegotiation): void {
    switch (step) {
      case Step.ANSWER:
        this.#send(negotiation.answerEnd);
        break;
      case Step.DENY:
        if (this.#send(negotiation.answerEnd)) this.#linger();
        break;
      case Step.ANSWERED_REQUEST:
        if (this.#send(negotiation.answerEnd)) this.#onRequest(negotiation);
        break;
      case Step.REQUEST:
        this.#onRequest(negotiation);
        break;
      case Step.NO_ADDRESS:
        this.#refuse(Reply.ADDRESS_TYPE_NOT_SUPPORTED);
        break;
      default:
        this.#environment.stats.negotiationMalformed++;
        this.close();
    }
  }

  #onRequest({ command, destination, name }: ServerNegotiation): void {
    switch (command) {
      case Command.CONNECT:
        this.#await(new ServerDial(this.#environment, this.peer, destination, this), name);
        break;
      case Command.BIND:
        this.#bind(destination, name);
        break;
      case Command.UDP_ASSOCIATE:
        this.#associate(destination);
        break;
      default:
        this.#refuse(Reply.COMMAND_NOT_SUPPORTED);
    }
  }

  #await(source: ServerDial | ServerBind, name: string | null): void {
    this.#environment.timers.clear(this.#timer);
    this.#phase = Phase.WAITING;
    this.#source = source;
    source.start(name);
  }

  #bind(destination: Endpoint, name: string | null): void {
    const { addon, stats, address } = this.#environment;
    if (stats.activeBinds >= MAX_BINDS || !this.#takeShare()) {
      stats.bindsFull++;
      this.#refuse(Reply.GENERAL_FAILURE);
      return;
    }
    addon.localAddress(this.#client.fd, address);
    const near = readWords(address, 0, new Endpoint());
    this.#await(new ServerBind(this.#environment, this.peer, near, destination, this), name);
  }

  /** False: its client has too many associations and BINDs. */
  #takeShare(): boolean {
    this.#hasShare = this.#environment.shares.enter(this.peer) === "admitted";
    return this.#hasShare;
  }

  #giveShare(): void {
    if (this.#hasShare) this.#environment.shares.leave(this.peer);
    this.#hasShare = false;
  }

  /** The first of BIND's two replies. */
  onListening(bound: Endpoint): void {
    this.#reply(Reply.SUCCEEDED, bound);
  }

  // ---- serving ---------------------------------------------------------------------------------------------------

  /** The target is connected: RFC 1928 §6. BND is our end of it, and of BIND the peer's. */
  onConnected(): void {
    const { addon, memory, slots, stats, address } = this.#environment;
    const client = this.#client;
    const { target } = this.#source as ServerDial | ServerBind;
    if (this.#negotiation?.command === Command.BIND) addon.peerAddress(target.fd, address);
    else addon.localAddress(target.fd, address);
    addon.keepAlive(client.fd, KEEP_ALIVE_IDLE, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_COUNT);
    addon.keepAlive(target.fd, KEEP_ALIVE_IDLE, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_COUNT);
    if (!this.#reply(Reply.SUCCEEDED, readWords(address, 0, bound))) {
      target.close();
      return;
    }
    stats.granted++;
    this.#giveShare();
    this.#phase = Phase.SERVING;
    this.#source = null;
    this.#negotiation = null;
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
  #associate(expected: Endpoint): void {
    const { addon, timers, stats, address } = this.#environment;
    if (stats.activeAssociations >= MAX_ASSOCIATIONS || !this.#takeShare()) {
      stats.associationsFull++;
      this.#refuse(Reply.GENERAL_FAILURE);
      return;
    }
    addon.localAddress(this.#client.fd, address);
    const association = new ServerAssociation(this.#environment, this.peer, this);
    const failure = association.open(address, expected);
    if (failure < 0) {
      this.#refuse(replyOfErrno(-failure));
      return;
    }
    this.#association = association;
    timers.clear(this.#timer);
    this.#phase = Phase.SERVING;
    addon.keepAlive(this.#client.fd, KEEP_ALIVE_IDLE, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_COUNT);
    if (!this.#reply(Reply.SUCCEEDED, association.bound)) return;
    stats.granted++;
    this.#negotiation = null;
  }

  // ---- replies ---------------------------------------------------------------------------------------------------

  #refuse(reply: number): void {
    const { stats, log } = this.#environment;
    const { destination, name } = this.#negotiation as ServerNegotiation;
    // A name may hold anything; a log is for terminals.
    const isPlain = name !== null && /^[\x21-\x7e]+$/.test(name);
    const to = isPlain ? `${name}:${destination.port}` : formatEndpoint(destination);
    if (reply === Reply.NOT_ALLOWED) stats.notAllowed++;
    else stats.failed++;
    log.debug?.(`proxy: ${formatEndpoint(this.peer)} to ${to}: ${replyName(reply)}`);
    if (this.#reply(reply, NOWHERE)) this.#linger();
  }

  /** Answers the request. False: the client is lost. */
  #reply(reply: number, bound: Endpoint): boolean {
    const negotiation = this.#negotiation as ServerNegotiation;
    return this.#send(negotiation.writeReply(this.#replyAt(), reply, bound));
  }

  /** No more from us; reads on for a while. */
  #linger(): void {
    if (this.#phase === Phase.CLOSED) return;
    this.#phase = Phase.REFUSED;
    this.#held = null;
    this.#negotiation = null;
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
