// @ts-check
// The command line of the bench: read once, checked before anything is made.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { duration } from "./metrics/rounds.js";

/** @typedef {import("./metrics/rounds.js").Metric} Metric */

/**
 * @typedef {{ name: string, mtus: number[] | null, command: string }} Peer `mtus` null: those of ours
 *
 * @typedef {object} Options
 * @property {Metric[]} metrics
 * @property {number} rounds
 * @property {number} seconds
 * @property {number[]} mtus
 * @property {string[]} offloads
 * @property {Peer[]} peers
 * @property {string | null} socksServer
 * @property {string | null} congestion
 * @property {string | null} json
 * @property {string | null} markdown
 * @property {string | null} chart
 */

/** Its message is what the user reads. */
export class UsageError extends Error {}

export const OFFLOADS = ["on", "checksum", "none"];

/**
 * Null: help was asked for.
 *
 * @param {string[]} args
 * @param {Metric[]} metrics all there are
 * @returns {Options | null}
 * @throws {UsageError}
 */
export function readOptions(args, metrics) {
  const values = parse(args);
  if (values.help) return null;
  return {
    metrics:
      values.metrics === undefined
        ? metrics.filter(({ extra }) => !extra)
        : list(values.metrics).map((name) => named(name, metrics)),
    rounds: number("--rounds", values.rounds, 1, 100),
    seconds: number("--seconds", values.seconds, 1, 60),
    mtus: list(values.mtu).map((text) => number("--mtu", text, 1280, 65_535)),
    offloads: list(values.offload).map((text) => oneOf("--offload", text, OFFLOADS)),
    peers: (values.peer ?? []).map(parsePeer),
    socksServer: values["socks-server"] ?? null,
    congestion:
      values["congestion-control"] === undefined
        ? null
        : oneOf("--congestion-control", values["congestion-control"], available()),
    json: values.json ?? null,
    markdown: values.markdown ?? null,
    chart: values.chart ?? null,
  };
}

/** @param {string[]} args */
function parse(args) {
  try {
    return parseArgs({
      args,
      options: {
        metrics: { type: "string" },
        rounds: { type: "string", default: "3" },
        seconds: { type: "string", default: "3" },
        mtu: { type: "string", default: "1500" },
        offload: { type: "string", default: "on" },
        peer: { type: "string", multiple: true },
        "socks-server": { type: "string" },
        "congestion-control": { type: "string" },
        json: { type: "string" },
        markdown: { type: "string" },
        chart: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message);
  }
}

/**
 * NAME[@MTU[,MTU]]=COMMAND.
 *
 * @param {string} text
 * @returns {Peer}
 */
export function parsePeer(text) {
  const parts = /^([^=@]+)(?:@([\d,]+))?=(.+)$/s.exec(text);
  if (parts === null)
    throw new UsageError(`--peer ${text}: write NAME=COMMAND or NAME@MTU=COMMAND`);
  const [, name = "", mtus, command = ""] = parts;
  const pinned = mtus === undefined ? null : list(mtus);
  return { name, command, mtus: pinned?.map((mtu) => number("--peer", mtu, 1280, 65_535)) ?? null };
}

/** @param {string} name @param {Metric[]} metrics */
function named(name, metrics) {
  const metric = metrics.find((one) => one.name === name);
  if (metric !== undefined) return metric;
  const names = metrics.map((one) => one.name).join(", ");
  throw new UsageError(`--metrics ${name}: one or more of ${names}`);
}

/** @param {string} text */
function list(text) {
  return text.split(",").filter((part) => part !== "");
}

/** @param {string} flag @param {string} text @param {number} least @param {number} most */
function number(flag, text, least, most) {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UsageError(`${flag} ${text}: a number from ${least} to ${most}`);
}

/** @param {string} flag @param {string} text @param {string[]} words */
function oneOf(flag, text, words) {
  if (words.includes(text)) return text;
  throw new UsageError(`${flag} ${text}: one of ${words.join(", ")}`);
}

/** Congestion controls that this kernel has ready. */
function available() {
  const path = "/proc/sys/net/ipv4/tcp_available_congestion_control";
  return readFileSync(path, "latin1").trim().split(/\s+/);
}

/** @param {number[]} seconds */
export function minutes(seconds) {
  const sum = Math.ceil(seconds.reduce((all, one) => all + one, 0) / 60);
  return sum === 1 ? "1 minute" : `${sum} minutes`;
}

/** @param {Metric[]} metrics */
export function help(metrics) {
  const defaults = { rounds: 3, seconds: 3 };
  const usual = metrics.filter(({ extra }) => !extra);
  const whole = minutes(usual.map((metric) => duration(metric, defaults, 3, 1)));
  const costs = metrics.map((metric) => {
    const seconds = Math.ceil(metric.cost(defaults));
    const per = metric.atOnce ? "a round" : "a lane and round";
    const but = metric.stacksOnly ? ", stacks only" : metric.extra ? ", only if named" : "";
    return `  ${metric.name.padEnd(14)} ${metric.about}\n${" ".repeat(17)}${seconds} s ${per}${but}`;
  });
  return `Usage: npm run bench -- [options]

tun2socks beside no tunnel (direct), the same SOCKS server without a TUN (ceiling), and
peers; medians of rounds [smallest–largest] and ratios taken pair by pair. Needs root.

  --metrics a,b             which; without peers those below take some ${whole}
  --rounds N                3
  --seconds N               of a TCP transfer, 3
  --mtu 1500,9000,65520     of our device, 1500
  --offload on,none         what our device offloads: on, checksum, none
  --congestion-control X    of the kernels in both namespaces (reno, bbr, cubic)
  --socks-server COMMAND    instead of the built-in one; {host} {port}
  --peer NAME=COMMAND       may be repeated; {tun} {socks_host} {socks_port} {mtu}.
                            NAME@MTU,MTU=COMMAND: at MTUs of its own. The shell runs it
                            as \`exec COMMAND\`; device, address and route are made for it
  --json FILE               an object a line: the machine, then row by row, lane by lane
  --markdown FILE           the whole table
  --chart FILE              the main rows as SVG

Metrics, and what they cost:
${costs.join("\n")}
`;
}
