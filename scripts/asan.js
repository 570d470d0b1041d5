#!/usr/bin/env node
// Runs the addon's tests under AddressSanitizer and LeakSanitizer, in a copy of the tree.
//
// Node.js and the programs that tests start have leaks of their own: a leak counts when the addon
// allocated it, by itself or through napi_* and uv_*. Any other report counts always. A second tiny addon that leaks on purpose
// proves that leaks are seen at all. Exit 1 on a finding, a failed test, or a blind sanitizer.

import { spawnSync } from "node:child_process";
import {
  accessSync,
  chmodSync,
  constants,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const LIMIT_MS = 120_000;
const COPIED = ["binding.gyp", "package.json", "tsconfig.json", "tsconfig.base.json"];
/** Every path through the parent's memory, once; the supervisor allocates nothing. All of them take minutes. */
const SPAWN_TESTS =
  "as root .*(status is reported|refusal leaves|again and again)|the command .*ends us with|the parent ";
const CANARY = `
#include <node_api.h>
#include <stdlib.h>
NAPI_MODULE_INIT()
{
	void *volatile lost = malloc(77);
	(void)env;
	lost = NULL;
	(void)lost;
	return exports;
}
`;
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const copy = mkdtempSync(join(tmpdir(), "tun2socks-asan-"));
let failed = false;
try {
  if (!existsSync(join(root, "dist"))) throw new Error("run `npm run build` first");
  build();
  const library = spawnSync("gcc", ["-print-file-name=libasan.so"], { encoding: "utf8" });
  const env = {
    ...process.env,
    LD_PRELOAD: library.stdout.trim(),
    ASAN_OPTIONS: `detect_leaks=1:exitcode=0:handle_segv=0:log_path=${join(copy, "report")}`,
  };
  tests(env);
  failed ||= findings("tun2socks.node", "src/native/").map(print).length > 0;
  canary(env);
} finally {
  rmSync(copy, { recursive: true, force: true });
}
console.log(
  failed ? "addon under AddressSanitizer: failed" : "addon under AddressSanitizer: clean",
);
process.exit(failed ? 1 : 0);

function build() {
  for (const name of COPIED) cpSync(join(root, name), join(copy, name));
  // Tests become other users, whose reports must find their place.
  chmodSync(copy, 0o777);
  for (const name of ["src", "dist", "test", "scripts"]) {
    cpSync(join(root, name), join(copy, name), { recursive: true });
  }
  cpSync(join(root, "vitest.config.ts"), join(copy, "vitest.config.ts"));
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  const gyp = JSON.parse(readFileSync(join(copy, "binding.gyp"), "utf8"));
  const target = { ...gyp.targets[0], target_name: "canary", sources: ["canary.c"] };
  writeFileSync(
    join(copy, "binding.gyp"),
    JSON.stringify({ ...gyp, targets: [...gyp.targets, target] }),
  );
  writeFileSync(join(copy, "canary.c"), CANARY);
  const { status } = spawnSync(
    process.execPath,
    ["scripts/build-addon.js", "--asan=1", "--strict=1"],
    {
      cwd: copy,
      stdio: "inherit",
      timeout: LIMIT_MS,
    },
  );
  if (status !== 0) throw new Error("the addon does not build with -fsanitize=address");
}

function tests(env) {
  if (!canTun()) {
    console.log("not run under AddressSanitizer: TUN and spawn (they need root and /dev/net/tun)");
    vitest(env, "test/native/");
    return;
  }
  vitest(env, "test/native/", "test/e2e/native-");
  vitest(env, "test/e2e/spawn", "-t", SPAWN_TESTS);
}

function vitest(env, ...filters) {
  // Threads: vitest kills its forks, and a killed process is not searched for leaks. One at a time: tests count the descriptors
  // of the process, which all threads share.
  const threads = ["--pool=threads", "--no-file-parallelism", "--maxWorkers=1"];
  const options = ["run", ...threads, "--testTimeout=60000", "--reporter=dot"];
  const program = join(root, "node_modules/vitest/vitest.mjs");
  const { status } = spawnSync(process.execPath, [program, ...options, ...filters], {
    cwd: copy,
    stdio: ["ignore", "inherit", "inherit"],
    timeout: LIMIT_MS,
    env,
  });
  if (status !== 0) failed = true;
}

function canary(env) {
  spawnSync(process.execPath, ["-e", 'require("./build/Release/canary.node")'], { cwd: copy, env });
  if (findings("canary.c").length === 0) {
    console.log("a leak made on purpose was not found: the leak check does not work here");
    failed = true;
  }
}

/** Leaks whose allocating frame names one of `marks`, and every report that is not a leak. */
function findings(...marks) {
  const reports = readdirSync(copy).filter((name) => name.startsWith("report."));
  return reports.flatMap((name) => {
    const text = readFileSync(join(copy, name), "utf8");
    if (!text.includes("LeakSanitizer")) return [text];
    const leaks = text.split("\n\n").filter((block) => /(Direct|Indirect) leak/.test(block));
    return leaks.filter((block) => marks.some((mark) => allocator(block).includes(mark)));
  });
}

/** The frame that asked for the memory: malloc itself (frame 0) and the C interfaces of Node.js left out. */
function allocator(block) {
  const frames = block.split("\n").filter((line) => /^ +#[1-9]/.test(line));
  return frames.find((line) => !/ in (napi_(?!register)|node_api_|v8impl::|uv_)/.test(line)) ?? "";
}

function print(finding) {
  console.log(finding.split("\n").slice(0, 16).join("\n"));
  return finding;
}

function canTun() {
  try {
    accessSync("/dev/net/tun", constants.R_OK | constants.W_OK);
    return process.getuid() === 0 && ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].some(existsSync);
  } catch {
    return false;
  }
}
