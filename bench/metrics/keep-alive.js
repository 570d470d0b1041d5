// @ts-check
// HTTP requests on 1 and on 64 keep-alive connections.

import { inTurn } from "./rounds.js";

const CONNECTIONS = [1, 64];
const MILLISECONDS = 1500;

/** @type {import("./rounds.js").Metric} */
export const keepAlive = {
  name: "keep-alive",
  about: "HTTP requests on 1 and on 64 keep-alive connections",
  cost: () => 6,
  rows: CONNECTIONS.flatMap((connections) => {
    const name = `HTTP, ${connections} ${connections === 1 ? "connection" : "connections"}`;
    return [
      { key: `rate${connections}`, name, unit: "1/s", more: true, headline: true },
      { key: `p50.${connections}`, name: `${name}: p50`, unit: "µs", more: false },
      { key: `p99.${connections}`, name: `${name}: p99`, unit: "µs", more: false },
    ];
  }),
  round: (bench, round) =>
    inTurn(
      bench,
      round,
      bench.lanes,
      CONNECTIONS.map((connections) => async (lane) => {
        const options = { connections, milliseconds: MILLISECONDS };
        const { rate, p50, p99 } = await lane.load("requests.js", options);
        return {
          [`rate${connections}`]: rate,
          [`p50.${connections}`]: p50,
          [`p99.${connections}`]: p99,
        };
      }),
    ),
};
