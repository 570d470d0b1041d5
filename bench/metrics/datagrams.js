// @ts-check
// UDP one way: the rate at which less than 1 % is lost or late, what a packet costs the stack at a rate that is the same for
// all, and what arrives of a flood. Sizes are of the payload.

import { cpuBetween, cpuOf } from "../process-figures.js";
import { inTurn } from "./rounds.js";

const KINDS = [200, 1400].flatMap((size) =>
  ["up", "down"].map((direction) => ({ key: `${direction}${size}`, direction, size })),
);
const FLOOD_RATE = 250_000;
const CPU_RATE = 30_000;
const MILLISECONDS = 1000;

/** @type {import("./rounds.js").Metric} */
export const datagrams = {
  name: "udp",
  about: "UDP packets/s at < 1 % loss (200 and 1,400 octets), arrival of a flood, CPU per packet",
  cost: () => 14,
  rows: KINDS.flatMap(({ key, direction, size }) => {
    const name = `UDP ${direction}, ${size} octets`;
    return [
      { key, name: `${name}, < 1 % lost`, unit: "kpps", more: true, headline: true },
      { key: `${key}.cpu`, name: `${name}: CPU of a packet`, unit: "µs", more: false },
      { key: `${key}.flood`, name: `${name}, of a flood`, unit: "kpps", more: true },
      { key: `${key}.offered`, name: `${name}: flood offered`, unit: "kpps", more: true },
    ];
  }),
  round: (bench, round) =>
    inTurn(
      bench,
      round,
      bench.lanes,
      KINDS.map(({ key, direction, size }) => async (lane) => {
        const load = (/** @type {object} */ options) =>
          lane.load("datagrams.js", { direction, size, milliseconds: MILLISECONDS, ...options });
        const { rate } = await load({ mode: "search" });
        /** @type {Record<string, number>} */
        const values = { [key]: rate / 1000 };
        if (lane.isStack) {
          const before = cpuOf(lane.pid);
          const { arrived } = await load({ mode: "fixed", rate: CPU_RATE });
          const { user, system } = cpuBetween(before, cpuOf(lane.pid));
          values[`${key}.cpu`] = ((user + system) * 1e6) / arrived;
        }
        const flood = await load({ mode: "fixed", rate: FLOOD_RATE });
        values[`${key}.flood`] = flood.arrived / flood.seconds / 1000;
        values[`${key}.offered`] = flood.sent / flood.seconds / 1000;
        return values;
      }),
    ),
};
