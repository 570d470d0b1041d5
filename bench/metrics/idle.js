// @ts-check
// What a stack does that has nothing to do: processor time and wake-ups. It has carried something before.

import { setTimeout as wait } from "node:timers/promises";
import { cpuOf, wakeUpsOf } from "../process-figures.js";
import { inTurn, stacksOf } from "./rounds.js";

/** Until TIME-WAIT and what a garbage collector does on the side are over. */
const SETTLED = 12_000;
const SECONDS = 15;

/** @type {import("./rounds.js").Metric} */
export const idle = {
  name: "idle",
  about: `processor time and wake-ups of an idle stack, ${SECONDS} s, all stacks at once`,
  cost: () => SETTLED / 1000 + SECONDS,
  stacksOnly: true,
  atOnce: true,
  rows: [
    { key: "cpu", name: "idle: CPU", unit: "%", more: false },
    { key: "wakeUps", name: "idle: wake-ups", unit: "1/min", more: false, headline: true },
  ],
  round(bench, round) {
    /** @type {Map<import("./rounds.js").Lane, { cpu: number, wakeUps: number }>} */
    const before = new Map();
    /** Whoever is the first to come waits for all. @type {Promise<void> | null} */
    let waiting = null;
    return inTurn(bench, round, stacksOf(bench), [
      async (lane) => void (await lane.load("questions.js", { milliseconds: 100 })),
      async (lane) => {
        before.size === 0 && (await wait(SETTLED));
        before.set(lane, reading(lane.pid));
      },
      async (lane) => {
        waiting ??= wait(SECONDS * 1000);
        await waiting;
        const [was, is] = [before.get(lane) ?? reading(lane.pid), reading(lane.pid)];
        const cpu = ((is.cpu - was.cpu) / SECONDS) * 100;
        return { cpu, wakeUps: ((is.wakeUps - was.wakeUps) / SECONDS) * 60 };
      },
    ]);
  },
};

/** @param {number} pid */
function reading(pid) {
  const { user, system } = cpuOf(pid);
  return { cpu: user + system, wakeUps: wakeUpsOf(pid) };
}
