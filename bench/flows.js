#!/usr/bin/env node
// What a flow costs. First memory: 10,000 idle established flows through the real product, in two network namespaces,
// with the SOCKS server and the clients in other processes. Then time: packets of random flows through the pure stack, at
// 1,000 and at 100,000 flows. Needs a build, and root for the first part.
//
//   npm run bench:flows
//   npm run bench:flows -- --flows 10000 --part memory
//   npm run bench:flows -- --part time

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median } from "./statistics.js";

const { values } = parseArgs({
  options: {
    part: { type: "string", default: "memory,time" },
    flows: { type: "string", default: "10000" },
    rounds: { type: "string", default: "7" },
  },
});
const here = (name) => fileURLToPath(new URL(name, import.meta.url));

if (values.part.includes("memory")) await memory(Number(values.flows));
if (values.part.includes("time")) time(Number(values.rounds));

async function memory(flows) {
  const { listening, SERVER_IPV4, Topology } = await import("./topology.js");
  const topology = new Topology();
  const { node, cli } = { node: process.execPath, cli: here("../bin/tun2socks.js") };
  try {
    topology.start(topology.server, [node, here("flows-peer.js"), "server", SERVER_IPV4, "1080"]);
    await listening(topology, topology.server, 1080);
    const product = topology.start(topology.client, [
      node,
      cli,
      "run",
      "-d",
      "tun0",
      "-p",
      `socks5://${SERVER_IPV4}:1080`,
      "--log-level",
      "error",
    ]);
    await until(async () => {
      const device = await topology.run(topology.client, ["ip", "link", "show", "tun0"]);
      return device.stdout.includes("UP");
    });
    await topology.run(topology.client, ["ip", "route", "add", "203.0.113.0/24", "dev", "tun0"]);
    await settled();
    const idle = resident(product.pid);
    const client = topology.start(
      topology.client,
      [node, here("flows-peer.js"), "client", "203.0.113.1", String(flows)],
      { stdio: ["pipe", "pipe", "inherit"] },
    );
    await new Promise((resolve, reject) => {
      client.stdout.once("data", (opened) => {
        if (Number(opened) === flows) resolve();
        else reject(new Error(`only ${Number(opened)} connections opened`));
      });
      client.once("exit", () => reject(new Error("the client ended early")));
    });
    const opened = resident(product.pid);
    await settled();
    const held = resident(product.pid);
    client.stdin.end();
    await new Promise((resolve) => client.once("exit", resolve));
    // TIME-WAIT is ten seconds, freed memory is kept for five, and V8 gives its own back when it is idle.
    await settled(30_000);
    const after = resident(product.pid);
    const perFlow = (octets) => Math.round((octets - idle) / flows);
    console.log(
      `${flows} idle flows: ${perFlow(held)} octets of user-space memory each ` +
        `(${perFlow(opened)} just after they opened); idle ${mib(idle)}, with flows ${mib(held)}, ` +
        `after they closed ${mib(after)} MiB`,
    );
  } finally {
    topology.close();
  }
}

/** Octets of memory that is the process's own: not its program text. */
function resident(pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1]);
  return (field("RssAnon") + field("RssShmem")) * 1024;
}

function mib(octets) {
  return (octets / 2 ** 20).toFixed(1);
}

function settled(milliseconds = 10_000) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function until(condition) {
  for (let i = 0; i < 100; i++) {
    if (await condition()) return;
    await settled(50);
  }
  throw new Error("the device does not come up");
}

/** Processor time. Each round is a process of its own: where V8 puts 100,000 flows is luck. */
function time(rounds) {
  const samples = new Map([
    [1000, []],
    [100_000, []],
  ]);
  for (let round = 0; round < rounds; round++) {
    for (const [flows, taken] of samples) {
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [here("flows-stack.js"), String(flows)],
        { encoding: "utf8" },
      );
      if (status !== 0) throw new Error(stderr);
      taken.push(Number(stdout));
    }
  }
  const [few, many] = [...samples.values()].map(median);
  const differences = samples.get(100_000).map((value, i) => value - samples.get(1000)[i]);
  console.log(
    `a packet of a random flow: ${few.toFixed(0)} ns at 1,000 flows, ${many.toFixed(0)} ns at 100,000; ` +
      `${median(differences).toFixed(0)} ns more [${Math.min(...differences).toFixed(0)}..${Math.max(...differences).toFixed(0)}]`,
  );
}
