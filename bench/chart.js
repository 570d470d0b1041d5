// @ts-check
// The headline rows as an SVG: a panel a row, a bar a lane. It needs nothing but itself, and follows the reader's colour scheme.

import { spread } from "./statistics.js";
import { format } from "./table.js";

const COLUMNS = 3;
const PANEL = { width: 350, gap: 24, head: 40, bar: 13, pitch: 19, foot: 18 };
const LABEL = 132;
const VALUE = 58;
const MARGIN = 24;
const TITLE = 66;
const LEGEND = 12;
/** Of bars, in light and in dark: ours, lanes without a TUN, and the peers, which take the rest in turn. */
const COLOURS = [
  { name: "own", light: "#0b62d6", dark: "#58a6ff" },
  { name: "limit", light: "#8c959f", dark: "#6e7681" },
  { name: "peer0", light: "#c4501b", dark: "#f0883e" },
  { name: "peer1", light: "#1a7f52", dark: "#3fb97a" },
  { name: "peer2", light: "#8250df", dark: "#bc8cff" },
  { name: "peer3", light: "#b8860b", dark: "#d9b445" },
];
const LIMITS = ["direct", "ceiling"];
const PEERS = COLOURS.filter(({ name }) => name.startsWith("peer")).length;

/**
 * @param {import("./table.js").Figures} figures
 * @param {{ title: string, subtitle: string }} words
 * @returns {string}
 */
export function chart({ lanes, rows }, { title, subtitle }) {
  const ordered = [...lanes.filter(({ own }) => own), ...lanes.filter(({ own }) => !own)];
  const panels = rows.filter(
    (row) => row.headline && ordered.some(({ name }) => spread(row.rounds[name] ?? []) !== null),
  );
  const height = PANEL.head + ordered.length * PANEL.pitch + PANEL.foot;
  const width = 2 * MARGIN + COLUMNS * PANEL.width + (COLUMNS - 1) * PANEL.gap;
  const whole = TITLE + Math.ceil(panels.length / COLUMNS) * height + MARGIN;
  const body = panels.map((row, i) => {
    const x = MARGIN + (i % COLUMNS) * (PANEL.width + PANEL.gap);
    const y = TITLE + Math.floor(i / COLUMNS) * height;
    return `<g transform="translate(${x} ${y})">\n${panel(row, ordered)}\n</g>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${whole}" width="${width}" height="${whole}" role="img" aria-label="${xml(title)}">
<style>
text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 18px; font-weight: 600 }
.row { font-weight: 600 }
.unit { fill: #59636e; font-size: ${LEGEND}px }
.page { fill: #ffffff }
.axis { stroke: #d1d9e0 }
${COLOURS.map(({ name, light }) => `.${name} { fill: ${light} }`).join("\n")}
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.unit { fill: #9198a1 }
.page { fill: #0d1117 }
.axis { stroke: #3d444d }
${COLOURS.map(({ name, dark }) => `.${name} { fill: ${dark} }`).join("\n")}
}
</style>
<rect class="page" width="${width}" height="${whole}"/>
<text class="title" x="${MARGIN}" y="32">${xml(title)}</text>
<text class="unit" x="${MARGIN}" y="50">${xml(subtitle)}</text>
${body.join("\n")}
</svg>
`;
}

/** @param {import("./table.js").Measured} row @param {import("./table.js").LaneOf[]} all */
function panel(row, all) {
  const lanes = all.filter(({ name }) => row.rounds[name] !== undefined);
  const spreads = lanes.map(({ name }) => spread(row.rounds[name] ?? []));
  const largest = Math.max(...spreads.map((of) => of?.max ?? 0)) || 1;
  const room = PANEL.width - LABEL - VALUE;
  const better = row.more ? "more is better" : "less is better";
  const unit = row.unit === "" ? better : `${row.unit}, ${better}`;
  const bars = lanes.map((lane, i) => {
    const y = PANEL.head + i * PANEL.pitch;
    const of = spreads[i];
    const label = `<text x="${LABEL - 8}" y="${y + PANEL.bar - 2}" text-anchor="end">${xml(short(lane.name))}</text>`;
    if (of == null)
      return `${label}<text class="unit" x="${LABEL + 4}" y="${y + PANEL.bar - 2}">–</text>`;
    const length = (of.median / largest) * room;
    const [low, high] = [of.min, of.max].map((value) => (value / largest) * room + LABEL);
    const middle = y + PANEL.bar / 2;
    const extent =
      of.max > of.min
        ? `<path class="axis" d="M${round(low)} ${middle}H${round(high)}" stroke-width="2"/>`
        : "";
    const bar = `<rect class="${classOf(lane, all)}" x="${LABEL}" y="${y}" width="${round(Math.max(length, 1))}" height="${PANEL.bar}" rx="2"/>`;
    const at = Math.max(high ?? 0, length + LABEL) + 6;
    const value = `<text x="${round(at)}" y="${y + PANEL.bar - 2}">${format(of.median)}</text>`;
    return `${label}${bar}${extent}${value}`;
  });
  const bottom = PANEL.head + lanes.length * PANEL.pitch;
  return [
    `<text class="row" x="0" y="14">${xml(row.name)}</text>`,
    `<text class="unit" x="0" y="29">${xml(unit)}</text>`,
    `<path class="axis" d="M${LABEL} ${PANEL.head - 4}V${bottom}"/>`,
    ...bars,
  ].join("\n");
}

/** @param {import("./table.js").LaneOf} lane @param {import("./table.js").LaneOf[]} all */
function classOf(lane, all) {
  if (lane.own) return "own";
  if (LIMITS.includes(lane.name)) return "limit";
  const peers = all.filter(({ name, own }) => !own && !LIMITS.includes(name));
  return `peer${peers.indexOf(lane) % PEERS}`;
}

/** @param {number | undefined} value */
function round(value) {
  return Number((value ?? 0).toFixed(1));
}

/** @param {string} name */
function short(name) {
  return name.length > 18 ? `${name.slice(0, 17)}…` : name;
}

/** @param {string} text */
function xml(text) {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}
