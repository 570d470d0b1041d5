import { expect, test } from "vitest";
import { Timer } from "../../src/stack/timer-wheel.ts";
import { VirtualTime } from "../../src/testing/virtual-time.ts";

test("a timer expires at its deadline or at most a tick later, and the clock stands where asked", () => {
  const time = new VirtualTime();
  const expiries: number[] = [];
  const timer = new Timer({ onTimer: () => expiries.push(time.now()) });
  time.set(timer, 1234);
  time.advance(1233);
  expect(expiries).toEqual([]);
  time.advance(60_000);
  expect(expiries).toHaveLength(1);
  expect(expiries[0]).toBeGreaterThanOrEqual(1234);
  expect(expiries[0]).toBeLessThanOrEqual(1244);
  expect(time.now()).toBe(60_000);
  expect(time.next()).toBe(-1);
});

test("steps stop at each expiry, so that its packets carry its time", () => {
  const time = new VirtualTime();
  const order: string[] = [];
  for (const [name, deadline] of [
    ["b", 200],
    ["a", 100],
    ["c", 300],
  ] as const) {
    time.set(new Timer({ onTimer: () => order.push(`${name} ${time.now()}`) }), deadline);
  }
  expect(time.step(1000)).toBe(true);
  expect(order).toEqual(["a 100"]);
  while (time.step(1000));
  expect(order).toEqual(["a 100", "b 200", "c 300"]);
});

test("a timer that re-arms itself for now is found out instead of hanging", () => {
  const time = new VirtualTime();
  const timer: Timer = new Timer({ onTimer: () => time.set(timer, time.now()) });
  time.set(timer, 10);
  expect(() => time.advance(1000)).toThrow("re-arms itself");
});
