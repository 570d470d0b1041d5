/** `tun2socks exec`: one command in a namespace whose only way out is the tunnel. */

import { Command } from "commander";
import { commandFailure, exitCode, type Namespace, openNamespace } from "../host/namespace.ts";
import { createLog, type Log } from "../log.ts";
import { addon } from "../native/binding.ts";
import { LinuxTun } from "../tun/linux-tun.ts";
import { standardError, writeError } from "./error-line.ts";
import { addTunnelFlags, openSession, type TunnelFlags } from "./flags.ts";

/** Exit status for failures that are not the command's. */
export const EXEC_FAILED = 125;

interface ExecFlags extends TunnelFlags {
  readonly keepEnv: boolean;
}

export function execCommand(setStatus: (status: number) => void): Command {
  return addTunnelFlags(new Command("exec"))
    .summary("run a command whose only way out is the proxy; needs no root")
    .description("Runs a command whose only way out is the proxy. Needs no root.")
    .usage("[options] -- <command> [arguments...]")
    .argument("<command...>")
    .option("--keep-env", "leave *_PROXY variables in the command's environment", false)
    .passThroughOptions()
    .action(async (command: string[], flags: ExecFlags) => setStatus(await exec(command, flags)))
    .addHelpText(
      "after",
      `
Without -p and ALL_PROXY the built-in proxy is used, which goes out directly.
The exit status is the command's; 128+N if signal N ended it; 125 if tun2socks
failed itself, 126 if the command cannot be executed, 127 if it is not found.`,
    );
}

async function exec(command: readonly string[], flags: ExecFlags): Promise<number> {
  const log = createLog(flags.logLevel, standardError);
  const session = await openSession(flags, log, true);
  let namespace: Namespace | null = null;
  try {
    // The proxy's answer is on its way while the namespace is made.
    const probed = session.probe();
    namespace = openNamespace({
      command,
      keepEnv: flags.keepEnv,
      ...(session.dns === "off" ? { resolver: null } : {}),
      namesAsWritten: session.dns === "fake",
      offload: flags.offload,
      ...(flags.mtu === undefined ? {} : { mtu: flags.mtu }),
    });
    const refusal = await probed;
    if (refusal !== null) throw refusal.error;
    for (const warning of namespace.warnings) warn(log, warning);
    const device = new LinuxTun(addon(), session.loop.memory, namespace.tun);
    // The command lives on, without a network: its status is still its own.
    session.serve(device, (error) => log.error?.(`${error.message} (${error.code})`));
    const exit = await namespace.run();
    const failure = commandFailure(command[0] || '""', exit);
    if (failure !== null) writeError(`${failure.message} (${failure.code})`);
    return exitCode(exit);
  } finally {
    namespace?.close();
    session.close();
  }
}

/** A step that was refused inside. What concerns names a user must know; the rest is for whoever looks. */
function warn(log: Log, step: string): void {
  if (/^(bind|hide|mount tmpfs)/.test(step)) {
    log.warn?.(`in the namespace: ${step}; names may stay unknown, or be asked past the tunnel`);
  } else log.debug?.(`in the namespace: ${step}`);
}
