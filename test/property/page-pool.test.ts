import fc from "fast-check";
import { expect, test } from "vitest";
import { BIG_PAGE, PagePool, SMALL_PAGE } from "../../src/stack/page-pool.ts";
import { TimerWheel } from "../../src/stack/timer-wheel.ts";

const SLABS = 12;
const step = fc.oneof(
  fc.constantFrom("small", "small", "big").map((verb) => ({ verb, n: 0 })),
  fc.nat().map((n) => ({ verb: "free", n })),
  fc.integer({ min: 0, max: 6000 }).map((n) => ({ verb: "wait", n })),
);

test("pages never overlap, nothing in use is handed back, and all of it is in the end", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 100, maxLength: 300 }), (steps) => {
      const wheel = new TimerWheel();
      const inUse = new Map<number, number>();
      // Small pages that may have memory behind them.
      const touched = new Set<number>();
      const memory = {
        bytes: new Uint8Array(0),
        pagesStart: BIG_PAGE,
        pagesEnd: (SLABS + 1) * BIG_PAGE,
        released(start: number, end: number) {
          for (const [at, size] of inUse) expect(at >= end || at + size <= start).toBe(true);
          for (let at = start; at < end; at += SMALL_PAGE) touched.delete(at);
        },
      };
      const pool = new PagePool(memory, wheel);
      for (const { verb, n } of steps) {
        if (verb === "wait") {
          wheel.advance(wheel.now() + n);
        } else if (verb === "free") {
          const at = [...inUse.keys()][n % Math.max(inUse.size, 1)];
          if (at !== undefined) {
            inUse.delete(at);
            pool.free(at);
          }
        } else {
          const size = verb === "big" ? BIG_PAGE : SMALL_PAGE;
          const at = verb === "big" ? pool.allocate64K() : pool.allocate4K();
          if (at < 0) continue;
          expect(at % size).toBe(0);
          expect(at >= memory.pagesStart && at + size <= memory.pagesEnd).toBe(true);
          for (const [other, length] of inUse) {
            expect(at >= other + length || at + size <= other).toBe(true);
          }
          inUse.set(at, size);
          for (let page = at; page < at + size; page += SMALL_PAGE) touched.add(page);
        }
        expect(pool.inUse).toBe([...inUse.values()].reduce((sum, size) => sum + size, 0));
      }
      for (const at of inUse.keys()) pool.free(at);
      inUse.clear();
      wheel.advance(wheel.now() + 20_000);
      expect(touched.size).toBe(0);
      expect(pool.held).toBe(0);
      expect(wheel.next()).toBe(-1);
    }),
    { numRuns: 100 },
  );
});
