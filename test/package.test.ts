/** What `npm pack` puts into the package: what an installation builds, runs and reads, and nothing else. */

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const pack = spawnSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
  cwd: ROOT,
  encoding: "utf8",
});
const files: string[] = JSON.parse(pack.stdout)[0].files.map(({ path }: { path: string }) => path);

test("the package has every source of the addon, and what builds it", () => {
  const native = readdirSync(join(ROOT, "src/native")).filter((name) => /\.[ch]$/.test(name));
  const sources = native.map((name) => `src/native/${name}`);
  expect(files).toEqual(
    expect.arrayContaining([...sources, "binding.gyp", "scripts/build-addon.js"]),
  );
});

test("the package has the program as one file, and what compiles it where it is installed", () => {
  expect(files).toEqual(
    expect.arrayContaining([
      "bin/package.json",
      "bin/tun2socks.js",
      "dist/cli/tun2socks.cjs",
      "scripts/code-cache.js",
    ]),
  );
  expect(files).not.toContain("dist/cli/tun2socks.code");
});

test("the package has nothing of the development", () => {
  expect(files.filter((path) => /^(test|bench|node_modules|build)\//.test(path))).toEqual([]);
  expect(files.filter((path) => /tsbuildinfo|(?<!\.d)\.ts$|tsconfig/.test(path))).toEqual([]);
});

test("links of the package's texts lead to files of the package", () => {
  for (const text of files.filter((path) => path.endsWith(".md"))) {
    const links = readFileSync(join(ROOT, text), "utf8").matchAll(/\]\((?!https?:|#)([^)#]+)/g);
    for (const [, link] of links) {
      const target = normalize(join(dirname(text), link as string));
      expect(existsSync(join(ROOT, target)), `${text}: ${link}`).toBe(true);
      expect(
        files.some((path) => path === target || path.startsWith(target)),
        `${text}: ${link}`,
      ).toBe(true);
    }
  }
});
