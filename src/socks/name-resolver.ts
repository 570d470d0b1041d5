/**
 * Names to addresses for the built-in server: the host's own resolver (getaddrinfo through node:dns), bounded.
 *
 * Equal names asked at the same time share one lookup. At most {@link MAX_LOOKUPS} are in flight and
 * {@link MAX_WAITING} wait; answers are handed over inside a turn of the loop, in the resolver's order.
 */

import type { Endpoint } from "../stack/wire/address.ts";
import { parseAddress } from "../stack/wire/address.ts";

export const MAX_LOOKUPS = 256;
export const MAX_WAITING = 4096;
/** Addresses of one name that are tried. */
export const MAX_ADDRESSES = 16;

export interface NameHandler {
  /** The addresses of the name (port 0), empty if it has none or could not be resolved. Never called from `resolve`. */
  onAddresses(addresses: readonly Endpoint[]): void;
}

/** Calls back once with addresses in text form; empty when there are none. */
export type Lookup = (name: string, done: (addresses: readonly string[]) => void) => void;

/** What a callback from outside the loop goes through. */
export interface Turn {
  enter(): void;
  leave(): void;
}

export class NameResolver {
  /** Names refused because too many were waiting. */
  refused = 0;
  /** Lookups under way. */
  inFlight = 0;
  readonly #turn: Turn;
  readonly #lookup: Lookup;
  readonly #asked = new Map<string, NameHandler[]>();
  /** Names in `#asked` whose lookup has not begun, oldest first. */
  readonly #waiting: string[] = [];
  #handlers = 0;
  #open = true;

  constructor(turn: Turn, lookup: Lookup = systemLookup) {
    this.#turn = turn;
    this.#lookup = lookup;
  }

  /** Starts or joins a lookup. False: too many are waiting, and the handler is not called. */
  resolve(name: string, handler: NameHandler): boolean {
    if (this.#handlers >= MAX_LOOKUPS + MAX_WAITING) {
      this.refused++;
      return false;
    }
    this.#handlers++;
    const others = this.#asked.get(name);
    if (others !== undefined) {
      others.push(handler);
      return true;
    }
    this.#asked.set(name, [handler]);
    if (this.inFlight < MAX_LOOKUPS) this.#begin(name);
    else this.#waiting.push(name);
    return true;
  }

  /** No handler is called any more. */
  close(): void {
    this.#open = false;
    this.#asked.clear();
    this.#waiting.length = 0;
  }

  #begin(name: string): void {
    this.inFlight++;
    this.#lookup(name, (texts) => this.#finish(name, texts));
  }

  #finish(name: string, texts: readonly string[]): void {
    this.inFlight--;
    if (!this.#open) return;
    const handlers = this.#asked.get(name) ?? [];
    this.#asked.delete(name);
    this.#handlers -= handlers.length;
    const next = this.#waiting.shift();
    if (next !== undefined) this.#begin(next);
    const addresses: Endpoint[] = [];
    for (const text of texts) {
      const address = parseAddress(text);
      if (address !== null && addresses.length < MAX_ADDRESSES) addresses.push(address);
    }
    this.#turn.enter();
    try {
      for (const handler of handlers) handler.onAddresses(addresses);
    } finally {
      this.#turn.leave();
    }
  }
}

/** getaddrinfo(3), in the order of the system (RFC 6724). */
function systemLookup(name: string, done: (addresses: readonly string[]) => void): void {
  const { lookup } = process.getBuiltinModule("node:dns");
  lookup(name, { all: true, verbatim: true }, (error, addresses) => {
    done(error === null ? addresses.map(({ address }) => address) : []);
  });
}
