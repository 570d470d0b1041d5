import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { type ErrorCode, exitStatus } from "../src/errors.ts";

function read(path: string): string {
  return readFileSync(new URL(path, import.meta.url), "utf8");
}

test("docs/errors.md has every code once, with its exit status", () => {
  const codes = [...read("../src/errors.ts").matchAll(/^ {2}\| "(ERR_\w+)"/gm)].map(
    ([, code]) => code as ErrorCode,
  );
  const rows = [...read("../docs/errors.md").matchAll(/^\| (ERR_\w+) \| [^|]+ \| (\d+) \|$/gm)].map(
    ([, code, status]) => [code, Number(status)],
  );
  // Those two are exec's alone, and have the statuses that shells give them.
  const shells = new Map([
    ["ERR_COMMAND_NOT_EXECUTABLE", 126],
    ["ERR_COMMAND_NOT_FOUND", 127],
  ]);
  const expected = codes.map((code) => [code, shells.get(code) ?? exitStatus(code)]);
  expect(rows.sort()).toEqual(expected.sort());
});
