import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

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
          testTimeout: 120_000,
          hookTimeout: 60_000,
          fileParallelism: false,
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
