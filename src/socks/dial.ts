/**
 * What a stream needs only until it is open: the handshake, the deadlines and the place among the proxy's addresses.
 *
 * Dials are few at a time and streams are many, so dials are kept for the next one and an open stream owns none.
 */

import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { Endpoint } from "../stack/wire/address.ts";
import type { Destination, Refusal } from "./ports.ts";
import type { Credentials, ProxyHandshake } from "./proxy-handshake.ts";

/** Dials kept for later; the relay has at most as many under way. */
const MAX_KEPT = 256;

export interface DialOwner {
  /** The step under way, or the whole dial, took too long; or a refusal waits to be told. */
  onDialTimer(dial: Dial): void;
}

export class Dial implements TimerHandler {
  readonly handshake: ProxyHandshake;
  readonly timer: Timer = new Timer(this);
  /** A refusal to be told from the timer, because it happened inside `connect`. */
  refusal: Refusal | null = null;
  /** When the whole dial must be over, ms. */
  deadline = 0;
  /** The proxy's addresses when the dial began: a look-up meanwhile changes nothing for it. */
  addresses: readonly Endpoint[] = NONE;
  /** Addresses tried before this one. */
  tried = 0;
  /** Index of the address that is being tried. */
  index = 0;
  /** Octets of the message under way that the socket took. */
  sent = 0;
  /** Greeting, credentials and request leave in one write. */
  ahead = false;
  /** It shows whether the proxy takes that: by itself, or by being done again. */
  trial = false;
  /** Done again, step by step. */
  redone = false;
  /** How the trial failed: nothing came in time; REP, 0: without one. */
  trialHung = false;
  trialReply = 0;
  /** When the request left, ms. */
  requestedAt = 0;
  #owner: DialOwner | null = null;
  #command = 0;
  #name: string | null = null;
  #isNamed = false;
  readonly #endpoint = new Endpoint();

  constructor(handshake: ProxyHandshake) {
    this.handshake = handshake;
  }

  /** `destination` null: nothing, or all zero. */
  prepare(owner: DialOwner, command: number, destination: Destination | null): void {
    this.#owner = owner;
    this.#command = command;
    this.#name = destination?.name ?? null;
    this.#isNamed = destination !== null;
    if (destination === null) this.#endpoint.set(0, 0, 0, 0, 0);
    else this.#endpoint.copy(destination.endpoint);
    this.refusal = null;
    this.tried = 0;
    this.sent = 0;
    this.ahead = false;
    this.trial = false;
    this.redone = false;
  }

  /** As in `ProxyHandshake.begin`. */
  get command(): number {
    return this.#command;
  }

  /** The address that is being tried. */
  get server(): Endpoint {
    return this.addresses[this.index] as Endpoint;
  }

  /** Starts the handshake on a connection to `server`, all in one write if it is `ahead`. */
  begin(label: string, credentials: Credentials | null): void {
    const { server } = this;
    // RFC 1928 §4 lets a client that does not know its source send zeros; Dante takes the family of the relay from
    // them, so they must be of the control connection's.
    if (!this.#isNamed) {
      this.#endpoint.set(0, 0, server.isV4 ? 0xffff : 0, 0, 0);
    }
    const { ahead } = this;
    this.handshake.begin(label, credentials, this.#command, this.#name, this.#endpoint, ahead);
    this.sent = 0;
  }

  /** Lets go of what belongs to the owner. */
  forget(): void {
    this.#owner = null;
    this.#name = null;
    this.addresses = NONE;
    this.refusal = null;
  }

  onTimer(): void {
    this.#owner?.onDialTimer(this);
  }
}

const NONE: readonly Endpoint[] = [];

export class DialPool {
  readonly #kept: Dial[] = [];
  readonly #makeHandshake: () => ProxyHandshake;

  /** `makeHandshake`: of the proxy's protocol, the same for all of its dials. */
  constructor(makeHandshake: () => ProxyHandshake) {
    this.#makeHandshake = makeHandshake;
  }

  take(owner: DialOwner, command: number, destination: Destination | null): Dial {
    const dial = this.#kept.pop() ?? new Dial(this.#makeHandshake());
    dial.prepare(owner, command, destination);
    return dial;
  }

  /** The caller has cleared the timer. */
  give(dial: Dial): void {
    dial.forget();
    if (this.#kept.length < MAX_KEPT) this.#kept.push(dial);
  }
}
