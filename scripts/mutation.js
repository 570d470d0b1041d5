// Mutations of the stack: an exact text that stands once in a file, and what replaces it. Shared by
// scripts/mutate.js and scripts/fuzz-mutants.js. Work is done in copies; the repository is only read.

import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));
const COPIED = ["src", "test", "package.json", "tsconfig.base.json", "vitest.config.ts"];

/** What is wrong with a mutation of `src/stack/<file>`; null: nothing. */
export function fault({ file, find, replace }) {
  const source = readFileSync(join(ROOT, "src/stack", file), "utf8");
  const times = source.split(find).length - 1;
  if (times !== 1) return `its text stands ${times} times in src/stack/${file}`;
  const { diagnostics } = ts.transpileModule(
    source.replace(find, () => replace),
    {
      reportDiagnostics: true,
      compilerOptions: { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext },
    },
  );
  if (diagnostics.length > 0) return "it does not parse";
  return null;
}

/** A copy of what the tests need, in a temporary directory; `remove` it. */
export class Copy {
  constructor() {
    this.path = mkdtempSync(join(tmpdir(), "tun2socks-mutants-"));
    for (const name of COPIED) cpSync(join(ROOT, name), join(this.path, name), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(this.path, "node_modules"));
  }

  /** Applies one mutation; the one before is taken back. */
  mutate({ file, find, replace }) {
    this.restore();
    const source = readFileSync(join(ROOT, "src/stack", file), "utf8");
    writeFileSync(
      join(this.path, "src/stack", file),
      source.replace(find, () => replace),
    );
    this.mutated = file;
  }

  restore() {
    if (this.mutated === undefined) return;
    const original = join(ROOT, "src/stack", this.mutated);
    cpSync(original, join(this.path, "src/stack", this.mutated));
    this.mutated = undefined;
  }

  remove() {
    rmSync(this.path, { recursive: true, force: true });
  }
}
