/**
 * One descriptor of a connection of the built-in server: its place in the poller, and the octets that wait for it.
 */

import { constants } from "node:os";
import type { Addon } from "../native/binding.ts";
import type { Poller, PollHandler } from "../native/poller.ts";
import type { SlotPool } from "./buffers.ts";

/** Who decides what an event on a leg means; changes once, when negotiation is over. */
export interface LegOwner {
  onLeg(leg: ServerLeg, bits: number): void;
}

/** What every leg of a server shares. */
export interface LegEnvironment {
  readonly addon: Addon;
  readonly poller: Poller;
  readonly slots: SlotPool;
  /** One [offset, length] row for the call at hand. */
  readonly row: Int32Array;
}

const { EAGAIN } = constants.errno;

export class ServerLeg implements PollHandler {
  owner: LegOwner;
  /** -1: no descriptor (yet, or any more). */
  fd = -1;
  /** The slot with octets to be sent to this leg, or -1; they are [start, end) of the memory. */
  slot = -1;
  start = 0;
  end = 0;
  /** Its end of stream was read. */
  ended = false;
  /** A FIN was sent to it. */
  shut = false;
  /** Nothing can be sent to it any more. */
  broken = false;
  readonly #environment: LegEnvironment;
  #pollId = -1;
  #bits = 0;

  constructor(environment: LegEnvironment, owner: LegOwner) {
    this.#environment = environment;
    this.owner = owner;
  }

  onPoll(bits: number): void {
    this.owner.onLeg(this, bits);
  }

  /** Watches the descriptor for `bits`; ERR and HUP are always reported while it is watched. 0 or -errno. */
  watch(bits: number): number {
    const { poller } = this.#environment;
    if (this.#pollId >= 0) {
      if (bits !== this.#bits) poller.modify(this.#pollId, this.fd, bits);
    } else {
      const id = poller.add(this.fd, this, bits);
      if (id < 0) return id;
      this.#pollId = id;
    }
    this.#bits = bits;
    return 0;
  }

  get watched(): boolean {
    return this.#pollId >= 0;
  }

  /** Stops watching: the only way to silence ERR and HUP. */
  unwatch(): void {
    if (this.#pollId < 0) return;
    this.#environment.poller.remove(this.#pollId, this.fd);
    this.#pollId = -1;
  }

  /** Keeps [start, end) of `slot`, which the leg now owns, until it can be sent. */
  keep(slot: number, start: number, end: number): void {
    this.slot = slot;
    this.start = start;
    this.end = end;
  }

  /** Sends what is kept. 0: all is sent; -EAGAIN: some is left; any other -errno: the leg is broken. */
  sendKept(): number {
    const { addon, row } = this.#environment;
    row[0] = this.start;
    row[1] = this.end - this.start;
    const sent = addon.send(this.fd, row, 1);
    if (sent < 0) return sent;
    this.start += sent;
    if (this.start < this.end) return -EAGAIN;
    this.drop();
    return 0;
  }

  /** Forgets what is kept. */
  drop(): void {
    if (this.slot < 0) return;
    this.#environment.slots.give(this.slot);
    this.slot = -1;
  }

  /** Sends FIN. */
  shutdown(): void {
    this.shut = true;
    this.#environment.addon.shutdown(this.fd);
  }

  /** Closes and forgets what is kept. Idempotent. */
  close(): void {
    this.drop();
    if (this.fd < 0) return;
    this.unwatch();
    this.#environment.addon.close(this.fd);
    this.fd = -1;
  }

  /** Closes with RST. */
  reset(): void {
    this.drop();
    if (this.fd < 0) return;
    this.unwatch();
    this.#environment.addon.reset(this.fd);
    this.fd = -1;
  }
}
