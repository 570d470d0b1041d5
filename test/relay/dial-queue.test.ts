import { expect, test } from "vitest";
import { type Dial, DialQueue, MAX_DIALS } from "../../src/relay/dial-queue.ts";

class Recorder implements Dial {
  readonly #started: number[];
  readonly #id: number;

  constructor(started: number[], id: number) {
    this.#started = started;
    this.#id = id;
  }

  startDial(): void {
    this.#started.push(this.#id);
  }
}

function dials(count: number): { started: number[]; all: Recorder[] } {
  const started: number[] = [];
  return { started, all: Array.from({ length: count }, (_, id) => new Recorder(started, id)) };
}

test("the 257th dial waits until one of 256 ends", () => {
  const queue = new DialQueue();
  const { started, all } = dials(MAX_DIALS + 1);
  for (const dial of all) queue.request(dial);
  expect(MAX_DIALS).toBe(256);
  expect(started.length).toBe(256);
  expect(queue.waiting).toBe(1);
  queue.release(all[17]!);
  expect(started.at(-1)).toBe(256);
  expect(queue.active).toBe(256);
  expect(queue.waiting).toBe(0);
});

test("dials that wait start in order of arrival, and those given up never", () => {
  const queue = new DialQueue(1);
  const { started, all } = dials(4);
  for (const dial of all) queue.request(dial);
  queue.release(all[1]!);
  queue.release(all[0]!);
  queue.release(all[2]!);
  expect(started).toEqual([0, 2, 3]);
});

test("releasing twice frees one place", () => {
  const queue = new DialQueue(1);
  const { started, all } = dials(3);
  for (const dial of all) queue.request(dial);
  queue.release(all[0]!);
  queue.release(all[0]!);
  expect(started).toEqual([0, 1]);
  expect(queue.waiting).toBe(1);
});

test("when as many wait as may dial, a newcomer takes the place of the dial that has taken longest", () => {
  const queue = new DialQueue(2);
  const { started, all } = dials(7);
  const stopped: number[] = [];
  // The first keeps its place, whatever comes.
  for (const [id, dial] of all.entries()) {
    if (id > 0) Object.assign(dial, { stopDial: () => stopped.push(id) });
  }
  for (const dial of all.slice(0, 4)) queue.request(dial);
  expect(started).toEqual([0, 1]);
  queue.request(all[4]!);
  expect([started, stopped]).toEqual([[0, 1, 4], [1]]);
  queue.request(all[5]!);
  expect([started, stopped]).toEqual([
    [0, 1, 4, 5],
    [1, 4],
  ]);
  expect([queue.active, queue.waiting]).toEqual([2, 4]);
  // Those that were stopped wait behind the others.
  for (let n = 0; n < 4; n++) queue.release(all[started.at(-1)!]!);
  expect(started).toEqual([0, 1, 4, 5, 2, 3, 1, 4]);
});

test("a dial that keeps its place lets a newcomer wait", () => {
  const queue = new DialQueue(1);
  const { started, all } = dials(3);
  for (const dial of all) queue.request(dial);
  expect(started).toEqual([0]);
});

test("half of the places are not taken from those that have them longest", () => {
  const queue = new DialQueue(4);
  const { started, all } = dials(12);
  const stopped: number[] = [];
  for (const [id, dial] of all.entries()) {
    Object.assign(dial, { stopDial: () => stopped.push(id) });
    queue.request(dial);
  }
  expect(started).toEqual([0, 1, 2, 3, 8, 9, 10, 11]);
  expect(stopped).toEqual([2, 3, 8, 9]);
  expect([queue.active, queue.waiting]).toEqual([4, 8]);
});

test("of more dials than a proxy can answer half as many as it can are answered", () => {
  // Eight at a time for 100 ms each are 800 in ten seconds, and 1,000 come.
  const queue = new DialQueue(8);
  const ends: { dial: Dial; startedAt: number }[] = [];
  const runs = new Map<Dial, number>();
  let answered = 0;
  let now = 0;
  for (; now < 10_000; now += 10) {
    while (ends.length > 0 && ends[0]!.startedAt + 100 <= now) {
      const { dial, startedAt } = ends.shift()!;
      if (runs.get(dial) !== startedAt) continue;
      answered++;
      queue.release(dial);
    }
    const dial: Dial = {
      startDial() {
        runs.set(dial, now);
        ends.push({ dial, startedAt: now });
      },
      stopDial: () => runs.delete(dial),
    };
    queue.request(dial);
  }
  expect(answered).toBeGreaterThan(400);
});
