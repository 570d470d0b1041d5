// Mutations of the stack: an exact text that stands once in a file, and what replaces it. Shared by
// scripts/mutate.js and scripts/fuzz-mutants.js. Work is done in copies; the repository is only read.

import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

export const ROOT = fileURLToPath(new URL("..", import.meta.url));
const COPIED = ["src", "test", "package.json", "tsconfig.base.json", "vitest.config.ts"];

/** The text of `src/stack/<file>` with the mutation. */
export function mutated({ file, find, replace }) {
  return source(file).replace(find, () => replace);
}

/** What is wrong with a mutation; null: nothing. */
export function fault({ file, find, replace }) {
  const times = source(file).split(find).length - 1;
  if (times !== 1) return `its text stands ${times} times in src/stack/${file}`;
  const { diagnostics } = ts.transpileModule(mutated({ file, find, replace }), {
    reportDiagnostics: true,
    compilerOptions: { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext },
  });
  return diagnostics.length > 0 ? "it does not parse" : null;
}

function source(file) {
  return readFileSync(join(ROOT, "src/stack", file), "utf8");
}

/** A copy of what the tests need, in a temporary directory; `remove` it. */
export class Copy {
  constructor() {
    this.path = mkdtempSync(join(tmpdir(), "tun2socks-mutants-"));
    for (const name of COPIED) cpSync(join(ROOT, name), join(this.path, name), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(this.path, "node_modules"));
  }

  /** Applies one mutation; the one before is taken back. */
  mutate(mutation) {
    this.restore();
    this.file = mutation.file;
    writeFileSync(join(this.path, "src/stack", this.file), mutated(mutation));
  }

  restore() {
    if (this.file === undefined) return;
    writeFileSync(join(this.path, "src/stack", this.file), source(this.file));
    this.file = undefined;
  }

  remove() {
    rmSync(this.path, { recursive: true, force: true });
  }
}
