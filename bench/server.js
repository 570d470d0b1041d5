#!/usr/bin/env node
// What a client costs the built-in server: 9,000 of them at once on `tun2socks proxy`, each with a flow to a target; the
// clients and the targets are other processes. Then how long a newcomer waits, beside clients that are all idle and beside
// some that do not read what they asked for or do not finish what they say. Needs a build, no root.
//
//   npm run bench:server
//   npm run bench:server -- --clients 4000

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { memoryOf } from "./process-figures.js";

const { values } = parseArgs({ options: { clients: { type: "string", default: "9000" } } });
const clients = Number(values.clients);
/** Those the growth is counted from. */
const FEW = 100;
/** Octets per client at most. */
const LIMIT = 8192;
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const running = [];

try {
  await main();
} finally {
  for (const child of running) child.kill("SIGKILL");
}

async function main() {
  const limit = Number(
    /^Max open files\s+\d+\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1],
  );
  if (limit < 2 * clients + 600) {
    throw new Error(
      `${clients} clients are ${2 * clients} descriptors, and ulimit -Hn is ${limit}`,
    );
  }
  const port = await freePort();
  const product = start(
    ["--expose-gc", "--import", here("collect.js"), here("../bin/tun2socks.js"), "proxy"],
    ["--listen", `127.0.0.1:${port}`, "--allow", "127.0.0.1", "--log-level", "warn"],
  );
  const targets = lines(start([here("server-peer.js")], ["targets"]));
  const [echo, flood] = (await targets()).split(" ");
  const peer = start([here("server-peer.js")], ["clients", port, echo, flood]);
  const answer = lines(peer);
  const ask = (...words) => {
    peer.stdin.write(`${words.join(" ")}\n`);
    return answer();
  };

  await ask("open", FEW);
  const few = await settledMemory(product);
  console.log(await ask("open", clients));
  const many = await settledMemory(product);
  const each = Math.round((many - few) / (clients - FEW));
  console.log(
    `memory: ${mib(few)} MiB with ${FEW} clients, ${mib(many)} MiB with ${clients}: ${each} octets for each more`,
  );
  console.log(`all idle: a newcomer's CONNECT and first answer take ${await ask("time", 500)}`);
  await ask("slow", 100);
  console.log(`100 that do not read, 100 that do not finish: ${await ask("time", 500)}`);
  console.log(await ask("echo"));
  peer.stdin.end();
  await once(peer, "exit");
  product.kill("SIGTERM");
  await once(product, "exit");
  if (each > LIMIT) throw new Error(`a client costs more than ${LIMIT} octets`);
}

/** Resident octets once slots have gone back to the system and garbage is collected. */
async function settledMemory(product) {
  await new Promise((resolve) => setTimeout(resolve, 12_000));
  product.kill("SIGUSR2");
  await new Promise((resolve) => setTimeout(resolve, 2000));
  return memoryOf(product.pid).resident;
}

function mib(octets) {
  return (octets / 2 ** 20).toFixed(1);
}

function start(command, words) {
  const child = spawn(process.execPath, [...command, ...words], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  running.push(child);
  return child;
}

/** Reads the child's lines, one per call; an end instead of one is an error. */
function lines(child) {
  const iterator = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return async () => {
    const { value, done } = await iterator.next();
    if (done) throw new Error("a process of the bench ended early");
    return value;
  };
}

async function freePort() {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  return port;
}
