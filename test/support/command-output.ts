/**
 * What a command that runs in this process prints: importing this keeps it from the terminal, test by test, and no proxy of the
 * environment counts.
 */

import { afterEach, beforeEach, vi } from "vitest";

/** Of the test that runs. */
export let stdout = "";
export let stderr = "";

/** As if nothing had been printed yet. */
export function forgetOutput(): void {
  stdout = "";
  stderr = "";
}

beforeEach(() => {
  forgetOutput();
  vi.stubEnv("ALL_PROXY", undefined);
  vi.stubEnv("all_proxy", undefined);
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    stdout += text;
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += text;
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});
