// Two network namespaces joined by a veth pair: `client` (10.200.0.1, fd00:200::1) and `server`
// (10.200.0.2, fd00:200::2). Needs root. Everything is removed by close(), also on SIGINT.

import { spawn, spawnSync } from "node:child_process";

export const SERVER_IPV4 = "10.200.0.2";
export const SERVER_IPV6 = "fd00:200::2";

export class Topology {
  constructor() {
    this.client = `t2s-client-${process.pid}`;
    this.server = `t2s-server-${process.pid}`;
    this.children = new Set();
    this.namespaces = [];
    process.once("exit", () => this.close());
    for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(130));
    for (const namespace of [this.client, this.server]) {
      ip("netns", "add", namespace);
      this.namespaces.push(namespace);
    }
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

  /** Starts a program that stays; it is ended by close(), with whatever it started itself. */
  start(namespace, argv, options = {}) {
    const child = spawn("ip", ["netns", "exec", namespace, ...argv], {
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
      ...options,
    });
    this.children.add(child);
    child.once("exit", () => this.children.delete(child));
    return child;
  }

  /** Ends a program that was started, and its process group. Resolves when it has ended. */
  async end(child) {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    killGroup(child);
    await ended;
  }

  /** Runs a program to its end. Resolves with { status, stdout, stderr, milliseconds }. */
  run(namespace, argv, { timeout = 60_000, ...options } = {}) {
    return new Promise((resolve) => {
      const started = performance.now();
      const child = this.start(namespace, argv, options);
      const late = setTimeout(() => killGroup(child), timeout);
      let stdout = "";
      let stderr = "";
      child.stdout.on("data", (chunk) => (stdout += chunk));
      child.stderr.on("data", (chunk) => (stderr += chunk));
      child.on("close", (status) => {
        clearTimeout(late);
        resolve({ status, stdout, stderr, milliseconds: performance.now() - started });
      });
    });
  }

  close() {
    for (const child of this.children) killGroup(child);
    this.children.clear();
    for (const namespace of this.namespaces) spawnSync("ip", ["netns", "del", namespace]);
    this.namespaces = [];
  }
}

/** Each program is started as the leader of a group of its own. */
function killGroup(child) {
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended, or could not be started.
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
