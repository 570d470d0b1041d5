#!/usr/bin/env node
import { main } from "../dist/cli/main.js";

process.exitCode = await main(process.argv.slice(2));
// The loop has nothing left and ends by itself; should something cling to it, not for long.
setTimeout(() => process.exit(), 250).unref();
