#!/usr/bin/env node
import { existsSync } from "node:fs";

const built = new URL("../dist/cli/main.js", import.meta.url);
if (existsSync(built)) {
  const { crashed, endNow, main } = await import(built.href);
  const argv = process.argv.slice(2);
  process.on("uncaughtException", (error) => process.exit(crashed(argv, error)));
  process.exitCode = await main(argv);
  // The loop has nothing left and ends by itself; should something cling to it, not for long.
  setTimeout(() => endNow(process.exitCode), 250).unref();
} else {
  console.error("tun2socks: it is not built: dist/ is missing; run `npm ci` (ERR_ADDON_MISSING)");
  process.exitCode = process.argv[2] === "exec" ? 125 : 1;
}
