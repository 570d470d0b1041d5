/**
 * The command line: one program, one file per command, one place where errors become lines and exit codes.
 *
 * `exec` ends with 125 for every failure of ours (as env and docker do), so that its caller can tell them from the
 * command's own status; all others with 2 for usage, 69 upstream, 77 permission, 1 otherwise.
 */

import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { exitStatus, TunnelError } from "../errors.ts";
import { addon } from "../native/binding.ts";
import { checkCommand } from "./check.ts";
import { demoCommand } from "./demo.ts";
import { standardOutput, writeError } from "./error-line.ts";
import { EXEC_FAILED, execCommand } from "./exec.ts";
import { explainCommand } from "./explain.ts";
import { listenCommand } from "./listen.ts";
import { probeCommand } from "./probe.ts";
import { hideCredentials } from "./process-title.ts";
import { proxyCommand } from "./proxy.ts";
import { runCommand } from "./run.ts";
import { usage } from "./values.ts";

/** Runs one command. Resolves with the exit status; never rejects. */
export async function main(argv: readonly string[]): Promise<number> {
  hideCredentials(argv);
  const name = commandOf(argv);
  let status = 0;
  const program = createProgram((value) => {
    status = value;
  });
  try {
    if (argv.length === 0) throw usage("no command given", "see tun2socks --help");
    await program.parseAsync(argv, { from: "user" });
    return status;
  } catch (error) {
    const known = program.commands.some((command) => command.name() === name);
    const [line, code] = describe(error, known ? `tun2socks ${name}` : "tun2socks");
    if (line !== "") writeError(line);
    return statusOf(name, code);
  }
}

/** Ends the process although something clings to it, for instance a look-up that nobody answers. */
export function endNow(status: number): never {
  try {
    addon().exitNow(status);
  } catch {
    // Not built: then this waits for the look-up.
  }
  process.exit(status);
}

/** For what nobody caught: prints its line. Returns the exit status. */
export function crashed(argv: readonly string[], error: unknown): number {
  const [line, code] = describe(error, "tun2socks");
  writeError(line);
  return statusOf(commandOf(argv), code);
}

function commandOf(argv: readonly string[]): string | undefined {
  return argv.find((word) => !word.startsWith("-"));
}

function statusOf(command: string | undefined, code: number): number {
  return command === "exec" && code !== 0 ? EXEC_FAILED : code;
}

function createProgram(setStatus: (status: number) => void): Command {
  const { version } = JSON.parse(
    readFileSync(new URL("../../package.json", import.meta.url), "utf8"),
  ) as { version: string };
  const program = new Command("tun2socks")
    .description("Sends programs that know nothing of proxies through a SOCKS or HTTP proxy.")
    .usage("<command> [options]")
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .helpCommand("help [command]", "print the help of a command")
    .configureHelp({
      subcommandTerm: (command) => command.name(),
      optionDescription: (option) => option.description,
    })
    .showSuggestionAfterError(true)
    .enablePositionalOptions()
    .configureOutput({ writeOut: standardOutput, writeErr: () => {} })
    .exitOverride();
  for (const command of [
    execCommand(setStatus),
    runCommand(setStatus),
    proxyCommand(setStatus),
    probeCommand(setStatus),
    listenCommand(setStatus),
    demoCommand(setStatus),
    checkCommand(setStatus),
    explainCommand(),
  ]) {
    program.addCommand(command.copyInheritedSettings(program));
  }
  program.addHelpText(
    "after",
    `
Examples:
  tun2socks exec -p socks5://127.0.0.1:1080 -- curl https://example.com
  tun2socks run -d tun0 -p socks5://192.0.2.1:1080
  tun2socks proxy --listen 127.0.0.1:1080`,
  );
  return program;
}

/** What to print and how to end. `command` is whose help the user should read. */
function describe(error: unknown, command: string): [line: string, status: number] {
  if (error instanceof TunnelError)
    return [`${error.message} (${error.code})`, exitStatus(error.code)];
  if (error instanceof CommanderError) {
    // Help and version were printed already.
    if (error.exitCode === 0) return ["", 0];
    const text =
      error.code === "commander.help"
        ? "no such command"
        : error.message
            .replace(/^error: /, "")
            // A flag or a command that was mistyped may hold a proxy URL: no value, no credentials.
            .replace(/('-[^=]*)=.*'/s, "$1'")
            .replace(/'.*@/s, "'…@")
            .replace(/\. Expected \d+ arguments? but got \d+\.$/, "")
            .trim();
    return [`${text}; see ${command} --help (ERR_USAGE)`, 2];
  }
  const detail =
    error instanceof Error ? (process.env["TUN2SOCKS_DEBUG"] ? error.stack : error.message) : error;
  return [`unexpected failure: ${detail}; this is a bug, please report it (ERR_INTERNAL)`, 1];
}
