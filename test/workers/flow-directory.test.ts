/** Who has which flow: one owner at a time, whoever asks, also from several threads at once. */

import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { expect, test } from "vitest";
import { parseEndpoint } from "../../src/cli/values.ts";
import { Owner } from "../../src/stack/ports.ts";
import { Endpoint } from "../../src/stack/wire/address.ts";
import { directoryMemory, FlowDirectory } from "../../src/workers/flow-directory.ts";

const SECRET = Uint32Array.of(5, 6);
const TARGETS = [
  parseEndpoint("198.51.100.1:443", 0),
  parseEndpoint("[2001:db8::1]:443", 0),
  new Endpoint(),
];

function views(buckets: number, workers: number): FlowDirectory[] {
  const memory = directoryMemory(buckets);
  return Array.from(
    { length: workers },
    (_, own) => new FlowDirectory(memory, SECRET, own, workers),
  );
}

const steps = fc.array(
  fc.record({
    worker: fc.nat(2),
    port: fc.integer({ min: 1, max: 24 }),
    target: fc.nat(TARGETS.length - 1),
  }),
  { maxLength: 400 },
);

/**
 * Claims what is free and, by its owner, releases what is not, as stacks do: who is named as the owner of a flow that he
 * does not have claims it then.
 */
function run(buckets: number, list: readonly { worker: number; port: number; target: number }[]) {
  const directories = views(buckets, 3);
  const owners = new Map<string, number>();
  for (const { worker, port, target } of list) {
    const client = parseEndpoint(`10.0.0.2:${port}`, 0);
    const server = TARGETS[target]!;
    const flow = `${port} ${target}`;
    const owner = owners.get(flow);
    const name = (number: number): number => (number === worker ? Owner.NOBODY : number);
    if (owner === undefined) {
      let claimant = worker;
      let answer = directories[claimant]!.claim(client, server);
      if (answer !== Owner.OURS) {
        claimant = answer;
        answer = directories[claimant]!.claim(client, server);
      }
      expect(answer).toBe(Owner.OURS);
      owners.set(flow, claimant);
    } else if (worker !== owner) {
      expect(directories[worker]!.claim(client, server)).toBe(owner);
      expect(directories[worker]!.find(client, server)).toBe(name(owner));
    } else {
      directories[owner]!.release(client, server);
      owners.delete(flow);
    }
  }
  return { directories, owners };
}

test.each([64, 1])("a flow has one owner, the same for all who ask, in %i buckets", (buckets) => {
  fc.assert(
    fc.property(steps, (list) => void run(buckets, list)),
    { numRuns: 200 },
  );
});

test("with room it is who asked first, and nothing is unlisted; find takes nothing", () => {
  const [first, second] = views(64, 2) as [FlowDirectory, FlowDirectory];
  const [target] = TARGETS as [Endpoint];
  for (let port = 1; port <= 64; port++) {
    const client = parseEndpoint(`10.0.0.2:${port}`, 0);
    expect(first.find(client, target)).toBe(Owner.NOBODY);
    expect(second.claim(client, target)).toBe(Owner.OURS);
    expect(first.claim(client, target)).toBe(1);
    expect(second.find(client, target)).toBe(Owner.NOBODY);
  }
  expect([first.unlisted, second.unlisted]).toEqual([0, 0]);
});

/** Built by `npm run build`, as the workers that run it are. */
const BUILT = fileURLToPath(new URL("../../dist/", import.meta.url));

/** Claims and releases one flow after another; `held` has, by flow, who holds it: never two. */
const CLAIMANT = `
  const { workerData: { memory, held, own } } = require("node:worker_threads");
  (async () => {
    const { FlowDirectory } = await import(${JSON.stringify(`${BUILT}workers/flow-directory.js`)});
    const { Endpoint } = await import(${JSON.stringify(`${BUILT}stack/index.js`)});
    const directory = new FlowDirectory(memory, Uint32Array.of(5, 6), own, 2);
    const count = new Int32Array(held);
    const client = new Endpoint();
    const target = new Endpoint().set(0, 0, 0xffff, 0x0a000001, 443);
    // Together from here on.
    Atomics.add(count, 0, 1);
    while (Atomics.load(count, 0) < 2);
    let claims = 0;
    for (let i = 0; i < 100_000; i++) {
      const flow = 1 + (i * 7 + own) % 20;
      client.set(0, 0, 0xffff, 0x0a000002, flow);
      if (directory.claim(client, target) !== -1) continue;
      claims++;
      if (Atomics.add(count, flow, 1) !== 0) throw new Error("two owners of flow " + flow);
      Atomics.sub(count, flow, 1);
      directory.release(client, target);
    }
    if (claims === 0) throw new Error("no claim was granted");
  })();
`;

test("of two threads that claim the same flows, in one bucket, only one has each at a time", async () => {
  const memory = directoryMemory(1);
  const held = new SharedArrayBuffer(4 * 32);
  const ends = [0, 1].map(
    (own) =>
      new Promise((resolve, reject) => {
        const worker = new Worker(CLAIMANT, { eval: true, workerData: { memory, held, own } });
        worker.on("error", reject);
        worker.on("exit", resolve);
      }),
  );
  expect(await Promise.all(ends)).toEqual([0, 0]);
  // Nothing is left: all locks, entries and counts are free.
  const words = new Int32Array(memory);
  expect([words[0], words[1]]).toEqual([0, 0]);
  expect(Array.from({ length: 8 }, (_, way) => words[2 + 10 * way + 9])).toEqual(Array(8).fill(0));
});
