/** `tun2socks exec`: one command in a namespace whose only way out is the tunnel. */

import { Command } from "commander";
import { commandFailure, exitCode, type Namespace, openNamespace } from "../host/namespace.ts";
import { createLog } from "../log.ts";
import { addon } from "../native/binding.ts";
import { Session } from "../session.ts";
import { LinuxTun } from "../tun/linux-tun.ts";
import { addTunnelFlags, type TunnelFlags } from "./flags.ts";

interface ExecFlags extends TunnelFlags {
  readonly keepEnv: boolean;
}

export function execCommand(setStatus: (status: number) => void): Command {
  return addTunnelFlags(new Command("exec"))
    .description("run a command whose only way out is the proxy; needs no root")
    .usage("[options] -- <command> [arguments...]")
    .argument("<command...>", "what to run, and its arguments")
    .option("--keep-env", "leave *_PROXY variables in the command's environment", false)
    .passThroughOptions()
    .action(async (command: string[], flags: ExecFlags) => setStatus(await exec(command, flags)))
    .addHelpText(
      "after",
      `
The exit status is the command's; 128+N if signal N ended it; 125 if tun2socks itself failed;
126 if the command cannot be executed, 127 if it was not found.`,
    );
}

async function exec(command: readonly string[], flags: ExecFlags): Promise<number> {
  const log = createLog(flags.logLevel);
  const session = await Session.open({
    proxy: flags.proxy,
    env: process.env,
    log,
    native: true,
    fwmark: flags.fwmark,
    interface: flags.interface ?? "",
    udpTimeout: flags.udpTimeout,
    icmp: flags.icmp,
    dns: flags.dns,
    dnsServer: flags.dnsServer,
    hostLoopback: flags.hostLoopback,
  });
  let namespace: Namespace | null = null;
  try {
    const refusal = await session.probe();
    if (refusal !== null) throw refusal.error;
    namespace = openNamespace({
      command,
      keepEnv: flags.keepEnv,
      ...(flags.dns === "off" ? { resolver: null } : {}),
      ...(flags.mtu === undefined ? {} : { mtu: flags.mtu }),
    });
    for (const warning of namespace.warnings) log.debug?.(`in the namespace: ${warning}`);
    const device = new LinuxTun(addon(), session.loop.memory, namespace.tun);
    session.serve(device, (error) => log.error?.(error.message));
    const exit = await namespace.run();
    const failure = commandFailure(command[0] as string, exit);
    if (failure !== null) process.stderr.write(`tun2socks: ${failure.message} (${failure.code})\n`);
    return exitCode(exit);
  } finally {
    namespace?.close();
    session.close();
  }
}
