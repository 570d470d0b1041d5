/** Configuration files: what is read of them, and everything that is wrong with them, each with its place. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { afterAll, describe, expect, test } from "vitest";
import { settingCheck } from "../../src/cli/config-flags.ts";
import { addTunnelFlags } from "../../src/cli/flags.ts";
import { MAX_CONFIG_OCTETS, parseConfig, readConfig } from "../../src/config/config.ts";
import { formatRule } from "../../src/rules/rule.ts";

const directory = mkdtempSync(join(tmpdir(), "tun2socks-config-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const flags = addTunnelFlags(new Command()).options;
const check = settingCheck(flags);
const parse = (text: string) => parseConfig(text, directory, check);

/** "LINE:COLUMN: TEXT" of each problem. */
function problems(text: string): string[] {
  return parse(text).problems.map(({ line, column, text: said }) => `${line}:${column}: ${said}`);
}

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

const WHOLE = `
proxy: socks5h://192.0.2.1:1080
upstreams:
  office: socks5://user:secret@192.0.2.2
  home: { url: "socks5://192.0.2.3:9050", auth-file: users }
rules:
  - cidr=10.0.0.0/8,port=22 -> direct
  - { domain: [example.com, "*.cdn.example"], proto: tcp, action: proxy office }
  - port: [80, 8000-8999]
    action: proxy home
mtu: 9000
dns: off
dns-real: [a.example, b.example]
host-loopback: true
tcp-idle: 90s
udp-timeout: 120
fwmark: 0x10
sniff: [80, 443]
`;

test("a file holds upstreams, rules and flags", () => {
  file("users", "name:pass word\n");
  const { config, problems } = parse(WHOLE);
  expect(problems).toEqual([]);
  expect(Object.fromEntries(config.upstreams)).toEqual({
    office: "socks5://user:secret@192.0.2.2",
    home: "socks5://name:pass%20word@192.0.2.3:9050",
  });
  expect(config.rules.map(({ rule, line }) => `${line}: ${formatRule(rule)}`)).toEqual([
    "7: cidr=10.0.0.0/8,port=22 -> direct",
    "8: proto=tcp,domain=example.com|*.cdn.example -> proxy office",
    "9: port=80|8000-8999 -> proxy home",
  ]);
  expect(Object.fromEntries(config.settings)).toEqual({
    proxy: ["socks5h://192.0.2.1:1080"],
    mtu: ["9000"],
    dns: ["off"],
    "dns-real": ["a.example", "b.example"],
    "host-loopback": true,
    "tcp-idle": ["90s"],
    "udp-timeout": ["120"],
    fwmark: ["16"],
    sniff: ["80", "443"],
  });
});

test("JSON is read as YAML, with tabs too, and may name its schema", () => {
  const json = JSON.stringify(
    { $schema: "config.schema.json", mtu: 1500, rules: ["any -> drop"] },
    null,
    "\t",
  );
  const { config, problems } = parse(json);
  expect(problems).toEqual([]);
  expect(config.rules.length).toBe(1);
});

test.each(["", "# nothing\n", "{}"])("a file that says nothing (%j) is fine", (text) => {
  const { config, problems } = parse(text);
  expect(problems).toEqual([]);
  expect(config.settings.size).toBe(0);
});

describe("what is wrong is told with line and column:", () => {
  test.each([
    ["rule: []", '1:1: unknown key "rule"; did you mean rules?'],
    [
      "mtu: 1500\nhost-lopback: true",
      '2:1: unknown key "host-lopback"; did you mean host-loopback?',
    ],
    ["mtu: nine", "1:6: mtu: this is text; write a number"],
    ["mtu: 900", "1:6: mtu: 900 is out of range; write one from 1280 to 65535"],
    ["mtu: 1500.5", "1:6: mtu: this is no whole number; write a number"],
    ["mtu:", "1:5: mtu: this is empty; write a number"],
    ["mtu: 1500\nmtu: 1500", "2:1: Map keys must be unique"],
    ["dns: fak", '1:6: dns: "fak" is not known; did you mean fake?'],
    ["icmp: [own]", "1:7: icmp: a list is not known; write one of own, reply, off"],
    ["tcp-idle: soon", '1:11: tcp-idle: "soon" is not a duration; write seconds, or 90s, 5m, 2h'],
    ["fwmark: x", '1:9: fwmark: "x" is not a number in range; write one from 0 to 4294967295'],
    ["host-loopback: yes", "1:16: host-loopback: this is text; write true or false"],
    ["dns-real: []", "1:11: dns-real: the list is empty; write a value, or leave the key out"],
    [
      "dns-real: [a b]",
      '1:12: dns-real: "a b" is no domain and no glob; write example.com or "*.cdn.example"',
    ],
    [
      "proxy: ftp://u:secret@h",
      "1:8: proxy: the scheme ftp is not supported; use socks5://host:port",
    ],
    ["rules: any", "1:8: rules: this is text; write a list"],
    ["rules: [1]", "1:9: this is a number; write text or a mapping"],
    ["rules:\n  - port=0 -> drop", '2:5: "0" is no port; write one from 1 to 65535, or 8000-8999'],
    ["rules:\n  - { port: 22 }", "2:5: action is missing; add it"],
    ["rules:\n  - { prot: tcp, action: drop }", '2:7: unknown key "prot"; did you mean proto?'],
    [
      "rules:\n  - { user: root, action: drop }",
      "2:7: rules by user are not supported yet; leave the rule out",
    ],
    [
      "rules:\n  - { port: [], action: drop }",
      "2:13: port: the list is empty; write a value, or leave the key out",
    ],
    ["rules:\n  - any -> proxy home", "2:5: no upstream is called home; add it under upstreams"],
    [
      "upstreams: { home: 192.0.2.1 }\nrules:\n  - any -> drop\n  - any -> proxy hom",
      "4:5: no upstream is called hom; did you mean home?",
    ],
    [
      "upstreams: { a: ftp://u:secret@h }",
      "1:17: a: the scheme ftp is not supported; use socks5://host:port",
    ],
    ["upstreams: { a: {} }", "1:17: a: url is missing; add it"],
    [
      "upstreams: { a: { url: h, user: me } }",
      '1:27: unknown key "user"; the keys are url, auth-file',
    ],
    [
      "upstreams: { a b: h }",
      '1:14: "a b" is no name of an upstream; use letters, digits, dots, dashes and underscores, at most 63',
    ],
    [
      "a: [",
      "1:5: Flow sequence in block collection must be sufficiently indented and end with a ]",
    ],
    ["- mtu", "1:1: this is a list; write a mapping"],
  ])("%j", (text, problem) => {
    expect(problems(text)).toEqual([problem]);
  });
});

test("all problems are told, in the order of the file", () => {
  const text = `mtu: 1
colour: red
rules:
  - any
  - port=80 -> proxy office
dns-server: here
upstreams:
  office: socks5://
`;
  expect(problems(text)).toEqual([
    "1:6: mtu: 1 is out of range; write one from 1280 to 65535",
    expect.stringMatching(/^2:1: unknown key "colour"; the keys are upstreams, rules, proxy, /),
    '4:5: "any" has no action; write "MATCH -> ACTION"',
    expect.stringMatching(/^6:13: dns-server: "here" is not an address; /),
    expect.stringMatching(/^8:11: office: the host is missing; /),
  ]);
});

describe("a file with a password", () => {
  const at = (name: string, url = "socks5://192.0.2.1") =>
    `upstreams: { a: { url: "${url}", auth-file: ${name} } }`;

  test.each([
    ["missing", "there is no such file; give a file", null],
    ["two", "it has several users; leave one", "a:secret\nb:secret\n"],
    ["bad", "line 1 has no colon; write user:password", "secret\n"],
  ])("that cannot be used is told by its name: %s", (name, why, text) => {
    if (text !== null) file(name, text);
    const [problem, ...others] = problems(at(name));
    expect(others).toEqual([]);
    expect(problem).toContain(`a`);
    expect(problem).toContain(join(directory, name));
    expect(problem).toContain(why);
    expect(problem).not.toContain("secret");
  });

  test("is for one proxy, not for a chain", () => {
    file("one", "a:secret\n");
    expect(problems(at("one", "socks5://192.0.2.1,socks5://192.0.2.2"))).toEqual([
      expect.stringMatching(/auth-file: the URL is a chain, whose proxies have a user each; /),
    ]);
  });

  test("has no place beside a user in the URL", () => {
    file("one", "a:secret\n");
    expect(problems(at("one", "socks5://u:hidden@192.0.2.1"))).toEqual([
      expect.stringMatching(/auth-file: the URL has a user already; leave one of them out$/),
    ]);
  });
});

test("a file that cannot be read is told by its name", () => {
  expect(() => readConfig(join(directory, "none"), check)).toThrow(
    `cannot read ${join(directory, "none")}: there is no such file; give a file`,
  );
  expect(() => readConfig(directory, check)).toThrow(/: it is a directory; give a file$/);
});

test("a file of 4 MiB is read, and a longer one not", () => {
  const path = file("long", `#${"x".repeat(MAX_CONFIG_OCTETS - 2)}\n`);
  expect(readConfig(path, check).problems).toEqual([]);
  writeFileSync(path, `#${"x".repeat(MAX_CONFIG_OCTETS - 1)}\n`);
  expect(() => readConfig(path, check)).toThrow(/: it is longer than 4 MiB; shorten it$/);
});

test("aliases that multiply are told, not followed", () => {
  const rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"];
  for (let i = 1; i < 9; i++) {
    rows.push(`a${i}: &a${i} [${new Array(10).fill(`*a${i - 1}`).join(", ")}]`);
  }
  expect(problems(rows.join("\n"))).toEqual([expect.stringMatching(/^1:1: Excessive alias count/)]);
});

test("the keys of the schema are flags of run and exec, but for upstreams and rules", () => {
  const path = new URL("../../schema/config.schema.json", import.meta.url);
  const { properties } = JSON.parse(readFileSync(path, "utf8"));
  const names = flags.map(({ long }) => long?.slice(2));
  const others = Object.keys(properties).filter((key) => !names.includes(key));
  expect(others).toEqual(["$schema", "upstreams", "rules"]);
});
