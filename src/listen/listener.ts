/**
 * Listens at a proxy: BIND after BIND, since each takes one connection (RFC 1928 §4).
 *
 * The next BIND is asked for as soon as somebody has connected, at most {@link MAX_CONNECTIONS} at a time. One that ends
 * without a connection is asked for again, after 1 s at first and 60 s at last; the first that is refused ends it all.
 */

import type { Log } from "../log.ts";
import { Backoff } from "../relay/backoff.ts";
import { Command } from "../socks/message.ts";
import type { Turn } from "../socks/name-resolver.ts";
import type { Destination, Refusal } from "../socks/ports.ts";
import type { SocksUpstream } from "../socks/upstream.ts";
import { Timer, type TimerHandler, type Timers } from "../stack/timer-wheel.ts";
import { type Endpoint, formatEndpoint } from "../stack/wire/address.ts";
import { Accepted, type AcceptedOwner, localFailure } from "./accepted.ts";

/** Connections relayed at a time; nobody is listened for beyond it. */
export const MAX_CONNECTIONS = 256;

export interface ListenerOptions {
  /** Where connections go. */
  readonly to: Endpoint;
  /** Who is expected, if the proxy wants to know; null: zeros. */
  readonly peer: Destination | null;
  /** One connection, and no more. */
  readonly once: boolean;
  readonly maxConnections?: number;
}

export interface ListenerEnvironment {
  readonly timers: Timers;
  readonly turn: Turn;
  readonly log: Log;
  /** Is told each address that the proxy listens at. */
  readonly print: (address: string) => void;
}

export class Listener implements AcceptedOwner, TimerHandler {
  /** Connections that were relayed, those under way included. */
  accepted = 0;
  readonly #upstream: SocksUpstream;
  readonly #options: ListenerOptions;
  readonly #environment: ListenerEnvironment;
  readonly #connections = new Set<Accepted>();
  readonly #timer = new Timer(this);
  readonly #backoff = new Backoff();
  /** The BIND that nobody connected to yet. */
  #waiting: Accepted | null = null;
  /** A BIND was granted once: others that are refused are tried again. */
  #granted = false;
  #done: ((refusal: Refusal | null) => void) | null = null;

  /** `upstream` has layered streams, and the same timers and turn. */
  constructor(upstream: SocksUpstream, options: ListenerOptions, environment: ListenerEnvironment) {
    this.#upstream = upstream;
    this.#options = options;
    this.#environment = environment;
  }

  /** Listens. Resolves with null when the only connection is over, or with what ended it. Once; outside a turn. */
  run(): Promise<Refusal | null> {
    return new Promise((resolve) => {
      this.#done = resolve;
      this.#environment.turn.enter();
      this.#listen();
      this.#environment.turn.leave();
    });
  }

  /** Ends everything. Idempotent. */
  close(): void {
    this.#environment.timers.clear(this.#timer);
    this.#waiting?.close();
    for (const connection of this.#connections) connection.close();
    this.#connections.clear();
  }

  onTimer(): void {
    this.#listen();
  }

  listening(address: string): void {
    this.#granted = true;
    this.#environment.print(address);
  }

  connected(accepted: Accepted, peer: string): void {
    this.#waiting = null;
    this.#backoff.succeed();
    this.#connections.add(accepted);
    this.accepted++;
    this.#environment.log.info?.(
      `${peer} connected: relayed to ${formatEndpoint(this.#options.to)}`,
    );
    this.#next();
  }

  refused(_accepted: Accepted, refusal: Refusal): void {
    this.#waiting = null;
    if (!this.#granted) {
      this.#done?.(refusal);
      return;
    }
    const { timers, log } = this.#environment;
    this.#backoff.fail(timers.now());
    const wait = Math.ceil((this.#backoff.retryAt - timers.now()) / 1000);
    log.warn?.(`${refusal.error.message}; trying again in ${wait} s`);
    timers.set(this.#timer, this.#backoff.retryAt);
  }

  ended(accepted: Accepted, error: NodeJS.ErrnoException | null): void {
    this.#connections.delete(accepted);
    if (error !== null) {
      const to = formatEndpoint(this.#options.to);
      this.#environment.log.warn?.(
        `cannot connect to ${to}: ${localFailure(error)}; is its server running?`,
      );
    }
    if (this.#options.once) this.#done?.(null);
    else this.#next();
  }

  #next(): void {
    const { once, maxConnections = MAX_CONNECTIONS } = this.#options;
    if (once || this.#waiting !== null || this.#timer.deadline >= 0) return;
    if (this.#connections.size < maxConnections) this.#listen();
  }

  #listen(): void {
    const { to, peer } = this.#options;
    const { label, isSocks4 } = this.#upstream;
    const accepted = new Accepted(this, label, this.#environment.turn, to, isSocks4);
    this.#waiting = accepted;
    const stream = this.#upstream.request(Command.BIND, peer, accepted);
    if (stream.shape !== "layered") throw new Error("a listener's streams are layered");
    accepted.start(stream);
  }
}
