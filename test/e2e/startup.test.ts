/** What the program loads to start: measured by V8's own coverage, which knows every script that was evaluated. */

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { TUNTAP2_PACKAGE } from "../../src/tun/tuntap2-tun.ts";
import { CLI } from "../support/world.ts";

/** bin/tun2socks.js, which does nothing by itself when it is loaded. */
interface Program {
  readonly CODE: string;
  load(code?: Uint8Array): {
    script: { cachedDataRejected?: boolean };
    exports: { main(argv: readonly string[]): Promise<number> };
  };
}

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Scripts that `node ARGUMENTS` evaluates: files from the repository's root, and public modules of Node.js. */
function loaded(...argv: readonly string[]): { files: string[]; builtins: string[] } {
  const directory = mkdtempSync(join(tmpdir(), "tun2socks-loaded-"));
  try {
    const env = { ...process.env, NODE_V8_COVERAGE: directory };
    const run = spawnSync(process.execPath, argv, { encoding: "utf8", env });
    expect(run).toMatchObject({ status: 0 });
    const [name] = readdirSync(directory);
    const report = JSON.parse(readFileSync(join(directory, name as string), "utf8")) as {
      result: Array<{ url: string }>;
    };
    const urls = report.result.map(({ url }) => url);
    return {
      files: urls
        .filter((url) => url.startsWith("file:"))
        .map((url) => relative(ROOT, fileURLToPath(url))),
      builtins: urls.filter((url) => /^node:(?!internal\/)/.test(url)),
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const PROGRAM = ["bin/tun2socks.js", "dist/cli/tun2socks.cjs"];
const exec = (...argv: readonly string[]) => loaded(CLI, "exec", "--log-level", "error", ...argv);

/** What Node.js itself runs on, and os, perf_hooks, process, vm. */
const BUILTINS = "buffer events fs module os path perf_hooks process timers url vm";

test("exec loads one file of ours, no library, and nothing of Node.js for sockets, names, TLS or processes", () => {
  const { files, builtins } = exec("--", "true");
  expect(files).toEqual(PROGRAM);
  const allowed = BUILTINS.split(" ").map((name) => `node:${name}`);
  expect(builtins.filter((name) => !allowed.includes(name))).toEqual([]);
});

test("the npm binding is loaded by its option", () => {
  const directory = mkdtempSync(join(tmpdir(), "tun2socks-binding-"));
  try {
    const module = join(directory, TUNTAP2_PACKAGE);
    mkdirSync(module, { recursive: true });
    writeFileSync(
      join(module, "index.js"),
      `exports.LinuxTun = class { constructor() { throw new Error("no device, but loaded"); } };`,
    );
    const argv = [CLI, "run", "-d", "tun0", "--binding", "tuntap2", "-p", "127.0.0.1:1"];
    const env = { ...process.env, NODE_PATH: directory };
    const { stderr } = spawnSync(process.execPath, argv, { encoding: "utf8", env });
    expect(stderr).toContain(
      `cannot open a TUN device by ${TUNTAP2_PACKAGE}: no device, but loaded`,
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("the DNS library is loaded once the tunnel answers a name itself", () => {
  const { files } = exec("--host-loopback", "getent", "ahostsv4", "host.tun2socks.internal");
  expect(files.slice(0, 2)).toEqual(PROGRAM);
  expect(files).toContain("node_modules/dns-packet/index.js");
});

test("the program starts by the code that V8 kept of it, and without where that is of another V8", async () => {
  const { CODE, load }: Program = createRequire(import.meta.url)(CLI);
  const code = readFileSync(CODE);
  expect(load(code).script.cachedDataRejected).toBe(false);
  // The hash of V8's version follows a magic number.
  code.writeUInt32LE(~code.readUInt32LE(4) >>> 0, 4);
  const other = load(code);
  expect(other.script.cachedDataRejected).toBe(true);
  expect(await other.exports.main(["exec", "--log-level", "error", "--", "true"])).toBe(0);
});
