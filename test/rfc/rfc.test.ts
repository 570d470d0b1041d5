import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { clausesOf, mentions, sourceMentions, testMentions } from "./clauses.ts";
import { type Deviation, renderDocument } from "./document.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const sources = mentions(ROOT, "src", ".ts", sourceMentions).filter(
  ({ file }) => !file.startsWith("src/testing/"),
);
// The tests of the reading itself name clauses that nobody keeps.
const tests = mentions(ROOT, "test", ".test.ts", testMentions).filter(
  ({ file }) => !file.startsWith("test/rfc/"),
);
const deviations: Deviation[] = data("deviations.json");
const titles: Record<string, string> = data("titles.json");
/** Clauses that sources of the stack name and no test does, and why that is right. */
const untested: { rfc: number; section: string; reason: string }[] = data("untested.json");

function data<T>(name: string): T {
  return JSON.parse(readFileSync(join(ROOT, "test/rfc", name), "utf8"));
}

/** A test of §3.2 is one of §3. */
function isTested(rfc: number, section: string): boolean {
  return tests.some(
    (mention) =>
      mention.rfc === rfc &&
      (mention.section === section || mention.section.startsWith(`${section}.`)),
  );
}

test("docs/rfc.md is what tests and sources say; `npm run rfc` writes it", async () => {
  const text = renderDocument(sources, tests, deviations, titles);
  await expect(text).toMatchFileSnapshot(join(ROOT, "docs/rfc.md"));
});

test("every clause that a comment of the stack names is named by a test, or untested.json says why not", () => {
  const allowed = new Set(untested.map(({ rfc, section }) => `RFC ${rfc} ${section}`));
  const missing = sources
    .filter(({ file, section }) => file.startsWith("src/stack/") && section !== "")
    .filter(({ rfc, section }) => !isTested(rfc, section) && !allowed.has(`RFC ${rfc} ${section}`))
    .map(({ rfc, section, file }) => `RFC ${rfc} ${section}: ${file}`);
  expect([...new Set(missing)].sort()).toEqual([]);
});

test("untested.json excuses only what is named and not tested", () => {
  const stale = untested
    .filter(
      ({ rfc, section, reason }) =>
        reason.length < 10 ||
        isTested(rfc, section) ||
        !sources.some((mention) => mention.rfc === rfc && mention.section === section),
    )
    .map(({ rfc, section }) => `RFC ${rfc} ${section}`);
  expect(stale).toEqual([]);
});

test("every RFC that is named has a title, every deviation a reason and a file", () => {
  const numbers = new Set([...sources, ...tests, ...deviations].map(({ rfc }) => rfc));
  expect([...numbers].filter((rfc) => titles[rfc] === undefined)).toEqual([]);
  for (const { deviation, reason, file } of deviations) {
    expect(`${deviation}${reason}`.length, deviation).toBeGreaterThan(20);
    expect(() => readFileSync(join(ROOT, file)), file).not.toThrow();
  }
});

describe("a citation", () => {
  test.each([
    ["RFC 9293 §3.10.7.4 MUST-12, RFC 5961 §4.2", "9293 §3.10.7.4 MUST-12 | 5961 §4.2 "],
    ["RFC 7323 §5.3 (R1), §5.5 SHOULD", "7323 §5.3  | 7323 §5.5 SHOULD"],
    ["RFC 6582 §3.2 step 2 and §4", "6582 §3.2  | 6582 §4 "],
    ["RFC 4787 REQ-1; RFC 9293 figure 13.", "4787 REQ-1  | 9293 figure 13 "],
    ["RFC 1122 §4.2.2.17 MUST-35 MUST-36", "1122 §4.2.2.17 MUST-35 MUST-36"],
    ["RFC 791", "791  "],
  ])("`%s` is read", (text, read) => {
    const clauses = clausesOf(text).map((c) => `${c.rfc} ${c.section} ${c.level}`);
    expect(clauses.join(" | ")).toBe(read);
  });

  test("is that of a test where it ends the name, of a source wherever it stands", () => {
    const code = `test("a thing (RFC 1 §2 (R3), RFC 4 §5)", () => {}); f("RFC 6 §7 is old"); // RFC 8 §9`;
    expect(testMentions("t", code).map(({ rfc, test: name }) => [rfc, name])).toEqual([
      [1, "a thing"],
      [4, "a thing"],
    ]);
    const grouped = `describe("a group (RFC 1 §1)", () => {\n  test("does (RFC 1 §2)", f);\n});\ntest("b (RFC 1 §3)", f);`;
    expect(testMentions("t", grouped).map(({ test: name }) => name)).toEqual([
      "a group",
      "a group: does",
      "b",
    ]);
    const comment =
      "/**\n * As RFC 1\n * §2.3 says, RFC 4\n * MUST-5. */\n// RFC 6, and\n// RFC 7 §8.";
    expect(sourceMentions("s", comment).map(({ rfc, section }) => [rfc, section])).toEqual([
      [1, "§2.3"],
      [4, ""],
      [6, ""],
      [7, "§8"],
    ]);
  });
});
