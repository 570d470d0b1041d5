/** `check`, `explain`, `--config` and `--rule`, as a user meets them; the examples of docs/rules.md are among them. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test, vi } from "vitest";
import { main } from "../../src/cli/main.ts";
import { forgetOutput, stderr, stdout } from "../support/command-output.ts";

const directory = mkdtempSync(join(tmpdir(), "tun2socks-rules-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Writes tunnel.yaml. Returns its path. */
function file(text: string): string {
  const path = join(directory, "tunnel.yaml");
  writeFileSync(path, text);
  return path;
}

interface Example {
  readonly language: string;
  readonly text: string;
  /** What stands before it. */
  readonly before: string;
}

/** The fenced blocks of docs/rules.md, in order. */
function examples(): Example[] {
  const document = readFileSync(new URL("../../docs/rules.md", import.meta.url), "utf8");
  const fence = /^```(\w*)\n(.*?)^```$/gms;
  return [...document.matchAll(fence)].map(({ 1: language = "", 2: text = "", index }) => ({
    language,
    text,
    before: document.slice(0, index).trimEnd().split("\n").at(-1) as string,
  }));
}

describe("docs/rules.md", () => {
  const all = examples();
  const files = all.flatMap(({ language, text, before }, index) => {
    if (language !== "yaml" && language !== "json") return [];
    const said = all[index + 1];
    const told = said?.language === "" && said.text.startsWith("tunnel.yaml:") ? said.text : null;
    return [{ text, told, hasFile: before.includes("the file is not there") }];
  });

  test("has examples that are right, and some that are not", () => {
    expect(files.filter(({ told }) => told === null).length).toBeGreaterThanOrEqual(4);
    expect(files.filter(({ told }) => told !== null).length).toBe(2);
  });

  test.each(files)("$text", async ({ text, told, hasFile }) => {
    if (hasFile) writeFileSync(join(directory, "home.auth"), "name:password\n");
    const path = file(text);
    const status = await main(["check", path]);
    const output = stdout.replaceAll(`${directory}/`, "");
    if (told === null) {
      expect(output).toMatch(/^ok: \d+ upstreams?, \d+ rules?\n$/);
      expect(status).toBe(0);
    } else {
      expect(output).toBe(told);
      expect(status).toBe(told.includes("ok: ") ? 0 : 2);
    }
    expect(stderr).toBe("");
  });

  test("every rule among its words reads as one", async () => {
    const document = readFileSync(new URL("../../docs/rules.md", import.meta.url), "utf8");
    const rows = [...document.matchAll(/^\| (`.*?) \|/gm)].map(([, cell]) => cell as string);
    const cells = rows.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, word]) => word!));
    expect(cells.length).toBeGreaterThan(12);
    for (const cell of cells) {
      const rule = cell.includes("=") ? `${cell} -> drop` : `any -> ${cell}`;
      const argv = [
        "explain",
        "192.0.2.1:1",
        "--config",
        file("upstreams: { NAME: h }"),
        "--rule",
        rule,
      ];
      expect(await main(argv), stderr).toBe(0);
    }
  });
});

test("check says that there is no such file", async () => {
  expect(await main(["check", "/nonexistent/x.yaml"])).toBe(2);
  expect(stderr).toBe(
    "tun2socks: cannot read /nonexistent/x.yaml: there is no such file; give a file (ERR_USAGE)\n",
  );
});

describe("explain", () => {
  const config = `
proxy: socks5h://u:secret@192.0.2.1
upstreams: { office: "socks5://u:secret@192.0.2.2" }
rules:
  - cidr=10.0.0.0/8,port=22 -> direct
  - domain=example.com -> proxy office
  - proto=udp -> reject icmp
  - port=25 -> reject
  - port=26 -> drop
  - port=27 -> proxy
`;
  const explain = async (...argv: readonly string[]): Promise<string> => {
    expect(await main(["explain", "--config", file(config), ...argv]), stderr).toBe(0);
    expect(stdout).not.toContain("secret");
    return stdout;
  };

  test("says why the rules before are not for the flow, and where it goes", async () => {
    expect(await explain("www.example.com:443")).toBe(`tcp to www.example.com:443, by name
  1 cidr=10.0.0.0/8,port=22 -> direct: no, a flow to a name has no address here
  2 domain=example.com -> proxy office: yes
goes to office, socks5://192.0.2.2:1080
`);
  });

  test("knows addresses, protocols and the proxy of the rest", async () => {
    expect(await explain("[2001:db8::1]:443")).toBe(`tcp to [2001:db8::1]:443, by address
  1 cidr=10.0.0.0/8,port=22 -> direct: no, 2001:db8::1 is not in 10.0.0.0/8
  2 domain=example.com -> proxy office: no, a flow to an address has no name
  3 proto=udp -> reject icmp: no, tcp is not udp
  4 port=25 -> reject: no, port 443 is not 25
  5 port=26 -> drop: no, port 443 is not 26
  6 port=27 -> proxy: no, port 443 is not 27
no rule is for it: goes to the proxy, socks5h://192.0.2.1:1080
`);
  });

  test.each([
    ["10.0.0.1:22", [], "goes directly, from this machine"],
    [
      "192.0.2.9:1",
      ["--proto", "udp"],
      "is rejected (reject icmp): ICMP, administratively prohibited",
    ],
    ["192.0.2.9:25", [], "is rejected (reject): a reset"],
    ["192.0.2.9:26", [], "is dropped: no answer"],
    ["192.0.2.9:27", [], "goes to the proxy, socks5h://192.0.2.1:1080"],
    ["192.0.2.9:27", ["-p", "192.0.2.5"], "goes to the proxy, socks5://192.0.2.5:1080"],
    ["192.0.2.9:27", ["--rule", "any -> direct"], "goes directly, from this machine"],
  ])("%s %j: %s", async (target, more, end) => {
    expect((await explain(target, ...more)).trimEnd().split("\n").at(-1)).toBe(end);
  });

  test("knows by ALL_PROXY that flows have names", async () => {
    vi.stubEnv("ALL_PROXY", "socks5h://u:secret@192.0.2.3");
    expect(await main(["explain", "--rule", "any -> proxy", "a.example:1"]), stderr).toBe(0);
    expect(stdout).toBe(`tcp to a.example:1, by name
  1 any -> proxy: yes
goes to the proxy, socks5h://192.0.2.3:1080
`);
  });

  test("says that names need a way to be known", async () => {
    expect(await explain("a.example:1", "--dns", "auto")).toContain(
      "\n  note: a flow has a name only under --dns fake (or with a socks5h:// proxy), or by --sniff\n",
    );
  });

  test.each([
    [
      "example.com",
      '"example.com" is no host and port; write example.com:443, 192.0.2.1:443 or [2001:db8::1]:443',
    ],
    ["a_b*:1", '"a_b*" is no name and no address; write one as a program would'],
    ["h:0", '"0" is not a number in range; write one from 1 to 65535'],
  ])("%s is refused", async (target, message) => {
    expect(await main(["explain", target])).toBe(2);
    expect(stderr).toBe(`tun2socks: ${message} (ERR_USAGE)\n`);
  });
});

describe("a mistake ends run and exec with one line:", () => {
  test.each([
    [
      ["--rule", "prot=tcp -> direct"],
      'cannot use --rule: "prot" is no condition; did you mean proto?',
    ],
    [
      ["--rule", "user=root -> direct"],
      "cannot use --rule: rules by user are not supported yet; leave the rule out",
    ],
    [
      ["-p", "192.0.2.1", "--rule", "any -> proxy office"],
      'cannot use the rule "any -> proxy office": no upstream is called office; name it under upstreams of --config',
    ],
    [["--sniff=0"], 'cannot use --sniff: "0" is not a number in range; write one from 1 to 65535'],
    [
      ["-p", "192.0.2.1", "--sniff"],
      "cannot use --sniff: no rule asks for a domain, and no name is sent to the proxy; add one, or --dns fake, or leave it out",
    ],
    [["--config", ""], "cannot use --config: it is empty; write a path"],
    [
      ["--config", "/nonexistent/x"],
      "cannot read /nonexistent/x: there is no such file; give a file",
    ],
  ])("%j", async (argv, message) => {
    expect(await main(["run", "-d", "tun-none", ...argv])).toBe(2);
    expect(stderr).toBe(`tun2socks: ${message} (ERR_USAGE)\n`);
    forgetOutput();
    expect(await main(["exec", ...argv, "--", "true"])).toBe(125);
    expect(stderr).toBe(`tun2socks: ${message} (ERR_USAGE)\n`);
  });

  test("the first of a file's, with its place", async () => {
    const path = file("mtu: 9000\ndns: fak\ntcp-idle: soon\n");
    expect(await main(["run", "-d", "tun-none", "--config", path])).toBe(2);
    expect(stderr).toBe(
      `tun2socks: cannot use --config ${path}: line 2, column 6: dns: "fak" is not known; did you mean fake? (and 1 more: see tun2socks check) (ERR_USAGE)\n`,
    );
  });
});

test("a file's values are those of flags, and what the command line says wins", async () => {
  const path = file("proxy: socks5://x\ndns-real: [a.example]\n");
  // It is what it would be on the command line: of no use without --dns fake.
  expect(await main(["run", "-d", "tun-none", "--config", path])).toBe(2);
  expect(stderr).toContain("cannot use --dns-real: no name is anything else than real");
  forgetOutput();
  const other = file("proxy: socks5h://x\ndns-real: [a.example]\n");
  expect(await main(["run", "-d", "tun-none", "--config", other, "-p", "socks5://x"])).toBe(2);
  expect(stderr).toContain("cannot use --dns-real: no name is anything else than real");
});
