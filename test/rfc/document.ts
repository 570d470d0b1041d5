/** docs/rfc.md: clause → source → tests, by RFC, and the deviations. */

import type { Mention } from "./clauses.ts";

/** An entry of deviations.json. */
export interface Deviation {
  readonly rfc: number;
  readonly section: string;
  readonly level: string;
  readonly deviation: string;
  readonly reason: string;
  readonly file: string;
}

const HEAD = `# RFC clauses

Which clause is kept where, and what tests it. Written by \`npm run rfc\` from the names of the tests, the comments of
the sources and test/rfc: change those. A level is given where the test's name gives it; MUST-n and SHLD-n are the
numbers of RFC 9293's appendix B. Every clause that src/stack names is tested, itself or by a section below it, or
test/rfc/untested.json says why not.
`;

export function renderDocument(
  sources: readonly Mention[],
  tests: readonly Mention[],
  deviations: readonly Deviation[],
  titles: Readonly<Record<string, string>>,
): string {
  const all = [...sources, ...tests];
  const named = sorted([...all, ...deviations].map(({ rfc }) => rfc));
  const kept = all.filter(({ section, test }) => section !== "" || test !== "");
  const numbers = sorted([...kept, ...deviations].map(({ rfc }) => rfc));
  const others = named.filter((rfc) => !numbers.includes(rfc));
  const overview = numbers.map((rfc) => {
    const own = all.filter((mention) => mention.rfc === rfc);
    const clauses = new Set(own.map(({ section }) => section).filter(Boolean)).size;
    const names = new Set(own.map(({ file, test }) => (test === "" ? "" : file + test)));
    names.delete("");
    return [`[RFC ${rfc}](#rfc-${rfc})`, titles[rfc] ?? "", `${clauses}`, `${names.size}`];
  });
  const parts = numbers.map((rfc) => {
    const own = all.filter((mention) => mention.rfc === rfc);
    const sections = [...new Set(own.map(({ section }) => section))].sort(bySection);
    const rows = sections.map((section) => {
      const here = own.filter((mention) => mention.section === section);
      return [section || "as a whole", level(here, deviations), sourceCell(here), testCell(here)];
    });
    const head = ["clause", "level", "source", "tests"];
    return `### RFC ${rfc}\n\n${titles[rfc] ?? ""}\n\n${table(head, rows)}`;
  });
  const departures = deviations.map((d) => [
    `RFC ${d.rfc} ${d.section}`,
    d.level,
    d.deviation,
    d.reason,
    link(d.file),
  ]);
  return [
    HEAD,
    `## Deviations\n\n${table(["clause", "level", "here", "why", "source"], departures)}`,
    `## Overview\n\n${table(["RFC", "title", "clauses", "tests"], overview)}`,
    `Named without a clause: ${others.map((rfc) => `RFC ${rfc} (${titles[rfc]})`).join(", ")}.\n`,
    "## Clauses\n",
    ...parts,
  ].join("\n");
}

function sorted(numbers: readonly number[]): number[] {
  return [...new Set(numbers)].sort((a, b) => a - b);
}

function level(here: readonly Mention[], deviations: readonly Deviation[]): string {
  const { rfc, section } = here[0]!;
  const levels = here.flatMap((mention) => mention.level.split(" ")).filter(Boolean);
  const departs = deviations.some((d) => d.rfc === rfc && d.section === section);
  return [...new Set(levels), ...(departs ? ["[deviation](#deviations)"] : [])].join(", ");
}

function sourceCell(here: readonly Mention[]): string {
  const files = here.filter(({ test }) => test === "").map(({ file }) => file);
  return [...new Set(files)].map(link).join(", ");
}

/** Names below their file. */
function testCell(here: readonly Mention[]): string {
  const byFile = new Map<string, Set<string>>();
  for (const { file, test } of here) {
    if (test !== "") byFile.set(file, (byFile.get(file) ?? new Set()).add(test));
  }
  const cells = [...byFile].map(
    ([file, names]) => `${[...names].map(escaped).join("; ")} (${link(file)})`,
  );
  return cells.join("<br>");
}

function link(file: string): string {
  const text = file.replace(/^(?:src|test)\/(?:stack\/)?/, "").replace(/\.test\.ts$/, "");
  return `[${text}](../${file})`;
}

/** Parameters of `test.each` are dots. */
function escaped(text: string): string {
  return text
    .replace(/%[sdij]|\$\w+/g, "…")
    .replaceAll("\\", "\\\\")
    .replace(/[|<*_]/g, "\\$&");
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return "None.\n";
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |\n`;
  return `${line(head)}|${"---|".repeat(head.length)}\n${rows.map(line).join("")}`;
}

/** Sections by their numbers, §9 before §10; what has none comes first. */
function bySection(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}
