// @ts-check
// What a metric is, and how a round of it goes over the lanes.

/**
 * @typedef {import("../lanes.js").Lane} Lane
 *
 * @typedef {object} Row
 * @property {string} key
 * @property {string} name
 * @property {string} unit
 * @property {boolean} more whether more is better
 * @property {boolean} [headline] it is in the chart
 *
 * @typedef {object} Bench
 * @property {import("../topology.js").Topology} topology
 * @property {Lane[]} lanes
 * @property {number} seconds of a TCP transfer
 * @property {(lane: Lane, error: unknown) => void} failed
 *
 * @typedef {Record<string, number>} Values by row's key
 * @typedef {Map<Lane, Values>} Round
 *
 * @typedef {object} Metric
 * @property {string} name
 * @property {string} about
 * @property {(options: { seconds: number }) => number} cost seconds that a lane takes in a round, about
 * @property {boolean} [stacksOnly] it says something of stacks only
 * @property {boolean} [extra] it runs only where it is named
 * @property {boolean} [atOnce] a round takes no longer with more stacks
 * @property {Row[]} rows
 * @property {(bench: Bench, round: number) => Promise<Round>} round
 */

/**
 * Opens all lanes, takes one step after another on each of them in turn, closes them. So what is compared was measured within
 * seconds. A lane that fails is out until the next round. Each round begins with another lane: none always comes first.
 *
 * @param {Bench} bench
 * @param {number} round
 * @param {Lane[]} lanes
 * @param {ReadonlyArray<(lane: Lane) => Promise<Values | void>>} steps
 * @param {number} [port] of the SOCKS server
 * @returns {Promise<Round>}
 */
export async function inTurn(bench, round, lanes, steps, port) {
  /** @type {Round} */
  const results = new Map();
  const first = round % lanes.length;
  const order = new Set([...lanes.slice(first), ...lanes.slice(0, first)]);
  const open = async (/** @type {Lane} */ lane) => {
    await lane.open(port);
    results.set(lane, {});
  };
  try {
    for (const step of [open, ...steps]) {
      for (const lane of order) {
        try {
          const values = await step(lane);
          if (values) Object.assign(results.get(lane) ?? {}, values);
        } catch (error) {
          bench.failed(lane, error);
          order.delete(lane);
          await lane.close();
        }
      }
    }
  } finally {
    for (const lane of order) await lane.close();
  }
  return results;
}

/** @param {Bench} bench */
export function stacksOf(bench) {
  return bench.lanes.filter(({ isStack }) => isStack);
}

/**
 * About how many seconds all rounds of a metric take.
 *
 * @param {Metric} metric
 * @param {{ rounds: number, seconds: number }} options
 * @param {number} lanes
 * @param {number} stacks of them
 */
export function duration(metric, options, lanes, stacks) {
  const measured = metric.atOnce ? 1 : metric.stacksOnly ? stacks : lanes;
  return metric.cost(options) * measured * options.rounds;
}
