#!/usr/bin/env node
// Runs everything the machine permits and prints one total.
//
//   npm test                        what cannot run here is named, with what to install
//   npm test -- --require-e2e       what cannot run here is a failure (continuous integration)
//   npm test -- --only e2e -t word  one suite, or vitest's own filters
//   npm run test:socks              only real peers of every kind; -u writes docs/socks.md

import { spawnSync } from "node:child_process";
import {
  accessSync,
  constants,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Programs the end-to-end tests run, with the Debian package of each and what is not tested without it. */
const PROGRAMS = [
  ["ip", "iproute2", "every end-to-end test"],
  ["curl", "curl", "transfers and refusals as curl sees them"],
  ["iperf3", "iperf3", "throughput"],
  ["dig", "dnsutils", "names inside `exec`"],
  ["danted", "dante-server", "Dante as the proxy"],
  ["microsocks", "microsocks", "microsocks as the proxy"],
  ["sshd", "openssh-server", "`ssh -D` as the proxy"],
];

/** The same for the suite "socks", which has some of those too. */
const PEERS = [
  ["ip", "iproute2", "every row"],
  ["curl", "curl", "curl as a client"],
  ["danted", "dante-server", "Dante"],
  ["microsocks", "microsocks", "microsocks"],
  ["sshd", "openssh-server", "`ssh -D`"],
  ["openssl", "openssl", "Dante with a password"],
  ["ss-local", "shadowsocks-libev", "shadowsocks"],
  ["stunnel4", "stunnel4", "proxies behind TLS"],
  ["tinyproxy", "tinyproxy", "tinyproxy (HTTP CONNECT)"],
  ["ncat", "ncat", "ncat, and ssh by it, as clients"],
  ["proxychains4", "proxychains4", "proxychains4 as a client"],
  ["python3-socks", "python3-socks", "PySocks as a client"],
  ["krb5kdc", "krb5-kdc", "GSSAPI"],
  ["kadmin.local", "krb5-admin-server", "GSSAPI"],
  ["kinit", "krb5-user", "GSSAPI"],
  ["python3-gssapi", "python3-gssapi", "GSSAPI"],
];

/** Those of them that are modules of Debian's Python. */
const MODULES = {
  "python3-socks": "/usr/lib/python3/dist-packages/socks.py",
  "python3-gssapi": "/usr/lib/python3/dist-packages/gssapi",
};

const args = process.argv.slice(2);
const requireE2e = take("--require-e2e");
const only = takeValue("--only");
const totals = { passed: 0, failed: 0 };
const failures = [];
const missing = (only === "socks" ? PEERS : PROGRAMS).filter(([program]) => !inPath(program));
const noE2e = whyNoE2e();

if (args.length === 0 && only === undefined) {
  step("lint", "npx", ["biome", "check", "--colors=off", "."]);
  step("build", "npm", ["run", "--silent", "build"]);
  step("types of tests", "npx", ["tsc", "-p", "test/tsconfig.json"]);
}
if (only === undefined || only === "unit") suite("unit", 300_000);
if (args.length === 0 && only === undefined) {
  step("nothing is allocated per packet", "node", ["bench/allocation.js"]);
  step("nothing is allocated per datagram", "node", ["bench/udp-allocation.js"]);
  for (const name of readdirSync("examples")) step(`example ${name}`, "node", [`examples/${name}`]);
}
if (only === undefined || only === "e2e" || only === "socks") {
  if (noE2e === null) {
    for (const [, name, what] of missing) report(`${name} is not installed: not run: ${what}`);
    suite(only ?? "e2e", 600_000);
    if (args.length === 0 && only === undefined)
      step("addon under AddressSanitizer", "node", ["scripts/asan.js"]);
  } else report(`end-to-end tests not run: ${noE2e}`);
}

for (const failure of failures) console.log(`not passed: ${failure}`);
console.log(`${totals.passed} passed, ${totals.failed} failed`);
process.exit(failures.length > 0 || totals.failed > 0 ? 1 : 0);

function take(flag) {
  const at = args.indexOf(flag);
  if (at >= 0) args.splice(at, 1);
  return at >= 0;
}

function takeValue(flag) {
  const at = args.indexOf(flag);
  return at >= 0 ? args.splice(at, 2)[1] : undefined;
}

function inPath(program) {
  if (Object.hasOwn(MODULES, program)) return existsSync(MODULES[program]);
  const path = `${process.env.PATH}:/usr/sbin:/sbin`;
  return path.split(":").some((directory) => existsSync(join(directory, program)));
}

function whyNoE2e() {
  if (process.getuid() !== 0) return "they need root";
  try {
    accessSync("/dev/net/tun", constants.R_OK | constants.W_OK);
  } catch {
    return "they need /dev/net/tun (modprobe tun)";
  }
  if (missing.some(([program]) => program === "ip")) return "they need iproute2";
  return null;
}

/** What is not run is said, and under --require-e2e it is a failure. */
function report(line) {
  console.log(line);
  if (requireE2e) failures.push(line);
}

function step(name, command, argv) {
  const started = Date.now();
  const { status } = spawnSync(command, argv, { stdio: "inherit", timeout: 300_000 });
  console.log(`${name}: ${status === 0 ? "ok" : "failed"} (${seconds(started)} s)`);
  if (status !== 0) failures.push(name);
}

function suite(name, timeout) {
  const started = Date.now();
  const directory = mkdtempSync(join(tmpdir(), "tun2socks-test-"));
  const output = join(directory, "result.json");
  try {
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${output}`];
    const { status } = spawnSync(
      "npx",
      ["vitest", "run", "--project", name === "e2e" ? "e2e*" : name, ...reporters, ...args],
      {
        stdio: ["ignore", "inherit", "inherit"],
        timeout,
        env: {
          ...process.env,
          PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
          TUN2SOCKS_MISSING: missing.map(([program]) => program).join(","),
        },
      },
    );
    const result = existsSync(output) ? JSON.parse(readFileSync(output, "utf8")) : {};
    totals.passed += result.numPassedTests ?? 0;
    totals.failed += result.numFailedTests ?? 0;
    if (status !== 0) failures.push(`suite ${name}`);
    if (status === 0 && args.length === 0 && !result.numPassedTests) {
      failures.push(`suite ${name} ran no test`);
    }
    console.log(`${name}: ${result.numPassedTests ?? 0} passed (${seconds(started)} s)`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function seconds(started) {
  return ((Date.now() - started) / 1000).toFixed(1);
}
