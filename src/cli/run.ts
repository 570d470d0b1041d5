/** `tun2socks run`: serves a TUN device in the current namespace until SIGINT or SIGTERM. Touches no routes. */

import { readFileSync } from "node:fs";
import { Command } from "commander";
import { CLIENT_IPV4, CLIENT_IPV4_PREFIX, CLIENT_IPV6, CLIENT_IPV6_PREFIX } from "../addresses.ts";
import { createLog, type Log } from "../log.ts";
import { type Addon, addon, type NativeError } from "../native/binding.ts";
import type { Session } from "../session.ts";
import type { TunDevice } from "../tun/device.ts";
import { explain, LinuxTun, openTun } from "../tun/linux-tun.ts";
import { offloadBounds, ownMtu } from "../tun/offload.ts";
import { openTuntap2 } from "../tun/tuntap2-tun.ts";
import { standardError } from "./error-line.ts";
import {
  addTunnelFlags,
  BINDINGS,
  type BindingName,
  openSession,
  type TunnelFlags,
  value,
} from "./flags.ts";
import { STOPPED, stopSignal } from "./stop-signal.ts";
import { parseChoice, parseDevice } from "./values.ts";

interface RunFlags extends TunnelFlags {
  readonly device: string;
  readonly requireProxy: boolean;
  readonly binding: BindingName;
}

export function runCommand(setStatus: (status: number) => void): Command {
  const command = new Command("run")
    .summary("serve a TUN device; routes are yours to set")
    .description("Serves a TUN device until SIGINT or SIGTERM. Routes are yours to set.")
    .requiredOption(
      "-d, --device <name>",
      "TUN device to serve; made if it does not exist",
      value("-d", parseDevice),
    );
  return addTunnelFlags(command)
    .option("--require-proxy", "end with 69 if the proxy cannot be used at start", false)
    .option(
      "--binding <name>",
      "native, or tuntap2: the npm package (default: native)",
      value("--binding", parseChoice(BINDINGS)),
      "native",
    )
    .addHelpText(
      "after",
      `
A device made here has 198.18.0.1/15, fd00:18::1/64 and ends with tun2socks.
Without a proxy, the built-in one. Exit status: 0, 2 usage, 69 proxy, 77 denied.`,
    )
    .action(async (flags: RunFlags) => setStatus(await run(flags)));
}

async function run(flags: RunFlags): Promise<number> {
  const log = createLog(flags.logLevel, standardError);
  const stopped = stopSignal();
  // Neither a silent resolver nor a silent proxy keeps us from ending when told to.
  const opening = openSession(flags, log, flags.binding === "native");
  const session = await Promise.race([opening, stopped]);
  if (session === STOPPED) return 0;
  try {
    const refusal = await Promise.race([session.probe(), stopped]);
    if (refusal === STOPPED) return 0;
    if (refusal !== null) {
      if (flags.requireProxy) throw refusal.error;
      log.warn?.(
        `${refusal.error.message} (${refusal.error.code}); serving all the same: flows are refused until it is back`,
      );
    }
    const device =
      flags.binding === "native"
        ? openDevice(addon(), session, flags)
        : await tuntap2(session, flags, log);
    const failed = new Promise<never>((_resolve, reject) => {
      session.serve(device, reject);
    });
    log.info?.(`serving ${device.name} (MTU ${device.mtu}) through ${session.upstream.label}`);
    if (isDown(device.name)) {
      log.warn?.(
        `${device.name} is down, nothing reaches it: run \`ip link set ${device.name} up\``,
      );
    }
    await Promise.race([stopped, failed]);
    return 0;
  } finally {
    session.close();
  }
}

function openDevice(native: Addon, session: Session, flags: RunFlags): TunDevice {
  const info = openTun(native, flags.device, offloadBounds(flags.offload));
  try {
    if (info.created) {
      native.tunConfigure(info.name, {
        mtu: flags.mtu ?? ownMtu(info),
        txQueueLength: 1000,
        ipv4: CLIENT_IPV4,
        ipv4Prefix: CLIENT_IPV4_PREFIX,
        ipv6: CLIENT_IPV6,
        ipv6Prefix: CLIENT_IPV6_PREFIX,
        up: true,
      });
    } else if (flags.mtu !== undefined) native.tunConfigure(info.name, { mtu: flags.mtu });
    return new LinuxTun(native, session.loop.memory, { ...info, mtu: native.tunMtu(info.name) });
  } catch (error) {
    // The process ends now, and the kernel closes the descriptor with it.
    throw explain(info.name, error as NativeError);
  }
}

/** By sysfs, which shows the devices of the namespace in which it was mounted: what it does not know is not told. */
function isDown(name: string): boolean {
  try {
    return (Number(readFileSync(`/sys/class/net/${name}/flags`, "latin1")) & IFF_UP) === 0;
  } catch {
    return false;
  }
}

/** include/uapi/linux/if.h */
const IFF_UP = 1;

async function tuntap2(session: Session, flags: RunFlags, log: Log): Promise<TunDevice> {
  const device = await openTuntap2(session.loop.memory, {
    mtu: flags.mtu ?? 1500,
    ipv4: `${CLIENT_IPV4}/${CLIENT_IPV4_PREFIX}`,
    ipv6: `${CLIENT_IPV6}/${CLIENT_IPV6_PREFIX}`,
  });
  if (device.name !== flags.device) {
    log.warn?.(
      `this binding cannot choose names: the device is ${device.name}, not ${flags.device}`,
    );
  }
  return device;
}
