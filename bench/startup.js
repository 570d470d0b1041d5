#!/usr/bin/env node
// Start-up: from the start of `tun2socks exec -- curl` to the first octet at the target, beside the start and end of
// bare Node.js (`node -e 0`), in pairs. Needs root, curl and a build.
//
//   npm run bench:startup                  20 pairs
//   npm run bench:startup -- --pairs 40 --json

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { listening, median, SERVER_IPV4, Topology } from "./topology.js";

const cli = fileURLToPath(new URL("../bin/tun2socks.js", import.meta.url));
const target = fileURLToPath(new URL("./startup-target.js", import.meta.url));
const node = process.execPath;

/** What a start may take: this much, or this much more than bare Node.js. */
export const LIMIT = 120;
export const LIMIT_OVER_BARE = 70;

/**
 * Measures `pairs` pairs on `topology`, whose server namespace has a SOCKS server on `socks` (host:port).
 * Resolves with milliseconds.
 */
export async function startup(topology, socks, pairs = 20) {
  const port = 8079;
  const targets = topology.start(topology.server, [node, target, SERVER_IPV4, String(port)]);
  await listening(topology, topology.server, port);
  const proxied = [node, cli, "exec", "-p", `socks5://${socks}`, "--log-level", "error", "--"];
  const client = [...proxied, "curl", "-sS", "-o", "/dev/null", `http://${SERVER_IPV4}:${port}/`];
  const bare = [];
  const first = [];
  for (let i = 0; i < pairs; i++) {
    bare.push((await must(topology, [node, "-e", "0"])).milliseconds);
    const octet = new Promise((resolve) => targets.stdout.once("data", resolve));
    const started = process.hrtime.bigint();
    await must(topology, client);
    first.push(Number(BigInt(String(await octet).trim()) - started) / 1e6);
  }
  targets.kill("SIGKILL");
  const limit = Math.max(LIMIT, median(bare) + LIMIT_OVER_BARE);
  return { metric: "start to first octet", unit: "ms", bare, first, limit };
}

/** The row as a line. */
export function formatStartup({ bare, first, limit }) {
  const show = (values) =>
    `${median(values).toFixed(0)} ms [${Math.min(...values).toFixed(0)}-${Math.max(...values).toFixed(0)}]`;
  const over = median(first.map((value, i) => value - bare[i]));
  return (
    `start to first octet: ${show(first)}, bare Node.js ${show(bare)}, ` +
    `median difference ${over.toFixed(0)} ms; limit ${limit.toFixed(0)} ms: ${median(first) <= limit ? "kept" : "EXCEEDED"}`
  );
}

async function must(topology, argv) {
  const result = await topology.run(topology.client, argv);
  if (result.status !== 0) {
    throw new Error(`${argv.join(" ")} ended with ${result.status}: ${result.stderr}`);
  }
  return result;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      pairs: { type: "string", default: "20" },
      json: { type: "boolean", default: false },
    },
  });
  const topology = new Topology();
  try {
    const socks = `${SERVER_IPV4}:1080`;
    const server = [
      "proxy",
      "--listen",
      socks,
      "--open",
      "--allow-private",
      "--log-level",
      "error",
    ];
    topology.start(topology.server, [node, cli, ...server]);
    await listening(topology, topology.server, 1080);
    const row = await startup(topology, socks, Number(values.pairs));
    console.log(`${values.pairs} pairs, Node.js ${process.version}`);
    console.log(formatStartup(row));
    if (values.json) console.log(JSON.stringify(row));
  } finally {
    topology.close();
  }
}
