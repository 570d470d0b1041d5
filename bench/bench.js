#!/usr/bin/env node
// @ts-check
// The bench: tun2socks beside no tunnel at all, beside the same SOCKS server without a TUN, and beside its peers.
//
//   npm run bench
//   npm run bench -- --help
//
//     client namespace                                 server namespace
//     load ── tun1, tun2 … ── the stacks ──┐
//     load ── SOCKS (ceiling) ─────────────┼── veth ── SOCKS server ── targets (bench/load/targets.js, iperf3)
//     load (direct) ───────────────────────┘
//
// Needs root, iperf3 and a build.

import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { fileURLToPath } from "node:url";
import { chart } from "./chart.js";
import { Ceiling, Direct, fill, StackLane } from "./lanes.js";
import { PORTS } from "./load/port-numbers.js";
import { METRICS } from "./metrics/index.js";
import { duration } from "./metrics/rounds.js";
import { help, minutes, readOptions, UsageError } from "./options.js";
import { jsonRows, markdown } from "./table.js";
import { listening, SERVER_IPV4, Topology } from "./topology.js";

/** @typedef {import("./metrics/rounds.js").Metric} Metric */
/** @typedef {import("./table.js").Measured} Measured */

const node = process.execPath;
const here = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));
const cli = here("../bin/tun2socks.js");
const options = optionsOrEnd();
const TITLE = "tun2socks beside its peers and its limits";
/** Lanes of our own that failed somewhere. */
const failures = new Set();

const topology = new Topology();
try {
  if (options.congestion !== null) await setCongestion(options.congestion);
  await startServers();
  const lanes = makeLanes();
  const facts = describe();
  const [load = 0] = loadavg();
  if (load > 0.5)
    console.log(`the machine is busy (load ${load.toFixed(1)}): wait for better figures`);
  const stacks = lanes.filter(({ isStack }) => isStack).length;
  const seconds = options.metrics.map((one) => duration(one, options, lanes.length, stacks));
  console.log(`${facts}\nsome ${minutes(seconds)}\n`);
  /** @type {import("./table.js").Figures} */
  const figures = { lanes, rows: [] };
  for (const metric of options.metrics) {
    const rows = await measure(metric, lanes);
    figures.rows.push(...rows);
    console.log(markdown({ lanes, rows }));
  }
  write(options.json, () =>
    [{ facts }, ...jsonRows(figures)].map((row) => `${JSON.stringify(row)}\n`).join(""),
  );
  write(options.markdown, () => `${facts}\n\n${markdown(figures)}`);
  write(options.chart, () => chart(figures, { title: TITLE, subtitle: facts }));
} finally {
  topology.close();
}
if (failures.size > 0) process.exitCode = 1;

function optionsOrEnd() {
  try {
    const read = readOptions(process.argv.slice(2), METRICS);
    if (read !== null) return read;
    console.log(help(METRICS));
    process.exit(0);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`bench: ${error.message}`);
    process.exit(2);
  }
}

/** @param {string | null} file @param {() => string} text */
function write(file, text) {
  if (file !== null) writeFileSync(file, text());
}

/** @param {string} name */
async function setCongestion(name) {
  for (const namespace of [topology.client, topology.server]) {
    const argv = ["sysctl", "-qw", `net.ipv4.tcp_congestion_control=${name}`];
    const { status, stderr } = await topology.run(namespace, argv);
    if (status !== 0) throw new Error(`--congestion-control ${name}: ${stderr.trim()}`);
  }
}

async function startServers() {
  const { server } = topology;
  const values = { host: SERVER_IPV4, port: PORTS.socks };
  const builtIn = `${node} ${cli} proxy --listen {host}:{port} --open --allow-private --log-level error`;
  const socks = `exec ${fill(options.socksServer ?? builtIn, values)}`;
  const quiet = { stdio: ["ignore", "ignore", "inherit"] };
  topology.start(server, ["sh", "-c", socks], quiet);
  for (const role of ["answers", "source"]) {
    topology.start(server, [node, here("load/targets.js"), role], quiet);
  }
  const granting = [here("flows-peer.js"), "server", SERVER_IPV4, `${PORTS.granting}`];
  topology.start(server, [node, ...granting], quiet);
  for (const port of [PORTS.socks, PORTS.octet, PORTS.http, PORTS.granting]) {
    await listening(topology, server, port);
  }
}

/** Ours first, at each MTU and offload; then direct and ceiling; then the peers. */
function makeLanes() {
  const { mtus, offloads, peers } = options;
  let number = 1;
  const many = mtus.length * offloads.length > 1;
  const own = mtus.flatMap((mtu) =>
    offloads.map((offload) => {
      const name = many ? `tun2socks ${mtu}${offload === "on" ? "" : ` ${offload}`}` : "tun2socks";
      const flag = offload === "on" ? "" : ` --offload ${offload}`;
      const command = `${node} ${cli} run -d {tun} -p socks5://{socks_host}:{socks_port} --mtu {mtu} --dns off --log-level error${flag}`;
      return new StackLane(topology, number++, { name, command, mtu, pinned: false, own: true });
    }),
  );
  const others = peers.flatMap(({ name, command, mtus: pinned }) =>
    (pinned ?? mtus).map((mtu) => {
      const all = (pinned ?? mtus).length;
      const whole = all > 1 || pinned !== null ? `${name} ${mtu}` : name;
      const is = { name: whole, command, mtu, pinned: pinned !== null, own: false };
      return new StackLane(topology, number++, is);
    }),
  );
  return [...own, new Direct(topology, number++), new Ceiling(topology, number++), ...others];
}

/**
 * All rounds of a metric.
 *
 * @param {Metric} metric
 * @param {import("./lanes.js").Lane[]} lanes
 * @returns {Promise<Measured[]>}
 */
async function measure(metric, lanes) {
  const { rounds, seconds } = options;
  /** @type {import("./metrics/rounds.js").Bench} */
  const bench = {
    topology,
    lanes,
    seconds,
    failed(lane, error) {
      if (lane.own) failures.add(lane);
      const why = error instanceof Error ? error.message : String(error);
      console.log(`${metric.name}: ${lane.name} failed: ${why}`);
    },
  };
  /** @type {import("./metrics/rounds.js").Round[]} */
  const results = [];
  for (let round = 0; round < rounds; round++) {
    if (process.stderr.isTTY) process.stderr.write(`${metric.name}: round ${round + 1}\r`);
    results.push(await metric.round(bench, round));
  }
  const measured = metric.stacksOnly ? lanes.filter(({ isStack }) => isStack) : lanes;
  return metric.rows.map((row) => ({
    metric: metric.name,
    ...row,
    rounds: Object.fromEntries(
      measured.map((lane) => [
        lane.name,
        results.map((result) => result.get(lane)?.[row.key] ?? null),
      ]),
    ),
  }));
}

/** What has to stand beside the figures. */
function describe() {
  const [cpu] = cpus();
  const congestion =
    options.congestion ??
    readFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "latin1").trim();
  const processor = `${cpus().length} × ${cpu?.model.trim()}`;
  const mtus = `MTU ${options.mtus.join(", ")}`;
  const rounds = `${options.rounds} ${options.rounds === 1 ? "round" : "rounds"}, TCP ${options.seconds} s`;
  const server = options.socksServer;
  const socks = server === null ? "built-in SOCKS server" : `SOCKS server: ${programs(server)}`;
  const system = `Linux ${release()}, Node.js ${process.version}`;
  return [processor, system, congestion, mtus, rounds, socks].join("; ");
}

/** A command without its folders and placeholders. @param {string} command */
function programs(command) {
  const words = command.split(/\s+/).filter((word) => word !== "sh" && !word.includes("{"));
  return words.map((word) => word.slice(word.lastIndexOf("/") + 1)).join(" ");
}
