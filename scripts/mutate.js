#!/usr/bin/env node
// Breaks one rule of the stack at a time and expects the test of that rule to fail.
//
//   npm run mutate                  every rule of test/mutate/rules.json
//   npm run mutate -- tcp/input.ts  those whose file, clause or test holds one of the words
//
// A rule that is broken while its test passes is a failure; so is one whose text is not found exactly once.

import { spawn } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Copy, fault, ROOT } from "./mutation.js";

/** A mutant that loops for ever does not pass. */
const TIMEOUT = 60_000;

const words = process.argv.slice(2);
const data = JSON.parse(readFileSync(join(ROOT, "test/mutate/rules.json"), "utf8"));
const rules = Object.entries(data)
  .flatMap(([file, list]) => list.map((rule) => ({ ...rule, file })))
  .filter((rule) => words.length === 0 || words.some((word) => describe(rule).includes(word)));
const started = Date.now();
const failures = rules.flatMap((rule) => {
  const why = fault(rule);
  return why === null ? [] : [`${describe(rule)}: ${why}`];
});
if (failures.length === 0) await run();
for (const failure of failures) console.log(`not found: ${failure}`);
const seconds = Math.round((Date.now() - started) / 1000);
console.log(`${rules.length} mutations, ${failures.length} not found (${seconds} s)`);
process.exit(failures.length > 0 || rules.length === 0 ? 1 : 0);

async function run() {
  const copies = Array.from({ length: Math.min(availableParallelism(), 4) }, () => new Copy());
  try {
    const tests = [...new Set(rules.map(({ test }) => test))];
    const whole = await vitest(copies[0], tests, "");
    if (whole.failed !== 0 || whole.names.length === 0) {
      failures.push("the tests do not pass as they are");
      return;
    }
    const known = rules.filter((rule) => {
      const exists = whole.names.some((name) => namesOf(rule).test(name));
      if (!exists) failures.push(`${describe(rule)}: no test has that name`);
      return exists;
    });
    await Promise.all(copies.map((copy) => work(copy, known)));
  } finally {
    for (const copy of copies) copy.remove();
  }
}

async function work(copy, queue) {
  for (let rule = queue.shift(); rule !== undefined; rule = queue.shift()) {
    copy.mutate(rule);
    const { failed, names } = await vitest(copy, [rule.test], rule.name ?? "");
    if (failed === 0) failures.push(`${describe(rule)}: ${rule.find.trim()} → ${rule.replace}`);
    else if (names.length === 0) failures.push(`${describe(rule)}: its test does not load`);
  }
}

/** Runs test files, and in them the tests of that name. A run that does not end has failed. */
function vitest(copy, files, name) {
  const output = join(copy.path, "result.json");
  rmSync(output, { force: true });
  const argv = ["run", "--project=unit", "--no-cache", "--reporter=json", `--outputFile=${output}`];
  if (name !== "") argv.push("-t", name);
  const paths = files.map((file) => `test/stack/${file}.test.ts`);
  const command = join(ROOT, "node_modules/vitest/vitest.mjs");
  const child = spawn(process.execPath, [command, ...argv, ...paths], {
    cwd: copy.path,
    stdio: "ignore",
    detached: true,
    // A run that has to be ended leaves its scratch behind.
    env: { ...process.env, TMPDIR: copy.path },
  });
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    process.kill(-child.pid, "SIGKILL");
  }, TIMEOUT * files.length);
  return new Promise((resolve) => {
    child.on("close", () => {
      clearTimeout(timer);
      if (isLate) return resolve({ failed: 1, names: ["did not end"] });
      if (!existsSync(output)) return resolve({ failed: 1, names: [] });
      const { testResults } = JSON.parse(readFileSync(output, "utf8"));
      const tests = testResults.flatMap(({ name: path, assertionResults }) =>
        assertionResults.map((test) => ({ ...test, path })),
      );
      const ran = tests.filter(({ status }) => status === "passed" || status === "failed");
      const failed = ran.filter(({ status }) => status === "failed").length;
      resolve({ failed, names: ran.map(({ path, fullName }) => `${path} ${fullName}`) });
    });
  });
}

/** The tests of a rule, as {@link vitest} names them. */
function namesOf({ test, name = "" }) {
  return new RegExp(`/test/stack/${test}\\.test\\.ts .*(?:${name})`);
}

function describe({ file, rule, test, name }) {
  return `${file}: ${rule} (${test}${name === undefined ? "" : `: ${name}`})`;
}
