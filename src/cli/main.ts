/**
 * The command line: one program, one file per command, one place where errors become lines and exit codes.
 *
 * `exec` ends with 125 for every failure of ours (as env and docker do), so that its caller can tell them from the
 * command's own status; all others with 2 for usage, 69 upstream, 77 permission, 1 otherwise.
 */

import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { exitStatus, TunnelError } from "../errors.ts";
import { demoCommand } from "./demo.ts";
import { execCommand } from "./exec.ts";
import { proxyCommand } from "./proxy.ts";
import { runCommand } from "./run.ts";

/** Exit status of `exec` for failures that are not the command's. */
const EXEC_FAILED = 125;

/** Runs one command. Resolves with the exit status; never rejects. */
export async function main(argv: readonly string[]): Promise<number> {
  const isExec = argv.find((word) => !word.startsWith("-")) === "exec";
  let status = 0;
  const program = createProgram((value) => {
    status = value;
  });
  try {
    await program.parseAsync(argv, { from: "user" });
    return status;
  } catch (error) {
    const [line, code] = describe(error);
    if (line !== "") process.stderr.write(`tun2socks: ${line}\n`);
    return isExec && code !== 0 ? EXEC_FAILED : code;
  }
}

function createProgram(setStatus: (status: number) => void): Command {
  const { version } = JSON.parse(
    readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
  ) as { version: string };
  const program = new Command("tun2socks")
    .description("Sends programs that know nothing of proxies through a SOCKS proxy.")
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand(false)
    .showSuggestionAfterError(true)
    .enablePositionalOptions()
    .configureOutput({ writeErr: () => {} })
    .exitOverride();
  for (const command of [
    execCommand(setStatus),
    runCommand(setStatus),
    proxyCommand(setStatus),
    demoCommand(setStatus),
  ]) {
    program.addCommand(command.copyInheritedSettings(program));
  }
  program.addHelpText(
    "after",
    `
Examples:
  tun2socks exec -p socks5://127.0.0.1:1080 -- curl https://example.com   one program, no root
  tun2socks run -d tun0 -p socks5://192.0.2.1:1080                        serve a TUN device
  tun2socks proxy --listen 127.0.0.1:1080                                 a SOCKS5 server
  tun2socks demo                                                          see it work, offline`,
  );
  return program;
}

/** What to print and how to end. */
function describe(error: unknown): [line: string, status: number] {
  if (error instanceof TunnelError)
    return [`${error.message} (${error.code})`, exitStatus(error.code)];
  if (error instanceof CommanderError) {
    // Help and version were printed already.
    if (error.exitCode === 0) return ["", 0];
    if (error.code === "commander.help")
      return ["no command given; see tun2socks --help (ERR_USAGE)", 2];
    const text = error.message
      .replace(/^error: /, "")
      .replace(/\s*\n\s*/g, " ")
      .trim();
    return [`${text}; see tun2socks --help (ERR_USAGE)`, 2];
  }
  const detail =
    error instanceof Error ? (process.env["TUN2SOCKS_DEBUG"] ? error.stack : error.message) : error;
  return [`${detail}; this is a bug, please report it (ERR_INTERNAL)`, 1];
}
