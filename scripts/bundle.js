#!/usr/bin/env node
// Bundles what the program runs (src/cli and all it imports, commander too) into dist/cli/tun2socks.cjs: one file
// starts in a third of the time of 150, and CommonJS in less than ES modules. Names stay, so stack traces read as
// those of the sources. Run after tsc, which makes the library's modules and checks types.

import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";
import { CODE } from "../bin/tun2socks.js";

const root = fileURLToPath(new URL("..", import.meta.url));

const NOTHING = "\0nothing";

/** commander loads what starts programs (and with it node:net) for subcommands that are files, which we have not. */
const withoutPrograms = {
  name: "without-programs",
  resolveId: (id, importer) =>
    id === "node:child_process" && importer?.includes("/commander/") ? NOTHING : null,
  load: (id) => (id === NOTHING ? "module.exports = {};" : null),
};

// V8 compares the length of the source only: code of an older bundle must be gone first.
rmSync(CODE, { force: true });
const bundle = await rolldown({
  cwd: root,
  input: "src/cli/main.ts",
  platform: "node",
  plugins: [withoutPrograms],
});
await bundle.write({
  // In the depth of dist/cli and dist/native: what these name by import.meta.url stays where it is.
  file: "dist/cli/tun2socks.cjs",
  format: "cjs",
  codeSplitting: false,
  comments: false,
  // One octet a character: V8 reads such a source faster.
  charset: "ascii",
  banner:
    "/*! Holds commander, (c) 2011 TJ Holowaychuk, MIT licence: see node_modules/commander/LICENSE. */",
});
await bundle.close();
const codeCache = fileURLToPath(new URL("code-cache.js", import.meta.url));
const { status } = spawnSync(process.execPath, [codeCache], { stdio: "inherit" });
process.exitCode = status ?? 1;
