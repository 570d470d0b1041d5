/**
 * One rule: conditions that all have to hold, and what happens to flows for which they do.
 *
 * A flow goes to an address or, by `--dns fake`, to a name; it has no other. So a condition on addresses does not hold for
 * a flow to a name, whatever the name's address, and one on domains does not hold for a flow to an address.
 */

import { type Cidr, formatAddress } from "../stack/wire/address.ts";

export type Protocol = "tcp" | "udp";

/** Ports, both ends included. */
export interface PortRange {
  readonly low: number;
  readonly high: number;
}

/** "below": the domain and all names below it. `text` is in lower case, one character an octet, without the last dot. */
export interface DomainPattern {
  readonly kind: "below" | "exact" | "glob";
  readonly text: string;
}

export type Action =
  /** Null: the proxy of flows that no rule is for. */
  | { readonly kind: "proxy"; readonly name: string | null }
  | { readonly kind: "direct" }
  /** "rst": a datagram is answered by port unreachable. "icmp": administratively prohibited. */
  | { readonly kind: "reject"; readonly by: "rst" | "icmp" }
  | { readonly kind: "drop" };

/** Of each list one has to hold; an empty list is no condition. */
export interface Rule {
  readonly ranges: readonly Cidr[];
  readonly ports: readonly PortRange[];
  /** Null: both. */
  readonly protocol: Protocol | null;
  readonly domains: readonly DomainPattern[];
  readonly action: Action;
}

/** A rule in the notation that `parseRule` reads: the same for all that mean the same. */
export function formatRule(rule: Rule): string {
  const conditions = [
    ...condition("cidr", rule.ranges.map(formatRange)),
    ...condition("port", rule.ports.map(formatPorts)),
    ...condition("proto", rule.protocol === null ? [] : [rule.protocol]),
    ...condition("domain", rule.domains.map(formatDomain)),
  ];
  const match = conditions.length === 0 ? "any" : conditions.join(",");
  return `${match} -> ${formatAction(rule.action)}`;
}

export function formatAction(action: Action): string {
  if (action.kind === "proxy") return action.name === null ? "proxy" : `proxy ${action.name}`;
  if (action.kind === "reject") return action.by === "rst" ? "reject" : "reject icmp";
  return action.kind;
}

export function formatRange({ address, bits }: Cidr): string {
  const width = address.isV4 ? 32 : 128;
  const length = bits - 128 + width;
  return length === width ? formatAddress(address) : `${formatAddress(address)}/${length}`;
}

export function formatPorts({ low, high }: PortRange): string {
  return low === high ? String(low) : `${low}-${high}`;
}

export function formatDomain({ kind, text }: DomainPattern): string {
  return kind === "exact" ? `=${text}` : text;
}

function condition(key: string, values: readonly string[]): string[] {
  return values.length === 0 ? [] : [`${key}=${values.join("|")}`];
}
