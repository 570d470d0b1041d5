// @ts-check
// TCP throughput with 1 and 8 streams, both directions, by iperf3; and what a GiB costs the stack in processor time.

import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { PORTS } from "../load/port-numbers.js";
import { cpuBetween, cpuOf } from "../process-figures.js";
import { listening } from "../topology.js";
import { inTurn } from "./rounds.js";

/** @typedef {import("./rounds.js").Lane} Lane */

const WARM_UP = 1;
const BUSY_TRIES = 10;
const BUSY_PAUSE = 500;
const TRANSFERS = [1, 8].flatMap((streams) =>
  ["down", "up"].map((direction) => ({ key: `${direction}${streams}`, direction, streams })),
);
const client = fileURLToPath(new URL("../iperf3-client.js", import.meta.url));

/** @type {import("./rounds.js").Metric} */
export const tcp = {
  name: "tcp",
  about: "TCP throughput with 1 and 8 streams, down and up; the stack's processor time per GiB",
  cost: ({ seconds }) => 4 * seconds + 2 * WARM_UP + 2,
  rows: TRANSFERS.flatMap(({ key, direction, streams }) => {
    const name = `TCP ${direction}, ${streams} ${streams === 1 ? "stream" : "streams"}`;
    return [
      { key, name, unit: "Gbit/s", more: true, headline: true },
      { key: `${key}.user`, name: `${name}: CPU, user`, unit: "s/GiB", more: false },
      { key: `${key}.system`, name: `${name}: CPU, system`, unit: "s/GiB", more: false },
    ];
  }),
  async round(bench, round) {
    // A server each, for the round: one that still has a transfer at hand refuses others.
    const { topology } = bench;
    const servers = bench.lanes.map((lane) => {
      const argv = ["iperf3", "-s", "-p", `${portOf(lane)}`];
      return topology.start(topology.server, argv, { stdio: "ignore" });
    });
    try {
      for (const lane of bench.lanes) await listening(topology, topology.server, portOf(lane));
      return await inTurn(bench, round, bench.lanes, [
        async (lane) => {
          await transfer(lane, "down", 1, WARM_UP);
          await transfer(lane, "up", 1, WARM_UP);
        },
        ...TRANSFERS.map((one) => (/** @type {Lane} */ lane) => measure(lane, one, bench.seconds)),
      ]);
    } finally {
      for (const server of servers) await topology.end(server);
    }
  },
};

/** @param {Lane} lane */
function portOf(lane) {
  return PORTS.iperf3 + lane.number;
}

/**
 * @param {Lane} lane
 * @param {{ key: string, direction: string, streams: number }} one
 * @param {number} seconds
 */
async function measure(lane, { key, direction, streams }, seconds) {
  const before = cpuOf(lane.pid);
  const { rate, octets } = await transfer(lane, direction, streams, seconds);
  const { user, system } = cpuBetween(before, cpuOf(lane.pid));
  const gib = octets / 2 ** 30;
  const cpu = { [`${key}.user`]: user / gib, [`${key}.system`]: system / gib };
  return { [key]: rate / 1e9, ...(lane.isStack ? cpu : {}) };
}

/**
 * One transfer: bits per second, and octets.
 *
 * @param {Lane} lane
 * @param {string} direction
 * @param {number} streams
 * @param {number} seconds
 */
async function transfer(lane, direction, streams, seconds) {
  for (let tries = 0; ; tries++) {
    try {
      return await once(lane, direction, streams, seconds);
    } catch (error) {
      // What is queued on a slow way may keep the server for a while after the client has ended.
      if (tries === BUSY_TRIES || !/busy/.test(String(error))) throw error;
      await wait(BUSY_PAUSE);
    }
  }
}

/**
 * @param {Lane} lane
 * @param {string} direction
 * @param {number} streams
 * @param {number} seconds
 */
async function once(lane, direction, streams, seconds) {
  if (lane.socks !== null) {
    const { host, port } = lane.socks;
    const server = `${lane.target}:${portOf(lane)}`;
    const argv = [client, `${host}:${port}`, server, `${seconds}`, direction, `${streams}`];
    const rate = Number(await lane.must([process.execPath, ...argv], 30_000)) * 1e9;
    return { rate, octets: (rate * seconds) / 8 };
  }
  const reverse = direction === "down" ? ["-R"] : [];
  const often = ["-t", `${seconds}`, "-P", `${streams}`];
  const argv = ["iperf3", "-J", "-c", lane.target, "-p", `${portOf(lane)}`, ...often, ...reverse];
  const { end, error } = JSON.parse(await lane.must(argv, 30_000));
  if (end?.sum_received === undefined) throw new Error(`iperf3: ${error ?? "no end"}`);
  return { rate: end.sum_received.bits_per_second, octets: end.sum_received.bytes };
}
