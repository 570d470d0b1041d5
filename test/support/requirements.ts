/** What this machine lacks, as scripts/test.js found out: tests that need it are named there, not silently skipped. */
const missing: ReadonlySet<string> = new Set(
  (process.env["TUN2SOCKS_MISSING"] ?? "").split(",").filter((name) => name !== ""),
);

/** True when one of `programs` is not installed. For `describe.skipIf`. */
export function lacks(...programs: string[]): boolean {
  return programs.some((program) => missing.has(program));
}
