// @ts-check
// New connections, 32 at a time, with an octet each way, closed by the target: some thousands, and for ten seconds, which is
// long enough for the client's source ports to come round several times.

import { inTurn } from "./rounds.js";

const CONCURRENCY = 32;
const COUNT = 5000;
const SUSTAINED = 10_000;

/** @type {import("./rounds.js").Metric} */
export const connections = {
  name: "connections",
  about: `${COUNT} new connections, ${CONCURRENCY} at a time`,
  cost: () => 2,
  rows: [
    { key: "rate", name: "new connections", unit: "1/s", more: true, headline: true },
    { key: "p50", name: "new connections: p50", unit: "ms", more: false },
    { key: "p99", name: "new connections: p99", unit: "ms", more: false },
    { key: "failed", name: "new connections: failed", unit: "", more: false },
  ],
  round: (bench, round) =>
    inTurn(bench, round, bench.lanes, [(lane) => connect(lane, { count: COUNT })]),
};

/** @type {import("./rounds.js").Metric} */
export const sustained = {
  name: "sustained",
  about: `new connections for ${SUSTAINED / 1000} s: source ports are used again; stalls`,
  cost: () => SUSTAINED / 1000 + 1,
  rows: [
    { key: "rate", name: "new connections, 10 s", unit: "1/s", more: true },
    { key: "p50", name: "new connections, 10 s: p50", unit: "ms", more: false },
    { key: "p99", name: "new connections, 10 s: p99", unit: "ms", more: false },
    { key: "gap", name: "new connections, 10 s: longest stall", unit: "ms", more: false },
    { key: "failed", name: "new connections, 10 s: failed", unit: "", more: false },
  ],
  round: (bench, round) =>
    inTurn(bench, round, bench.lanes, [(lane) => connect(lane, { milliseconds: SUSTAINED })]),
};

/** @param {import("./rounds.js").Lane} lane @param {object} howMany */
async function connect(lane, howMany) {
  const options = { concurrency: CONCURRENCY, ...howMany };
  const { done, failed, seconds, p50, p99, gap } = await lane.load("connections.js", options);
  return { rate: done / seconds, failed, p50, p99, gap };
}
