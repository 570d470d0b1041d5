// @ts-check
// UDP question and answer, one after another: on one socket, and each from a new source port, as resolvers do.

import { inTurn } from "./rounds.js";

const NEW_PORTS = 20_000;

/** @type {import("./rounds.js").Metric} */
export const questions = {
  name: "questions",
  about: `UDP question and answer: on one socket, and ${NEW_PORTS} each from a new source port`,
  cost: () => 8,
  rows: [
    { key: "one", name: "UDP questions, one socket", unit: "1/s", more: true, headline: true },
    { key: "one.p50", name: "UDP questions, one socket: p50", unit: "µs", more: false },
    { key: "one.p99", name: "UDP questions, one socket: p99", unit: "µs", more: false },
    { key: "new", name: "UDP questions, new ports", unit: "1/s", more: true, headline: true },
    { key: "new.p50", name: "UDP questions, new ports: p50", unit: "µs", more: false },
    { key: "new.p99", name: "UDP questions, new ports: p99", unit: "µs", more: false },
    {
      key: "answered",
      name: `UDP questions, new ports: answered of ${NEW_PORTS}`,
      unit: "",
      more: true,
    },
  ],
  round: (bench, round) =>
    inTurn(bench, round, bench.lanes, [
      async (lane) => {
        const { rate, p50, p99 } = await lane.load("questions.js", { milliseconds: 1500 });
        return { one: rate, "one.p50": p50, "one.p99": p99 };
      },
      async (lane) => {
        // A SOCKS client has one association for all its questions: there is nothing to compare.
        if (lane.socks !== null) return;
        const { rate, p50, p99, answered } = await lane.load("questions.js", { count: NEW_PORTS });
        return { new: rate, "new.p50": p50, "new.p99": p99, answered };
      },
    ]),
};
