/** `tun2socks run`: serves a TUN device in the current namespace until SIGINT or SIGTERM. Touches no routes. */

import { readFileSync } from "node:fs";
import { Command } from "commander";
import { CLIENT_IPV4, CLIENT_IPV4_PREFIX, CLIENT_IPV6, CLIENT_IPV6_PREFIX } from "../addresses.ts";
import { createLog, type Log } from "../log.ts";
import { type Addon, addon, type NativeError, type TunInfo } from "../native/binding.ts";
import type { Session } from "../session.ts";
import type { TunDevice } from "../tun/device.ts";
import { explain, openQueues } from "../tun/linux-tun.ts";
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
import { openService, type Service } from "./service.ts";
import { STOPPED, stopSignal } from "./stop-signal.ts";
import { parseChoice, parseDevice, usage } from "./values.ts";

interface RunFlags extends TunnelFlags {
  readonly device: string;
  readonly requireProxy: boolean;
  readonly binding: BindingName;
}

/** A service and the device that it opens when it begins. */
interface RunService extends Omit<Service, "serve"> {
  serve(failed: (error: Error) => void): Promise<{ readonly name: string; readonly mtu: number }>;
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
Without -p: $ALL_PROXY, else the built-in. Exit 0, 2 usage, 69 proxy, 77 denied.`,
    )
    .action(async (flags: RunFlags) => setStatus(await run(flags)));
}

async function run(flags: RunFlags): Promise<number> {
  const log = createLog(flags.logLevel, standardError);
  const stopped = stopSignal();
  // Neither a silent resolver nor a silent proxy keeps us from ending when told to.
  const opening = flags.binding === "native" ? openNative(flags, log) : openByTuntap2(flags, log);
  const service = await Promise.race([opening, stopped]);
  if (service === STOPPED) return 0;
  try {
    const refusal = await Promise.race([service.probe(), stopped]);
    if (refusal === STOPPED) return 0;
    if (refusal !== null) {
      if (flags.requireProxy) throw refusal;
      log.warn?.(
        `${refusal.message} (${refusal.code}); serving all the same: flows are refused until it is back`,
      );
    }
    let fail: (error: Error) => void = () => {};
    const failed = new Promise<never>((_resolve, reject) => {
      fail = reject;
    });
    const device = await Promise.race([service.serve(fail), failed]);
    log.info?.(`serving ${device.name} (MTU ${device.mtu}) through ${service.label}`);
    if (isDown(device.name)) {
      log.warn?.(
        `${device.name} is down, nothing reaches it: run \`ip link set ${device.name} up\``,
      );
    }
    await Promise.race([stopped, failed]);
    return 0;
  } finally {
    await service.close();
  }
}

/** Queues that are opened before the proxy is known: how many there can be says how many threads there are. */
async function openNative(flags: RunFlags, log: Log): Promise<RunService> {
  const bounds = offloadBounds(flags.offload);
  const queues =
    flags.workers === 1 ? null : openQueues(addon(), flags.device, flags.workers, bounds);
  if (queues?.length === 1) {
    const [{ name }] = queues as [TunInfo];
    log.warn?.(
      `${name} has one queue: one thread serves it; make it with \`ip tuntap add dev ${name} mode tun multi_queue\``,
    );
  }
  const service = await openService(flags, log, queues?.length ?? 1);
  return {
    label: service.label,
    dns: service.dns,
    probe: service.probe,
    async serve(failed) {
      const opened = queues ?? openQueues(addon(), flags.device, 1, bounds);
      const [first] = opened as [TunInfo];
      const mtu = configure(addon(), first, flags);
      await service.serve(
        opened.map((info) => ({ ...info, mtu })),
        failed,
      );
      return { name: first.name, mtu };
    },
    close: service.close,
  };
}

async function openByTuntap2(flags: RunFlags, log: Log): Promise<RunService> {
  if (flags.workers > 1) {
    throw usage(
      "cannot use --workers: the devices of --binding tuntap2 have one queue",
      "leave it out, or use --binding native",
    );
  }
  const session = await openSession(flags, log, false);
  return {
    label: session.upstream.label,
    dns: session.dns,
    probe: async () => (await session.probe())?.error ?? null,
    async serve(failed) {
      const device = await tuntap2(session, flags, log);
      session.serve(device, failed);
      return device;
    },
    close: () => session.close(),
  };
}

/** Makes a device that is new one that serves; of another its MTU, if that is asked for. Returns the MTU. */
function configure(native: Addon, info: TunInfo, flags: RunFlags): number {
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
    return native.tunMtu(info.name);
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
