/** The notation of rules: what is understood, and the line for everything that is not. */

import { describe, expect, test } from "vitest";
import { formatRule } from "../../src/rules/rule.ts";
import { buildRule, parseRule } from "../../src/rules/rule-text.ts";

test.each([
  ["any -> direct", "any -> direct"],
  ["cidr=10.0.0.0/8,port=22,proto=tcp -> direct", "cidr=10.0.0.0/8,port=22,proto=tcp -> direct"],
  ["  proto = udp , port = 53|5353 ->  proxy  ", "port=53|5353,proto=udp -> proxy"],
  ["port=8000-8999|443 -> proxy office-2", "port=8000-8999|443 -> proxy office-2"],
  ["cidr=192.0.2.1|2001:DB8::/32|::/0 -> reject", "cidr=192.0.2.1|2001:db8::/32|::/0 -> reject"],
  ["cidr=0.0.0.0/0 -> reject rst", "cidr=0.0.0.0/0 -> reject"],
  [
    "domain=Example.COM.|=www.example|*.cdn.example -> reject icmp",
    "domain=example.com|=www.example|*.cdn.example -> reject icmp",
  ],
  ["proto=tcp|udp -> drop", "any -> drop"],
])("%s means %s, which reads the same again", (text, canonical) => {
  expect(formatRule(parseRule(text))).toBe(canonical);
  expect(parseRule(canonical)).toEqual(parseRule(text));
});

describe("a rule that is not understood says what is wrong and what to write:", () => {
  test.each([
    ["cidr=10.0.0.0/8", '"cidr=10.0.0.0/8" has no action; write "MATCH -> ACTION"'],
    ["any -> direct -> drop", '-> stands twice; write "MATCH -> ACTION", one rule at a time'],
    [" -> direct", "nothing stands before ->; write any for every flow"],
    ["any,port=1 -> direct", "any stands beside other conditions; leave it out"],
    ["port -> direct", "port has no value; write port=VALUE"],
    ["10.0.0.0/8 -> direct", '"10.0.0.0/8" is no condition; write KEY=VALUE, or any'],
    ["prot=tcp -> direct", '"prot" is no condition; did you mean proto?'],
    ["colour=red -> direct", '"colour" is no condition; write cidr, port, proto or domain'],
    ["port=80,port=443 -> direct", "port stands twice; write port=ONE|OTHER"],
    ["user=root -> direct", "rules by user are not supported yet; leave the rule out"],
    ["uid=0 -> direct", "rules by uid are not supported yet; leave the rule out"],
    ["command=curl -> direct", "rules by command are not supported yet; leave the rule out"],
    [
      "sni=a.example -> direct",
      '"sni" is no condition; write domain, which is by SNI and Host under --sniff',
    ],
    [
      "host=a.example -> direct",
      '"host" is no condition; write domain, which is by SNI and Host under --sniff',
    ],
    [
      "cidr=10.0.0.0/33 -> direct",
      '"10.0.0.0/33" is no range of addresses; write 10.0.0.0/8, 192.0.2.1 or fd00::/8',
    ],
    ["cidr=10.1.0.0/8 -> direct", '"10.1.0.0/8" has bits behind its prefix; write 10.0.0.0/8'],
    ["cidr=fd00::1/16 -> direct", '"fd00::1/16" has bits behind its prefix; write fd00::/16'],
    ["port=0 -> direct", '"0" is no port; write one from 1 to 65535, or 8000-8999'],
    ["port=65536 -> direct", '"65536" is no port; write one from 1 to 65535, or 8000-8999'],
    ["port=80| -> direct", '"" is no port; write one from 1 to 65535, or 8000-8999'],
    ["port=90-80 -> direct", '"90-80" ends before it begins; write 80-90'],
    ["proto=icmp -> direct", '"icmp" is no protocol; write tcp or udp'],
    [
      "domain=a b -> direct",
      '"a b" is no domain; write example.com for it and all below, =example.com for it alone, or *.cdn.example',
    ],
    [
      "domain==*.example -> direct",
      '"=*.example" is exact and a pattern at once; leave = or the wildcards out',
    ],
    ["any ->", "the action is missing; write proxy NAME, direct, reject, reject icmp or drop"],
    ["any -> dirct", '"dirct" is no action; did you mean direct?'],
    [
      "any -> accept",
      '"accept" is no action; write proxy NAME, direct, reject, reject icmp or drop',
    ],
    [
      "any -> direct out",
      '"out" is too much behind direct; write proxy NAME, direct, reject, reject icmp or drop',
    ],
    [
      "any -> proxy a b",
      '"b" is too much behind proxy; write proxy NAME, direct, reject, reject icmp or drop',
    ],
    [
      "any -> proxy socks5://h",
      '"socks5://h" is no name of an upstream; use letters, digits, dots, dashes and underscores, at most 63',
    ],
    ["any -> reject 403", '"403" is no way to reject; write reject, reject rst or reject icmp'],
  ])("%s", (text, message) => {
    expect(() => parseRule(text)).toThrow(expect.objectContaining({ code: "ERR_USAGE", message }));
  });
});

test("conditions given one by one make the same rule", () => {
  const rule = buildRule(
    [
      ["port", ["22"]],
      ["cidr", ["10.0.0.0/8", "fd00::/8"]],
    ],
    "proxy",
  );
  expect(rule).toEqual(parseRule("cidr=10.0.0.0/8|fd00::/8,port=22 -> proxy"));
});
