// @ts-check
// From the start of the process to the first octet through its tunnel, on a device that is there already; in pairs with the
// start and end of a Node.js that does nothing.

import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { median } from "../statistics.js";
import { stacksOf } from "./rounds.js";

/** @typedef {import("../lanes.js").StackLane} StackLane */

/** Of each round. */
const STARTS = 7;
const LONGEST = 5000;
const node = process.execPath;
const client = fileURLToPath(new URL("../load/first-octet.js", import.meta.url));

/** @type {import("./rounds.js").Metric} */
export const start = {
  name: "start",
  about: `start to first octet, and bare Node.js beside it: median of ${STARTS} in a round`,
  cost: () => 0.7 * STARTS,
  stacksOnly: true,
  rows: [
    { key: "first", name: "start to first octet", unit: "ms", more: false, headline: true },
    { key: "node", name: "start to first octet: bare `node -e 0`", unit: "ms", more: false },
  ],
  async round(bench) {
    /** @type {Map<import("./rounds.js").Lane, { first: number[], node: number[] }>} */
    const samples = new Map();
    for (let n = 0; n < STARTS; n++) {
      for (const lane of stacksOf(bench)) {
        const { topology } = bench;
        const taken = samples.get(lane) ?? { first: [], node: [] };
        samples.set(lane, taken);
        try {
          taken.node.push((await topology.run(topology.client, [node, "-e", "0"])).milliseconds);
          taken.first.push(await firstOctet(bench, /** @type {StackLane} */ (lane)));
        } catch (error) {
          bench.failed(lane, error);
        }
      }
    }
    return new Map(
      [...samples].map(([lane, { first, node }]) => [
        lane,
        { first: median(first), node: median(node) },
      ]),
    );
  },
};

/** @param {import("./rounds.js").Bench} bench @param {StackLane} lane */
async function firstOctet({ topology }, lane) {
  lane.prepare();
  const argv = [node, client, lane.target, `${LONGEST}`];
  const child = topology.start(topology.client, argv);
  try {
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    await lines.next();
    const started = lane.startPrepared();
    const { value } = await lines.next();
    if (value === undefined || value === "never") throw new Error("no octet came");
    return Number(value) - started;
  } finally {
    await topology.end(child);
    await lane.close();
  }
}
