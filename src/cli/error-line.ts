/** The one line on standard error that ends a failed command: "tun2socks: what failed: why; what to do (ERR_…)". */

/**
 * Prints it. Arguments and file names may hold anything, newlines and escape sequences too: those become blanks, unless
 * TUN2SOCKS_DEBUG asked for a stack trace.
 */
export function writeError(line: string): void {
  const text = process.env["TUN2SOCKS_DEBUG"] ? line : line.replace(/[\s\p{Cc}]+/gu, " ");
  process.stderr.write(`tun2socks: ${text}\n`);
}
