/** What serving costs while nothing happens: by the kernel's own counters of every thread. */

import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CLI, fixture, SERVER_IPV4, World } from "../support/world.ts";

const FLOWS = 500;
const SECONDS = 5;
let world: World;

beforeAll(async () => {
  world = new World();
  world.start(world.server, [process.execPath, fixture("web.js"), "8080", SERVER_IPV4]);
  await world.bound(world.server, 8080);
});

afterAll(() => world.close());

/** Voluntary context switches of all threads: how often one went to sleep, that is, had been woken. */
function wakeUps(pid: number): number {
  let sum = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "latin1");
    sum += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)?.[1]);
  }
  return sum;
}

const pause = (seconds: number) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

test(`with ${FLOWS} idle flows nothing ticks: at most one wake-up a second`, async () => {
  const client = `
    let open = 0;
    for (let i = 0; i < ${FLOWS}; i++)
      require("node:net").connect(8080, "${SERVER_IPV4}", () => {
        if (++open === ${FLOWS}) console.log("all open");
      });
  `;
  const argv = [process.execPath, CLI, "exec", "--log-level", "error", "--"];
  const running = world.start(world.client, [...argv, process.execPath, "-e", client]);
  await running.says("all open");
  // Pages free for five seconds go back, V8 tidies up, and ten seconds after each client came the built-in server looks
  // whether it has asked for something: that is not idle yet.
  await pause(11);
  const pid = running.child.pid as number;
  const before = wakeUps(pid);
  await pause(SECONDS);
  expect(wakeUps(pid) - before).toBeLessThanOrEqual(SECONDS);
  expect(running.child.exitCode).toBeNull();
  expect(running.stderr).toBe("");
});
