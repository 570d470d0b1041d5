// @ts-check
// TCP throughput with 1 and 8 streams, both directions, by iperf3; and what a GiB costs the stack in processor time.

import { fileURLToPath } from "node:url";
import { PORTS } from "../load/port-numbers.js";
import { cpuBetween, cpuOf } from "../process-figures.js";
import { inTurn } from "./rounds.js";

const WARM_UP = 1;
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
  round: (bench, round) =>
    inTurn(bench, round, bench.lanes, [
      async (lane) => {
        await transfer(lane, "down", 1, WARM_UP);
        await transfer(lane, "up", 1, WARM_UP);
      },
      ...TRANSFERS.map(
        ({ key, direction, streams }) =>
          async (/** @type {import("./rounds.js").Lane} */ lane) => {
            const before = cpuOf(lane.pid);
            const { rate, octets } = await transfer(lane, direction, streams, bench.seconds);
            const { user, system } = cpuBetween(before, cpuOf(lane.pid));
            const gib = octets / 2 ** 30;
            const cpu = { [`${key}.user`]: user / gib, [`${key}.system`]: system / gib };
            return { [key]: rate / 1e9, ...(lane.isStack ? cpu : {}) };
          },
      ),
    ]),
};

/**
 * One transfer: bits per second, and octets.
 *
 * @param {import("../lanes.js").Lane} lane
 * @param {string} direction
 * @param {number} streams
 * @param {number} seconds
 */
async function transfer(lane, direction, streams, seconds) {
  if (lane.socks !== null) {
    const { host, port } = lane.socks;
    const server = `${lane.target}:${PORTS.iperf3}`;
    const argv = [client, `${host}:${port}`, server, `${seconds}`, direction, `${streams}`];
    const rate = Number(await lane.must([process.execPath, ...argv], 30_000)) * 1e9;
    return { rate, octets: (rate * seconds) / 8 };
  }
  const reverse = direction === "down" ? ["-R"] : [];
  const often = ["-t", `${seconds}`, "-P", `${streams}`];
  const argv = ["iperf3", "-J", "-c", lane.target, ...often, ...reverse];
  const { end, error } = JSON.parse(await lane.must(argv, 30_000));
  if (end?.sum_received === undefined) throw new Error(`iperf3: ${error ?? "no end"}`);
  return { rate: end.sum_received.bits_per_second, octets: end.sum_received.bytes };
}
