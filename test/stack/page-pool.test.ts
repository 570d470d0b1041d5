import { expect, test } from "vitest";
import { BIG_PAGE, PagePool, SMALL_PAGE } from "../../src/stack/page-pool.ts";
import { TimerWheel } from "../../src/stack/timer-wheel.ts";

const START = 3 * BIG_PAGE;

function newPool(slabs: number, limit?: number) {
  const wheel = new TimerWheel();
  const released: string[] = [];
  const memory = {
    bytes: new Uint8Array(0),
    pagesStart: START,
    pagesEnd: START + slabs * BIG_PAGE,
    released: (start: number, end: number) => {
      released.push(`${(start - START) / SMALL_PAGE}-${(end - START) / SMALL_PAGE}`);
    },
  };
  return { pool: new PagePool(memory, wheel, limit), wheel, released };
}

test("sixteen small pages share a slab, a big page is a slab of its own", () => {
  const { pool } = newPool(4);
  const small = Array.from({ length: 16 }, () => pool.allocate4K());
  const big = pool.allocate64K();
  expect(new Set(small).size).toBe(16);
  expect(small.every((at) => at >= START && at < START + BIG_PAGE && at % SMALL_PAGE === 0)).toBe(
    true,
  );
  expect(big).toBe(START + BIG_PAGE);
  expect(pool.inUse).toBe(2 * BIG_PAGE);
  expect(pool.held).toBe(2 * BIG_PAGE);
  expect(pool.sizeOf(big)).toBe(BIG_PAGE);
  expect(pool.sizeOf(small[3])).toBe(SMALL_PAGE);
});

test("at the end of the region -1 is returned and counted, until something is freed", () => {
  const { pool } = newPool(2);
  const a = pool.allocate64K();
  const b = pool.allocate4K();
  expect(pool.allocate64K()).toBe(-1);
  for (let i = 1; i < 16; i++) expect(pool.allocate4K()).toBeGreaterThan(0);
  expect(pool.allocate4K()).toBe(-1);
  expect(pool.exhausted).toBe(2);
  pool.free(b);
  expect(pool.allocate4K()).toBe(b);
  pool.free(a);
  expect(pool.allocate64K()).toBe(a);
});

test("the limit counts whole slabs", () => {
  const { pool } = newPool(100, 2 * BIG_PAGE + 1);
  expect(pool.allocate4K()).toBeGreaterThan(0);
  expect(pool.allocate64K()).toBeGreaterThan(0);
  expect(pool.allocate64K()).toBe(-1);
  expect(pool.allocate4K()).toBeGreaterThan(0);
});

test("a page is not freed twice", () => {
  const { pool } = newPool(2);
  const a = pool.allocate4K();
  pool.allocate4K();
  pool.free(a);
  expect(() => pool.free(a)).toThrow("not in use");
  const b = pool.allocate64K();
  pool.free(b);
  expect(() => pool.free(b)).toThrow("not in use");
});

test("what was used last is used first", () => {
  const { pool } = newPool(10);
  const pages = [pool.allocate64K(), pool.allocate64K(), pool.allocate64K()];
  for (const page of pages) pool.free(page);
  expect(pool.allocate64K()).toBe(pages[2]);
  expect(pool.highWater).toBe(3 * BIG_PAGE);
});

test("pages free for 5 s are handed back, neighbours in one run, and are usable again", () => {
  const { pool, wheel, released } = newPool(10);
  const pages = Array.from({ length: 6 }, () => pool.allocate64K());
  for (const i of [0, 1, 2, 4, 5]) pool.free(pages[i]);
  wheel.advance(4990);
  expect(released).toEqual([]);
  wheel.advance(5000);
  expect(released).toEqual(["0-48", "64-96"]);
  expect(wheel.next()).toBe(-1);
  expect(pool.allocate64K()).toBe(pages[0]);
});

test("free small pages of a slab that is still in use are handed back too, once", () => {
  const { pool, wheel, released } = newPool(10);
  const pages = Array.from({ length: 16 }, () => pool.allocate4K());
  for (const page of pages.slice(0, 3)) pool.free(page);
  pool.free(pages[9]);
  wheel.advance(10_000);
  expect(released).toEqual(["0-3", "9-10"]);
  pool.free(pages[10]);
  wheel.advance(20_000);
  expect(released.slice(2)).toEqual(["10-11"]);
});

test("of the free small pages one with memory behind it is used first", () => {
  const { pool, wheel, released } = newPool(10);
  const pages = Array.from({ length: 16 }, () => pool.allocate4K());
  for (const page of pages.slice(0, 3)) pool.free(page);
  wheel.advance(5000);
  expect(released).toEqual(["0-3"]);
  pool.free(pages[9]);
  expect(pool.allocate4K()).toBe(pages[9]);
  expect(pool.allocate4K()).toBe(pages[0]);
});

test("a page in use is never handed back; what is freed later goes later", () => {
  const { pool, wheel, released } = newPool(10);
  const a = pool.allocate64K();
  const b = pool.allocate64K();
  pool.free(a);
  wheel.advance(3000);
  pool.free(b);
  wheel.advance(5000);
  expect(released).toEqual(["0-16"]);
  wheel.advance(8000);
  expect(released).toEqual(["0-16", "16-32"]);
});

test("steady use and freeing walks the slabs at most once a second", () => {
  const { pool, wheel } = newPool(100);
  let wakeUps = 0;
  const pages: number[] = [];
  for (let i = 0; i < 100; i++) pages.push(pool.allocate64K());
  for (let now = 0; now < 20_000; now += 50) {
    const page = pages.shift();
    if (page !== undefined) pool.free(page);
    if (wheel.next() >= 0 && wheel.next() <= now) wakeUps++;
    wheel.advance(now);
  }
  expect(wakeUps).toBeLessThan(25);
});

test("the peak is remembered", () => {
  const { pool } = newPool(10);
  const pages = [pool.allocate64K(), pool.allocate4K()];
  for (const page of pages) pool.free(page);
  expect(pool.inUse).toBe(0);
  expect(pool.held).toBe(0);
  expect(pool.peak).toBe(BIG_PAGE + SMALL_PAGE);
});
