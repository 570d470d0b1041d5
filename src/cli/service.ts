/** What serves a device's queues: a session in this thread, or workers with one each. Behind one face for `exec` and `run`. */

import type { TunnelError } from "../errors.ts";
import type { Log } from "../log.ts";
import { addon, type TunInfo } from "../native/binding.ts";
import type { DnsMode } from "../relay/relay.ts";
import { LinuxTun } from "../tun/linux-tun.ts";
import { Workers } from "../workers/workers.ts";
import { openBy, openSession, type TunnelFlags } from "./flags.ts";

export interface Service {
  /** The upstream, as messages name it. */
  readonly label: string;
  /** How names are looked up. */
  readonly dns: DnsMode;
  /** Tries the proxy once. Null: it will have us. */
  probe(): Promise<TunnelError | null>;
  /** Serves a device, as many queues as the service was opened for, and owns them. What fails later goes to `failed`. */
  serve(queues: readonly TunInfo[], failed: (error: Error) => void): Promise<void>;
  close(): void | Promise<void>;
}

/** @throws TunnelError of {@link openSession}. */
export function openService(flags: TunnelFlags, log: Log, queues: number): Promise<Service> {
  return queues === 1 ? oneThread(flags, log) : manyThreads(flags, log, queues);
}

async function oneThread(flags: TunnelFlags, log: Log): Promise<Service> {
  const session = await openSession(flags, log, true);
  return {
    label: session.upstream.label,
    dns: session.dns,
    probe: async () => (await session.probe())?.error ?? null,
    async serve([info], failed) {
      session.serve(new LinuxTun(addon(), session.loop.memory, info as TunInfo), failed);
    },
    close: () => session.close(),
  };
}

async function manyThreads(flags: TunnelFlags, log: Log, count: number): Promise<Service> {
  const workers = await openBy((options) => Workers.open(options, count), flags, log, true);
  return {
    label: workers.label,
    dns: workers.dns,
    probe: () => workers.probe(),
    async serve(queues, failed) {
      workers.failed.catch(failed);
      await workers.serve(queues);
    },
    close: () => workers.close(),
  };
}
