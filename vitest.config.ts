import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

/** End-to-end tests that wait for programs more than they work: these do not disturb each other. */
const MOSTLY_WAITING = [
  "cli-errors",
  "credentials",
  "exec",
  "hidden-credentials",
  "listen",
  "names",
  "pipelining",
  "pools",
  "proxy-curl",
  "refusals",
  "rules",
  "spawn",
].map((name) => `test/e2e/${name}.test.ts`);

export default defineConfig({
  test: {
    pool: "forks",
    coverage: {
      provider: "v8",
      include: ["src/stack/**/*.ts"],
      // Types and names only.
      exclude: ["src/stack/index.ts", "src/stack/ports.ts"],
      reporter: [["text", { skipFull: true }]],
      thresholds: { lines: 95, branches: 90 },
    },
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/e2e/**", "test/matrix/**"],
          setupFiles: ["test/support/property-seed.ts"],
          // All processors: the default leaves one to whoever watches.
          maxWorkers: availableParallelism(),
          testTimeout: 20_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          exclude: MOSTLY_WAITING,
          testTimeout: 120_000,
          hookTimeout: 60_000,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: "e2e-waiting",
          include: MOSTLY_WAITING,
          testTimeout: 120_000,
          hookTimeout: 60_000,
          maxWorkers: availableParallelism(),
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          name: "socks",
          include: ["test/matrix/**/*.test.ts"],
          testTimeout: 120_000,
          maxConcurrency: 3,
        },
      },
    ],
  },
});
