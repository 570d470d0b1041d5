import { expect, test } from "vitest";
import { Backoff } from "../../src/relay/backoff.ts";

test("waiting starts at 1 s, doubles up to 60 s, and starts over after success", () => {
  const backoff = new Backoff();
  const waits: number[] = [];
  for (let i = 0; i < 8; i++) {
    backoff.fail(1000);
    waits.push(backoff.retryAt - 1000);
  }
  expect(waits).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  backoff.succeed();
  expect(backoff.retryAt).toBe(0);
  backoff.fail(5000);
  expect(backoff.retryAt).toBe(6000);
});
