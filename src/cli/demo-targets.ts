/** What the demo's programs talk to: HTTP on 127.0.0.1 and ::1, a UDP echo, and a port where nobody listens. */

import { fileURLToPath } from "node:url";

/** Ports on loopback. */
export interface DemoPorts {
  readonly http: number;
  /** 0 where the machine has no IPv6 loopback. */
  readonly http6: number;
  readonly udp: number;
  readonly closed: number;
}

export interface DemoTargets extends DemoPorts {
  stop(): Promise<unknown>;
}

/** Starts them in a worker, so that they do not compete with the proxy for the main thread. */
export async function startTargets(): Promise<DemoTargets> {
  const { Worker } = process.getBuiltinModule("node:worker_threads");
  const worker = new Worker(fileURLToPath(new URL("./demo-targets-worker.js", import.meta.url)));
  const ports = await new Promise<DemoPorts>((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
  });
  return { ...ports, stop: () => worker.terminate() };
}
