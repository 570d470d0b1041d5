import { expect, test } from "vitest";
import { Timer, TimerWheel } from "../../src/stack/timer-wheel.ts";

/** A wheel whose timers write down when they expire. */
function newWheel(start = 0) {
  const wheel = new TimerWheel(start);
  const log: string[] = [];
  const timer = (name: string, then?: () => void) =>
    new Timer({
      onTimer() {
        log.push(`${name}@${wheel.now()}`);
        then?.();
      },
    });
  return { wheel, log, timer };
}

/** Advances as a loop would: to every time the wheel asks for, up to `end`. Returns the wake-ups. */
function run(wheel: TimerWheel, end: number): number {
  let wakeUps = 0;
  for (let next = wheel.next(); next >= 0 && next <= end; next = wheel.next()) {
    wheel.advance(next);
    if (++wakeUps > 10_000) throw new Error("the wheel spins");
  }
  wheel.advance(end);
  return wakeUps;
}

test("a timer expires at its deadline or less than a tick after it, never before", () => {
  const { wheel, log, timer } = newWheel();
  wheel.set(timer("a"), 11);
  wheel.set(timer("b"), 20);
  wheel.advance(10);
  wheel.advance(19);
  expect(log).toEqual([]);
  expect(wheel.next()).toBe(20);
  wheel.advance(20);
  expect(log).toEqual(["a@20", "b@20"]);
  expect(wheel.next()).toBe(-1);
});

test("a deadline not later than now expires at the next advance, even at the same time", () => {
  const { wheel, log, timer } = newWheel(1005);
  wheel.set(timer("past"), 3);
  wheel.set(timer("now"), 1005);
  expect(wheel.next()).toBe(1005);
  wheel.advance(1005);
  expect(log).toEqual(["past@1005", "now@1005"]);
});

test("a timer moved later is not looked at twice, and one moved earlier expires earlier", () => {
  const { wheel, log, timer } = newWheel();
  const moved = timer("moved");
  wheel.set(moved, 100);
  for (let deadline = 101; deadline < 1000; deadline++) wheel.set(moved, deadline);
  const earlier = timer("earlier");
  wheel.set(earlier, 5000);
  wheel.set(earlier, 300);
  expect(run(wheel, 2000)).toBeLessThan(10);
  expect(log).toEqual(["earlier@300", "moved@1000"]);
});

test("a cleared timer does not expire; clearing is idempotent", () => {
  const { wheel, log, timer } = newWheel();
  const cleared = timer("cleared");
  wheel.set(cleared, 50);
  wheel.clear(cleared);
  wheel.clear(cleared);
  expect(cleared.deadline).toBe(-1);
  expect(wheel.next()).toBe(-1);
  wheel.advance(100);
  expect(log).toEqual([]);
});

test("24 days ahead is met exactly, with few wake-ups on the way", () => {
  const { wheel, log, timer } = newWheel();
  const day = 86_400_000;
  wheel.set(timer("far"), 24 * day);
  expect(run(wheel, 25 * day)).toBeLessThan(10);
  expect(log).toEqual([`far@${24 * day}`]);
});

test("a wheel that has run for 500 days still works", () => {
  const start = 500 * 86_400_000;
  const { wheel, log, timer } = newWheel(start);
  wheel.set(timer("a"), start + 15);
  wheel.set(timer("b"), start + 100_000);
  run(wheel, start + 200_000);
  expect(log).toEqual([`a@${start + 20}`, `b@${start + 100_000}`]);
});

test("one long jump expires timers of all levels in the order of their deadlines", () => {
  const { wheel, timer } = newWheel();
  const order: number[] = [];
  for (const deadline of [3_000_000, 700, 50, 690, 41_000, 2_700_000, 10]) {
    wheel.set(
      timer("x", () => order.push(deadline)),
      deadline,
    );
  }
  wheel.advance(600);
  wheel.advance(4_000_000);
  expect(order).toEqual([10, 50, 690, 700, 41_000, 2_700_000, 3_000_000]);
});

test("a handler may clear and move timers that are due in the same slot", () => {
  const { wheel, log, timer } = newWheel();
  const cleared = timer("cleared");
  const moved = timer("moved");
  wheel.set(
    timer("first", () => {
      wheel.clear(cleared);
      wheel.set(moved, 500);
    }),
    10,
  );
  wheel.set(cleared, 10);
  wheel.set(moved, 10);
  wheel.set(timer("last"), 10);
  wheel.advance(10);
  expect(log).toEqual(["first@10", "last@10"]);
  wheel.advance(500);
  expect(log.at(-1)).toBe("moved@500");
});

test("a handler that sets its timer to now is called once per advance", () => {
  const { wheel, log, timer } = newWheel();
  const again: Timer = timer("again", () => wheel.set(again, wheel.now()));
  wheel.set(again, 10);
  wheel.advance(1000);
  expect(log).toEqual(["again@1000"]);
  wheel.advance(1000);
  expect(log).toHaveLength(2);
});

test("a handler that throws loses no other timer", () => {
  const { wheel, log, timer } = newWheel();
  wheel.set(
    timer("bad", () => {
      throw new Error("handler");
    }),
    10,
  );
  wheel.set(timer("good"), 10);
  expect(() => wheel.advance(10)).toThrow("handler");
  wheel.advance(10);
  expect(log).toEqual(["bad@10", "good@10"]);
});

test("a timer that was due and then moved expires at its new tick", () => {
  const expired: number[] = [];
  const wheel = new TimerWheel(0);
  const timer = new Timer({ onTimer: () => expired.push(wheel.now()) });
  wheel.set(timer, 0);
  wheel.set(timer, 11);
  wheel.advance(11);
  expect(expired).toEqual([]);
  wheel.advance(20);
  expect(expired).toEqual([20]);
});
