/** What the bench prints and draws. */

import { expect, test } from "vitest";
import { chart } from "../../bench/chart.js";
import type { Figures } from "../../bench/table.js";
import { format, jsonRows, markdown } from "../../bench/table.js";

const lane = (name: string, own = false, mtu: number | null = null) => ({ name, own, mtu });
const row = (name: string, rounds: Record<string, Array<number | null>>, more = true) => ({
  metric: "tcp",
  key: name,
  name,
  unit: "Gbit/s",
  more,
  headline: true,
  rounds,
});
const FIGURES: Figures = {
  lanes: [lane("tun2socks", true, 1500), lane("direct"), lane("<peer>", false, 1500)],
  rows: [
    row("down", { tun2socks: [8, 9, 10], direct: [16, 18, 40], "<peer>": [2, null, 5] }),
    row("CPU", { tun2socks: [0.25, 0.25, 0.25] }, false),
  ],
};

test("a table has medians with their extremes, and ratios of pairs", () => {
  expect(markdown(FIGURES)).toBe(
    [
      "|              | tun2socks        | direct           | <peer>           | ÷ direct | ÷ <peer> |",
      "|--------------|------------------|------------------|------------------|----------|----------|",
      "| down, Gbit/s | 9.00 [8.00–10.0] | 18.0 [16.0–40.0] | 3.50 [2.00–5.00] | 0.50     | 3.00     |",
      "| CPU, Gbit/s  | 0.25 [0.25–0.25] | –                | –                | –        | –        |",
      "",
    ].join("\n"),
  );
});

test("a lane is compared with peers of its own MTU and with those that have one of their own", () => {
  const text = markdown({
    lanes: [
      lane("tun2socks 1500", true, 1500),
      lane("tun2socks 9000", true, 9000),
      lane("a 1500", false, 1500),
      lane("a 9000", false, 9000),
      lane("b", false, null),
    ],
    rows: [
      row("down", {
        "tun2socks 1500": [1],
        "tun2socks 9000": [2],
        "a 1500": [3],
        "a 9000": [4],
        b: [5],
      }),
    ],
  });
  const heads = text.split("\n").filter((line) => line.includes("÷"));
  expect(heads.map((head) => head.split("|").map((part) => part.trim()))).toEqual([
    ["", "", "tun2socks 1500", "a 1500", "b", "÷ a 1500", "÷ b", ""],
    ["", "", "tun2socks 9000", "a 9000", "b", "÷ a 9000", "÷ b", ""],
  ]);
});

test("rows of JSON have every round, the spread, and the ratios where the lane is ours", () => {
  const [own, direct, peer, cpu, ...more] = jsonRows(FIGURES);
  expect(own).toEqual({
    metric: "tcp",
    row: "down",
    unit: "Gbit/s",
    better: "more",
    lane: "tun2socks",
    rounds: [8, 9, 10],
    median: 9,
    min: 8,
    max: 10,
    ratios: {
      direct: { median: 0.5, min: 0.25, max: 0.5 },
      "<peer>": { median: 3, min: 2, max: 4 },
    },
  });
  expect(direct).not.toHaveProperty("ratios");
  expect(peer).toMatchObject({ lane: "<peer>", rounds: [2, null, 5], median: 3.5 });
  expect(cpu).toMatchObject({ better: "less", ratios: { direct: null } });
  expect(more).toEqual([]);
});

test("numbers have three digits, and thousands are set apart", () => {
  const numbers = [0, 0.0123, 0.456, 1.234, 45.67, 789.4, 12345.6];
  expect(numbers.map(format)).toEqual(["0", "0.012", "0.46", "1.23", "45.7", "789", "12,346"]);
});

test("a chart has a bar for every lane that was measured, as long as its median", () => {
  const svg = chart(FIGURES, { title: "a & b", subtitle: "3 rounds" });
  const bars = [...svg.matchAll(/<rect class="(\w+)" x="\d+" y="\d+" width="([\d.]+)"/g)];
  const [own, direct, peer, cpu] = bars.map(([, , width]) => Number(width));
  expect(bars.map(([, lane]) => lane)).toEqual(["own", "limit", "peer0", "own"]);
  expect((own as number) / (direct as number)).toBeCloseTo(9 / 18, 1);
  expect((peer as number) / (direct as number)).toBeCloseTo(3.5 / 18, 1);
  expect(cpu).toBeGreaterThan(0);
  expect(svg).toContain("less is better");
});

test("a chart is well-formed, and names do not break it", () => {
  const svg = chart(FIGURES, { title: "a & b", subtitle: "3 rounds" });
  expect(svg).toContain("&#60;peer&#62;");
  expect(svg).toContain("a &#38; b");
  expect(svg).not.toMatch(/NaN|undefined|<peer>/);
  // Every element that is opened is closed, in order.
  const open: string[] = [];
  for (const [, close, name, self] of svg.matchAll(/<(\/?)(\w+)[^>]*?(\/?)>/g)) {
    if (close === "/") expect(open.pop()).toBe(name);
    else if (self !== "/") open.push(name as string);
  }
  expect(open).toEqual([]);
});

test("a chart has colours for light and for dark", () => {
  const svg = chart(FIGURES, { title: "t", subtitle: "s" });
  expect(svg).toContain("@media (prefers-color-scheme: dark)");
});
