// @ts-check
// Resident memory of a stack: idle, with 1,000, 4,000 and 10,000 idle flows, and after they have closed. The SOCKS server is
// one that grants everything and connects nowhere, since descriptors of another would run out first.

import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { PORTS } from "../load/port-numbers.js";
import { memoryOf } from "../process-figures.js";
import { inTurn, stacksOf } from "./rounds.js";

const FLOWS = [1000, 4000, 10_000];
const SETTLED = 3000;
/** TIME-WAIT, and what keeps freed memory for a while. */
const CLOSED = 20_000;
const peer = fileURLToPath(new URL("../flows-peer.js", import.meta.url));

/** @type {import("./rounds.js").Metric} */
export const memory = {
  name: "memory",
  about: "resident memory: idle, at 1,000, 4,000 and 10,000 flows, 20 s after they closed",
  cost: () => 48,
  stacksOnly: true,
  rows: [
    { key: "idle", name: "RSS, idle", unit: "MiB", more: false, headline: true },
    ...FLOWS.map((flows) => ({
      key: `rss${flows}`,
      name: `RSS, ${flows.toLocaleString("en")} flows`,
      unit: "MiB",
      more: false,
      headline: true,
    })),
    { key: "closed", name: "RSS, flows closed", unit: "MiB", more: false },
    { key: "flow", name: "own memory of a flow", unit: "octets", more: false },
    { key: "opened", name: "flows opened of 10,000", unit: "", more: true },
  ],
  round: (bench, round) =>
    inTurn(bench, round, stacksOf(bench), [(lane) => flows(bench, lane)], PORTS.granting),
};

/** @param {import("./rounds.js").Bench} bench @param {import("./rounds.js").Lane} lane */
async function flows({ topology }, lane) {
  await wait(SETTLED);
  const idle = memoryOf(lane.pid);
  /** @type {Record<string, number>} */
  const values = { idle: mib(idle.resident) };
  const argv = [process.execPath, peer, "client", lane.target, FLOWS.join(",")];
  const stdio = ["pipe", "pipe", "inherit"];
  const client = /** @type {import("node:child_process").ChildProcessByStdio<
    import("node:stream").Writable, import("node:stream").Readable, null>} */ (
    /** @type {unknown} */ (topology.start(topology.client, argv, { stdio }))
  );
  const lines = createInterface({ input: client.stdout })[Symbol.asyncIterator]();
  try {
    for (const count of FLOWS) {
      const { value, done } = await lines.next();
      if (done) throw new Error("the client of the flows ended early");
      await wait(SETTLED);
      const { resident, own } = memoryOf(lane.pid);
      const opened = Number(value);
      values["opened"] = opened;
      values["flow"] = (own - idle.own) / opened;
      if (opened < count) break;
      values[`rss${count}`] = mib(resident);
      if (count !== FLOWS.at(-1)) client.stdin.write("\n");
    }
    client.stdin.end();
    await Promise.race([once(client, "exit"), wait(10_000)]);
    await wait(CLOSED);
    values["closed"] = mib(memoryOf(lane.pid).resident);
    return values;
  } finally {
    await topology.end(client);
  }
}

/** @param {number} octets */
function mib(octets) {
  return octets / 2 ** 20;
}
