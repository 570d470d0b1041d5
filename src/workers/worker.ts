/**
 * One worker: a thread with a queue of the device, a session of its own (memory, stack, timers, sockets) and the ports
 * that wake it when another hands it packets. Made and told what to do by workers.ts.
 */

import { parentPort, workerData } from "node:worker_threads";
import { TunnelError } from "../errors.ts";
import type { Log } from "../log.ts";
import { addon } from "../native/binding.ts";
import { Session } from "../session.ts";
import { Endpoint } from "../stack/wire/address.ts";
import { LinuxTun } from "../tun/linux-tun.ts";
import type { Tunnel } from "../tunnel.ts";
import type { FromWorker, PlainEndpoint, ToWorker, WorkerStart } from "./messages.ts";
import { WorkerSockets } from "./shared-sockets.ts";
import { WorkerNeighbours } from "./worker-neighbours.ts";

const start = workerData as WorkerStart;
const main = parentPort as NonNullable<typeof parentPort>;
let session: Session | null = null;
let tunnel: Tunnel | null = null;
let neighbours: WorkerNeighbours | null = null;

// What is asked before the session is there waits: the port keeps messages until somebody listens.
await open();

async function open(): Promise<void> {
  const { state, dnsServer, sources, origin, options, sockets } = start;
  try {
    session = await Session.open({
      ...options,
      dnsServer: dnsServer === null ? undefined : endpoint(dnsServer),
      sources: sources.map(endpoint),
      log: log(),
      share: {
        count: state.workers,
        secret: state.secret,
        origin,
        sockets: new WorkerSockets(sockets, state.secret),
        neighbours: ({ bytes }) => {
          neighbours = new WorkerNeighbours(state, start.index, bytes, ping);
          return neighbours;
        },
      },
    });
  } catch (error) {
    fail(error);
    return;
  }
  main.on("message", (message: ToWorker) => void answer(message).catch(fail));
  say({ type: "opened", label: session.upstream.label, dns: session.dns });
}

async function answer(message: ToWorker): Promise<void> {
  const { upstream } = session as Session;
  switch (message.type) {
    case "probe": {
      const refusal = await upstream.probe();
      say({ type: "probed", refusal: refusal === null ? null : plain(refusal.error) });
      return;
    }
    case "serve":
      serve(message.tun);
      return;
    case "stats":
      say({
        type: "stats",
        stats: {
          stack: { ...(tunnel as Tunnel).stack.stats },
          relay: { ...(tunnel as Tunnel).relay.stats },
          refusedPackets: (tunnel as Tunnel).refusedPackets,
          unlistedFlows: (neighbours as WorkerNeighbours).directory.unlisted,
        },
      });
      return;
    case "close":
      session?.close();
      // The thread alone: its descriptors and handles end with its environment.
      process.exit(0);
  }
}

function serve(tun: (ToWorker & { type: "serve" })["tun"]): void {
  const { loop } = session as Session;
  addon().tunAdopt(tun.fd);
  const device = new LinuxTun(addon(), loop.memory, tun);
  tunnel = (session as Session).serve(device, fail);
  for (const port of start.ports) port?.on("message", () => neighbours?.pinged());
  say({ type: "serving" });
}

/** Wakes another worker, which reads all that was handed over. */
function ping(worker: number): void {
  start.ports[worker]?.postMessage(0);
}

/** What a user can meet is told; the rest is a bug, and ends the thread as it would the process. */
function fail(error: unknown): void {
  if (!(error instanceof TunnelError)) throw error;
  say({ type: "failed", error: plain(error) });
}

function plain({ code, message }: TunnelError): { code: TunnelError["code"]; message: string } {
  return { code, message };
}

function say(message: FromWorker): void {
  main.postMessage(message);
}

/** Lines go through the main thread. */
function log(): Log {
  const result: { -readonly [K in keyof Log]: Log[K] } = {};
  for (const level of start.levels) {
    result[level] = (line) => say({ type: "log", level, line });
  }
  return result;
}

function endpoint({ w0, w1, w2, w3, port }: PlainEndpoint): Endpoint {
  return new Endpoint().set(w0, w1, w2, w3, port);
}
