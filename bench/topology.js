// Two network namespaces joined by a veth pair: `client` (10.200.0.1, fd00:200::1) and `server`
// (10.200.0.2, fd00:200::2). Needs root. Everything is removed by close(), also on SIGINT.

import { spawn, spawnSync } from "node:child_process";

export const SERVER_IPV4 = "10.200.0.2";
export const SERVER_IPV6 = "fd00:200::2";

export class Topology {
  constructor() {
    this.client = `t2s-client-${process.pid}`;
    this.server = `t2s-server-${process.pid}`;
    this.children = [];
    process.once("exit", () => this.close());
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(130));
    ip("netns", "add", this.client);
    ip("netns", "add", this.server);
    ip(
      "-n",
      this.client,
      "link",
      "add",
      "c0",
      "type",
      "veth",
      "peer",
      "name",
      "s0",
      "netns",
      this.server,
    );
    for (const [namespace, device, host] of [
      [this.client, "c0", 1],
      [this.server, "s0", 2],
    ]) {
      ip("-n", namespace, "addr", "add", `10.200.0.${host}/24`, "dev", device);
      ip("-n", namespace, "addr", "add", `fd00:200::${host}/64`, "dev", device, "nodad");
      ip("-n", namespace, "link", "set", device, "up");
      ip("-n", namespace, "link", "set", "lo", "up");
    }

    this.namespaces = [this.client, this.server];
  }

  /** Makes one more namespace, not connected to anything; it is also a property of this name. */
  namespace(name) {
    const whole = `t2s-${name}-${process.pid}`;
    ip("netns", "add", whole);
    ip("-n", whole, "link", "set", "lo", "up");
    this.namespaces.push(whole);
    this[name] = whole;
    return whole;
  }

  /** Starts a program that stays; it is ended by close(). */
  start(namespace, argv, options = {}) {
    const child = spawn("ip", ["netns", "exec", namespace, ...argv], {
      stdio: ["ignore", "pipe", "pipe"],
      ...options,
    });
    this.children.push(child);
    return child;
  }

  /** Runs a program to its end. Resolves with { status, stdout, stderr, milliseconds }. */
  run(namespace, argv, { timeout = 60_000, ...options } = {}) {
    return new Promise((resolve) => {
      const started = performance.now();
      const child = spawn("ip", ["netns", "exec", namespace, ...argv], {
        stdio: ["ignore", "pipe", "pipe"],
        timeout,
        ...options,
      });
      let stdout = "";
      let stderr = "";
      child.stdout.on("data", (chunk) => (stdout += chunk));
      child.stderr.on("data", (chunk) => (stderr += chunk));
      child.on("close", (status) =>
        resolve({ status, stdout, stderr, milliseconds: performance.now() - started }),
      );
    });
  }

  close() {
    for (const child of this.children) if (child.exitCode === null) child.kill("SIGKILL");
    this.children = [];
    for (const namespace of this.namespaces) spawnSync("ip", ["netns", "del", namespace]);
    this.namespaces = [];
  }
}

export function ip(...argv) {
  const { status, stderr } = spawnSync("ip", argv, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${argv.join(" ")}: ${stderr.trim()}`);
}

/** Resolves once a TCP port answers inside a namespace; fails after five seconds. */
export async function listening(topology, namespace, port) {
  for (let i = 0; i < 100; i++) {
    const { stdout } = await topology.run(namespace, ["ss", "-Hltn", `sport = :${port}`]);
    if (stdout.trim() !== "") return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`nothing listens on port ${port}`);
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
