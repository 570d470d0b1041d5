import fc from "fast-check";
import { expect, test } from "vitest";
import { Cubic, initialWindow, NewReno } from "../../src/stack/tcp/congestion.ts";
import { IsnGenerator } from "../../src/stack/tcp/isn.ts";
import { NONE, Ranges } from "../../src/stack/tcp/ranges.ts";
import { MAX_RTO, MIN_RTO, RttEstimator } from "../../src/stack/tcp/rtt.ts";
import {
  seqAdd,
  seqAfter,
  seqBefore,
  seqDiff,
  seqInWindow,
  seqMax,
  seqMin,
} from "../../src/stack/tcp/seq.ts";
import { Event, State, transition } from "../../src/stack/tcp/state.ts";
import type { Endpoint } from "../../src/stack/wire/address.ts";
import { parseAddress } from "../../src/stack/wire/address.ts";

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const near = fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 31 - 1 });

test("sequence numbers compare by distance, across the wrap (RFC 9293 §3.4)", () => {
  fc.assert(
    fc.property(int32, near, (a, distance) => {
      const b = seqAdd(a, distance);
      expect(seqDiff(b, a)).toBe(distance);
      expect(seqDiff(a, b)).toBe(-distance | 0);
      expect(seqAfter(b, a)).toBe(distance > 0);
      expect(seqBefore(b, a)).toBe(distance < 0);
      expect(seqMax(a, b)).toBe(distance >= 0 ? b : a);
      expect(seqMin(a, b)).toBe(distance >= 0 ? a : b);
    }),
  );
});

test("a window holds its first octet and not the one behind its last", () => {
  fc.assert(
    fc.property(int32, fc.integer({ min: 1, max: 2 ** 30 }), (start, size) => {
      expect(seqInWindow(start, start, size)).toBe(true);
      expect(seqInWindow(seqAdd(start, size - 1), start, size)).toBe(true);
      expect(seqInWindow(seqAdd(start, size), start, size)).toBe(false);
      expect(seqInWindow(seqAdd(start, -1), start, size)).toBe(false);
      expect(seqInWindow(start, start, 0)).toBe(false);
    }),
  );
});

test("the transition table has the edges of figure 5 and no other (RFC 9293 §3.3.2, figure 5)", () => {
  const edges = new Set<string>();
  for (const [from, state] of Object.entries(State)) {
    for (const [name, event] of Object.entries(Event)) {
      const next = transition(state, event);
      if (next < 0) continue;
      const to = Object.entries(State).find(([, value]) => value === next)?.[0];
      edges.add(`${from} ${name} ${to}`);
    }
  }
  const aborts = Object.keys(State)
    .filter((state) => state !== "CLOSED")
    .map((state) => `${state} ABORT CLOSED`);
  expect([...edges].sort()).toEqual(
    [
      "PENDING ACCEPT SYN_RECEIVED",
      "SYN_RECEIVED ACK_OF_SYN ESTABLISHED",
      "ESTABLISHED CLOSE FIN_WAIT_1",
      "ESTABLISHED FIN CLOSE_WAIT",
      "FIN_WAIT_1 ACK_OF_FIN FIN_WAIT_2",
      "FIN_WAIT_1 FIN CLOSING",
      "FIN_WAIT_2 FIN TIME_WAIT",
      "CLOSE_WAIT CLOSE LAST_ACK",
      "CLOSING ACK_OF_FIN TIME_WAIT",
      "LAST_ACK ACK_OF_FIN CLOSED",
      "TIME_WAIT TIMEOUT CLOSED",
      ...aborts,
    ].sort(),
  );
});

test("the first measurement sets SRTT and RTTVAR, later ones smooth (RFC 6298 §2.1, §2.2, §2.3)", () => {
  const rtt = new RttEstimator();
  expect(rtt.rto).toBe(1000);
  rtt.sample(800);
  expect(rtt.srtt).toBe(800);
  expect(rtt.rto).toBe(800 + 4 * 400);
  for (let n = 0; n < 200; n++) rtt.sample(400);
  expect(rtt.srtt).toBe(400);
  // The floor is above SRTT: a delayed ACK on a steady path is no loss.
  expect(rtt.rto).toBeLessThan(615);
  expect(rtt.rto).toBeGreaterThanOrEqual(600);
});

test("the least round trip is that of the last minutes (RFC 8985 §6.2 step 1)", () => {
  const rtt = new RttEstimator();
  expect(rtt.min).toBe(0);
  rtt.observe(40, 1000);
  rtt.observe(50, 2000);
  expect(rtt.min).toBe(40);
  rtt.observe(30, 3000);
  expect(rtt.min).toBe(30);
  // The period has changed, and the one before still counts.
  rtt.observe(60, 160_000);
  expect(rtt.min).toBe(30);
  for (let now = 161_000; now < 600_000; now += 1000) rtt.observe(60, now);
  expect(rtt.min).toBe(60);
});

test("the RTO stays between 200 ms and a minute, whatever is measured (RFC 6298 §2.4, §2.5)", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 600_000 }), { minLength: 1 }), (samples) => {
      const rtt = new RttEstimator();
      for (const sample of samples) {
        rtt.sample(sample);
        expect(rtt.rto).toBeGreaterThanOrEqual(MIN_RTO);
        expect(rtt.rto).toBeLessThanOrEqual(MAX_RTO);
        expect(rtt.srtt).toBeGreaterThanOrEqual(0);
        expect(rtt.srtt).toBeLessThanOrEqual(Math.max(...samples));
      }
    }),
  );
});

test("the initial window is ten segments, at most 14,600 octets and at least two segments (RFC 6928 §2)", () => {
  expect(initialWindow(1000)).toBe(10_000);
  expect(initialWindow(1460)).toBe(14_600);
  expect(initialWindow(9000)).toBe(18_000);
});

test("NewReno doubles in slow start, adds a segment per window beyond, halves on loss (RFC 5681 §3.1, RFC 3465 §2.2)", () => {
  const reno = new NewReno(1000);
  reno.acked(10_000, 1000);
  expect(reno.cwnd).toBe(20_000);
  reno.lost(20_000, 1000);
  expect([reno.cwnd, reno.ssthresh]).toEqual([10_000, 10_000]);
  for (let n = 0; n < 10; n++) reno.acked(1000, 1000);
  expect(reno.cwnd).toBe(11_000);
  reno.timedOut(11_000, 1000, true);
  expect([reno.cwnd, reno.ssthresh]).toEqual([1000, 5500]);
  reno.timedOut(1000, 1000, false);
  expect(reno.ssthresh).toBe(5500);
  reno.lost(1000, 1000);
  expect(reno.ssthresh).toBe(2000);
});

test("CUBIC multiplies by 0.7 and is back at its old window after K seconds (RFC 9438 §4.2, §4.4, §4.5, §4.6, §5)", () => {
  const mss = 1000;
  const cubic = new Cubic(mss);
  cubic.acked(990_000, mss, 100, 0);
  expect(cubic.cwnd).toBe(1_000_000);
  cubic.lost(1_000_000, mss);
  expect(cubic.cwnd).toBe(700_000);
  const k = Math.cbrt((1000 * 0.3) / 0.4) * 1000;
  let now = 0;
  for (; now < k; now += 100) {
    const before = cubic.cwnd;
    cubic.acked(cubic.cwnd, mss, 100, now);
    expect(cubic.cwnd).toBeGreaterThanOrEqual(before);
    expect(cubic.cwnd).toBeLessThanOrEqual(1_010_000);
  }
  expect(cubic.cwnd).toBeGreaterThan(980_000);
  for (; now < 3 * k; now += 100) cubic.acked(cubic.cwnd, mss, 100, now);
  expect(cubic.cwnd).toBeGreaterThan(1_200_000);
});

test("after a time-out CUBIC's plateau is where congestion avoidance begins (RFC 9438 §4.8)", () => {
  const mss = 1000;
  const cubic = new Cubic(mss);
  cubic.acked(990_000, mss, 100, 0);
  cubic.timedOut(1_000_000, mss, true);
  cubic.acked(699_000, mss, 100, 1000);
  expect(cubic.cwnd).toBe(700_000);
  // K = 0: C · t³ from here on, while the old plateau lay 300 segments above.
  for (let now = 1100; now <= 4000; now += 100) cubic.acked(cubic.cwnd, mss, 100, now);
  expect(cubic.cwnd).toBeGreaterThan(705_000);
  expect(cubic.cwnd).toBeLessThan(730_000);
});

test("time in which CUBIC's window held nothing back does not count (RFC 9438 §5.8)", () => {
  const mss = 1000;
  const grown = [0, 60_000].map((pause) => {
    const cubic = new Cubic(mss);
    cubic.acked(990_000, mss, 100, 0);
    cubic.lost(1_000_000, mss);
    for (let now = 0; now <= 2000; now += 100) cubic.acked(cubic.cwnd, mss, 100, now);
    for (let now = 2100; now <= 2500; now += 100) cubic.acked(cubic.cwnd, mss, 100, now + pause);
    return cubic.cwnd;
  });
  expect(grown[1]! / grown[0]!).toBeCloseTo(1, 1);
});

test.each([
  ["CUBIC", new Cubic(1000)],
  ["NewReno", new NewReno(1000)],
])(
  "%s takes back a reduction that was not called for (RFC 4015 §3.2, RFC 9438 §4.9)",
  (_, control) => {
    control.acked(90_000, 1000, 100, 0);
    control.lost(100_000, 1000);
    expect(control.cwnd).toBeLessThan(100_000);
    control.undo();
    expect(control.cwnd).toBe(100_000);
    const { ssthresh } = control;
    control.timedOut(100_000, 1000, true);
    control.timedOut(1000, 1000, false);
    expect(control.cwnd).toBe(1000);
    control.undo();
    expect([control.cwnd, control.ssthresh]).toEqual([100_000, ssthresh]);
  },
);

test("with a reduction CUBIC takes its plateau back (RFC 9438 §4.9)", () => {
  const cubic = new Cubic(1000);
  cubic.acked(90_000, 1000, 100, 0);
  cubic.lost(100_000, 1000);
  cubic.lost(70_000, 1000);
  cubic.undo();
  expect(cubic.cwnd).toBe(70_000);
  for (let now = 0; now < 2000; now += 100) cubic.acked(cubic.cwnd, 1000, 100, now);
  // Half of K has passed: the concave part of the curve is nearly over.
  expect(cubic.cwnd).toBeGreaterThan(90_000);
  expect(cubic.cwnd).toBeLessThan(100_000);
});

test("a small CUBIC window is not slower than NewReno (RFC 9438 §4.3)", () => {
  const cubic = new Cubic(1000);
  cubic.acked(10_000, 1000, 10, 0);
  cubic.lost(20_000, 1000);
  for (let round = 0; round < 40; round++) cubic.acked(cubic.cwnd, 1000, 10, 10 * round);
  expect(cubic.cwnd).toBeGreaterThan(30_000);
});

test("ISNs advance by 250 per ms and differ between flows and keys (RFC 6528 §3, RFC 9293 §3.4.1 MUST-8, MUST-9, SHLD-1)", () => {
  const local = parseAddress("192.0.2.1") as Endpoint;
  const remote = parseAddress("10.0.0.2") as Endpoint;
  const isn = new IsnGenerator(Uint32Array.of(1, 2, 3, 4));
  const other = new IsnGenerator(Uint32Array.of(1, 2, 3, 5));
  const at0 = isn.isn(local, remote, 0);
  expect(seqDiff(isn.isn(local, remote, 1000), at0)).toBe(250_000);
  expect(other.isn(local, remote, 0)).not.toBe(at0);
  remote.port = 1;
  expect(isn.isn(local, remote, 0)).not.toBe(at0);
  const neighbour = parseAddress("10.0.0.3") as Endpoint;
  expect(isn.isn(local, neighbour, 0)).not.toBe(at0);
  expect(isn.isn(parseAddress("192.0.2.2") as Endpoint, neighbour, 0)).not.toBe(
    isn.isn(local, neighbour, 0),
  );
});

test("the pool of ranges grows to its bound, then refuses, and reuses what is given back", () => {
  const ranges = new Ranges(1000);
  const taken: number[] = [];
  for (let n = 0; n < 1000; n++) taken.push(ranges.take(n, 2 * n, 3 * n, 4 * n));
  expect(new Set(taken).size).toBe(1000);
  expect(ranges.take(0, 0, 0, 0)).toBe(NONE);
  for (const range of taken) {
    const n = ranges.seq[range] as number;
    expect([ranges.start[range], ranges.end[range], ranges.page[range]]).toEqual([
      2 * n,
      3 * n,
      4 * n,
    ]);
  }
  ranges.give(taken[7] as number);
  expect(ranges.size).toBe(999);
  expect(ranges.take(1, 2, 3, 4)).toBe(taken[7]);
});
