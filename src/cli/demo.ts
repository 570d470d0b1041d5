/**
 * `tun2socks demo`: real programs through a real TUN, without a network.
 *
 * A SOCKS5 server in this process maps the documentation addresses 203.0.113.1 (RFC 5737) and 2001:db8::1 (RFC 3849)
 * to loopback, where an HTTP server and a UDP echo wait in a thread of their own. Every line of the report is a program
 * run by `tun2socks exec`, as a user would run it.
 */

import { createReadStream, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { type ErrorCode, TunnelError } from "../errors.ts";
import { createLog } from "../log.ts";
import { Loop } from "../loop.ts";
import { mapMemory } from "../memory.ts";
import { addon } from "../native/binding.ts";
import { randomCredentials } from "../socks/credentials.ts";
import { SocksServer } from "../socks/server.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { type DemoTargets, startTargets } from "./demo-targets.ts";
import { standardError, standardOutput } from "./error-line.ts";
import { EXEC_FAILED } from "./exec.ts";
import { stopSignal } from "./stop-signal.ts";

/** Documentation addresses that the demo's proxy maps to its own loopback. */
const HOST_IPV4 = "203.0.113.1";
const HOST_IPV6 = "2001:db8::1";
const OCTETS = 256 << 20;
const ECHOES = 200;
const REFUSALS = 20;
/** A program that takes longer has failed. */
const PROGRAM_TIMEOUT = 60_000;

export function demoCommand(setStatus: (status: number) => void): Command {
  return new Command("demo")
    .summary("see it work: real programs, a real TUN, no network needed")
    .description("Shows it at work: real programs through a real TUN, no network needed.")
    .action(async () => setStatus(await demo()));
}

/** One line of the report. */
interface Row {
  readonly held: boolean;
  readonly text: string;
}

async function demo(): Promise<number> {
  const native = addon();
  const memory = mapMemory(native);
  const loop = new Loop(native, memory);
  const { user, password } = randomCredentials();
  const server = new SocksServer(
    {
      address: "127.0.0.1",
      port: 0,
      credentials: new Map([[user, password]]),
      allowPrivate: true,
      open: false,
      translate: toLoopback,
    },
    {
      addon: native,
      poller: loop.poller!,
      memory,
      timers: loop.timers,
      log: createLog("error", standardError),
      turn: loop,
    },
  );
  const directory = mkdtempSync(join(tmpdir(), "tun2socks-demo-"));
  const stop = new AbortController();
  void stopSignal().then(() => stop.abort());
  const targets = await startTargets();
  try {
    const { port } = server.listen();
    const proxy = `socks5://${user}:${password}@127.0.0.1:${port}`;
    const programs = new Programs(proxy, directory, stop.signal);
    standardOutput(introduction(port));
    let held = true;
    for (const [name, check] of CHECKS) {
      const row = await check(programs, targets);
      if (stop.signal.aborted) return 1;
      held &&= row.held;
      standardOutput(`  ${row.held ? "ok  " : "FAIL"}  ${name.padEnd(13)}${row.text}\n`);
    }
    standardOutput(held ? "\nEverything held.\n" : "\nNot everything held.\n");
    return held ? 0 : 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
    server.close();
    loop.close();
    await targets.stop();
  }
}

function introduction(port: number): string {
  return `Each program below runs in a network namespace whose only way out is a TUN
device, this stack, and a SOCKS5 proxy on 127.0.0.1:${port}, which maps
${HOST_IPV4} and ${HOST_IPV6} to servers on this machine.

`;
}

const CHECKS: ReadonlyArray<
  readonly [string, (programs: Programs, targets: DemoTargets) => Promise<Row>]
> = [
  ["download", (programs, { http }) => download(programs, `http://${HOST_IPV4}:${http}`, OCTETS)],
  ["upload", (programs, { http }) => upload(programs, `http://${HOST_IPV4}:${http}`, OCTETS)],
  [
    "IPv6",
    (programs, { http6 }) =>
      http6 === 0
        ? Promise.resolve({ held: true, text: "not shown: this machine has no ::1" })
        : download(programs, `http://[${HOST_IPV6}]:${http6}`, OCTETS / 4),
  ],
  ["UDP", (programs, { udp }) => echo(programs, udp)],
  ["closed port", (programs, { closed }) => refused(programs, closed)],
];

async function download(programs: Programs, url: string, octets: number): Promise<Row> {
  const file = join(programs.directory, "download");
  const result = await programs.run(programs.get(`${url}/${octets}`, file));
  if (result.status !== 0) return failed(result);
  const expected = await (await fetchText(url, `/sha256/${octets}`)).trim();
  const held = (await sha256(file)) === expected;
  return {
    held,
    text: `${mebibytes(octets)} by ${programs.client}, ${gigabits(result.stdout)}, SHA-256 ${held ? "equal" : "DIFFERS"}`,
  };
}

async function upload(programs: Programs, url: string, octets: number): Promise<Row> {
  const file = join(programs.directory, "download");
  const result = await programs.run(programs.put(`${url}/upload`, file));
  if (result.status !== 0) return failed(result);
  const [hash, speed] = result.stdout.trim().split(/\s+/);
  const held = hash === (await sha256(file));
  return {
    held,
    text: `${mebibytes(octets)} by ${programs.client}, ${gigabits(speed ?? "")}, SHA-256 ${held ? "equal" : "DIFFERS"}`,
  };
}

async function echo(programs: Programs, port: number): Promise<Row> {
  const result = await programs.run([...CLIENT, "echo", HOST_IPV4, String(port), String(ECHOES)]);
  if (result.status !== 0) return failed(result);
  const [answered, median] = result.stdout.trim().split(" ");
  return {
    held: Number(answered) === ECHOES,
    text: `${answered} of ${ECHOES} datagrams came back, median ${median} ms`,
  };
}

/** What a program sees where nobody listens: the truth, at once. */
async function refused(programs: Programs, port: number): Promise<Row> {
  const attempts = [...CLIENT, "refused", HOST_IPV4, String(port), String(REFUSALS)];
  const result = await programs.run(attempts);
  if (result.status !== 0) return failed(result);
  const [code, median] = result.stdout.trim().split(" ");
  return {
    held: code === "ECONNREFUSED",
    text: `connect() fails with ${code}, median ${median} ms`,
  };
}

/** Our own client (demo-client.ts), for what curl cannot do or where it is missing. */
const CLIENT: readonly string[] = [
  process.execPath,
  fileURLToPath(new URL("./demo-client.js", import.meta.url)),
];

interface ProgramResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs programs by `tun2socks exec`, as a user would. */
class Programs {
  readonly directory: string;
  /** Who transfers files: Node.js for want of curl. */
  readonly client: string;
  readonly #proxy: string;
  readonly #curl: boolean;
  readonly #stop: AbortSignal;

  constructor(proxy: string, directory: string, stop: AbortSignal) {
    this.#proxy = proxy;
    this.directory = directory;
    this.#stop = stop;
    this.#curl = (process.env["PATH"] ?? "")
      .split(":")
      .some((path) => existsSync(join(path, "curl")));
    this.client = this.#curl ? "curl" : "Node.js";
  }

  /** Prints octets per second. */
  get(url: string, file: string): string[] {
    return this.#curl
      ? ["curl", "-sS", "--globoff", "-o", file, "-w", "%{speed_download}", url]
      : [...CLIENT, "get", url, file];
  }

  /** Prints the server's SHA-256 and octets per second. */
  put(url: string, file: string): string[] {
    return this.#curl
      ? ["curl", "-sS", "--globoff", "-H", "Expect:", "-T", file, "-w", " %{speed_upload}", url]
      : [...CLIENT, "put", url, file];
  }

  /** @throws TunnelError what `exec` itself failed with: no later program would fare better. */
  async run(command: readonly string[]): Promise<ProgramResult> {
    const cli = fileURLToPath(new URL("../../bin/tun2socks.js", import.meta.url));
    const { spawn } = process.getBuiltinModule("node:child_process");
    // The proxy's password goes by the environment: arguments are everybody's to read.
    const child = spawn(
      process.execPath,
      [cli, "exec", "--dns", "off", "--log-level", "warn", "--", ...command],
      {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, ALL_PROXY: this.#proxy },
        timeout: PROGRAM_TIMEOUT,
        signal: this.#stop,
      },
    );
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    // The signal's AbortError; the program ends all the same.
    child.on("error", () => {});
    const status = await new Promise<number | null>((resolve) => child.on("close", resolve));
    const failure = /^tun2socks: (.*) \((ERR_\w+)\)$/m.exec(stderr);
    if (status === EXEC_FAILED && failure !== null) {
      throw new TunnelError(failure[2] as ErrorCode, failure[1] as string);
    }
    return { status, stdout, stderr };
  }
}

function toLoopback(destination: Endpoint): void {
  if (destination.isV4) destination.set(0, 0, 0xffff, 0x7f000001, destination.port);
  else destination.set(0, 0, 0, 1, destination.port);
}

function failed(result: ProgramResult): Row {
  const why = result.stderr.trim().split("\n").at(-1) ?? "";
  return { held: false, text: why === "" ? `ended with status ${result.status}` : why };
}

/** Asks the target directly, past the tunnel: what should have arrived. */
async function fetchText(url: string, path: string): Promise<string> {
  const { port, hostname } = new URL(url);
  const host = hostname.startsWith("[") ? "[::1]" : "127.0.0.1";
  const response = await fetch(`http://${host}:${port}${path}`);
  return response.text();
}

async function sha256(file: string): Promise<string> {
  const { createHash } = process.getBuiltinModule("node:crypto");
  const { pipeline } = process.getBuiltinModule("node:stream/promises");
  const hash = createHash("sha256");
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}

function mebibytes(octets: number): string {
  return `${octets >> 20} MiB`;
}

function gigabits(octetsPerSecond: string): string {
  return `${((Number(octetsPerSecond) * 8) / 1e9).toFixed(1)} Gbit/s`;
}
