/**
 * Names to addresses for the built-in server: the host's own resolver (getaddrinfo through node:dns), bounded.
 *
 * Equal names asked at the same time share one lookup, in the turn of whichever of their clients comes first. At most
 * {@link MAX_LOOKUPS} are in flight, of one client {@link MAX_PER_CLIENT}, and {@link MAX_WAITING} wait, clients taking
 * turns; of all one client has at most {@link MAX_ASKED}. For names that nobody answers keep a thread of getaddrinfo for
 * ten seconds and more, and keep only their own client waiting. Answers are handed over inside a turn of the loop, in the
 * resolver's order.
 */

import type { Endpoint } from "../stack/wire/address.ts";
import { parseAddress } from "../stack/wire/address.ts";
import { clientKey } from "./client-table.ts";

export const MAX_LOOKUPS = 256;
export const MAX_PER_CLIENT = 16;
export const MAX_WAITING = 4096;
/** Questions of one client, those included that it does not wait for any more; a quarter of all is for others. */
export const MAX_ASKED: number = (3 * (MAX_LOOKUPS + MAX_WAITING)) / 4;
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
  readonly #asked = new Map<string, Question>();
  /** Names in `#asked` whose lookup has not begun, by who asks; the next client is the first. */
  readonly #waiting = new Map<ClientKey, Set<string>>();
  /** Lookups under way by who asked. */
  readonly #running = new Map<ClientKey, number>();
  #handlers = 0;
  /** The same by who asked. */
  readonly #held = new Map<ClientKey, number>();
  #open = true;

  constructor(turn: Turn, lookup: Lookup = systemLookup) {
    this.#turn = turn;
    this.#lookup = lookup;
  }

  /** Starts or joins a lookup, for `client` if it is one's. False: too many are waiting, and the handler is not called. */
  resolve(name: string, handler: NameHandler, client: Endpoint | null = null): boolean {
    const key = client === null ? null : clientKey(client);
    const held = this.#held.get(key) ?? 0;
    if (this.#handlers >= MAX_LOOKUPS + MAX_WAITING || (key !== null && held >= MAX_ASKED)) {
      this.refused++;
      return false;
    }
    this.#handlers++;
    this.#held.set(key, held + 1);
    let question = this.#asked.get(name);
    if (question === undefined) {
      question = { handlers: [], askers: [], clients: new Set() };
      this.#asked.set(name, question);
    }
    question.handlers.push(handler);
    question.askers.push(key);
    const { clients } = question;
    if (clients === null || clients.has(key)) return true;
    clients.add(key);
    const names = this.#waiting.get(key);
    if (names === undefined) this.#waiting.set(key, new Set([name]));
    else names.add(name);
    this.#beginWaiting();
    return true;
  }

  /** No handler is called any more. */
  close(): void {
    this.#open = false;
    this.#asked.clear();
    this.#waiting.clear();
  }

  /** Begins what the bounds permit: a name of each client in turn. */
  #beginWaiting(): void {
    for (const [key, names] of this.#waiting) {
      if (this.inFlight >= MAX_LOOKUPS) return;
      if (key !== null && (this.#running.get(key) ?? 0) >= MAX_PER_CLIENT) continue;
      const name = names.values().next().value as string;
      this.#begun(name);
      // Behind the others; the loop comes to it again.
      this.#waiting.delete(key);
      if (names.size > 0) this.#waiting.set(key, names);
      this.inFlight++;
      this.#running.set(key, (this.#running.get(key) ?? 0) + 1);
      this.#lookup(name, (texts) => this.#finish(name, key, texts));
    }
  }

  /** Nobody waits for the turn of `name` any more. */
  #begun(name: string): void {
    const question = this.#asked.get(name) as Question;
    for (const client of question.clients ?? []) {
      const names = this.#waiting.get(client);
      names?.delete(name);
      if (names?.size === 0) this.#waiting.delete(client);
    }
    question.clients = null;
  }

  #finish(name: string, key: ClientKey, texts: readonly string[]): void {
    this.inFlight--;
    less(this.#running, key);
    if (!this.#open) return;
    const { handlers, askers } = this.#asked.get(name) as Question;
    for (const asker of askers) less(this.#held, asker);
    this.#asked.delete(name);
    this.#handlers -= handlers.length;
    this.#beginWaiting();
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

/** Null: of no client. */
type ClientKey = number | string | null;

/** One name and who asks for it. */
interface Question {
  readonly handlers: NameHandler[];
  /** Whose each handler is. */
  readonly askers: ClientKey[];
  /** Null: the lookup has begun. */
  clients: Set<ClientKey> | null;
}

/** Counts one less; what is zero has no entry. */
function less(counts: Map<ClientKey, number>, key: ClientKey): void {
  const rest = (counts.get(key) ?? 1) - 1;
  if (rest > 0) counts.set(key, rest);
  else counts.delete(key);
}

/** getaddrinfo(3), in the order of the system (RFC 6724). */
function systemLookup(name: string, done: (addresses: readonly string[]) => void): void {
  const { lookup } = process.getBuiltinModule("node:dns");
  lookup(name, { all: true, verbatim: true }, (error, addresses) => {
    done(error === null ? addresses.map(({ address }) => address) : []);
  });
}
