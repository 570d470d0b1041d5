/**
 * What the program writes: the one line on standard error that ends a failed command ("tun2socks: what failed: why;
 * what to do (ERR_…)"), its log, and its reports on standard output.
 */

import { oneLine } from "../one-line.ts";

/**
 * Prints it. Arguments and file names may hold anything, newlines and escape sequences too: those become blanks, unless
 * TUN2SOCKS_DEBUG asked for a stack trace.
 */
export function writeError(line: string): void {
  const text = process.env["TUN2SOCKS_DEBUG"] ? line : oneLine(line);
  standardError(`tun2socks: ${text}\n`);
}

/** Writes to standard error; to standard output. Both take milliseconds to open, and most runs write nothing. */
export const standardError = (text: string): void => write(process.stderr, text);
export const standardOutput = (text: string): void => write(process.stdout, text);

/** Who reads our output may go (`| head`): what runs goes on, and cleans up at its end. */
function write(stream: NodeJS.WriteStream, text: string): void {
  if (stream.listenerCount("error") === 0) stream.on("error", () => {});
  stream.write(text);
}
