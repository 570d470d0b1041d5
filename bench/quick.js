#!/usr/bin/env node
// The quick bench: one iperf3 stream through the TUN against the same transfer through the same SOCKS server without a
// TUN, paired, both directions; then one keep-alive HTTP connection. Needs root, iperf3 and a build.
//
//   npm run bench:quick                             built-in SOCKS server, 5 rounds of 3 s
//   npm run bench:quick -- --rounds 7 --seconds 5 --mtu 1500
//   npm run bench:quick -- --socks-server 'COMMAND {host} {port}'

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median } from "./statistics.js";
import { listening, SERVER_IPV4, Topology } from "./topology.js";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "3" },
    mtu: { type: "string", default: "1500" },
    "socks-server": { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const rounds = Number(values.rounds);
const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const cli = here("../bin/tun2socks.js");
const node = process.execPath;
const socks = `${SERVER_IPV4}:1080`;

const topology = new Topology();
try {
  const serverCommand = values["socks-server"]
    ?.replace("{host}", SERVER_IPV4)
    .replace("{port}", "1080")
    .split(/\s+/) ?? [
    node,
    cli,
    "proxy",
    "--listen",
    socks,
    "--open",
    "--allow-private",
    "--log-level",
    "error",
  ];
  topology.start(topology.server, serverCommand);
  topology.start(topology.server, ["iperf3", "-s", "-p", "5201"]);
  topology.start(topology.server, [node, here("http-server.js"), SERVER_IPV4, "8080"]);
  for (const port of [1080, 5201, 8080]) await listening(topology, topology.server, port);

  const congestion = readFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "utf8").trim();
  console.log(
    `${rounds} rounds of ${values.seconds} s, MTU ${values.mtu}, congestion control ${congestion}, Node.js ${process.version}`,
  );
  const rows = [];
  for (const direction of ["up", "down"]) rows.push(await throughput(direction));
  rows.push(await keepAlive());
  if (values.json) for (const row of rows) console.log(JSON.stringify(row));
} finally {
  topology.close();
}

async function throughput(direction) {
  const tunnel = [];
  const ceiling = [];
  for (let round = 0; round < rounds; round++) {
    ceiling.push(
      Number(
        (
          await must([
            node,
            here("iperf3-client.js"),
            socks,
            `${SERVER_IPV4}:5201`,
            values.seconds,
            direction,
          ])
        ).trim(),
      ),
    );
    const report = JSON.parse(
      await must(
        exec(
          "iperf3",
          "-J",
          "-c",
          SERVER_IPV4,
          "-t",
          values.seconds,
          ...(direction === "down" ? ["-R"] : []),
        ),
      ),
    );
    tunnel.push(report.end.sum_received.bits_per_second / 1e9);
  }
  const ratios = tunnel.map((value, i) => value / ceiling[i]);
  const row = {
    metric: `tcp ${direction}, 1 stream`,
    unit: "Gbit/s",
    tunnel,
    ceiling,
    ratio: median(ratios),
  };
  console.log(
    `${row.metric}: ${median(tunnel).toFixed(2)} through the tunnel, ${median(ceiling).toFixed(2)} without a TUN; ratio ${row.ratio.toFixed(2)} [${Math.min(...ratios).toFixed(2)}-${Math.max(...ratios).toFixed(2)}]`,
  );
  return row;
}

async function keepAlive() {
  const tunnel = [];
  const ceiling = [];
  const client = [node, here("keepalive-client.js"), `${SERVER_IPV4}:8080`, "3000"];
  for (let round = 0; round < rounds; round++) {
    ceiling.push((await must([...client, socks])).trim().split(" ").map(Number));
    tunnel.push((await must(exec(...client))).trim().split(" ").map(Number));
  }
  const at = (samples, i) => median(samples.map((sample) => sample[i]));
  const row = { metric: "keep-alive HTTP, 1 connection", unit: "us", tunnel, ceiling };
  console.log(
    `${row.metric}: p50 ${at(tunnel, 0)} us, p99 ${at(tunnel, 1)} us through the tunnel; p50 ${at(ceiling, 0)} us, p99 ${at(ceiling, 1)} us without a TUN`,
  );
  return row;
}

function exec(...command) {
  return [
    node,
    cli,
    "exec",
    "-p",
    `socks5://${socks}`,
    "--mtu",
    values.mtu,
    "--dns",
    "off",
    "--log-level",
    "error",
    "--",
    ...command,
  ];
}

async function must(argv) {
  const { status, stdout, stderr } = await topology.run(topology.client, argv);
  if (status !== 0) throw new Error(`${argv.join(" ")} ended with ${status}: ${stderr || stdout}`);
  return stdout;
}
