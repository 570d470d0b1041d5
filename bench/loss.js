#!/usr/bin/env node
// The bench of impaired links: our TCP beside the kernel's over the same bad link with the same seed, hashes checked.
//
//   npm run bench:loss                            the table, three seeds
//   npm run bench:loss -- --rows 1,2 --seeds 1    some of it
//   npm run bench:loss -- --list                  the rows
//
//     far ── bad link ── middle ──┬─ tun0: `tun2socks run` ── SOCKS ──┐
//     (lane by lane)              └─ forwarding ──────────────────────┴─ server
//
// Every lane is a bad link of its own (test/e2e/fixtures/impaired-link.js) with its own target address. Downloads:
// the stack sends, or the kernel of `server` under the congestion control that its route to the lane names.
// Uploads: the kernel of `far` sends under its default; the stack, or the kernel of `server`, acknowledges. All lanes
// of a row run at once: they carry a few Mbit/s. Needs root and a build; some minutes.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median } from "./statistics.js";
import { ip, listening, SERVER_IPV4, Topology } from "./topology.js";

/** Delay is one way, in ms. Octets make a row last some 20 s or more at the pace of the kernel's Reno. */
const ROWS = [
  { name: "1 % loss, 50 ms RTT", link: { loss: 0.01, delay: 25 }, octets: 6e6 },
  { name: "1 % loss, 50 ms RTT, IPv6", link: { loss: 0.01, delay: 25 }, octets: 6e6, v6: true },
  { name: "1 % loss, 2 ms RTT", link: { loss: 0.01, delay: 1 }, octets: 60e6 },
  { name: "2 % loss, 50 ms RTT", link: { loss: 0.02, delay: 25 }, octets: 4e6 },
  { name: "5 % loss, 20 ms RTT", link: { loss: 0.05, delay: 10 }, octets: 4e6 },
  { name: "10 % loss, 20 ms RTT", link: { loss: 0.1, delay: 10 }, octets: 1e6 },
  { name: "1 % loss, 400 ms RTT", link: { loss: 0.01, delay: 200 }, octets: 0.8e6 },
  {
    name: "25 % reordered, 20 ms RTT, 5 ms jitter",
    link: { reorder: 0.25, delay: 10, jitter: 5 },
    octets: 30e6,
  },
  {
    name: "1 % loss, 25 % reordered, 40 to 80 ms RTT",
    link: { loss: 0.01, reorder: 0.25, delay: 20, jitter: 20 },
    octets: 5e6,
  },
  {
    name: "10 % duplicated, 1 % corrupted, 20 ms RTT",
    link: { duplicate: 0.1, corrupt: 0.01, delay: 10 },
    octets: 12e6,
  },
];
/** Slowest first, so that the fast ones are done when the rest still runs. */
const DOWN = [
  { name: "ours, cubic", tunnel: "cubic" },
  { name: "Linux, cubic", congestion: "cubic" },
  { name: "ours, newreno", tunnel: "newreno" },
  { name: "Linux, reno", congestion: "reno" },
  { name: "Linux, bbr", congestion: "bbr" },
];
const UP = [{ name: "to ours", tunnel: "cubic" }, { name: "to Linux" }];
/** A transfer that takes longer has failed. */
const TIMEOUT = 240_000;

const { values } = parseArgs({
  options: {
    rows: { type: "string" },
    seeds: { type: "string", default: "3" },
    list: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
if (values.list) {
  for (const [i, { name }] of ROWS.entries()) console.log(`${i + 1}  ${name}`);
  process.exit(0);
}
const rows = (values.rows?.split(",").map((n) => ROWS[Number(n) - 1]) ?? ROWS).map((row, i) => {
  if (row === undefined) throw new Error(`--rows: there are rows 1 to ${ROWS.length}, see --list`);
  return { ...row, index: i };
});
const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => i + 1);
const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const node = process.execPath;
const cli = at("../bin/tun2socks.js");
const available = readFileSync("/proc/sys/net/ipv4/tcp_available_congestion_control", "utf8");
const WEB_PORT = "8080";

const topology = new Topology();
try {
  const far = topology.namespace("far");
  const middle = topology.client;
  const { server } = topology;
  const down = DOWN.filter(({ congestion }) => !congestion || available.includes(congestion));
  for (const [i, lane] of [...down, ...UP].entries()) number(lane, i);
  await topology.run(middle, ["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
  await topology.run(middle, ["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]);
  for (const name of [far, server]) {
    // What the kernel learnt of one run's path would be the start of the next.
    await topology.run(name, ["sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1"]);
  }
  const targets = [...down, ...UP].flatMap(({ target, target6 }) => [target, target6]);
  for (const target of targets) {
    ip(
      "-n",
      server,
      "addr",
      "add",
      target,
      "dev",
      "lo",
      ...(target.includes(":") ? ["nodad"] : []),
    );
  }
  for (const lane of [...down, ...UP]) {
    // The way back to a lane's far end; the route names the congestion control of what is sent there.
    const congestion = lane.congestion ? ["congctl", lane.congestion] : [];
    ip("-n", server, "route", "add", lane.net, "via", "10.200.0.1", ...congestion);
    ip("-n", server, "-6", "route", "add", lane.net6, "via", "fd00:200::1", ...congestion);
    if (lane.tunnel) continue;
    ip("-n", middle, "route", "add", lane.target, "via", SERVER_IPV4);
    ip("-n", middle, "-6", "route", "add", lane.target6, "via", "fd00:200::2");
  }
  topology.start(server, [node, at("../test/e2e/fixtures/web.js"), WEB_PORT, ...targets]);
  const listen = ["--listen", `${SERVER_IPV4}:1080`, "--open", "--allow-private"];
  topology.start(server, [node, cli, "proxy", ...listen, "--log-level", "error"]);
  await listening(topology, server, WEB_PORT);
  await listening(topology, server, 1080);
  for (const congestion of ["cubic", "newreno"]) await serve(middle, congestion, [...down, ...UP]);

  console.log(
    `${seeds.length} seeds, Node.js ${process.version}, MTU 1500; goodput in Mbit/s, median`,
  );
  for (const row of rows) {
    const downs = new Map(down.map((lane) => [lane, []]));
    const ups = new Map(UP.map((lane) => [lane, []]));
    for (const seed of seeds) {
      await measure(row, seed, downs, "down");
      await measure(row, seed, ups, "up");
    }
    report(row, downs, ups);
  }
} finally {
  topology.close();
}

/** Gives a lane its link's networks and its target. */
function number(lane, i) {
  lane.index = i;
  lane.target = `203.0.113.${i + 1}`;
  lane.target6 = `2001:db8::${i + 1}`;
  lane.net = `192.0.2.${4 * i}/30`;
  lane.net6 = `fd00:78:${i}::/64`;
  lane.far = { ipv4: `192.0.2.${4 * i + 1}`, ipv6: `fd00:78:${i}::1` };
  lane.near = { ipv4: `192.0.2.${4 * i + 2}`, ipv6: `fd00:78:${i}::2` };
}

/** Starts `tun2socks run` for the lanes of one congestion control, and sends their targets there. */
async function serve(middle, congestion, lanes) {
  const own = lanes.filter(({ tunnel }) => tunnel === congestion);
  if (own.length === 0) return;
  const device = `tun-${congestion}`;
  const flags = ["-d", device, "-p", `socks5://${SERVER_IPV4}:1080`, "--congestion", congestion];
  const child = topology.start(middle, [node, cli, "run", ...flags]);
  await said(child, child.stderr, "serving");
  for (const { target, target6 } of own) {
    ip("-n", middle, "route", "add", target, "dev", device);
    ip("-n", middle, "-6", "route", "add", target6, "dev", device);
  }
}

/** One transfer on each lane, all at once, each on a link made for it. */
async function measure(row, seed, lanes, direction) {
  const { far } = topology;
  const links = [];
  for (const lane of lanes.keys()) {
    const ends = [
      { netns: far, name: `far${lane.index}`, ...lane.far },
      { netns: topology.client, name: `near${lane.index}`, ...lane.near },
    ];
    const config = JSON.stringify({ seed, link: row.link, ends });
    const link = topology.start(far, [node, at("../test/e2e/fixtures/impaired-link.js"), config]);
    links.push(link);
    await said(link, link.stdout, "joined");
    ip("-n", far, "route", "add", lane.target, "dev", ends[0].name);
    ip("-n", far, "-6", "route", "add", lane.target6, "dev", ends[0].name);
  }
  await Promise.all(
    [...lanes].map(async ([lane, results]) => {
      const target = row.v6 ? lane.target6 : lane.target;
      const argv = [node, at("loss-client.js"), target, WEB_PORT, String(row.octets), direction];
      const { status, stdout, stderr } = await topology.run(far, argv, { timeout: TIMEOUT });
      if (status !== 0) throw new Error(`${row.name}, ${lane.name}: ${stderr || "no end"}`);
      results.push(Number(stdout));
    }),
  );
  for (const link of links) {
    link.kill("SIGTERM");
    await once(link, "close");
  }
}

async function said(child, stream, word) {
  stream.setEncoding("utf8");
  let text = "";
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    text += chunk;
    if (text.includes(word)) {
      stream.resume();
      return;
    }
  }
  throw new Error(`${child.spawnargs.join(" ")}: ${text || "ended"}`);
}

function report(row, downs, ups) {
  const rate = (milliseconds) => (row.octets * 8) / milliseconds / 1000;
  const cell = (results) => median(results.map(rate));
  const of = (lanes, name) => [...lanes].find(([lane]) => lane.name === name)?.[1];
  const ratio = (lanes, ours, theirs) => {
    const other = of(lanes, theirs);
    if (other === undefined) return Number.NaN;
    return median(of(lanes, ours).map((milliseconds, i) => other[i] / milliseconds));
  };
  const cells = [...downs, ...ups].map(([lane, results]) => [lane.name, cell(results)]);
  const ratios = {
    cubic: ratio(downs, "ours, cubic", "Linux, cubic"),
    newreno: ratio(downs, "ours, newreno", "Linux, reno"),
    up: ratio(ups, "to ours", "to Linux"),
  };
  const longest = Math.max(...[...downs, ...ups].flatMap(([, results]) => results)) / 1000;
  if (values.json) {
    console.log(
      JSON.stringify({
        row: row.name,
        octets: row.octets,
        downs: [...downs],
        ups: [...ups],
        ratios,
      }),
    );
    return;
  }
  if (row.index === 0) {
    console.log(`| link | ${cells.map(([name]) => name).join(" | ")} | cubic | newreno | up | s |`);
    console.log(`|---|${"---|".repeat(cells.length + 4)}`);
  }
  const numbers = cells.map(([, value]) => value.toFixed(value < 10 ? 2 : 1));
  const parts = Object.values(ratios).map((value) => value.toFixed(2));
  console.log(`| ${[row.name, ...numbers, ...parts, longest.toFixed(0)].join(" | ")} |`);
}
