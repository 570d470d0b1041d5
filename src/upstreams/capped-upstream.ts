/**
 * An upstream that is given so many streams at a time and no more: providers count connections, and some close those
 * above their number.
 *
 *     up to `limit` streams are dialling or open
 *     up to MAX_WAITING wait for the end of one, in order of arrival, as long as a dial may take
 *     everything beyond is refused, as our own limit ("local")
 *
 * Associations are not counted: they live as long as programs keep their ports, and the few places would be theirs.
 */

import type {
  Association,
  AssociationHandler,
  Destination,
  ProxyUpstream,
  Refusal,
  Stream,
  StreamHandler,
} from "../socks/ports.ts";
import { SocksRefusal } from "../socks/refusal.ts";
import { Timer, type TimerHandler, type Timers } from "../stack/timer-wheel.ts";
import { Endpoint } from "../stack/wire/address.ts";
import { StandInStream } from "./stand-in-stream.ts";

/** Dials that wait: half of those the relay has under way, so that a full proxy does not take the places of others. */
export const MAX_WAITING = 128;

export class CappedUpstream implements ProxyUpstream {
  readonly label: string;
  readonly limit: number;
  /** Streams that were refused because so many waited already. */
  crowded = 0;
  /** Streams that were refused because no place became free in time. */
  expired = 0;
  readonly timers: Timers;
  /** How long a dial waits, ms. */
  readonly patience: number;
  readonly #upstream: ProxyUpstream;
  #active = 0;
  readonly #waiting = new Set<CappedStream>();

  constructor(upstream: ProxyUpstream, limit: number, timers: Timers, patience: number) {
    this.label = upstream.label;
    this.limit = limit;
    this.timers = timers;
    this.patience = patience;
    this.#upstream = upstream;
  }

  /** Streams that dial or are open. */
  get active(): number {
    return this.#active;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  get isFull(): boolean {
    return this.#active >= this.limit;
  }

  connect(destination: Destination, handler: StreamHandler): Stream {
    return new CappedStream(this, destination, handler);
  }

  associate(handler: AssociationHandler): Association {
    return this.#upstream.associate(handler);
  }

  resolve(): Promise<void> {
    return this.#upstream.resolve();
  }

  probe(): Promise<Refusal | null> {
    return this.#upstream.probe();
  }

  close(): void {
    this.#upstream.close();
  }

  // ---- for its streams -------------------------------------------------------------------------------------------

  /** A place for `stream`: now (true), or later by its `start`. Null: it waits. Else why there will be none. */
  request(stream: CappedStream): Refusal | true | null {
    if (!this.isFull) {
      this.#active++;
      return true;
    }
    if (this.#waiting.size < MAX_WAITING) {
      this.#waiting.add(stream);
      return null;
    }
    this.crowded++;
    return this.#refusal(`${this.#waiting.size} wait for a place among them`);
  }

  /** `stream` waited for as long as it may. */
  expire(stream: CappedStream): Refusal {
    this.#waiting.delete(stream);
    this.expired++;
    return this.#refusal(`no place became free for ${this.patience / 1000} s`);
  }

  /** `stream` does not wait any more, or its place is free. */
  release(stream: CappedStream): void {
    if (this.#waiting.delete(stream) || !stream.hasPlace) return;
    this.#active--;
    for (const next of this.#waiting) {
      if (this.isFull) return;
      this.#waiting.delete(next);
      this.#active++;
      next.start();
    }
  }

  dial(destination: Destination, handler: StreamHandler): Stream {
    return this.#upstream.connect(destination, handler);
  }

  #refusal(why: string): Refusal {
    const limit = `its limit of ${this.limit} at a time (max) is reached and ${why}`;
    return new SocksRefusal("local", this.label, `${limit}; raise it if the proxy takes more`);
  }
}

class CappedStream extends StandInStream implements TimerHandler {
  hasPlace = false;
  readonly #upstream: CappedUpstream;
  readonly #name: string | null;
  readonly #endpoint: Endpoint;
  readonly #timer: Timer = new Timer(this);
  /** To be told from the timer. */
  #refusal: Refusal | null = null;

  constructor(upstream: CappedUpstream, destination: Destination, handler: StreamHandler) {
    super(handler);
    this.#upstream = upstream;
    this.#name = destination.name;
    this.#endpoint = new Endpoint().copy(destination.endpoint);
    const answer = upstream.request(this);
    const { timers } = upstream;
    if (answer === true) {
      this.start();
    } else {
      this.#refusal = answer;
      timers.set(this.#timer, timers.now() + (answer === null ? upstream.patience : 0));
    }
  }

  /** It has a place. */
  start(): void {
    this.hasPlace = true;
    this.#upstream.timers.clear(this.#timer);
    this.stream = this.#upstream.dial({ name: this.#name, endpoint: this.#endpoint }, this);
  }

  onTimer(): void {
    this.refuse(this.#refusal ?? this.#upstream.expire(this));
  }

  onRefused(refusal: Refusal): void {
    this.refuse(refusal);
  }

  protected release(): void {
    this.#upstream.timers.clear(this.#timer);
    this.#upstream.release(this);
  }
}
