/** Why a rule is not for a flow, in words: one condition after another, as they are written. */

import { cidrContains, type Endpoint, formatAddress } from "../stack/wire/address.ts";
import { formatDomain, formatPorts, formatRange, type Protocol, type Rule } from "./rule.ts";
import { matchesDomain } from "./rule-set.ts";

/** What is asked about: as {@link RuleSet.match} has it. */
export interface FlowQuestion {
  readonly protocol: Protocol;
  readonly target: Endpoint;
  /** Null: the flow goes to the address of `target`. */
  readonly name: string | null;
}

/** The first condition that does not hold; null: all do. */
export function whyNot(rule: Rule, { protocol, target, name }: FlowQuestion): string | null {
  const { ranges, ports, domains } = rule;
  if (ranges.length > 0) {
    if (name !== null) return "a flow to a name has no address here";
    if (!ranges.some((range) => cidrContains(range, target))) {
      return `${formatAddress(target)} is not in ${ranges.map(formatRange).join(" or ")}`;
    }
  }
  if (
    ports.length > 0 &&
    !ports.some(({ low, high }) => target.port >= low && target.port <= high)
  ) {
    return `port ${target.port} is not ${ports.map(formatPorts).join(" or ")}`;
  }
  if (rule.protocol !== null && rule.protocol !== protocol)
    return `${protocol} is not ${rule.protocol}`;
  if (domains.length > 0) {
    if (name === null) return "a flow to an address has no name";
    if (!domains.some(({ kind, text }) => matchesDomain(kind, text, name))) {
      return `${name} is not ${domains.map(formatDomain).join(" or ")}`;
    }
  }
  return null;
}
