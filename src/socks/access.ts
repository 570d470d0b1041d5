/**
 * Which destinations the built-in server refuses, decided from addresses alone.
 *
 * A proxy lends its place in the network to its clients, so by default it does not lend what only its own host may
 * reach: loopback, its own addresses, link-local (where clouds keep their metadata services), and, for clients that
 * are not on this host, private networks. Names are judged by what they resolve to, address by address, so a name
 * that points inside opens nothing (no DNS rebinding). An IPv4 address inside an IPv6 one (NAT64, RFC 6052; 6to4,
 * RFC 3056) is judged too. Groups are refused always: SOCKS has no way to join them.
 *
 * The user's rules come first, and what none of them matches is judged as above. An allowed prefix opens what is in it;
 * "all", or all of a family, is too wide to be meant as a way inside.
 */

import type { Addon } from "../native/binding.ts";
import { Endpoint } from "../stack/wire/address.ts";
import type { AccessRule } from "./access-rules.ts";
import { readWords } from "./words.ts";

/** Why a destination is refused; "allowed" if it is not. */
export type Verdict = "allowed" | "rule" | "group" | "own-host" | "link-local" | "private";

/** The rules of one server. */
export class AccessPolicy {
  readonly #allowPrivate: boolean;
  readonly #rules: readonly AccessRule[];
  readonly #inner = new Endpoint();
  #own: readonly Endpoint[] = [];

  constructor(allowPrivate: boolean, rules: readonly AccessRule[] = []) {
    this.#allowPrivate = allowPrivate;
    this.#rules = rules;
  }

  /** The addresses of this host, for instance {@link ownAddresses}. */
  setOwn(own: readonly Endpoint[]): void {
    this.#own = own;
  }

  /** Judges `destination` for `client`; only rules know ports. Allocates nothing. */
  judge(client: Endpoint, destination: Endpoint): Verdict {
    const verdict = this.#judgeAsWritten(client, destination);
    if (verdict !== "allowed" || destination.isV4) return verdict;
    const inner = embeddedV4(destination);
    if (inner === 0) return verdict;
    return this.#judgeAsWritten(client, this.#inner.set(0, 0, 0xffff, inner, destination.port));
  }

  #judgeAsWritten(client: Endpoint, destination: Endpoint): Verdict {
    if (destination.isMulticast || destination.isBroadcast) return "group";
    const rule = this.#ruleFor(destination);
    if (rule !== null && !rule.isAllow) return "rule";
    if (rule?.isSpecific === true) return "allowed";
    if (this.#allowPrivate) return "allowed";
    if (destination.isLoopback || destination.isUnspecified) return "own-host";
    if (destination.isLinkLocal || isEc2Metadata(destination)) return "link-local";
    if (this.#isOwn(destination)) return "own-host";
    if ((destination.isPrivate || isLocalUse(destination)) && !client.isLoopback) return "private";
    return "allowed";
  }

  #ruleFor(destination: Endpoint): AccessRule | null {
    const rules = this.#rules;
    for (let i = 0; i < rules.length; i++) {
      const rule = rules[i] as AccessRule;
      if (rule.matches(destination)) return rule;
    }
    return null;
  }

  #isOwn(destination: Endpoint): boolean {
    const own = this.#own;
    for (let i = 0; i < own.length; i++) {
      if ((own[i] as Endpoint).sameAddress(destination)) return true;
    }
    return false;
  }
}

/**
 * The addresses of this host's interfaces. Those of Node.js leave out interfaces without carrier (a bridge of Docker
 * without containers), whose addresses are this host all the same.
 */
export function ownAddresses(addon: Addon): Endpoint[] {
  let rows = new Int32Array(64 * WORDS);
  let count = addon.hostAddresses(rows);
  while (count * WORDS > rows.length) {
    rows = new Int32Array(2 * count * WORDS);
    count = addon.hostAddresses(rows);
  }
  const own: Endpoint[] = [];
  for (let i = 0; i < count; i++) own.push(readWords(rows, i * WORDS, new Endpoint()));
  return own;
}

/** Of a row. */
const WORDS = 5;

/** fd00:ec2::254, the IPv6 address of EC2's instance metadata service. */
function isEc2Metadata({ w0, w1, w2, w3 }: Endpoint): boolean {
  return w0 === (0xfd000ec2 | 0) && w1 === 0 && w2 === 0 && w3 === 0x254;
}

/**
 * What is no more public than RFC 1918: 198.18.0.0/15 (RFC 2544), 192.0.0.0/24 (RFC 6890) and the deprecated
 * site-local fec0::/10 (RFC 3879).
 */
function isLocalUse({ isV4, w0, w3 }: Endpoint): boolean {
  if (!isV4) return w0 >>> 22 === 0x3fb;
  return w3 >>> 17 === 0xc612 >>> 1 || w3 >>> 8 === 0xc00000;
}

/** The IPv4 address in a NAT64 (64:ff9b::/96) or 6to4 (2002::/16) address, or 0. */
function embeddedV4({ w0, w1, w2, w3 }: Endpoint): number {
  if (w0 === 0x0064ff9b && w1 === 0 && w2 === 0) return w3;
  if (w0 >>> 16 === 0x2002) return (w0 << 16) | (w1 >>> 16);
  return 0;
}
