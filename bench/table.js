// @ts-check
// The figures of a bench as rows of JSON, and as tables in Markdown, which read well on a terminal too.

import { pairedRatio, spread } from "./statistics.js";

/**
 * @typedef {object} LaneOf what a table needs to know of a lane
 * @property {string} name
 * @property {boolean} own ours: what is compared
 * @property {number | null} mtu null: it has none, or its own
 *
 * @typedef {object} Measured a row
 * @property {string} metric
 * @property {string} key
 * @property {string} name
 * @property {string} unit
 * @property {boolean} more
 * @property {boolean} [headline]
 * @property {Record<string, Array<number | null>>} rounds by lane's name
 *
 * @typedef {{ lanes: LaneOf[], rows: Measured[] }} Figures
 */

/**
 * One object for each row and lane: what was measured in each round, and the ratios of our own to the others.
 *
 * @param {Figures} figures
 */
export function jsonRows({ lanes, rows }) {
  return rows.flatMap((row) =>
    lanes
      .filter(({ name }) => row.rounds[name] !== undefined)
      .map((lane) => {
        const rounds = row.rounds[lane.name] ?? [];
        const { metric, name, unit, more } = row;
        const better = more ? "more" : "less";
        const others = lane.own ? comparedWith(lane, lanes) : [];
        const ratios = Object.fromEntries(
          others.map((other) => [other.name, pairedRatio(rounds, row.rounds[other.name] ?? [])]),
        );
        const own = lane.own ? { ratios } : {};
        return {
          metric,
          row: name,
          unit,
          better,
          lane: lane.name,
          rounds,
          ...spread(rounds),
          ...own,
        };
      }),
  );
}

/**
 * One table for each lane of our own: medians with smallest and largest round of all it is compared with, then the ratios.
 *
 * @param {Figures} figures
 * @returns {string}
 */
export function markdown(figures) {
  const { lanes } = figures;
  const own = lanes.filter((lane) => lane.own);
  const tables = own.map((lane) => table(figures, lane));
  if (own.length === 1) return tables.join("\n");
  return own.map((lane, i) => `${lane.name}:\n\n${tables[i]}`).join("\n");
}

/** @param {Figures} figures @param {LaneOf} own */
function table({ lanes, rows }, own) {
  const others = comparedWith(own, lanes);
  const all = [own, ...others];
  const withValues = (/** @type {LaneOf} */ { name }) =>
    rows.some(({ rounds }) => spread(rounds[name] ?? []) !== null);
  const columns = all.filter(withValues);
  const ratios = others.filter(withValues);
  const head = ["", ...columns.map(({ name }) => name), ...ratios.map(({ name }) => `÷ ${name}`)];
  const body = rows
    .filter(({ rounds }) => columns.some(({ name }) => rounds[name] !== undefined))
    .map((row) => [
      row.unit === "" ? row.name : `${row.name}, ${row.unit}`,
      ...columns.map(({ name }) => cell(row.rounds[name] ?? [])),
      ...ratios.map(({ name }) => ratioCell(row.rounds[own.name] ?? [], row.rounds[name] ?? [])),
    ]);
  return lined([head, ...body]);
}

/**
 * Direct, ceiling, and the peers of the same MTU or of one of their own.
 *
 * @param {LaneOf} own
 * @param {LaneOf[]} lanes
 */
function comparedWith(own, lanes) {
  return lanes.filter((lane) => !lane.own && (lane.mtu === null || lane.mtu === own.mtu));
}

/** @param {Array<number | null>} rounds */
function cell(rounds) {
  const of = spread(rounds);
  if (of === null) return "–";
  const median = format(of.median);
  return rounds.length === 1 ? median : `${median} [${format(of.min)}–${format(of.max)}]`;
}

/** @param {Array<number | null>} ours @param {Array<number | null>} theirs */
function ratioCell(ours, theirs) {
  const of = pairedRatio(ours, theirs);
  return of === null ? "–" : format(of.median);
}

/**
 * A number as it is read: three digits, and thousands apart.
 *
 * @param {number} value
 */
export function format(value) {
  const size = Math.abs(value);
  if (size >= 100) return Math.round(value).toLocaleString("en-US");
  if (size >= 10) return value.toFixed(1);
  return value === 0 ? "0" : value.toFixed(size < 0.1 ? 3 : 2);
}

/** @param {string[][]} rows the first is the head */
function lined(rows) {
  const widths = rows[0]?.map((_, i) => Math.max(3, ...rows.map((row) => row[i]?.length ?? 0)));
  const lines = rows.map(
    (row) => `| ${row.map((text, i) => text.padEnd(widths?.[i] ?? 0)).join(" | ")} |`,
  );
  const rule = `|${widths?.map((width) => "-".repeat(width + 2)).join("|")}|`;
  return `${[lines[0], rule, ...lines.slice(1)].join("\n")}\n`;
}
