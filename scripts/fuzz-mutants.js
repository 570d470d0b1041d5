#!/usr/bin/env node
// Plants one bug at a time and expects the fuzzer to find it.
//
//   npm run fuzz:mutants                    every bug of test/fuzz/mutants/bugs.json, five minutes each
//   npm run fuzz:mutants -- --minutes 1 FIN those whose description or file holds the word
//
// Prints the seed and the time of each finding; a bug that is not found is a failure.

import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import ts from "typescript";
import { fault, mutated, ROOT } from "./mutation.js";

const { values, positionals: words } = parseArgs({
  options: { minutes: { type: "string", default: "5" }, seed: { type: "string", default: "1" } },
  allowPositionals: true,
});
const bugs = JSON.parse(readFileSync(join(ROOT, "test/fuzz/mutants/bugs.json"), "utf8")).filter(
  ({ bug, file }) => words.length === 0 || words.some((word) => `${bug} ${file}`.includes(word)),
);
let missed = 0;
const queue = [...bugs];
await Promise.all(Array.from({ length: Math.min(availableParallelism(), 4) }, work));
console.log(`${bugs.length} bugs, ${missed} not found`);
process.exit(missed > 0 || bugs.length === 0 ? 1 : 0);

async function work() {
  for (let bug = queue.shift(); bug !== undefined; bug = queue.shift()) {
    const started = Date.now();
    const finding = fault(bug) ?? (await fuzz(bug));
    const isFound = finding.startsWith("seed ");
    if (!isFound) missed++;
    const seconds = Math.round((Date.now() - started) / 1000);
    console.log(`${isFound ? "found" : "MISSED"} in ${seconds} s: ${bug.bug}\n    ${finding}`);
  }
}

/** The first line of the finding, or what happened instead. */
async function fuzz(bug) {
  const directory = mkdtempSync(join(tmpdir(), "tun2socks-mutants-"));
  try {
    cpSync(join(ROOT, "build/fuzz"), directory, { recursive: true });
    writeFileSync(join(directory, "package.json"), '{ "type": "module" }\n');
    symlinkSync(join(ROOT, "node_modules"), join(directory, "node_modules"));
    const { outputText } = ts.transpileModule(mutated(bug), {
      compilerOptions: {
        target: ts.ScriptTarget.ES2023,
        module: ts.ModuleKind.ESNext,
        verbatimModuleSyntax: true,
        rewriteRelativeImportExtensions: true,
      },
    });
    writeFileSync(join(directory, "src/stack", bug.file.replace(/ts$/, "js")), outputText);
    return await run(join(directory, "test/fuzz/main.js"));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function run(main) {
  const { minutes, seed } = values;
  const child = spawn(
    process.execPath,
    [main, "--minutes", minutes, "--seed", seed, "--tries", "0"],
    {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  // A bug may end in a loop, which is not found but noticed.
  const timer = setTimeout(() => child.kill("SIGKILL"), Number(minutes) * 60_000 + 30_000);
  let output = "";
  child.stdout.on("data", (data) => {
    if (output.length < 10_000) output += data;
  });
  return new Promise((resolve) => {
    child.on("close", (status) => {
      clearTimeout(timer);
      const lines = output.split("\n");
      const finding = lines.find((line) => line.startsWith("seed ")) ?? lines.at(-2) ?? "";
      resolve(status === 1 ? finding : `status ${status}: ${finding}`);
    });
  });
}
