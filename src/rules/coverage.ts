/**
 * Rules that can never decide: another one before them is for all their flows, or they are for none.
 *
 * Sound, not complete: what is told is true, but rules that only several others together cover are not found.
 */

import { type Cidr, cidrContains } from "../stack/wire/address.ts";
import { type DomainPattern, formatRule, type PortRange, type Rule } from "./rule.ts";
import { matchesDomain } from "./rule-set.ts";

export interface Warning {
  /** Index of the rule. */
  readonly rule: number;
  /** "rule 2 never matches: why" */
  readonly text: string;
}

/** Where flows have names. */
export interface NamesKnown {
  /** Flows go to names (`--dns fake`). */
  readonly fake: boolean;
  /** Flows to addresses tell names too (`--sniff`). */
  readonly sniffed: boolean;
}

/** What is wrong with rules that are understood. */
export function ruleWarnings(rules: readonly Rule[], names: NamesKnown): Warning[] {
  const warnings: Warning[] = [];
  const live: number[] = [];
  for (const [index, rule] of rules.entries()) {
    const why = whyNever(rule, names) ?? whyCovered(rules, live, rule);
    if (why === null) live.push(index);
    else warnings.push({ rule: index, text: `rule ${index + 1} never matches${why}` });
  }
  return warnings;
}

/** True when every flow that `later` is for is one that `earlier` is for. */
export function covers(earlier: Rule, later: Rule): boolean {
  return (
    (earlier.protocol === null || earlier.protocol === later.protocol) &&
    coversAll(earlier.ports, later.ports, coversPorts) &&
    coversAll(earlier.ranges, later.ranges, coversRange) &&
    coversAll(earlier.domains, later.domains, coversDomain)
  );
}

function whyNever(rule: Rule, { fake, sniffed }: NamesKnown): string | null {
  if (rule.domains.length === 0 || sniffed) return null;
  if (rule.ranges.length > 0) {
    return ": a flow goes to an address or to a name, never to both; make two rules of it";
  }
  return fake
    ? null
    : " but under --dns fake (or with a socks5h:// proxy) or --sniff: no flow has a name";
}

function whyCovered(rules: readonly Rule[], live: readonly number[], rule: Rule): string | null {
  const index = live.find((earlier) => covers(rules[earlier] as Rule, rule));
  if (index === undefined) return null;
  return `: rule ${index + 1} (${formatRule(rules[index] as Rule)}) is for all its flows; move it up, or leave it out`;
}

function coversAll<T>(
  earlier: readonly T[],
  later: readonly T[],
  one: (earlier: readonly T[], later: T) => boolean,
): boolean {
  if (earlier.length === 0) return true;
  return later.length > 0 && later.every((value) => one(earlier, value));
}

/** By as many ranges as it takes. */
function coversPorts(earlier: readonly PortRange[], { low, high }: PortRange): boolean {
  let next = low;
  for (const range of earlier.toSorted((a, b) => a.low - b.low)) {
    if (range.low <= next && range.high >= next) next = range.high + 1;
  }
  return next > high;
}

function coversRange(earlier: readonly Cidr[], later: Cidr): boolean {
  return earlier.some((range) => range.bits <= later.bits && cidrContains(range, later.address));
}

/** What a glob means is a set of names; of two globs only equality is asked. */
function coversDomain(earlier: readonly DomainPattern[], later: DomainPattern): boolean {
  return earlier.some((pattern) => {
    if (pattern.kind === later.kind && pattern.text === later.text) return true;
    if (later.kind === "exact") return matchesDomain(pattern.kind, pattern.text, later.text);
    return (
      later.kind === "below" &&
      pattern.kind === "below" &&
      matchesDomain(pattern.kind, pattern.text, later.text)
    );
  });
}
