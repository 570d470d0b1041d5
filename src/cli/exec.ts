/** `tun2socks exec`: one command in a namespace whose only way out is the tunnel. */

import { Command } from "commander";
import { TunnelError } from "../errors.ts";
import { commandFailure, exitCode, type Namespace, openNamespace } from "../host/namespace.ts";
import { createLog, type Log } from "../log.ts";
import { standardError, writeError } from "./error-line.ts";
import { addTunnelFlags, type TunnelFlags } from "./flags.ts";
import { openService } from "./service.ts";

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
  const service = await openService(flags, log, flags.workers);
  let namespace: Namespace | null = null;
  try {
    // The proxy's answer is on its way while the namespace is made.
    const probed = service.probe();
    namespace = openNamespace({
      command,
      keepEnv: flags.keepEnv,
      ...(service.dns === "off" ? { resolver: null } : {}),
      namesAsWritten: service.dns === "fake",
      offload: flags.offload,
      queues: flags.workers,
      ...(flags.mtu === undefined ? {} : { mtu: flags.mtu }),
    });
    const refusal = await probed;
    if (refusal !== null) throw refusal;
    for (const warning of namespace.warnings) warn(log, warning);
    let broken: (error: Error) => void = () => {};
    const bug = new Promise<never>((_resolve, reject) => {
      broken = reject;
    });
    const serving = service.serve(namespace.queues, (error) => {
      // The command lives on, without a network: its status is still its own.
      if (error instanceof TunnelError) log.error?.(`${error.message} (${error.code})`);
      else broken(error);
    });
    await Promise.race([serving, bug]);
    const exit = await Promise.race([namespace.run(), bug]);
    const failure = commandFailure(command[0] || '""', exit);
    if (failure !== null) writeError(`${failure.message} (${failure.code})`);
    return exitCode(exit);
  } finally {
    namespace?.close();
    await service.close();
  }
}

/** A step that was refused inside. What concerns names a user must know; the rest is for whoever looks. */
function warn(log: Log, step: string): void {
  if (/^(bind|hide|mount tmpfs)/.test(step)) {
    log.warn?.(`in the namespace: ${step}; names may stay unknown, or be asked past the tunnel`);
  } else log.debug?.(`in the namespace: ${step}`);
}
