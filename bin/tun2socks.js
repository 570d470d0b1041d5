#!/usr/bin/env node
"use strict";
// Runs the bundle of scripts/bundle.js, by the code that V8 compiled when that was made (scripts/code-cache.js): without
// it, or with that of another V8, which V8 refuses, the same program starts some 10 ms later.

const { existsSync, readFileSync } = require("node:fs");
const { join } = require("node:path");
const { Script } = require("node:vm");

const BUNDLE = join(__dirname, "../dist/cli/tun2socks.cjs");
const CODE = join(__dirname, "../dist/cli/tun2socks.code");

/** The bundle as a script, and what it exports; `code` may be undefined. */
function load(code) {
  const source = readFileSync(BUNDLE, "latin1");
  const script = new Script(`(function (exports, require, __filename) {${source}\n})`, {
    filename: BUNDLE,
    cachedData: code,
  });
  const exports = {};
  script.runInThisContext()(exports, require, BUNDLE);
  return { script, exports };
}

function run(argv) {
  if (!existsSync(BUNDLE)) {
    console.error("tun2socks: it is not built: dist/ is missing; run `npm ci` (ERR_ADDON_MISSING)");
    process.exitCode = argv[0] === "exec" ? 125 : 1;
    return;
  }
  const { crashed, endNow, main } = load(existsSync(CODE) ? readFileSync(CODE) : undefined).exports;
  process.on("uncaughtException", (error) => process.exit(crashed(argv, error)));
  main(argv).then((status) => {
    process.exitCode = status;
    // The loop has nothing left and ends by itself; should something cling to it, not for long.
    setTimeout(() => endNow(status), 250).unref();
  });
}

module.exports = { BUNDLE, CODE, load };
if (require.main === module) run(process.argv.slice(2));
