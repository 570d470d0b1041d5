import fc from "fast-check";
import { expect, test } from "vitest";
import { NO_OFFLOAD, Pair, type PairOptions, pattern } from "../../src/testing/index.ts";

// Worse links end connections rightly: ten losses in a row are two minutes of back-off, or all of TIME-WAIT.
const link = fc.record({
  loss: fc.constantFrom(0, 0, 0.01, 0.05, 0.1),
  duplicate: fc.constantFrom(0, 0, 0.02, 0.2),
  corrupt: fc.constantFrom(0, 0, 0.02),
  reorder: fc.constantFrom(0, 0, 0.05, 0.25),
  delay: fc.constantFrom(0, 1, 20, 100),
  jitter: fc.constantFrom(0, 0, 3, 30),
});

const octets = fc.oneof(fc.nat(3000), fc.nat(60_000));

const scenario = fc.record({
  seed: fc.nat(),
  link,
  v6: fc.boolean(),
  mtu: fc.constantFrom(1280, 1500, 9000),
  offload: fc.constantFrom(undefined, NO_OFFLOAD),
  clientOctets: octets,
  upstreamOctets: octets,
  upstreamRate: fc.constantFrom(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 50, 1000),
  dialTime: fc.constantFrom(0, 5, 2500),
  stack: fc.record({ congestion: fc.constantFrom("cubic" as const, "newreno" as const) }),
  client: fc.record({
    wscale: fc.constantFrom(null, 0, 7),
    sack: fc.boolean(),
    dsack: fc.boolean(),
    timestamps: fc.boolean(),
    buffer: fc.constantFrom(4000, 30_000, 262_144),
    readRate: fc.constantFrom(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 30, 1000),
    closesLast: fc.boolean(),
    gsoSegments: fc.constantFrom(1, 1, 10),
  }),
});

function run({
  offload,
  ...rest
}: Omit<PairOptions, "offload"> & { offload: PairOptions["offload"] | undefined }): void {
  const pair = new Pair(offload === undefined ? rest : { ...rest, offload });
  pair.drive();
  const { client, upstream } = pair;
  expect(client.finished).toBe(true);
  expect(Buffer.compare(client.received, pattern(1, 0, rest.upstreamOctets ?? 0))).toBe(0);
  expect(upstream.received).toBe(rest.clientOctets);
  expect(upstream.finReceived).toBe(true);
  expect(upstream.closed).toBe("closed");
  expect(client.shrunk).toBe(0);
  // drive() ends only when no timer is set; nothing else may remain either.
  expect(pair.driver.stack.pages.inUse).toBe(0);
  expect(pair.driver.stack.ranges).toBe(0);
}

/** Links to try; more of them by PAIR_RUNS=5000. */
const RUNS = Number(process.env["PAIR_RUNS"] ?? 300);

test(
  "whatever the link does, both streams arrive exactly, and no timer and no page remains",
  () => {
    fc.assert(fc.property(scenario, run), { numRuns: RUNS });
  },
  60_000 + 200 * RUNS,
);

test("over a clean link a megabyte each way arrives exactly", () => {
  run({ seed: 1, clientOctets: 1 << 20, upstreamOctets: 1 << 20, offload: undefined });
});

test("a copy of the SYN that comes when all is over on the wire opens nothing for long", () => {
  run({
    seed: 21,
    link: { duplicate: 0.2, reorder: 0.25, delay: 0 },
    mtu: 1280,
    clientOctets: 1,
    upstreamOctets: 0,
    upstreamRate: 50,
    dialTime: 0,
    offload: undefined,
    client: { wscale: null, sack: false, timestamps: false, buffer: 4000 },
  });
});

test("the same seed gives the same run", () => {
  const options = {
    seed: 7,
    link: { loss: 0.1, reorder: 0.2, jitter: 5 },
    clientOctets: 50_000,
    upstreamOctets: 50_000,
  };
  const times = [1, 2].map(() => {
    const pair = new Pair(options);
    pair.drive();
    return pair.driver.time.now();
  });
  expect(times[0]).toBe(times[1]);
});

/** Megabits per second of a download over a link of 50 ms, and its time-outs. */
function download(link: PairOptions["link"], seed: number): { rate: number; timeouts: number } {
  const upstreamOctets = 1_500_000;
  const pair = new Pair({
    seed,
    link: { delay: 25, ...link },
    upstreamOctets,
    client: { buffer: 4 << 20, timestamps: seed % 2 === 0 },
  });
  pair.drive();
  expect(pair.client.received.length).toBe(upstreamOctets);
  const { tcpTimeouts } = pair.driver.stack.stats;
  return { rate: (8 * upstreamOctets) / 1000 / pair.client.finishedAt, timeouts: tcpTimeouts };
}

test("at 1 % loss and 50 ms no loss waits for the RTO, and the window is what the loss allows (RFC 9438 §4.3)", () => {
  const runs = [1, 2, 3, 4, 5].map((seed) => download({ loss: 0.01 }, seed));
  expect(runs.map(({ timeouts }) => timeouts)).toEqual([0, 0, 0, 0, 0]);
  // 1.22 / √p segments per round trip are 2.85 Mbit/s (Linux between namespaces: cubic 2.8).
  expect(runs.map(({ rate }) => rate).sort((a, b) => a - b)[2]).toBeGreaterThan(2.4);
});

test("reordering alone is not taken for loss for long (RFC 8985 §6.2 step 4)", () => {
  for (const seed of [1, 2]) {
    const { rate, timeouts } = download({ reorder: 0.25, jitter: 3 }, seed);
    expect(timeouts).toBe(0);
    expect(rate).toBeGreaterThan(15);
  }
});
