/**
 * The addresses that are ours, and where a flow to an address goes.
 *
 * Our resolver and the host's loopback have an address of each family in a small reserved range; the rest of
 * that range is refused, lest a proxy be asked for it.
 */

import { type Cidr, cidrContains, type Endpoint, parseCidr } from "../stack/wire/address.ts";

export const DNS_PORT = 53;

export const Place = {
  /** Anywhere else: through the proxy. */
  OUTSIDE: 0,
  /** The address of our resolver. */
  RESOLVER: 1,
  /** The host's loopback, when that is enabled. */
  HOST: 2,
  /** Reserved and not in use. */
  NOWHERE: 3,
  /** An address that stands for a name, or could. */
  FAKE: 4,
} as const;
export type Place = (typeof Place)[keyof typeof Place];

/** What the plan depends on. */
export interface AddressPlanOptions {
  readonly resolvers: readonly Endpoint[];
  readonly hosts: readonly Endpoint[];
  readonly hostEnabled: boolean;
  /** Ranges in text form, as `parseCidr` reads them. */
  readonly reserved: readonly string[];
  /** Ranges whose addresses stand for names but for those above; in text form. */
  readonly fake?: readonly string[];
}

export class AddressPlan {
  readonly #resolvers: readonly Endpoint[];
  readonly #hosts: readonly Endpoint[];
  readonly #hostEnabled: boolean;
  readonly #reserved: readonly Cidr[];
  readonly #fake: readonly Cidr[];

  constructor(options: AddressPlanOptions) {
    this.#resolvers = options.resolvers;
    this.#hosts = options.hosts;
    this.#hostEnabled = options.hostEnabled;
    this.#reserved = options.reserved.map(rangeOf);
    this.#fake = (options.fake ?? []).map(rangeOf);
  }

  /** Where the address of `target` is; its port does not matter. */
  place(target: Endpoint): Place {
    for (const resolver of this.#resolvers) {
      if (resolver.sameAddress(target)) return Place.RESOLVER;
    }
    for (const host of this.#hosts) {
      if (host.sameAddress(target)) return this.#hostEnabled ? Place.HOST : Place.NOWHERE;
    }
    for (const range of this.#reserved) {
      if (cidrContains(range, target)) return Place.NOWHERE;
    }
    for (const range of this.#fake) {
      if (cidrContains(range, target)) return Place.FAKE;
    }
    return Place.OUTSIDE;
  }

  /** The inverse of {@link loopbackOf}; null when `remote` is not on loopback. */
  hostOf(remote: Endpoint, into: Endpoint): Endpoint | null {
    const v4 = remote.isV4;
    const onLoopback = v4
      ? remote.w3 >>> 24 === 127
      : remote.w3 === 1 && (remote.w0 | remote.w1 | remote.w2) === 0;
    if (!onLoopback) return null;
    for (const host of this.#hosts) {
      if (host.isV4 === v4) return into.set(host.w0, host.w1, host.w2, host.w3, remote.port);
    }
    return null;
  }
}

function rangeOf(text: string): Cidr {
  const range = parseCidr(text);
  if (range === null) throw new Error(`not a range: ${text}`);
  return range;
}

/** 127.0.0.1 or ::1, the family and port of `target`. */
export function loopbackOf(target: Endpoint, into: Endpoint): Endpoint {
  return target.isV4
    ? into.set(0, 0, 0xffff, 0x7f000001, target.port)
    : into.set(0, 0, 0, 1, target.port);
}
