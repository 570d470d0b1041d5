// @ts-check
// New connections, 32 at a time, with an octet each way, closed by the target: some thousands, to eight ports, so that none has
// the addresses and ports of one before; and for ten seconds to one port, where source ports come round after some 3,000.

import { inTurn } from "./rounds.js";

const CONCURRENCY = 32;
const COUNT = 5000;

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
    inTurn(bench, round, bench.lanes, [
      (lane) => connect(lane, { ports: "many", closes: "target", count: COUNT }),
    ]),
};

export const sustained = lasting({
  name: "sustained",
  what: "new connections, 10 s",
  about: "new connections to one port for 10 s: source ports are used again; stalls",
  load: { ports: "one", closes: "target", milliseconds: 10_000 },
});

/** Whoever closes first keeps the ports for a minute: those of the address in front of the proxy run out. */
export const clientCloses = lasting({
  name: "client-closes",
  what: "new connections, 30 s, client closes",
  about: "the same for 30 s to eight ports, where it is the client that closes",
  load: { ports: "many", closes: "client", milliseconds: 30_000 },
  extra: true,
});

/**
 * @param {{ name: string, what: string, about: string, load: { ports: string, closes: string, milliseconds: number }, extra?: boolean }} kind
 * @returns {import("./rounds.js").Metric}
 */
function lasting({ name, what, about, load, extra = false }) {
  return {
    name,
    about,
    extra,
    cost: () => load.milliseconds / 1000 + 1,
    rows: [
      { key: "rate", name: what, unit: "1/s", more: true },
      { key: "p50", name: `${what}: p50`, unit: "ms", more: false },
      { key: "p99", name: `${what}: p99`, unit: "ms", more: false },
      { key: "gap", name: `${what}: longest stall`, unit: "ms", more: false },
      { key: "failed", name: `${what}: failed`, unit: "", more: false },
    ],
    round: (bench, round) => inTurn(bench, round, bench.lanes, [(lane) => connect(lane, load)]),
  };
}

/** @param {import("./rounds.js").Lane} lane @param {object} howMany */
async function connect(lane, howMany) {
  const options = { concurrency: CONCURRENCY, ...howMany };
  const { done, failed, seconds, p50, p99, gap } = await lane.load("connections.js", options);
  return { rate: done / seconds, failed, p50, p99, gap };
}
