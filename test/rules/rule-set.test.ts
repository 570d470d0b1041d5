/** Compiled rules against a matcher that does what the words say, one condition after the other. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { covers, ruleWarnings } from "../../src/rules/coverage.ts";
import { whyNot } from "../../src/rules/explanation.ts";
import type { Protocol, Rule } from "../../src/rules/rule.ts";
import { MAX_RULES, NO_RULE, RuleSet } from "../../src/rules/rule-set.ts";
import { parseRule } from "../../src/rules/rule-text.ts";
import { endpoint } from "../support/scripted-upstream.ts";

interface Flow {
  readonly protocol: Protocol;
  /** Null: by address. */
  readonly name: string | null;
  readonly address: string;
  readonly port: number;
}

const ADDRESSES = ["10.0.0.1", "10.1.2.3", "11.0.0.1", "[::1]", "[fd00::1]", "[2001:db8::7]"];
const RANGES = [
  "10.0.0.0/8",
  "10.1.0.0/16",
  "10.0.0.1",
  "0.0.0.0/0",
  "::/0",
  "fd00::/8",
  "2001:db8::/127",
  "::1",
];
const NAMES = ["example.com", "www.example.com", "notexample.com", "cdn.example", "a.cdn.example"];
const DOMAINS = ["example.com", "=example.com", "*.cdn.example", "c?n.example", "*", "example"];
const PORTS = ["22", "80", "1-79", "80-443", "444-65535"];

const list = (values: readonly string[]) => fc.subarray([...values], { maxLength: 3 });
const rule: fc.Arbitrary<string> = fc
  .record({
    cidr: list(RANGES),
    port: list(PORTS),
    proto: fc.constantFrom([], ["tcp"], ["udp"]),
    domain: list(DOMAINS),
    keeps: fc.constantFrom("cidr", "domain"),
  })
  .map(({ keeps, ...all }) => {
    // Both at once is for no flow.
    const conditions = Object.entries(all).filter(
      ([key, values]) => values.length > 0 && (key === keeps || key === "port" || key === "proto"),
    );
    const texts = conditions.map(([key, values]) => `${key}=${values.join("|")}`);
    return `${texts.length === 0 ? "any" : texts.join(",")} -> direct`;
  });
const flow: fc.Arbitrary<Flow> = fc.record({
  protocol: fc.constantFrom<Protocol>("tcp", "udp"),
  name: fc.constantFrom(null, ...NAMES),
  address: fc.constantFrom(...ADDRESSES),
  port: fc.constantFrom(1, 22, 79, 80, 443, 444, 65535),
});

/** From the text of a rule, by strings and BigInts: nothing of what it is compared with. */
function holds(text: string, { protocol, name, address, port }: Flow): boolean {
  const [match] = text.split(" -> ") as [string];
  if (match === "any") return true;
  return match.split(",").every((condition) => {
    const at = condition.indexOf("=");
    const values = condition.slice(at + 1).split("|");
    switch (condition.slice(0, at)) {
      case "proto":
        return values.includes(protocol);
      case "port":
        return values.some((value) => {
          const [low, high = low] = value.split("-").map(Number);
          return port >= low! && port <= high!;
        });
      case "cidr":
        return name === null && values.some((value) => isIn(address.replace(/[[\]]/g, ""), value));
      default:
        return name !== null && values.some((value) => isNamed(name, value));
    }
  });
}

function isIn(address: string, range: string): boolean {
  if (address.includes(":") !== range.includes(":")) return false;
  const [network = "", length] = range.split("/");
  const width = address.includes(":") ? 128 : 32;
  const shift = BigInt(width - Number(length ?? width));
  return number(address) >> shift === number(network) >> shift;
}

function number(address: string): bigint {
  if (!address.includes(":")) {
    return address.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  }
  const [head = "", tail = ""] = address.split("::");
  const groups = (text: string) => (text === "" ? [] : text.split(":"));
  const missing = 8 - groups(head).length - groups(tail).length;
  const all = [...groups(head), ...new Array(missing).fill("0"), ...groups(tail)];
  return all.reduce((sum, group) => sum * 65536n + BigInt(`0x${group}`), 0n);
}

function isNamed(name: string, pattern: string): boolean {
  if (pattern.startsWith("=")) return name === pattern.slice(1);
  if (!/[*?]/.test(pattern)) return name === pattern || name.endsWith(`.${pattern}`);
  const escaped = pattern.replace(/\./g, "\\.").replace(/\*/g, ".*").replace(/\?/g, ".");
  return new RegExp(`^${escaped}$`).test(name);
}

const ask = ({ protocol, name, address, port }: Flow) => ({
  protocol,
  name,
  target: endpoint(`${address}:${port}`),
});

test("the first rule whose conditions all hold decides, whatever the rules and the flow", () => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 8 }), flow, (texts, asked) => {
      const rules = new RuleSet(texts.map(parseRule));
      const { protocol, target, name } = ask(asked);
      expect(rules.match(protocol, target, name)).toBe(
        texts.findIndex((text) => holds(text, asked)),
      );
    }),
    { numRuns: 2000 },
  );
});

test("a name matters exactly when some name, or none, would mean another rule", () => {
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 4 }), flow, (texts, asked) => {
      const rules = new RuleSet(texts.map(parseRule));
      const { protocol, target } = ask(asked);
      const found = [null, "no.such.name", ...NAMES].map((name) =>
        rules.match(protocol, target, name, true),
      );
      if (new Set(found).size > 1) expect(rules.dependsOnName(protocol, target)).toBe(true);
      if (!rules.dependsOnName(protocol, target)) expect(new Set(found).size).toBe(1);
    }),
    { numRuns: 1000 },
  );
});

test("a rule is explained as not for a flow exactly when it is not", () => {
  fc.assert(
    fc.property(rule, flow, (text, asked) => {
      expect(whyNot(parseRule(text), ask(asked)) === null).toBe(holds(text, asked));
    }),
    { numRuns: 1000 },
  );
});

test("of a rule that another covers no flow is left", () => {
  let covered = 0;
  fc.assert(
    fc.property(rule, rule, fc.array(flow, { minLength: 20 }), (earlier, later, flows) => {
      if (!covers(parseRule(earlier), parseRule(later))) return;
      covered++;
      for (const asked of flows) {
        if (holds(later, asked))
          expect(holds(earlier, asked), `${earlier} covers ${later}`).toBe(true);
      }
    }),
    { numRuns: 2000 },
  );
  expect(covered).toBeGreaterThan(50);
});

test.each([
  ["port=1-100", "port=20-30|80", true],
  ["port=1-50|51-100", "port=40-60", true],
  ["port=1-50|52-100", "port=40-60", false],
  ["cidr=10.0.0.0/8", "cidr=10.1.0.0/16|10.2.0.0/16", true],
  ["cidr=10.0.0.0/8", "cidr=10.1.0.0/16|11.0.0.0/8", false],
  ["cidr=10.0.0.0/8", "any", false],
  ["cidr=::/0", "cidr=10.0.0.0/8", false],
  ["domain=example.com", "domain=www.example.com", true],
  ["domain=example.com", "domain==example.com", true],
  ["domain==example.com", "domain=example.com", false],
  ["domain=*.example.com", "domain==www.example.com", true],
  ["domain=*.example.com", "domain=www.example.com", false],
  ["domain=*.example.com", "domain=*.example.com", true],
  ["proto=tcp", "port=80", false],
  ["proto=tcp", "port=80,proto=tcp", true],
  ["any", "domain=example.com", true],
])("%s covers %s: %s", (earlier, later, expected) => {
  const [a, b] = [earlier, later].map((match) => parseRule(`${match} -> direct`)) as [Rule, Rule];
  expect(covers(a, b)).toBe(expected);
});

test("rules that never match are told with the reason", () => {
  const rules = [
    "cidr=10.0.0.0/8 -> direct",
    "cidr=10.1.0.0/16,port=22 -> proxy a",
    "domain=example.com,cidr=192.0.2.0/24 -> drop",
    "domain=example.com -> drop",
    "any -> proxy a",
    "port=80 -> direct",
  ].map(parseRule);
  const always = [
    "rule 2 never matches: rule 1 (cidr=10.0.0.0/8 -> direct) is for all its flows; move it up, or leave it out",
    "rule 3 never matches: a flow goes to an address or to a name, never to both; make two rules of it",
  ];
  const last =
    "rule 6 never matches: rule 5 (any -> proxy a) is for all its flows; move it up, or leave it out";
  expect(ruleWarnings(rules, { fake: true, sniffed: false }).map(({ text }) => text)).toEqual([
    ...always,
    last,
  ]);
  expect(ruleWarnings(rules, { fake: false, sniffed: false }).map(({ text }) => text)).toEqual([
    ...always,
    "rule 4 never matches but under --dns fake (or with a socks5h:// proxy) or --sniff: no flow has a name",
    last,
  ]);
  // Flows to addresses that tell names have both.
  const sniffed = ruleWarnings(rules, { fake: false, sniffed: true });
  expect(sniffed.map(({ rule }) => rule)).toEqual([1, 5]);
});

test("10,000 rules are taken, and no more", () => {
  const many = new Array<Rule>(MAX_RULES).fill(parseRule("port=1 -> drop"));
  expect(new RuleSet(many).match("tcp", endpoint("192.0.2.1:2"), null)).toBe(NO_RULE);
  expect(() => new RuleSet([...many, parseRule("any -> drop")])).toThrow(
    "cannot use 10001 rules: 10000 are the most; join those of one action with |",
  );
});

test("1,000 rules are gone through without an allocation", () => {
  const texts = Array.from({ length: 1000 }, (_, i) => {
    const condition = [
      `cidr=10.${i >> 8}.${i & 255}.0/24`,
      `port=${i + 1000}`,
      `domain=d${i}.example`,
    ];
    return `${condition[i % 3]} -> drop`;
  });
  const rules = new RuleSet(texts.map(parseRule));
  const targets = ["192.0.2.1:80", "[2001:db8::1]:443"].map(endpoint);
  const MATCHES = 5000;
  let found = 0;
  const round = (): number => {
    const before = process.memoryUsage().heapUsed;
    for (let i = 0; i < MATCHES; i++) {
      const name = i % 4 === 0 ? "www.example.com" : null;
      if (rules.match("udp", targets[i & 1]!, name) !== NO_RULE) found++;
    }
    return process.memoryUsage().heapUsed - before;
  };
  // The compiler and the collector may be at work in any of them, but not in most.
  const growth = Array.from({ length: 21 }, round).toSorted((a, b) => a - b);
  expect(growth[10]).toBeLessThan(2 * MATCHES);
  expect(found).toBe(0);
});
