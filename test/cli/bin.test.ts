/** The program where it was never built: there is nothing to import that could tell. */

import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";

test.each([
  ["exec", 125],
  ["run", 1],
])("without dist/, %s ends with %d and one line", (command, status) => {
  const directory = mkdtempSync(join(tmpdir(), "tun2socks-bin-"));
  try {
    mkdirSync(join(directory, "bin"));
    const program = join(directory, "bin/tun2socks.cjs");
    copyFileSync(join(import.meta.dirname, "../../bin/tun2socks.js"), program);
    const result = spawnSync(process.execPath, [program, command, "true"], { encoding: "utf8" });
    expect(result).toMatchObject({ status, stdout: "" });
    expect(result.stderr).toMatch(/^tun2socks: [^\n]+; run `npm ci` \(ERR_ADDON_MISSING\)\n$/);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
