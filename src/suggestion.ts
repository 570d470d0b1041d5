/** "Did you mean": the word of a list that was probably meant by one that is not in it. */

/** The nearest of `words`, if at most a third of its letters differ: sooner one that begins so. Null: none is near. */
export function suggestion(written: string, words: Iterable<string>): string | null {
  let best: string | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (const word of words) {
    const begun = word.startsWith(written.toLowerCase());
    const distance = editDistance(written.toLowerCase(), word) - (begun ? 0.5 : 0);
    if (distance < least && distance <= Math.max(1, Math.floor(word.length / 3))) {
      least = distance;
      best = word;
    }
  }
  return best;
}

/** Letters to insert, leave out, replace, or swap with their neighbour (Damerau, optimal string alignment). */
function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > b.length) return Number.POSITIVE_INFINITY;
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, before[j - 2]! + 1);
      }
      row.push(least);
    }
    before = previous;
    previous = row;
  }
  return previous[b.length] as number;
}
