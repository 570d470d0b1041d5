/**
 * Rules compiled for the hot path: which is the first whose conditions all hold.
 *
 * Conditions are rows of integers in three typed arrays, so that nothing is allocated and nothing followed but those; a
 * domain is a string, compared only with flows that have a name. A datagram may be asked about as often as it comes.
 */

import { TunnelError } from "../errors.ts";
import { mask } from "../network-prefix.ts";
import { globs, isBelow } from "../relay/name-patterns.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { DomainPattern, Protocol, Rule } from "./rule.ts";

/** Rules at most: a flow that none is for is compared with all. */
export const MAX_RULES = 10_000;

/** No rule is for the flow. */
export const NO_RULE = -1;

/** protocol, then from and to of ports, ranges and domains. */
const HEAD = 7;
/** low, high */
const PORTS = 2;
/** excludes IPv4, four words, four masks */
const RANGE = 9;

const V4_MAPPED_BITS = 96;

export class RuleSet {
  readonly rules: readonly Rule[];
  readonly #heads: Int32Array;
  readonly #ports: Int32Array;
  readonly #ranges: Int32Array;
  readonly #domains: readonly CompiledDomain[];

  /** @throws TunnelError ERR_USAGE if there are more than {@link MAX_RULES}. */
  constructor(rules: readonly Rule[]) {
    if (rules.length > MAX_RULES) {
      throw new TunnelError(
        "ERR_USAGE",
        `cannot use ${rules.length} rules: ${MAX_RULES} are the most; join those of one action with |`,
      );
    }
    this.rules = rules;
    const heads: number[] = [];
    const ports: number[] = [];
    const ranges: number[] = [];
    const domains: CompiledDomain[] = [];
    for (const rule of rules) {
      heads.push(rule.protocol === null ? 0 : PROTOCOL[rule.protocol]);
      heads.push(ports.length);
      for (const { low, high } of rule.ports) ports.push(low, high);
      heads.push(ports.length, ranges.length);
      for (const { address, bits } of rule.ranges) {
        ranges.push(bits < V4_MAPPED_BITS ? 1 : 0);
        ranges.push(address.w0, address.w1, address.w2, address.w3);
        ranges.push(mask(bits), mask(bits - 32), mask(bits - 64), mask(bits - 96));
      }
      heads.push(ranges.length, domains.length);
      domains.push(...rule.domains.map(compileDomain));
      heads.push(domains.length);
    }
    this.#heads = Int32Array.from(heads);
    this.#ports = Int32Array.from(ports);
    this.#ranges = Int32Array.from(ranges);
    this.#domains = domains;
  }

  /**
   * The index of the rule for a flow to `target`, or {@link NO_RULE}. `name`: the flow goes to this name (in lower case, one
   * character an octet), and only the port of `target` counts, unless the flow `hasAddress` all the same.
   */
  match(
    protocol: Protocol,
    target: Endpoint,
    name: string | null,
    hasAddress: boolean = name === null,
  ): number {
    const heads = this.#heads;
    const number = PROTOCOL[protocol];
    const { port } = target;
    for (let at = 0; at < heads.length; at += HEAD) {
      const only = heads[at] as number;
      if (only !== 0 && only !== number) continue;
      if (!this.#hasPort(heads[at + 1] as number, heads[at + 2] as number, port)) continue;
      const range = heads[at + 3] as number;
      const ranges = heads[at + 4] as number;
      if (range < ranges && !(hasAddress && this.#hasAddress(range, ranges, target))) continue;
      const domain = heads[at + 5] as number;
      const domains = heads[at + 6] as number;
      if (domain < domains && (name === null || !this.#hasName(domain, domains, name))) continue;
      return at / HEAD;
    }
    return NO_RULE;
  }

  /** True when another name, or none, could mean another rule for a flow to this address. */
  dependsOnName(protocol: Protocol, target: Endpoint): boolean {
    const heads = this.#heads;
    const number = PROTOCOL[protocol];
    for (let at = 0; at < heads.length; at += HEAD) {
      const only = heads[at] as number;
      if (only !== 0 && only !== number) continue;
      if (!this.#hasPort(heads[at + 1] as number, heads[at + 2] as number, target.port)) continue;
      const range = heads[at + 3] as number;
      const ranges = heads[at + 4] as number;
      if (range < ranges && !this.#hasAddress(range, ranges, target)) continue;
      return (heads[at + 5] as number) < (heads[at + 6] as number);
    }
    return false;
  }

  #hasPort(from: number, to: number, port: number): boolean {
    const ports = this.#ports;
    for (let at = from; at < to; at += PORTS) {
      if (port >= (ports[at] as number) && port <= (ports[at + 1] as number)) return true;
    }
    return from === to;
  }

  #hasAddress(from: number, to: number, { isV4, w0, w1, w2, w3 }: Endpoint): boolean {
    const ranges = this.#ranges;
    for (let at = from; at < to; at += RANGE) {
      if (isV4 && ranges[at] === 1) continue;
      if (
        ((w3 ^ (ranges[at + 4] as number)) & (ranges[at + 8] as number)) === 0 &&
        ((w2 ^ (ranges[at + 3] as number)) & (ranges[at + 7] as number)) === 0 &&
        ((w1 ^ (ranges[at + 2] as number)) & (ranges[at + 6] as number)) === 0 &&
        ((w0 ^ (ranges[at + 1] as number)) & (ranges[at + 5] as number)) === 0
      ) {
        return true;
      }
    }
    return false;
  }

  #hasName(from: number, to: number, name: string): boolean {
    for (let at = from; at < to; at++) {
      const { kind, text } = this.#domains[at] as CompiledDomain;
      if (kind === "ending" ? name.endsWith(text) : matchesDomain(kind, text, name)) return true;
    }
    return false;
  }
}

/** "ending": all names that end so. */
interface CompiledDomain {
  readonly kind: DomainPattern["kind"] | "ending";
  readonly text: string;
}

/** Most globs are "*.example.com", and looking for the end of a name is quicker than for all that may be before it. */
function compileDomain(pattern: DomainPattern): CompiledDomain {
  const { kind, text } = pattern;
  const isEnding = kind === "glob" && text.startsWith("*") && !/[*?]/.test(text.slice(1));
  return isEnding ? { kind: "ending", text: text.slice(1) } : pattern;
}

/** True when a pattern means `name`, which is in lower case. */
export function matchesDomain(kind: DomainPattern["kind"], text: string, name: string): boolean {
  if (kind === "below") return isBelow(name, text);
  return kind === "exact" ? name === text : globs(text, name);
}

/** RFC 790, RFC 768: their numbers in the IP header. */
const PROTOCOL = { tcp: 6, udp: 17 } as const;
