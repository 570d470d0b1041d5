/**
 * What the user of the built-in server allows and denies: destinations by prefix and port, in order, the first that
 * matches decides; and who may be a client.
 *
 *     all | CIDR | ADDRESS, then :PORTS or nothing; PORTS is 443, 1-1023 or a list of these: 80,443,8000-8999
 *
 * IPv6 with ports is written with its prefix or in brackets: 2001:db8::/32:443, [2001:db8::1]:443. Parsed once, matched
 * without allocation.
 */

import { type Cidr, cidrContains, type Endpoint, parseCidr } from "../stack/wire/address.ts";

export class AccessRule {
  readonly isAllow: boolean;
  /** Null: every address. */
  readonly cidr: Cidr | null;
  /** Pairs of lowest and highest; empty: every port. */
  readonly ports: readonly number[];

  constructor(isAllow: boolean, cidr: Cidr | null, ports: readonly number[]) {
    this.isAllow = isAllow;
    this.cidr = cidr;
    this.ports = ports;
  }

  /** It is about certain addresses, not about one or both families as such. */
  get isSpecific(): boolean {
    if (this.cidr === null) return false;
    const { address, bits } = this.cidr;
    return bits !== 0 && !(bits === V4_MAPPED_BITS && address.isV4);
  }

  matches(destination: Endpoint): boolean {
    if (this.cidr !== null && !cidrContains(this.cidr, destination)) return false;
    const { ports } = this;
    for (let i = 0; i < ports.length; i += 2) {
      const low = ports[i] as number;
      const high = ports[i + 1] as number;
      if (destination.port >= low && destination.port <= high) return true;
    }
    return ports.length === 0;
  }
}

/** Of an IPv4 prefix of length 0. */
const V4_MAPPED_BITS = 96;

/** Null: it does not read as written above. */
export function parseAccessRule(isAllow: boolean, text: string): AccessRule | null {
  const parts =
    /^(?<to>all|\[[^\]]+\]|[^/]+\/\d+|[0-9.]+):(?<ports>[^:]*)$/.exec(text)?.groups ?? null;
  const to = (parts?.["to"] ?? text).replace(/^\[(.*)\]$/, "$1");
  const ports = parts === null ? [] : parsePorts(parts["ports"] as string);
  const cidr = to === "all" ? null : parseCidr(to);
  if (ports === null || (cidr === null && to !== "all")) return null;
  return new AccessRule(isAllow, cidr, ports);
}

function parsePorts(text: string): number[] | null {
  const ports: number[] = [];
  for (const part of text.split(",")) {
    const written = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(part);
    if (written === null) return null;
    const low = Number(written[1]);
    const high = Number(written[2] ?? low);
    if (low > high || high > 65535) return null;
    ports.push(low, high);
  }
  return ports;
}
