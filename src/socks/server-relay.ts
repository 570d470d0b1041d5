/**
 * Octets between the two legs of a granted CONNECT, both ways, with everything TCP tells at their ends.
 *
 * Each read goes into a slot and from there at once into the other leg. What the other leg does not take stays in the
 * slot, and the reading side is not watched until it is gone: at most one slot per direction, whatever the speeds. An
 * end of stream becomes a FIN, and the other direction lives on. A reset becomes a reset, after all that was received
 * before it has been acknowledged by the other side (or {@link RESET_DEADLINE} has passed), so that nobody mistakes
 * a broken transfer for a short one. Silence ends it by resets both ways. Nothing is allocated per read.
 */

import { constants } from "node:os";
import type { Addon } from "../native/binding.ts";
import { Epoll } from "../native/binding.ts";
import { Timer, type TimerHandler, type Timers } from "../stack/timer-wheel.ts";
import { SLOT_OCTETS, type SlotPool } from "./buffers.ts";
import type { LegEnvironment, LegOwner, ServerLeg } from "./server-leg.ts";

export interface RelayEnvironment extends LegEnvironment {
  readonly timers: Timers;
  readonly stats: RelayStats;
  /** Silence, ms, that ends a relay, and one that one side has finished; 0: none does. */
  readonly tcpIdle: number;
  readonly tcpHalfClosed: number;
}

export interface RelayStats {
  /** Octets received from clients and from targets. */
  clientOctets: number;
  targetOctets: number;
  /** Resets passed on. */
  resets: number;
  /** Ended for silence. */
  idleEnded: number;
  halfClosedEnded: number;
}

export interface RelayOwner {
  /** Both legs are closed. Last call. */
  onRelayEnd(): void;
}

/** Reads per event, so that one fast connection does not starve the others; level-triggered, the rest comes next turn. */
const READS_PER_EVENT = 8;
/** How long a reset waits for the acknowledgement of what came before it. */
const RESET_DEADLINE = 10_000;
/** How often it looks. */
const RESET_INTERVAL = 20;

const { EAGAIN } = constants.errno;

export class ServerRelay implements LegOwner, TimerHandler {
  readonly #addon: Addon;
  readonly #slots: SlotPool;
  readonly #row: Int32Array;
  readonly #timers: Timers;
  readonly #stats: RelayStats;
  readonly #idle: number;
  readonly #halfClosed: number;
  readonly #client: ServerLeg;
  readonly #target: ServerLeg;
  readonly #owner: RelayOwner;
  readonly #timer = new Timer(this);
  /** When octets moved last. */
  #lastActive = 0;
  /** The leg that will be reset once it has acknowledged everything. */
  #resetting: ServerLeg | null = null;
  #resetDeadline = 0;
  #closed = false;

  constructor(
    environment: RelayEnvironment,
    client: ServerLeg,
    target: ServerLeg,
    owner: RelayOwner,
  ) {
    this.#addon = environment.addon;
    this.#slots = environment.slots;
    this.#row = environment.row;
    this.#timers = environment.timers;
    this.#stats = environment.stats;
    this.#idle = environment.tcpIdle;
    this.#halfClosed = environment.tcpHalfClosed;
    this.#client = client;
    this.#target = target;
    this.#owner = owner;
    client.owner = this;
    target.owner = this;
  }

  /** Starts; what the client sent early is already kept by the target's leg, and its end of stream noted. */
  start(): void {
    const target = this.#target;
    this.#watchSilence();
    if (target.slot >= 0) this.#drain(target);
    else if (this.#client.ended) target.shutdown();
    this.#settle();
  }

  /** Closes both legs at once. The owner is not told. */
  close(): void {
    this.#closed = true;
    this.#timers.clear(this.#timer);
    this.#client.close();
    this.#target.close();
  }

  onLeg(leg: ServerLeg, bits: number): void {
    const failed = (bits & (Epoll.ERR | Epoll.HUP)) !== 0;
    if (this.#resetting !== null) {
      this.#onResettingLeg(leg, bits, failed);
      return;
    }
    if (leg.slot >= 0 && (failed || (bits & Epoll.OUT) !== 0)) this.#drain(leg);
    if (this.#closed || this.#resetting !== null) return;
    if (this.#mayRead(leg)) {
      if (failed || (bits & Epoll.IN) !== 0) this.#pump(leg, this.#other(leg));
    } else if (failed) {
      if (leg.ended && !leg.shut) this.#break(leg);
      // Paused: the octets in front of the error are read when the other leg has room.
      else leg.unwatch();
    }
    if (!this.#closed && this.#resetting === null) this.#settle();
  }

  onTimer(): void {
    if (this.#resetting === null) this.#onSilence();
    else this.#onResetDelay();
  }

  /** The end of a reset's wait, or a look at it. */
  #onResetDelay(): void {
    const leg = this.#resetting as ServerLeg;
    const waiting = leg.slot >= 0 || this.#addon.outstanding(leg.fd) > 0;
    if (waiting && this.#timers.now() < this.#resetDeadline) {
      this.#timers.set(this.#timer, this.#timers.now() + RESET_INTERVAL);
    } else {
      this.#finish();
    }
  }

  /** Counts silence from now on. */
  #watchSilence(): void {
    this.#lastActive = this.#timers.now();
    const limit = this.#limit;
    if (limit > 0) this.#timers.set(this.#timer, this.#lastActive + limit);
    else this.#timers.clear(this.#timer);
  }

  get #limit(): number {
    return this.#client.ended || this.#target.ended ? this.#halfClosed : this.#idle;
  }

  /** The limit on silence may have passed; the timer is set anew only here, not when octets move. */
  #onSilence(): void {
    const deadline = this.#lastActive + this.#limit;
    if (this.#timers.now() < deadline) {
      this.#timers.set(this.#timer, deadline);
      return;
    }
    if (this.#client.ended || this.#target.ended) this.#stats.halfClosedEnded++;
    else this.#stats.idleEnded++;
    this.#client.reset();
    this.#target.reset();
    this.#finish();
  }

  #other(leg: ServerLeg): ServerLeg {
    return leg === this.#client ? this.#target : this.#client;
  }

  #mayRead(leg: ServerLeg): boolean {
    const other = this.#other(leg);
    return !leg.ended && other.slot < 0 && !other.broken;
  }

  /** Reads `from` and sends to `to`, which keeps nothing. */
  #pump(from: ServerLeg, to: ServerLeg): void {
    const row = this.#row;
    for (let reads = 0; reads < READS_PER_EVENT; reads++) {
      const slot = this.#slots.take();
      row[0] = slot;
      row[1] = SLOT_OCTETS;
      const received = this.#addon.recv(from.fd, row, 1);
      if (received <= 0) {
        this.#slots.give(slot);
        if (received === -EAGAIN) return;
        // A leg that refused octets was reset; then its end of stream is none.
        if (received === 0 && !from.broken) this.#end(from, to);
        else this.#break(from);
        return;
      }
      this.#lastActive = this.#timers.now();
      if (from === this.#client) this.#stats.clientOctets += received;
      else this.#stats.targetOctets += received;
      row[1] = received;
      const sent = this.#addon.send(to.fd, row, 1);
      if (sent === received) {
        this.#slots.give(slot);
        if (received < SLOT_OCTETS) return;
      } else if (sent >= 0 || sent === -EAGAIN) {
        to.keep(slot, slot + Math.max(sent, 0), slot + received);
        return;
      } else {
        this.#slots.give(slot);
        this.#refused(to);
        return;
      }
    }
  }

  /** Sends what `leg` keeps; when all is gone, its source is read again. */
  #drain(leg: ServerLeg): void {
    const source = this.#other(leg);
    const result = leg.sendKept();
    this.#lastActive = this.#timers.now();
    if (result === -EAGAIN) return;
    if (result < 0) this.#refused(leg);
    else if (source.ended) leg.shutdown();
    else if (source.fd >= 0 && !leg.broken) this.#pump(source, leg);
  }

  #end(from: ServerLeg, to: ServerLeg): void {
    from.ended = true;
    this.#watchSilence();
    if (to.slot < 0) to.shutdown();
  }

  /** `leg` takes nothing any more: it was reset. What it sent before is still to be delivered. */
  #refused(leg: ServerLeg): void {
    leg.broken = true;
    leg.drop();
    if (leg.ended || this.#other(leg).broken) this.#break(leg);
    else if (this.#mayRead(leg)) this.#pump(leg, this.#other(leg));
  }

  /** `leg` was reset and read to its end: the other leg is reset when it has acknowledged everything. */
  #break(leg: ServerLeg): void {
    const other = this.#other(leg);
    this.#stats.resets++;
    leg.close();
    this.#resetting = other;
    this.#resetDeadline = this.#timers.now() + RESET_DEADLINE;
    if (other.slot < 0 && this.#addon.outstanding(other.fd) <= 0) {
      this.#finish();
      return;
    }
    // Nothing more is read from it: only room for the rest, and its own end.
    other.watch(other.slot >= 0 ? Epoll.OUT : 0);
    this.#timers.set(this.#timer, this.#timers.now() + RESET_INTERVAL);
  }

  #onResettingLeg(leg: ServerLeg, bits: number, failed: boolean): void {
    if (leg !== this.#resetting) return;
    if (failed) {
      this.#finish();
      return;
    }
    if (leg.slot < 0 || (bits & Epoll.OUT) === 0) return;
    const result = leg.sendKept();
    if (result === 0) leg.watch(0);
    else if (result !== -EAGAIN) this.#finish();
  }

  /** Watches each leg for what it is waited for, and ends when both streams have ended both ways. */
  #settle(): void {
    const client = this.#client;
    const target = this.#target;
    if (client.ended && target.ended && client.shut && target.shut) {
      this.#finish();
      return;
    }
    this.#watch(client);
    this.#watch(target);
  }

  #watch(leg: ServerLeg): void {
    if (leg.ended && leg.shut) {
      // HUP would be reported for ever.
      leg.unwatch();
      return;
    }
    const bits = (this.#mayRead(leg) ? Epoll.IN : 0) | (leg.slot >= 0 ? Epoll.OUT : 0);
    if (bits !== 0 || leg.watched) leg.watch(bits);
  }

  #finish(): void {
    this.#closed = true;
    this.#timers.clear(this.#timer);
    if (this.#resetting !== null) this.#resetting.reset();
    this.#client.close();
    this.#target.close();
    this.#owner.onRelayEnd();
  }
}
