import fc from "fast-check";
import { expect, test } from "vitest";
import { Timer, TimerWheel } from "../../src/stack/timer-wheel.ts";

const DAY = 86_400_000;
const delay = fc.oneof(
  fc.integer({ min: -50, max: 2000 }),
  fc.integer({ min: 0, max: 120_000 }),
  fc.integer({ min: 0, max: 24 * DAY }),
);
const step = fc.oneof(
  fc.record({ verb: fc.constant("set" as const), timer: fc.nat(11), delay }),
  fc.record({ verb: fc.constant("clear" as const), timer: fc.nat(11), delay: fc.constant(0) }),
  fc.record({ verb: fc.constant("advance" as const), timer: fc.constant(0), delay }),
);

/** When a deadline set at `now` is due: at the next advance, or in the tick that ends behind it. */
function dueAt(deadline: number, now: number): number {
  return deadline <= now ? now : Math.ceil(deadline / 10) * 10;
}

test("the wheel equals a sorted list, for any steps and jumps of time", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 300 * DAY }),
      fc.array(step, { minLength: 30, maxLength: 150 }),
      (start, steps) => {
        const wheel = new TimerWheel(start);
        const expired: number[] = [];
        const timers = Array.from(
          { length: 12 },
          (_, kind) => new Timer({ onTimer: (timer) => expired.push(timer.kind) }, kind),
        );
        const model = new Map<number, number>();
        for (const { verb, timer, delay: by } of steps) {
          const now = wheel.now();
          if (verb === "set") {
            wheel.set(timers[timer], now + by);
            model.set(timer, dueAt(now + by, now));
          } else if (verb === "clear") {
            wheel.clear(timers[timer]);
            model.delete(timer);
          } else {
            const to = now + Math.max(by, 0);
            wheel.advance(to);
            const due = [...model].filter(([, at]) => at <= to);
            expect([...expired].sort((a, b) => a - b)).toEqual(
              due.map(([kind]) => kind).sort((a, b) => a - b),
            );
            // In order of time; those already due when set are due at that time.
            const times = expired.map((kind) => model.get(kind) ?? -1);
            expect(times).toEqual([...times].sort((a, b) => a - b));
            for (const [kind] of due) model.delete(kind);
            expired.length = 0;
          }
          const next = wheel.next();
          if (model.size === 0) expect(next).toBe(-1);
          else expect(next).toBeLessThanOrEqual(Math.min(...model.values()));
          for (const [kind, t] of timers.entries()) {
            expect(t.deadline >= 0).toBe(model.has(kind));
          }
        }
      },
    ),
    { numRuns: 300 },
  );
});

test("a timer set before the worker's start is set, and due", () => {
  const wheel = new TimerWheel(3);
  let expired = 0;
  const timer = new Timer({ onTimer: () => expired++ });
  wheel.set(timer, -1);
  expect(timer.deadline).toBe(0);
  wheel.advance(3);
  expect(expired).toBe(1);
  expect(timer.deadline).toBe(-1);
});

test("following next() meets every deadline in time and does not spin", () => {
  fc.assert(
    fc.property(fc.array(delay, { minLength: 1, maxLength: 40 }), (delays) => {
      const wheel = new TimerWheel();
      const late: number[] = [];
      for (const each of delays) {
        const due = Math.max(0, each);
        const timer = new Timer({ onTimer: () => late.push(wheel.now() - due) });
        // Pushed back once, as a retransmission timer is.
        wheel.set(timer, each >> 1);
        wheel.set(timer, each);
      }
      let wakeUps = 0;
      for (let next = wheel.next(); next >= 0; next = wheel.next()) {
        wheel.advance(next);
        wakeUps++;
      }
      expect(late).toHaveLength(delays.length);
      expect(Math.min(...late)).toBeGreaterThanOrEqual(0);
      expect(Math.max(...late)).toBeLessThanOrEqual(10);
      // One per level on the way of each, twice for being moved.
      expect(wakeUps).toBeLessThanOrEqual(12 * delays.length + 1);
    }),
  );
});
