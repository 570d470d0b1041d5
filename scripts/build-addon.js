#!/usr/bin/env node
// Builds the native addon: what `npm install` and `npm rebuild` run.
//
// Quiet when it works. One line when a tool is missing; the compiler's output when it fails.

import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Each line: any of these programs will do. */
const TOOLS = [
  ["python3", ["python3"]],
  ["make", ["make"]],
  ["a C compiler", [process.env.CC, "cc", "gcc", "clang"]],
  ["a C++ compiler", [process.env.CXX, "c++", "g++", "clang++"]],
];

const missing = TOOLS.filter(([, names]) => !names.some(inPath)).map(([what]) => what);
if (missing.length > 0) {
  fail(
    `tun2socks: cannot build the native addon: ${missing.join(", ")} missing; ` +
      "install with: apt-get install python3 make g++",
  );
}

const gyp = nodeGyp();
if (gyp === undefined) {
  fail(
    "tun2socks: cannot build the native addon: node-gyp missing; install with: npm i -g node-gyp",
  );
}

// A warning is an error in a checkout; an installed package must survive a compiler newer than its release.
const strict = existsSync(join(root, ".git")) ? ["--strict=1"] : [];
const args = [gyp, "rebuild", "--jobs=max", ...strict, ...headers(), ...process.argv.slice(2)];
const result = spawnSync(process.execPath, args, {
  cwd: root,
  encoding: "utf8",
  maxBuffer: 64 << 20,
  env: { ...process.env, npm_config_loglevel: "warn", ...compilers() },
});
if (result.status !== 0) {
  process.stderr.write(`${result.stdout ?? ""}${result.stderr ?? ""}`);
  fail(`tun2socks: the native addon did not build (${result.error?.message ?? "see above"})`);
}

function inPath(name) {
  if (!name) return false;
  // CC and CXX may carry a wrapper and options: "ccache gcc -m64".
  const program = name.split(" ")[0];
  const places = program.includes("/") ? [""] : (process.env.PATH ?? "").split(delimiter);
  return places.some((place) => {
    try {
      accessSync(join(place, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** make takes cc and g++ unless told otherwise: tells it what there is. */
function compilers() {
  const [, , [, c], [, cxx]] = TOOLS;
  return { CC: process.env.CC || c.find(inPath), CXX: process.env.CXX || cxx.find(inPath) };
}

/** npm names its own node-gyp; without npm, the one beside this Node.js or Debian's. */
function nodeGyp() {
  const prefix = dirname(dirname(process.execPath));
  return [
    process.env.npm_config_node_gyp,
    join(prefix, "lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js"),
    join(prefix, "share/nodejs/node-gyp/bin/node-gyp.js"),
    join(prefix, "lib/node_modules/node-gyp/bin/node-gyp.js"),
  ].find((path) => path && existsSync(path));
}

/** Headers installed with this very Node.js save a download, and work without network. */
function headers() {
  if (process.env.npm_config_nodedir) return [];
  const prefix = dirname(dirname(process.execPath));
  try {
    const text = readFileSync(join(prefix, "include/node/node_version.h"), "utf8");
    const part = (name) => text.match(new RegExp(`#define NODE_${name}_VERSION (\\d+)`))?.[1];
    const version = `${part("MAJOR")}.${part("MINOR")}.${part("PATCH")}`;
    return version === process.versions.node ? [`--nodedir=${prefix}`] : [];
  } catch {
    return [];
  }
}

function fail(line) {
  console.error(line);
  process.exit(1);
}
