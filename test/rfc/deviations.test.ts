import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

/** One rule that is not followed, for docs/rfc.md. `level` is the RFC's word, or its number in RFC 9293. */
interface Deviation {
  readonly rfc: number;
  readonly section: string;
  readonly level: string;
  readonly deviation: string;
  readonly reason: string;
  readonly file: string;
}

const deviations: readonly Deviation[] = JSON.parse(
  readFileSync(new URL("deviations.json", import.meta.url), "utf8"),
);

test.each(deviations)("RFC $rfc $section, $level: $deviation", (entry) => {
  expect(Object.keys(entry)).toEqual(["rfc", "section", "level", "deviation", "reason", "file"]);
  expect(entry.level).toMatch(/^(MUST( NOT)?|SHOULD( NOT)?|MAY|MUST-\d+|SHLD-\d+|MAY-\d+)$/);
  expect(entry.deviation).not.toBe("");
  expect(entry.reason).not.toBe("");
  expect(existsSync(new URL(`../../${entry.file}`, import.meta.url))).toBe(true);
});
