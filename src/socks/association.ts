/**
 * One UDP ASSOCIATE (RFC 1928 §7): the control stream, the address of the proxy's relay, and the datagrams.
 *
 * The association lives as long as its control stream. Some servers close that right after their reply and relay on:
 * then it lives while answers arrive. Datagrams are taken from any port of the relay's address and of
 * the proxy's, as connected; fragments are put together (udp-reassembly.ts) and never handed on as they are.
 */

import { constants } from "node:os";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { Endpoint, formatEndpoint } from "../stack/wire/address.ts";
import { maxDatagram, NARROW_LIFE, nextLower } from "./datagram-size.ts";
import {
  type AssociationCounters,
  type DatagramHandler,
  type DatagramSocket,
  MAX_QUEUED,
} from "./datagram-socket.ts";
import {
  AddressType,
  MAX_UDP_HEADER,
  Reply,
  readUdpHeader,
  udpFragment,
  udpHeaderLength,
  writeUdpHeader,
} from "./message.ts";
import type { NameHandler } from "./name-resolver.ts";
import type {
  Association,
  AssociationHandler,
  Destination,
  Refusal,
  Stream,
  StreamHandler,
} from "./ports.ts";
import type { SocksProxy } from "./proxy.ts";
import type { ProxyHandshake } from "./proxy-handshake.ts";
import { errnoRefusal, SocksRefusal } from "./refusal.ts";
import { chooseRelay } from "./relay-address.ts";
import { FragmentQueue, type FragmentStore } from "./udp-reassembly.ts";

const { EAGAIN } = constants.errno;

/** A control stream that ends sooner after the reply, ms, was closed by a server that relays on regardless. */
const EARLY = 1000;
/** How long an association without control stream lives without an answer, ms. */
const IDLE = 60_000;
/** Silence on the control stream, seconds, after which the proxy is asked whether it is still there. */
const KEEP_ALIVE = 60;

/** Either shape; while it is being opened it tells what the server answered. */
export type ControlStream = Stream & {
  /** During onOpen. */
  readonly handshake: ProxyHandshake | null;
  /** During onOpen: the proxy's address. */
  readonly server: Endpoint | null;
  /** Has the proxy asked after `idle` seconds of silence whether it is there. */
  keepAlive(idle: number): void;
};

/** What an association is built from. */
export interface AssociationParts {
  readonly proxy: SocksProxy;
  readonly counters: AssociationCounters;
  readonly fragments: FragmentStore;
  /** Starts the control stream's dial. */
  openControl(handler: StreamHandler): ControlStream;
  createSocket(handler: DatagramHandler): DatagramSocket;
}

export class SocksAssociation
  implements Association, StreamHandler, DatagramHandler, NameHandler, TimerHandler
{
  readonly #proxy: SocksProxy;
  readonly #counters: AssociationCounters;
  readonly #store: FragmentStore;
  readonly #handler: AssociationHandler;
  readonly #socket: DatagramSocket;
  #control: ControlStream | null = null;
  readonly #relay = new Endpoint();
  /** The proxy's address, kept while the relay's name is looked up. */
  readonly #server = new Endpoint();
  readonly #from = new Endpoint();
  /** The name that was sent to last, and its octets behind their number. */
  #name: string | null = null;
  #octets = new Uint8Array(0);
  /** Null until the first fragment. */
  #fragments: FragmentQueue | null = null;
  readonly #timer: Timer = new Timer(this);
  #open = false;
  #closed = false;
  /** When the reply arrived, ms. */
  #openedAt = 0;
  /** When the last answer arrived, ms. */
  #lastAnswer = 0;
  /** Octets of the largest datagram, header included, until then. */
  #narrow = 0;
  #narrowUntil = 0;

  constructor(parts: AssociationParts, handler: AssociationHandler) {
    this.#proxy = parts.proxy;
    this.#counters = parts.counters;
    this.#store = parts.fragments;
    this.#handler = handler;
    this.#socket = parts.createSocket(this);
    this.#control = parts.openControl(this);
  }

  // ---- opening -------------------------------------------------------------------------------------------------

  onOpen(): void {
    const { timers, dialDeadline } = this.#proxy.environment;
    const control = this.#control as ControlStream;
    const { handshake, server } = control;
    if (handshake === null || server === null) return;
    control.keepAlive(KEEP_ALIVE);
    this.#openedAt = timers.now();
    this.#server.copy(server);
    this.#relay.copy(handshake.bound);
    const name = handshake.boundName;
    if (name === null) {
      this.#start();
    } else if (name === "") {
      this.#relay.set(0, 0, 0, 0, handshake.bound.port);
      this.#start();
    } else {
      timers.set(this.#timer, timers.now() + dialDeadline);
      if (!this.#proxy.resolver.resolve(name, this)) this.onAddresses([]);
    }
  }

  onRefused(refusal: Refusal): void {
    this.#control = null;
    this.#refuse(refusal);
  }

  /** The relay was given as a name. */
  onAddresses(addresses: readonly Endpoint[]): void {
    if (this.#closed || this.#open) return;
    const sameFamily = addresses.find(({ isV4 }) => isV4 === this.#server.isV4);
    const found = sameFamily ?? addresses[0];
    if (found === undefined) {
      this.#refuse(this.#refusal("the name that it gives for its UDP relay does not resolve"));
      return;
    }
    const { port } = this.#relay;
    this.#relay.copy(found).port = port;
    this.#start();
  }

  #start(): void {
    const { timers, log } = this.#proxy.environment;
    timers.clear(this.#timer);
    if (this.#relay.port === 0) {
      const why = "it gives port 0 for its UDP relay; enable UDP on it";
      this.#refuse(new SocksRefusal("reply", this.#proxy.label, why, Reply.COMMAND_NOT_SUPPORTED));
      return;
    }
    const bound = log.debug && formatEndpoint(this.#relay);
    const hasRoute = (relay: Endpoint): boolean => this.#socket.hasRoute(relay);
    const rule = chooseRelay(this.#relay.clone(), this.#server, this.#relay, hasRoute);
    log.debug?.(
      `UDP relay of ${this.#proxy.label}: ${formatEndpoint(this.#relay)} (BND ${bound}, ${rule})`,
    );
    const result = this.#socket.open(this.#relay);
    if (result < 0) {
      this.#refuse(errnoRefusal(this.#proxy.label, -result));
      return;
    }
    this.#open = true;
    this.#lastAnswer = timers.now();
    if (this.#control === null) this.#goOnWithout();
    this.#handler.onOpen();
  }

  #refusal(why: string): Refusal {
    return new SocksRefusal("protocol", this.#proxy.label, why);
  }

  #refuse(refusal: Refusal): void {
    this.close();
    this.#handler.onRefused(refusal);
  }

  // ---- the control stream --------------------------------------------------------------------------------------

  /** Direct shape. What a server says on the control stream means nothing: it is read to see the end. */
  onReadable(): void {
    const control = this.#control;
    if (control?.shape !== "direct") return;
    const { memory } = this.#proxy.environment;
    const { row } = this.#proxy;
    row[0] = memory.scratchStart;
    row[1] = memory.scratchEnd - memory.scratchStart;
    const got = control.recv(row, 1);
    if (got > 0 || got === -EAGAIN) return;
    this.#onControlEnd();
  }

  onBytes(): void {}

  onEnd(): void {
    this.#onControlEnd();
  }

  onReset(): void {
    this.#onControlEnd();
  }

  onWritable(): void {}

  #onControlEnd(): void {
    this.#control?.close();
    this.#control = null;
    const { timers } = this.#proxy.environment;
    const isEarly = timers.now() - this.#openedAt < EARLY;
    if (this.#open) {
      if (isEarly) this.#goOnWithout();
      else this.#lose();
    } else if (!isEarly) {
      // The relay's name is still being looked up.
      this.#refuse(this.#refusal("it closed the connection after its reply"));
    }
  }

  #goOnWithout(): void {
    const { timers, log } = this.#proxy.environment;
    log.debug?.(`${this.#proxy.label} closed a control connection at once: UDP goes on without`);
    timers.set(this.#timer, timers.now() + IDLE);
  }

  onTimer(): void {
    if (!this.#open) {
      this.#refuse(this.#proxy.timeout("from the resolver about the UDP relay", true));
      return;
    }
    const { timers } = this.#proxy.environment;
    const idleAt = this.#lastAnswer + IDLE;
    if (idleAt > timers.now()) timers.set(this.#timer, idleAt);
    else this.#lose();
  }

  #lose(): void {
    this.close();
    this.#handler.onLost();
  }

  // ---- datagrams -----------------------------------------------------------------------------------------------

  send(to: Destination, start: number, end: number, segment: number): boolean {
    if (!this.#open || this.#closed) return false;
    const length = end - start;
    const size = segment > 0 && segment < length ? segment : length;
    const pieces = size === 0 ? 1 : Math.ceil(length / size);
    const socket = this.#socket;
    // A queue that is empty takes any number of segments, in several goes.
    if (pieces > socket.room && socket.room < MAX_QUEUED) return false;
    const { bytes, datagrams } = this.#proxy.environment.memory;
    const header = datagrams.take(MAX_UDP_HEADER);
    if (header < 0) return false;
    const headerEnd = writeUdpHeader(bytes, header, to.name, to.endpoint);
    if (headerEnd < 0 || headerEnd - header + size > this.#most()) {
      datagrams.next = header;
      this.#counters.tooBig++;
      return false;
    }
    datagrams.next = (headerEnd + 7) & ~7;
    if (to.name !== this.#name) this.#remember(to.name, bytes, header + 4);
    for (let at = start, i = 0; i < pieces; i++, at += size) {
      if (socket.room === 0) socket.flush();
      socket.queue(header, headerEnd - header, at, Math.min(size, end - at));
    }
    return true;
  }

  maxPayload(to: Destination): number {
    return this.#most() - udpHeaderLength(to.name, to.endpoint);
  }

  #most(): number {
    const isNarrow = this.#proxy.environment.timers.now() < this.#narrowUntil;
    return isNarrow ? this.#narrow : maxDatagram(this.#relay);
  }

  onTooBig(length: number): void {
    this.#narrow = Math.min(nextLower(this.#relay, length), this.#most());
    this.#narrowUntil = this.#proxy.environment.timers.now() + NARROW_LIFE;
  }

  flush(): void {
    if (!this.#closed) this.#socket.flush();
  }

  /** The name with its length is at `at`. */
  #remember(name: string | null, bytes: Uint8Array, at: number): void {
    if (name === null) return;
    this.#name = name;
    this.#octets = bytes.slice(at, at + 1 + (bytes[at] as number));
    for (let i = 1; i < this.#octets.length; i++) {
      this.#octets[i] = lowerCase(this.#octets[i] as number);
    }
  }

  /** True when the name with its length at `at` is the one that was sent to last, letters without case. */
  #isSentTo(bytes: Uint8Array, at: number): boolean {
    const octets = this.#octets;
    for (let i = 0; i < octets.length; i++) {
      const octet = bytes[at + i] as number;
      if ((i === 0 ? octet : lowerCase(octet)) !== octets[i]) return false;
    }
    return octets.length > 0;
  }

  onReceived(from: Endpoint, start: number, end: number): void {
    // A server with several addresses may answer from the one that it was connected to.
    const isRelay = from.sameAddress(this.#relay) || from.sameAddress(this.#server);
    if (isRelay) this.#accept(start, end);
    else this.#counters.foreign++;
  }

  #accept(start: number, end: number): void {
    const counters = this.#counters;
    const { bytes } = this.#proxy.environment.memory;
    const data = readUdpHeader(bytes, start, end, this.#from);
    if (data < 0) {
      counters.malformed++;
      return;
    }
    if (udpFragment(bytes, start) !== 0) {
      this.#reassemble(start, data, end);
      return;
    }
    this.#fragments?.interrupt();
    if (bytes[start + 3] === AddressType.NAME && !this.#isSentTo(bytes, start + 4)) {
      counters.named++;
    } else {
      counters.received++;
      this.#lastAnswer = this.#proxy.environment.timers.now();
      this.#handler.onDatagram(this.#from, data, end);
    }
  }

  #reassemble(start: number, data: number, end: number): void {
    const { bytes, datagrams } = this.#proxy.environment.memory;
    this.#fragments ??= new FragmentQueue(this.#store);
    const length = this.#fragments.add(bytes, start, data, end);
    if (length === 0) return;
    const at = datagrams.take(length);
    if (at < 0) {
      this.#counters.noMemory++;
      this.#fragments.clear();
      return;
    }
    this.#fragments.moveTo(bytes, at);
    this.#accept(at, at + length);
  }

  onBroken(): void {
    if (this.#open && !this.#closed) this.#lose();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#proxy.environment.timers.clear(this.#timer);
    this.#fragments?.clear();
    // Nothing is under way on it. An orderly end would keep its port for a minute (RFC 9293 §3.6.1), and a resolver that
    // uses a new port per query would soon have used up all of them.
    if (this.#open) this.#control?.reset();
    else this.#control?.close();
    this.#control = null;
    this.#socket.close();
  }
}

function lowerCase(octet: number): number {
  return octet >= 0x41 && octet <= 0x5a ? octet | 0x20 : octet;
}
