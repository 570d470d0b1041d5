/**
 * Datagrams straight out, to names too: this host resolves the name that was sent to last. Datagrams wait for that, as
 * many as {@link MAX_WAITING}; those to a name that does not resolve are lost, as datagrams may be, and the next one asks
 * again.
 */

import type { MemoryLayout } from "../memory.ts";
import { Endpoint } from "../stack/wire/address.ts";
import type { NameHandler, NameResolver } from "./name-resolver.ts";
import type { Association, Destination } from "./ports.ts";

/** Datagrams that wait for an address. */
export const MAX_WAITING = 16;

export class NamedAssociation implements Association {
  readonly #association: Association;
  readonly #resolver: NameResolver;
  readonly #memory: MemoryLayout;
  #target: Target | null = null;
  #closed = false;

  /** Owns `association`. */
  constructor(association: Association, resolver: NameResolver, memory: MemoryLayout) {
    this.#association = association;
    this.#resolver = resolver;
    this.#memory = memory;
  }

  send(to: Destination, start: number, end: number, segment: number): boolean {
    const { name, endpoint } = to;
    if (name === null) return this.#association.send(to, start, end, segment);
    let target = this.#target;
    if (target?.destination.name !== name) {
      target = new Target(name, (ready) => this.#sendWaiting(ready));
      this.#target = target;
      if (!this.#resolver.resolve(name, target)) this.#target = null;
    }
    if (target.isKnown)
      return this.#association.send(target.at(endpoint.port), start, end, segment);
    const step = segment > 0 ? segment : Math.max(1, end - start);
    for (let at = start; at < end || at === start; at += step) {
      if (target.waiting.length === MAX_WAITING) break;
      target.waiting.push({
        port: endpoint.port,
        payload: this.#memory.bytes.slice(at, Math.min(at + step, end)),
      });
    }
    return true;
  }

  maxPayload(to: Destination): number {
    const target = this.#target;
    const isKnown = to.name !== null && target?.destination.name === to.name && target.isKnown;
    return this.#association.maxPayload(isKnown ? target.at(to.endpoint.port) : to);
  }

  flush(): void {
    this.#association.flush();
  }

  close(): void {
    this.#closed = true;
    this.#association.close();
  }

  #sendWaiting(target: Target): void {
    const waiting = target.waiting.splice(0);
    if (!target.isKnown && this.#target === target) this.#target = null;
    if (this.#closed || !target.isKnown) return;
    const { bytes, datagrams } = this.#memory;
    for (const { port, payload } of waiting) {
      const at = datagrams.take(payload.length);
      if (at < 0) break;
      bytes.set(payload, at);
      this.#association.send(target.at(port), at, at + payload.length, 0);
    }
    this.#association.flush();
  }
}

/** A name, and its first address once that is known. */
class Target implements NameHandler {
  readonly waiting: { readonly port: number; readonly payload: Uint8Array }[] = [];
  readonly destination: { readonly name: string; readonly endpoint: Endpoint };
  isKnown = false;
  readonly #ready: (target: Target) => void;

  constructor(name: string, ready: (target: Target) => void) {
    this.destination = { name, endpoint: new Endpoint() };
    this.#ready = ready;
  }

  onAddresses(addresses: readonly Endpoint[]): void {
    const [first] = addresses;
    if (first !== undefined) {
      this.destination.endpoint.copy(first);
      this.isKnown = true;
    }
    this.#ready(this);
  }

  at(port: number): Destination {
    this.destination.endpoint.port = port;
    return this.destination;
  }
}
