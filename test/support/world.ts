/**
 * A small world in network namespaces: a client machine and a server machine, joined by a veth pair.
 *
 *     client 10.77.0.1, fd00:77::1 ── veth ── server 10.77.0.2, fd00:77::2
 *
 * Needs root. Everything started or made here is ended and removed by `close`, which tests call in afterAll.
 */

import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const SERVER_IPV4 = "10.77.0.2";
export const SERVER_IPV6 = "fd00:77::2";
/** The program under test, as installed. */
export const CLI: string = fileURLToPath(new URL("../../bin/tun2socks.js", import.meta.url));
/** Programs of the tests' own, run by plain Node.js. */
export const fixture = (name: string): string =>
  fileURLToPath(new URL(`../e2e/fixtures/${name}`, import.meta.url));

export interface Result {
  /** 128+N when signal N ended the program. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class World {
  readonly client: string;
  readonly server: string;
  /** Scratch files, removed at the end. */
  readonly directory: string;
  readonly #children: ChildProcess[] = [];
  #namespaces: string[] = [];

  constructor() {
    const id = `${process.pid}-${World.#made++}`;
    this.client = `t2s-c-${id}`;
    this.server = `t2s-s-${id}`;
    this.directory = mkdtempSync(join(tmpdir(), "tun2socks-e2e-"));
    try {
      for (const name of [this.client, this.server]) this.#namespace(name);
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
      this.#address(this.client, "c0", 1);
      this.#address(this.server, "s0", 2);
      // A server that looks at its interfaces at start must find them running.
      for (let i = 0; i < 100 && !this.#isRunning(); i++) spawnSync("sleep", ["0.02"]);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  static #made = 0;

  /** One more machine, joined to nothing. */
  namespace(label: string): string {
    return this.#namespace(`${this.client}-${label}`);
  }

  #namespace(name: string): string {
    ip("netns", "add", name);
    this.#namespaces.push(name);
    ip("-n", name, "link", "set", "lo", "up");
    return name;
  }

  #address(namespace: string, device: string, host: number): void {
    ip("-n", namespace, "addr", "add", `10.77.0.${host}/24`, "dev", device);
    ip("-n", namespace, "addr", "add", `fd00:77::${host}/64`, "dev", device, "nodad");
    ip("-n", namespace, "link", "set", device, "up");
  }

  #isRunning(): boolean {
    return ip("-n", this.server, "-o", "link", "show", "dev", "s0").includes("state UP");
  }

  /** Starts a program that stays until `close`; its output is in `child.output`. */
  start(namespace: string, argv: readonly string[], options: SpawnOptions = {}): Running {
    const child = spawn("ip", ["netns", "exec", namespace, ...argv], {
      stdio: ["ignore", "pipe", "pipe"],
      ...options,
    });
    this.#children.push(child);
    return new Running(child);
  }

  /** Runs a program to its end. */
  run(namespace: string, argv: readonly string[], options: SpawnOptions = {}): Promise<Result> {
    return this.start(namespace, argv, { timeout: 90_000, ...options }).ended;
  }

  /** `tun2socks exec FLAGS -- COMMAND` on the client machine. */
  exec(
    flags: readonly string[],
    command: readonly string[],
    options: SpawnOptions = {},
  ): Promise<Result> {
    return this.run(
      this.client,
      [process.execPath, CLI, "exec", ...flags, "--", ...command],
      options,
    );
  }

  /** Resolves once a TCP or UDP port is bound in a namespace; rejects after ten seconds. */
  async bound(namespace: string, port: number, protocol: "t" | "u" = "t"): Promise<void> {
    for (let i = 0; i < 200; i++) {
      const { stdout } = spawnSync(
        "ip",
        ["netns", "exec", namespace, "ss", `-Hln${protocol}`, `sport = :${port}`],
        { encoding: "utf8" },
      );
      if (stdout.trim() !== "") return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`nothing is bound to port ${port} in ${namespace}`);
  }

  /** Resolves once a program in a namespace has a TCP (-t) or UDP (-u) socket towards `address`. */
  async asks(namespace: string, address: string, protocol: string): Promise<void> {
    for (let i = 0; i < 200; i++) {
      const argv = ["netns", "exec", namespace, "ss", "-Hna", protocol, "dst", address];
      if (spawnSync("ip", argv, { encoding: "utf8" }).stdout.trim() !== "") return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`nobody asks ${address} in ${namespace}`);
  }

  close(): void {
    for (const child of this.#children) if (child.exitCode === null) child.kill("SIGKILL");
    this.#children.length = 0;
    for (const namespace of this.#namespaces) {
      // What a fixture left running inside (a forked daemon) would keep the namespace alive.
      const { stdout } = spawnSync("ip", ["netns", "pids", namespace], { encoding: "utf8" });
      for (const pid of stdout.split("\n").filter((line) => line !== "")) {
        try {
          process.kill(Number(pid), "SIGKILL");
        } catch {
          // It ended by itself meanwhile.
        }
      }
      spawnSync("ip", ["netns", "del", namespace]);
    }
    this.#namespaces = [];
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A program that was started. */
export class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Result>;
  stdout = "";
  stderr = "";

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.on("data", (chunk) => {
      this.stdout += chunk;
    });
    child.stderr?.on("data", (chunk) => {
      this.stderr += chunk;
    });
    this.ended = new Promise((resolve) => {
      child.on("close", (code, signal) =>
        resolve({
          status: code ?? 128 + signalNumber(signal),
          stdout: this.stdout,
          stderr: this.stderr,
        }),
      );
    });
  }

  /** Resolves when standard output or error has `text`; rejects when the program ended or after ten seconds. */
  async says(text: string): Promise<void> {
    for (let i = 0; i < 400; i++) {
      if (this.stdout.includes(text) || this.stderr.includes(text)) return;
      if (this.child.exitCode !== null) break;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`never said "${text}": ${this.stdout}${this.stderr}`);
  }
}

function signalNumber(signal: NodeJS.Signals | null): number {
  return signal === "SIGKILL" ? 9 : signal === "SIGTERM" ? 15 : signal === "SIGINT" ? 2 : 1;
}

export function ip(...argv: string[]): string {
  const { status, stdout, stderr } = spawnSync("ip", argv, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${argv.join(" ")}: ${stderr.trim()}`);
  return stdout;
}
