/**
 * Who may be a client of the built-in server, and how many connections each address has.
 *
 * An IPv4 address counts by itself, of IPv6 the /64, which is what one site has at least (RFC 6177 §2). Bounded by the
 * server's clients: an address without a connection has no entry.
 */

import { type Cidr, cidrContains, type Endpoint } from "../stack/wire/address.ts";

export type Admission = "admitted" | "not-allowed" | "too-many";

export class ClientTable {
  /** None: everyone. */
  readonly #allowed: readonly Cidr[];
  readonly #maxPerClient: number;
  readonly #connections = new Map<number | string, number>();

  /** `maxPerClient` 0: no limit, and nothing is counted. */
  constructor(allowed: readonly Cidr[], maxPerClient: number) {
    this.#allowed = allowed;
    this.#maxPerClient = maxPerClient;
  }

  /** Addresses with a connection. */
  get size(): number {
    return this.#connections.size;
  }

  /** A connection of `client` has come; one that is admitted counts until `leave`. */
  enter(client: Endpoint): Admission {
    if (!this.#isAllowed(client)) return "not-allowed";
    if (this.#maxPerClient === 0) return "admitted";
    const key = clientKey(client);
    const count = this.#connections.get(key) ?? 0;
    if (count >= this.#maxPerClient) return "too-many";
    this.#connections.set(key, count + 1);
    return "admitted";
  }

  /** A connection that was admitted has ended. */
  leave(client: Endpoint): void {
    const key = clientKey(client);
    const count = this.#connections.get(key);
    if (count === undefined) return;
    if (count > 1) this.#connections.set(key, count - 1);
    else this.#connections.delete(key);
  }

  #isAllowed(client: Endpoint): boolean {
    const allowed = this.#allowed;
    for (let i = 0; i < allowed.length; i++) {
      if (cidrContains(allowed[i] as Cidr, client)) return true;
    }
    return allowed.length === 0;
  }
}

/** What counts as one client: an IPv4 address, of IPv6 the /64. */
export function clientKey({ isV4, w0, w1, w3 }: Endpoint): number | string {
  return isV4 ? w3 : `${w0}:${w1}`;
}
