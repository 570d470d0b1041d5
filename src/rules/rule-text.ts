/**
 * The notation of rules, `cidr=10.0.0.0/8,port=22|8000-8999 -> direct`, and its parser.
 *
 *     rule      = match "->" action
 *     match     = "any" | condition *("," condition)        all have to hold
 *     condition = key "=" value *("|" value)                one has to hold; each key once
 *     key       = "cidr" | "port" | "proto" | "domain"
 *     action    = "proxy" [name] | "direct" | "reject" ["rst" | "icmp"] | "drop"
 *
 * White space around the parts does not matter. docs/rules.md explains it with examples.
 */

import { TunnelError } from "../errors.ts";
import { withoutHostBits } from "../network-prefix.ts";
import { parseNamePattern } from "../relay/name-patterns.ts";
import { type Cidr, parseCidr } from "../stack/wire/address.ts";
import { suggestion } from "../suggestion.ts";
import {
  type Action,
  type DomainPattern,
  formatRange,
  type PortRange,
  type Protocol,
  type Rule,
} from "./rule.ts";

/** Names of upstreams. */
export const UPSTREAM_NAME: RegExp = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;

/** Conditions as they are written: a key and its values. */
export type Conditions = Iterable<readonly [key: string, values: readonly string[]]>;

/**
 * Reads one rule.
 *
 * @throws TunnelError ERR_USAGE, "what is wrong; what to write".
 */
export function parseRule(text: string): Rule {
  const parts = text.split("->");
  if (parts.length < 2) {
    throw bad(`${quote(text.trim())} has no action`, 'write "MATCH -> ACTION"');
  }
  if (parts.length > 2) throw bad("-> stands twice", 'write "MATCH -> ACTION", one rule at a time');
  const [match, action] = parts as [string, string];
  return buildRule(parseConditions(match.trim()), action);
}

/**
 * A rule of conditions and an action in text form.
 *
 * @throws TunnelError ERR_USAGE, as {@link parseRule}.
 */
export function buildRule(conditions: Conditions, action: string): Rule {
  const seen = new Set<string>();
  let ranges: readonly Cidr[] = [];
  let ports: readonly PortRange[] = [];
  let protocols: readonly Protocol[] = [];
  let domains: readonly DomainPattern[] = [];
  for (const [key, values] of conditions) {
    if (seen.has(key)) throw bad(`${key} stands twice`, `write ${key}=ONE|OTHER`);
    seen.add(key);
    if (key === "cidr") ranges = values.map(parseRange);
    else if (key === "port") ports = values.map(parsePorts);
    else if (key === "proto") protocols = values.map(parseProtocol);
    else if (key === "domain") domains = values.map(parseDomain);
    else throw unknownKey(key);
  }
  const [first, ...others] = new Set(protocols);
  const protocol = first === undefined || others.length > 0 ? null : first;
  return { ranges, ports, protocol, domains, action: parseAction(action) };
}

/** @throws TunnelError ERR_USAGE, as {@link parseRule}. */
export function parseAction(text: string): Action {
  const [word = "", argument, ...more] = text.trim().split(/\s+/);
  if (word === "") throw bad("the action is missing", `write ${ACTIONS_IN_WORDS}`);
  if (!ACTIONS.includes(word)) {
    const near = suggestion(word, ACTIONS);
    const remedy = near === null ? `write ${ACTIONS_IN_WORDS}` : `did you mean ${near}?`;
    throw bad(`${quote(word)} is no action`, remedy);
  }
  const extra = more[0] ?? (word === "direct" || word === "drop" ? argument : undefined);
  if (extra !== undefined) {
    throw bad(`${quote(extra)} is too much behind ${word}`, `write ${ACTIONS_IN_WORDS}`);
  }
  switch (word) {
    case "proxy":
      if (argument !== undefined && !UPSTREAM_NAME.test(argument)) {
        throw bad(`${quote(argument)} is no name of an upstream`, NAME_IN_WORDS);
      }
      return { kind: "proxy", name: argument ?? null };
    case "reject":
      if (argument !== undefined && argument !== "rst" && argument !== "icmp") {
        throw bad(
          `${quote(argument)} is no way to reject`,
          "write reject, reject rst or reject icmp",
        );
      }
      return { kind: "reject", by: argument ?? "rst" };
    case "direct":
      return { kind: "direct" };
    default:
      return { kind: "drop" };
  }
}

const NAME_IN_WORDS = "use letters, digits, dots, dashes and underscores, at most 63";

const KEYS: readonly string[] = ["cidr", "port", "proto", "domain"];
const ACTIONS: readonly string[] = ["proxy", "direct", "reject", "drop"];
const ACTIONS_IN_WORDS = "proxy NAME, direct, reject, reject icmp or drop";

/** Conditions that are meant to come; to take them for anything else would let flows go where they must not. */
export const NOT_YET: readonly string[] = ["user", "uid", "command"];

function parseConditions(text: string): Array<[string, string[]]> {
  if (text === "") throw bad("nothing stands before ->", "write any for every flow");
  if (text === "any") return [];
  return text.split(",").map((part) => {
    const equals = part.indexOf("=");
    const key = (equals < 0 ? part : part.slice(0, equals)).trim();
    if (key === "any") throw bad("any stands beside other conditions", "leave it out");
    if (equals < 0) {
      if (KEYS.includes(key) || NOT_YET.includes(key)) {
        throw bad(`${key} has no value`, `write ${key}=VALUE`);
      }
      throw bad(`${quote(key)} is no condition`, "write KEY=VALUE, or any");
    }
    const values = part.slice(equals + 1).split("|");
    return [key, values.map((value) => value.trim())];
  });
}

function unknownKey(key: string): TunnelError {
  if (NOT_YET.includes(key)) {
    return bad(`rules by ${key} are not supported yet`, "leave the rule out");
  }
  if (key === "sni" || key === "host") {
    return bad(
      `${quote(key)} is no condition`,
      "write domain, which is by SNI and Host under --sniff",
    );
  }
  const near = suggestion(key, KEYS);
  const remedy = near === null ? "write cidr, port, proto or domain" : `did you mean ${near}?`;
  return bad(`${quote(key)} is no condition`, remedy);
}

function parseRange(text: string): Cidr {
  const range = parseCidr(text);
  if (range === null) {
    throw bad(`${quote(text)} is no range of addresses`, "write 10.0.0.0/8, 192.0.2.1 or fd00::/8");
  }
  const meant = withoutHostBits(range);
  if (meant !== null) {
    throw bad(`${quote(text)} has bits behind its prefix`, `write ${formatRange(meant)}`);
  }
  return range;
}

function parsePorts(text: string): PortRange {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text);
  const low = Number(match?.[1] ?? 0);
  const high = Number(match?.[2] ?? low);
  if (low < 1 || high > 65535) {
    throw bad(`${quote(text)} is no port`, "write one from 1 to 65535, or 8000-8999");
  }
  if (low > high) throw bad(`${quote(text)} ends before it begins`, `write ${high}-${low}`);
  return { low, high };
}

function parseProtocol(text: string): Protocol {
  if (text !== "tcp" && text !== "udp") {
    throw bad(`${quote(text)} is no protocol`, "write tcp or udp");
  }
  return text;
}

function parseDomain(text: string): DomainPattern {
  const isExact = text.startsWith("=");
  const pattern = parseNamePattern(isExact ? text.slice(1) : text);
  if (pattern === null) {
    throw bad(
      `${quote(text)} is no domain`,
      "write example.com for it and all below, =example.com for it alone, or *.cdn.example",
    );
  }
  if (isExact && pattern.isGlob) {
    throw bad(`${quote(text)} is exact and a pattern at once`, "leave = or the wildcards out");
  }
  return { kind: isExact ? "exact" : pattern.isGlob ? "glob" : "below", text: pattern.text };
}

function quote(text: string): string {
  return JSON.stringify(text);
}

function bad(what: string, remedy: string): TunnelError {
  return new TunnelError("ERR_USAGE", `${what}; ${remedy}`);
}
