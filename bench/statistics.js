// @ts-check
// What is said of a handful of rounds: median, smallest and largest, and ratios taken pair by pair, since the machine of one
// minute is not that of the next.

/** @typedef {{ median: number, min: number, max: number }} Spread */

/**
 * The middle of some values, or half-way between the two in the middle. NaN of none.
 *
 * @param {readonly number[]} values
 */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  if (sorted.length % 2 === 1) return /** @type {number} */ (sorted[half]);
  return (Number(sorted[half - 1]) + Number(sorted[half])) / 2;
}

/**
 * The value that `share` (0 to 1) of the values do not exceed. `sorted` is in ascending order; NaN of none.
 *
 * @param {ArrayLike<number>} sorted
 * @param {number} share
 */
export function quantile(sorted, share) {
  if (sorted.length === 0) return Number.NaN;
  const at = Math.min(sorted.length - 1, Math.floor(sorted.length * share));
  return /** @type {number} */ (sorted[at]);
}

/**
 * Median, smallest and largest of the rounds that have a value; null if none has.
 *
 * @param {ReadonlyArray<number | null>} rounds
 * @returns {Spread | null}
 */
export function spread(rounds) {
  const values = rounds.filter((value) => value !== null && Number.isFinite(value));
  const numbers = /** @type {number[]} */ (values);
  if (numbers.length === 0) return null;
  return { median: median(numbers), min: Math.min(...numbers), max: Math.max(...numbers) };
}

/**
 * Ratios round by round: the first round of one by the first of the other, and so on. Rounds that lack either, or have
 * nothing to divide by, are left out; null if that leaves none.
 *
 * @param {ReadonlyArray<number | null>} ours
 * @param {ReadonlyArray<number | null>} theirs
 * @returns {Spread | null}
 */
export function pairedRatio(ours, theirs) {
  return spread(
    ours.map((value, round) => {
      const other = theirs[round];
      return value === null || other === null || other === undefined || other === 0
        ? null
        : value / other;
    }),
  );
}
