/**
 * The way of one client endpoint through one upstream: an association, made when a datagram needs it.
 *
 *     IDLE     no association; after a failure or a loss none is made before the back-off has passed, its own and the
 *              upstream's
 *     DIALING  a place in the dial queue, then the answer to UDP ASSOCIATE, is awaited
 *     OPEN     datagrams both ways
 *
 * Meanwhile a bounded number of datagrams waits, copied; memory for all paths together is bounded by the
 * `WaitingRoom`. When the association is refused they are refused too, and so are those that come before the next try.
 */

import type { Association, AssociationHandler, Refusal } from "../socks/ports.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { AssociationEntry } from "./association-table.ts";
import { Backoff } from "./backoff.ts";
import { AddressDestination, type RelayContext } from "./context.ts";
import type { Dial } from "./dial-queue.ts";
import type { FakeName } from "./fake-names.ts";
import { isFullProxy, type UdpAnswer, udpAnswer } from "./refusal.ts";
import type { UdpUpstream } from "./udp-upstream.ts";

/** Datagrams that wait for an association, per path of one endpoint. */
export const MAX_WAITING = 16;

/** Octets that wait on all paths together. */
export const MAX_WAITING_OCTETS: number = 4 << 20;

/** A target by name: datagrams to this port go to the name, whatever address they are for. */
export interface NamedTarget {
  readonly fake: FakeName;
  readonly port: number;
}

/** The flow a path belongs to, or several that share it. */
export interface UdpPathOwner {
  /** A datagram from `from`: payload [start, end) of the memory, valid to the end of the turn. */
  deliver(path: UdpPath, from: Endpoint, start: number, end: number): void;
  /** The name that datagrams to `target` go to; null: to its address. */
  nameOf(path: UdpPath, target: Endpoint): string | null;
  /** Datagrams to `target` cannot go. */
  refuse(path: UdpPath, target: Endpoint, answer: UdpAnswer): void;
  /** The path's association went to another; what it kept is of no use any more. */
  gaveWay(path: UdpPath): void;
  /** A datagram to `target` is longer than `mtu` octets, IP and UDP headers included. */
  tooBig(path: UdpPath, target: Endpoint, mtu: number): void;
}

/** Octets that wait anywhere. */
export class WaitingRoom {
  octets = 0;
}

interface Waiting {
  readonly target: Endpoint;
  readonly bytes: Uint8Array;
}

/** An association that lived this long worked, answers or not. */
const LONG_LIFE = 60_000;

/** How often others give way for one at a proxy that says it is full. */
const MAX_TRIES = 3;

/** IP and UDP headers. */
const HEADERS_V4 = 20 + 8;
const HEADERS_V6 = 40 + 8;

const IDLE = 0;
const DIALING = 1;
const OPEN = 2;

export class UdpPath implements AssociationHandler, AssociationEntry, Dial, TimerHandler {
  older: AssociationEntry | null = null;
  younger: AssociationEntry | null = null;
  answered = false;
  readonly named: NamedTarget | null;
  readonly #owner: UdpPathOwner;
  readonly #context: RelayContext;
  readonly #room: WaitingRoom;
  readonly upstream: UdpUpstream;
  readonly #destination: AddressDestination = new AddressDestination();
  readonly #backoff = new Backoff();
  readonly #retry: Timer = new Timer(this);
  readonly #waiting: Waiting[] = [];
  readonly #maxWaiting: number;
  #state: number = IDLE;
  #association: Association | null = null;
  #openedAt = 0;
  /** In a row, at a proxy that was full. */
  #tries = 0;
  /** Datagrams are queued in the association. */
  #dirty = false;
  /** How datagrams are refused until the next try; null: they wait for it. */
  #answer: UdpAnswer | null = null;

  constructor(
    owner: UdpPathOwner,
    context: RelayContext,
    room: WaitingRoom,
    upstream: UdpUpstream,
    named: NamedTarget | null = null,
    maxWaiting: number = MAX_WAITING,
  ) {
    this.named = named;
    this.#maxWaiting = maxWaiting;
    this.#owner = owner;
    this.#context = context;
    this.#room = room;
    this.upstream = upstream;
  }

  /**
   * Sends payload [start, end) of the memory, datagrams of `segment` octets when that is > 0, to `target`. The memory must stay
   * until `flush`.
   */
  send(target: Endpoint, start: number, end: number, segment: number): void {
    if (this.#state === OPEN) {
      this.#transmit(target, start, end, segment);
      return;
    }
    const now = this.#context.timers.now();
    if (this.upstream.isLacking(now)) {
      this.#owner.refuse(this, target, "port-unreachable");
      return;
    }
    if (this.#state === IDLE) {
      const answer = this.upstream.answer(now) ?? this.#answer;
      const due = now >= this.#retryAt;
      if (!due && answer !== null) {
        this.#owner.refuse(this, target, answer);
        return;
      }
      if (due) this.#associate();
      else if (this.#retry.deadline < 0) this.#context.timers.set(this.#retry, this.#retryAt);
    }
    this.#wait(target, start, end, segment);
  }

  /** Hands what was sent to the kernel. */
  flush(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    this.#association?.flush();
    this.#context.associations.touch(this);
  }

  /** There is no association, and nothing waits for one. */
  get isIdle(): boolean {
    return this.#state === IDLE && this.#waiting.length === 0;
  }

  /** The client endpoint is gone. */
  close(): void {
    this.#context.timers.clear(this.#retry);
    if (this.#state !== IDLE) {
      this.#context.associations.remove(this);
      this.#end();
    }
    this.#forgetWaiting();
  }

  giveWay(): void {
    this.#end();
    this.#owner.gaveWay(this);
  }

  #end(): void {
    this.#context.stats.datagramsDropped += this.#waiting.length;
    this.#context.dials.release(this);
    this.#association?.close();
    this.#rest();
    this.#forgetWaiting();
  }

  startDial(): void {
    this.#association = this.upstream.upstream.associate(this);
  }

  // ---- from the upstream ------------------------------------------------------------------------

  onOpen(): void {
    this.#context.dials.release(this);
    this.upstream.granted();
    this.#state = OPEN;
    this.#openedAt = this.#context.timers.now();
    this.#tries = 0;
    this.#answer = null;
    for (const { target, bytes } of this.#waiting) {
      const at = this.#context.memory.datagrams.take(bytes.length);
      if (at < 0) {
        this.#context.stats.datagramsDropped++;
        continue;
      }
      this.#context.memory.bytes.set(bytes, at);
      this.#transmit(target, at, at + bytes.length, 0);
    }
    this.#forgetWaiting();
    this.flush();
  }

  onRefused(refusal: Refusal): void {
    const context = this.#context;
    const now = context.timers.now();
    context.dials.release(this);
    context.associations.remove(this);
    this.#rest();
    if (this.#tries < MAX_TRIES && isFullProxy(refusal) && context.associations.isFull(now)) {
      this.#tries++;
      this.#associate();
      return;
    }
    this.#tries = 0;
    this.#backoff.fail(now);
    this.#answer = udpAnswer(refusal);
    this.upstream.refused(refusal, context);
    const waiting = this.#waiting;
    for (let i = 0; i < waiting.length; i++) {
      const { target } = waiting[i] as Waiting;
      // One error per target: the stack quotes the last datagram to it.
      if (waiting.findIndex((other) => other.target.equals(target)) === i) {
        this.#owner.refuse(this, target, this.#answer);
      }
    }
    this.#forgetWaiting();
  }

  onDatagram(from: Endpoint, start: number, end: number): void {
    if (!this.answered) {
      this.answered = true;
      this.#backoff.succeed();
    }
    this.#context.associations.touch(this);
    this.#owner.deliver(this, from, start, end);
  }

  onLost(): void {
    this.#context.stats.associationsLost++;
    this.#context.associations.remove(this);
    this.#rest();
    const now = this.#context.timers.now();
    if (now - this.#openedAt >= LONG_LIFE) this.#backoff.succeed();
    this.#backoff.fail(now);
    this.#answer = null;
  }

  onTimer(): void {
    if (this.#state !== IDLE || this.#waiting.length === 0) return;
    const { timers } = this.#context;
    if (timers.now() < this.#retryAt) timers.set(this.#retry, this.#retryAt);
    else this.#associate();
  }

  // ---- within ------------------------------------------------------------------------------------

  /** Our own associations may be lost while the upstream grants others, and the other way round. */
  get #retryAt(): number {
    return Math.max(this.#backoff.retryAt, this.upstream.retryAt);
  }

  #associate(): void {
    const context = this.#context;
    context.timers.clear(this.#retry);
    this.#state = DIALING;
    this.answered = false;
    context.stats.associations++;
    const now = context.timers.now();
    context.stats.associationsEvicted += context.associations.add(this, now);
    context.dials.request(this);
  }

  #rest(): void {
    if (this.#state !== IDLE) this.#context.stats.associations--;
    this.#state = IDLE;
    this.#association = null;
    this.#dirty = false;
  }

  #transmit(target: Endpoint, start: number, end: number, segment: number): void {
    const association = this.#association as Association;
    const stats = this.#context.stats;
    const size = segment > 0 ? Math.min(segment, end - start) : end - start;
    const to = this.#destination.at(target, this.#owner.nameOf(this, target));
    const room = association.maxPayload(to);
    if (size > room) {
      stats.datagramsTooBig++;
      this.#owner.tooBig(this, target, room + (target.isV4 ? HEADERS_V4 : HEADERS_V6));
      return;
    }
    if (!association.send(to, start, end, segment)) {
      association.flush();
      if (!association.send(to, start, end, segment)) {
        stats.datagramsDropped++;
        return;
      }
    }
    this.#dirty = true;
    stats.datagramsUp += segment > 0 ? Math.ceil((end - start) / segment) : 1;
  }

  #wait(target: Endpoint, start: number, end: number, segment: number): void {
    const step = segment > 0 ? segment : Math.max(1, end - start);
    let at = start;
    do {
      const stop = Math.min(at + step, end);
      const full = this.#waiting.length >= this.#maxWaiting;
      if (full || this.#room.octets + stop - at > MAX_WAITING_OCTETS) {
        this.#context.stats.datagramsNotWaited++;
      } else {
        this.#room.octets += stop - at;
        this.#waiting.push({
          target: target.clone(),
          bytes: this.#context.memory.bytes.slice(at, stop),
        });
      }
      at = stop;
    } while (at < end);
  }

  #forgetWaiting(): void {
    for (const { bytes } of this.#waiting) this.#room.octets -= bytes.length;
    this.#waiting.length = 0;
  }
}
