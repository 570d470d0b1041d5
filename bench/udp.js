#!/usr/bin/env node
// Datagrams: the highest rate at which less than one in a hundred is lost, what arrives of a flood, the processor time of
// the tunnel per datagram, and questions with their answers, on one socket and each from a port of its own. Tunnels take
// turns. Needs root and a build.
//
//   npm run bench:udp                                   built-in SOCKS server, 3 rounds
//   npm run bench:udp -- --rounds 5 --parts echo,ports
//   npm run bench:udp -- --socks-server 'COMMAND {host} {port}' --peer 'NAME=COMMAND {tun} {socks_host} {socks_port} {mtu}'
//
// The client's namespace has the TUN as route to 10.201.0.0/24, where the target is, and a veth to the SOCKS server. A
// peer finds its TUN configured and up; it stays in the foreground.

import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { ip, listening, median, SERVER_IPV4, Topology } from "./topology.js";

const TARGET = "10.201.0.2";
const PORT = 7000;
const SOCKS_PORT = 1080;
/** Of one flood, ms. */
const RUN = 700;
/** Offered, datagrams a second, when the question is what arrives. */
const FLOOD = 400_000;
const LOSS = 0.01;
/** Halvings of the range between a rate that passed and one that did not. */
const STEPS = 5;

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const node = process.execPath;
const OURS = [
  node,
  here("../bin/tun2socks.js"),
  ..."run -d {tun} -p socks5://{socks_host}:{socks_port} --dns off --log-level error".split(" "),
].join(" ");

async function main() {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "3" },
      mtu: { type: "string", default: "1500" },
      queries: { type: "string", default: "20000" },
      parts: { type: "string", default: "flood,echo,ports" },
      sizes: { type: "string", default: "200,1400" },
      peer: { type: "string", multiple: true, default: [] },
      "socks-server": { type: "string" },
      direct: { type: "boolean", default: false },
      gso: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const tunnels = new Map([["tun2socks", OURS]]);
  for (const peer of values.peer) {
    const [name, ...command] = peer.split("=");
    tunnels.set(name, command.join("="));
  }
  const bench = new UdpBench({
    socksServer: values["socks-server"],
    mtu: values.mtu,
    gso: values.gso,
  });
  try {
    await bench.start();
    const rows = [];
    for (let round = 0; round < Number(values.rounds); round++) {
      if (values.direct) rows.push(...(await measure(bench, "direct", null, values)));
      for (const [name, command] of tunnels) {
        rows.push(...(await measure(bench, name, command, values)));
      }
    }
    if (values.json) for (const row of rows) console.log(JSON.stringify(row));
    print(rows);
  } finally {
    bench.close();
  }
}

/** The rows of one tunnel and one round. */
async function measure(bench, name, command, { parts, sizes, queries }) {
  const rows = [];
  const add = (metric, value) => rows.push({ tunnel: name, metric, value });
  if (command !== null) await bench.startTunnel(command);
  for (const direction of parts.includes("flood") ? ["up", "down"] : []) {
    for (const size of sizes.split(",").map(Number)) {
      const what = `${direction} ${size} B`;
      const { rate, arrived, cpu } = await bench.rate(direction, size);
      add(`${what}, kpps at < 1 % loss`, rate / 1000);
      add(`${what}, kpps arriving of ${FLOOD / 1000}`, arrived / 1000);
      if (cpu !== null) add(`${what}, µs of processor time per datagram`, cpu);
    }
  }
  if (parts.includes("echo")) {
    const { perSecond, p50, p99, lost } = await bench.client("echo", 64, 3000);
    add("answers/s, one socket", perSecond);
    add("p50, µs", p50);
    add("p99, µs", p99);
    add("lost", lost);
  }
  if (parts.includes("ports")) {
    const { perSecond, p50, p99, answered } = await bench.client("ports", 64, Number(queries));
    add(`answered of ${queries} from new ports`, answered);
    add("answers/s, new port each", perSecond);
    add("new port p50, µs", p50);
    add("new port p99, µs", p99);
  }
  if (command !== null) await bench.stopTunnel();
  return rows;
}

function print(rows) {
  const tunnels = [...new Set(rows.map((row) => row.tunnel))];
  for (const metric of new Set(rows.map((row) => row.metric))) {
    const cells = tunnels.map((tunnel) => {
      const values = rows
        .filter((r) => r.tunnel === tunnel && r.metric === metric)
        .map((r) => r.value);
      if (values.length === 0) return `${tunnel} -`;
      return `${tunnel} ${median(values).toFixed(1)} [${Math.min(...values).toFixed(1)}-${Math.max(...values).toFixed(1)}]`;
    });
    console.log(`${metric}: ${cells.join("; ")}${ratio(rows, metric, tunnels)}`);
  }
}

/** Of the first tunnel to each other one, round by round. */
function ratio(rows, metric, tunnels) {
  const of = (tunnel) => rows.filter((r) => r.tunnel === tunnel && r.metric === metric);
  const ours = of("tun2socks");
  return tunnels
    .filter((tunnel) => tunnel !== "tun2socks" && of(tunnel).length === ours.length)
    .map((tunnel) => {
      const theirs = of(tunnel);
      return `; ${median(ours.map(({ value }, i) => value / theirs[i].value)).toFixed(2)} × ${tunnel}`;
    })
    .join("");
}

/** Two namespaces, the target, a SOCKS server, and one tunnel at a time. */
export class UdpBench {
  #topology = new Topology();
  #options;
  #tunnel = null;

  constructor(options = {}) {
    this.#options = { mtu: "1500", gso: false, ...options };
  }

  async start() {
    const { client, server } = this.#topology;
    ip("-n", server, "addr", "add", `${TARGET}/32`, "dev", "lo");
    const command =
      this.#options.socksServer ??
      [
        node,
        here("../bin/tun2socks.js"),
        "proxy --listen {host}:{port} --open --allow-private --log-level error",
      ].join(" ");
    this.socks = this.#topology.start(
      server,
      fill(command, { host: SERVER_IPV4, port: SOCKS_PORT }),
    );
    const target = this.#topology.start(server, [node, here("udp-server.js"), `${TARGET}:${PORT}`]);
    for (const child of [this.socks, target]) child.stderr.pipe(process.stderr);
    await listening(this.#topology, server, SOCKS_PORT);
    ip("-n", client, "route", "add", `${TARGET}/32`, "via", SERVER_IPV4, "metric", "100");
  }

  /** `command` as --peer gives it. */
  async startTunnel(command) {
    const { client } = this.#topology;
    const { mtu } = this.#options;
    ip(
      "-n",
      client,
      "tuntap",
      "add",
      "mode",
      "tun",
      "name",
      "tun0",
      ...(command === OURS ? ["vnet_hdr"] : []),
    );
    ip("-n", client, "addr", "add", "198.18.0.1/15", "dev", "tun0");
    ip("-n", client, "link", "set", "tun0", "up", "mtu", mtu, "txqueuelen", "1000");
    const places = { tun: "tun0", socks_host: SERVER_IPV4, socks_port: SOCKS_PORT, mtu };
    this.#tunnel = this.#topology.start(client, fill(command, places));
    this.#tunnel.stderr.pipe(process.stderr);
    ip("-n", client, "route", "add", `${TARGET}/32`, "dev", "tun0", "metric", "1");
    for (let i = 0; i < 50; i++) {
      const { stdout } = await this.#topology.run(client, ["ip", "link", "show", "tun0"]);
      if (!stdout.includes("NO-CARRIER")) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`${command} does not open tun0`);
  }

  async stopTunnel() {
    const tunnel = this.#tunnel;
    const ended = new Promise((resolve) => tunnel.once("exit", resolve));
    tunnel.kill("SIGTERM");
    const timer = setTimeout(() => tunnel.kill("SIGKILL"), 2000);
    await ended;
    clearTimeout(timer);
    this.#tunnel = null;
    ip("-n", this.#topology.client, "link", "del", "tun0");
  }

  /** Of the tunnel that runs. */
  get tunnelPid() {
    return this.#tunnel.pid;
  }

  /** Runs udp-client.js against the target; its report, and the tunnel's processor time in µs as `cpu`. */
  async client(mode, ...numbers) {
    const before = this.#cpu();
    const argv = [node, here("udp-client.js"), mode, `${TARGET}:${PORT}`, ...numbers.map(String)];
    if (this.#options.gso) argv.push("gso");
    const { status, stdout, stderr } = await this.#topology.run(this.#topology.client, argv);
    if (status !== 0)
      throw new Error(`${argv.join(" ")} ended with ${status}: ${stderr || stdout}`);
    return { ...JSON.parse(stdout), cpu: before === null ? null : this.#cpu() - before };
  }

  /** Highest rate at less than 1 % loss, what arrives of a flood, and processor time per datagram at the former. */
  async rate(direction, size) {
    const flood = await this.#flood(direction, size, FLOOD);
    const arrived = (flood.received * 1000) / RUN;
    let low = 0;
    let high = Math.max(1.5 * arrived, 20_000);
    let cpu = null;
    for (let step = 0; step < STEPS; step++) {
      const rate = (low + high) / 2;
      let run = await this.#flood(direction, size, rate);
      // Once more: the machine may have been elsewhere for a moment.
      if (!passes(run)) run = await this.#flood(direction, size, rate);
      if (!passes(run)) high = rate;
      else {
        // What was sent, should the sender not have kept up.
        low = Math.min(rate, (run.sent * 1000) / RUN);
        if (run.cpu !== null) cpu = run.cpu / run.received;
      }
    }
    return { rate: low, arrived, cpu };
  }

  /** A tunnel through which nothing comes at all any more has lost everything. */
  #flood(direction, size, rate) {
    const lost = { sent: 1, received: 0, cpu: null };
    return this.client(direction, size, Math.round(rate), RUN).catch(() => lost);
  }

  close() {
    this.#topology.close();
  }

  /** Of all threads, µs. */
  #cpu() {
    if (this.#tunnel === null) return null;
    const { pid } = this.#tunnel;
    let nanoseconds = 0;
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      nanoseconds += Number(
        readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0],
      );
    }
    return nanoseconds / 1000;
  }
}

function passes({ sent, received }) {
  return received >= (1 - LOSS) * sent;
}

function fill(command, places) {
  return command.replaceAll(/\{(\w+)\}/g, (_, name) => places[name]).split(/\s+/);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
