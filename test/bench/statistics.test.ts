/** What the bench makes of its rounds. */

import { expect, test } from "vitest";
import { median, pairedRatio, quantile, spread } from "../../bench/statistics.js";

test("a median is the middle, or half-way between the two in the middle", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([])).toBeNaN();
});

test("a median does not sort numbers as texts, nor in place", () => {
  const values = [10, 9, 100];
  expect(median(values)).toBe(10);
  expect(values).toEqual([10, 9, 100]);
});

test("a quantile is a value that was measured", () => {
  const sorted = Array.from({ length: 100 }, (_, i) => i + 1);
  expect(quantile(sorted, 0.5)).toBe(51);
  expect(quantile(sorted, 0.99)).toBe(100);
  expect(quantile([7], 0.99)).toBe(7);
  expect(quantile([], 0.5)).toBeNaN();
});

test("rounds that failed are left out of the spread", () => {
  expect(spread([3, null, 1, 2])).toEqual({ median: 2, min: 1, max: 3 });
  expect(spread([null, Number.NaN])).toBeNull();
  expect(spread([])).toBeNull();
});

test("a ratio is taken round by round, not of the medians", () => {
  // A slow minute halves both: the ratio does not see it.
  expect(pairedRatio([8, 4, 8], [10, 5, 10])).toEqual({ median: 0.8, min: 0.8, max: 0.8 });
  expect(pairedRatio([1, 20, 30], [10, 10, 10])).toEqual({ median: 2, min: 0.1, max: 3 });
});

test("a round that one of the two lacks has no ratio", () => {
  expect(pairedRatio([1, null, 3, 4], [2, 2, null])).toEqual({ median: 0.5, min: 0.5, max: 0.5 });
  expect(pairedRatio([1], [0])).toBeNull();
});
