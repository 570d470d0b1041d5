import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";

const SCRIPT = fileURLToPath(new URL("../../scripts/build-addon.js", import.meta.url));
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "tun2socks-path-"));
});

afterEach(() => {
  rmSync(directory, { recursive: true });
});

/** Runs the script with only `programs` in PATH. */
function build(...programs: string[]): { status: number | null; stdout: string; stderr: string } {
  for (const name of programs) {
    writeFileSync(join(directory, name), "#!/bin/sh\nexit 1\n");
    chmodSync(join(directory, name), 0o755);
  }
  return spawnSync(process.execPath, [SCRIPT], {
    encoding: "utf8",
    timeout: 15_000,
    env: { PATH: directory },
  });
}

test("without a compiler, installing says in one line what is missing and what to install", () => {
  const { status, stdout, stderr } = build("python3", "make");
  expect([status, stdout]).toEqual([1, ""]);
  expect(stderr).toBe(
    "tun2socks: cannot build the native addon: a C compiler, a C++ compiler missing; " +
      "install with: apt-get install python3 make g++\n",
  );
});

test("a single missing tool is named alone", () => {
  expect(build("python3", "cc", "g++").stderr).toMatch(/^tun2socks: .* addon: make missing; .*\n$/);
});
