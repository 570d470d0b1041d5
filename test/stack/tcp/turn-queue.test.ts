import { expect, test } from "vitest";
import { TurnQueue } from "../../../src/stack/tcp/turn-queue.ts";

test("a queue of turns grows, and gives back in order what it was given", () => {
  const queue = new TurnQueue();
  const naive: number[] = [];
  for (let n = 0; n < 10_000; n++) {
    queue.push(n);
    naive.push(n);
    if (n % 3 === 0 && n < 5000) {
      expect(queue.first).toBe(naive.shift());
      queue.shift();
    }
  }
  for (const n of naive) {
    expect(queue.first).toBe(n);
    queue.shift();
  }
  expect(queue.first).toBe(-1);
});
