/**
 * A device served by several threads: the main one makes them, tells them what to do, prints what they log, adds up
 * what they count, and ends them. It touches no packet.
 *
 * They live and die together: when one ends or fails, `failed` rejects and the caller closes the others. The kernel
 * takes back what a thread held.
 */

import type { MessagePort, Worker } from "node:worker_threads";
import { TunnelError } from "../errors.ts";
import { type Log, type LogLevel, LogLimiter } from "../log.ts";
import type { TunInfo } from "../native/binding.ts";
import { addon } from "../native/binding.ts";
import { fillRandom } from "../random.ts";
import type { DnsMode } from "../relay/relay.ts";
import type { SessionOptions } from "../session.ts";
import type { FromWorker, PlainError, ToWorker, WorkerStart, WorkerStats } from "./messages.ts";
import { socketMemory } from "./shared-sockets.ts";
import { shareState } from "./shared-state.ts";

/** Rings grow with the square of it, and no machine needs more to fill a TUN. */
export const MAX_WORKERS = 16;

export class Workers {
  /** The threads, in the order of their queues. */
  readonly threads: readonly Worker[];
  /** Rejects when a worker fails or ends before `close`; never resolves. */
  readonly failed: Promise<never>;
  /** The upstream, as messages name it. */
  label = "";
  /** How names are looked up. */
  dns: DnsMode = "auto";
  readonly #log: Log;
  readonly #limiter = new LogLimiter();
  readonly #reject: (error: Error) => void;
  /** Who waits for an answer of a worker; the first is answered first. */
  readonly #waiting: ((message: FromWorker) => void)[][] = [];
  readonly #exits: Promise<unknown>[];
  #closing = false;

  /**
   * Starts `count` threads, each of which opens a session with `options`.
   *
   * @throws TunnelError what Session.open throws.
   */
  static async open(options: SessionOptions, count: number): Promise<Workers> {
    const workers = new Workers(options, count);
    try {
      const opened = await workers.#all("opened", null);
      const [{ label, dns }] = opened as [FromWorker & { type: "opened" }];
      workers.label = label;
      workers.dns = dns;
      return workers;
    } catch (error) {
      await workers.close();
      throw error;
    }
  }

  private constructor(options: SessionOptions, count: number) {
    const { log, dnsServer, sources, share: _share, env, ...plain } = options;
    this.#log = log;
    let reject: (error: Error) => void = () => {};
    this.failed = new Promise((_resolve, refuse) => {
      reject = refuse;
    });
    this.#reject = reject;
    // It may come when nobody asks any more.
    this.failed.catch(() => {});
    const common = {
      state: shareState(count, fillRandom(new Uint32Array(4))),
      sockets: socketMemory(),
      origin: performance.timeOrigin + performance.now(),
      options: { ...plain, env: { ALL_PROXY: env["ALL_PROXY"] || env["all_proxy"] } },
      dnsServer: dnsServer === undefined ? null : { ...dnsServer },
      sources: (sources ?? []).map((source) => ({ ...source })),
      levels: LEVELS.filter((level) => log[level] !== undefined),
    };
    const ports = channels(count);
    this.threads = ports.map((own, index) => this.#start({ ...common, index, ports: own }));
    this.#exits = this.threads.map((thread) => new Promise((done) => thread.once("exit", done)));
  }

  /** Tries the proxy once. Null: it will have us. */
  async probe(): Promise<TunnelError | null> {
    const { refusal } = await this.#ask(0, { type: "probe" }, "probed");
    return refusal === null ? null : tunnelError(refusal);
  }

  /** Serves a device: queue i of it by worker i, which owns its descriptor from now on. Once. */
  async serve(queues: readonly TunInfo[]): Promise<void> {
    for (const { fd } of queues) addon().tunDisown(fd);
    await Promise.all(
      queues.map((tun, index) => this.#ask(index, { type: "serve", tun }, "serving")),
    );
  }

  /** The counters of all workers, added up. For one that serves. */
  async stats(): Promise<WorkerStats> {
    const answers = await this.#all("stats", { type: "stats" });
    return answers.map(({ stats }) => stats).reduce(sum);
  }

  /** Ends flows, device and threads; resolves when all have ended. Idempotent. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const thread of this.threads) thread.postMessage({ type: "close" } satisfies ToWorker);
    const ended = Promise.all(this.#exits);
    await Promise.race([ended, patience()]);
    // One that is still opening, or does not come back, is not asked again. Nor does this wait for a look-up.
    for (const thread of this.threads) void thread.terminate();
    await Promise.race([ended, patience()]);
  }

  #start(start: WorkerStart): Worker {
    const { index } = start;
    this.#waiting.push([]);
    const { Worker } = process.getBuiltinModule("node:worker_threads");
    const thread = new Worker(ENTRY, {
      name: `tun2socks ${index}`,
      workerData: start,
      transferList: start.ports.filter((port) => port !== null),
    });
    thread.on("message", (message: FromWorker) => this.#hears(index, message));
    thread.on("error", (error) => this.#fail(error));
    thread.on("exit", (status) => {
      this.#fail(
        new Error(`worker ${index} of ${this.#waiting.length} ended with status ${status}`),
      );
    });
    return thread;
  }

  #hears(index: number, message: FromWorker): void {
    if (message.type === "log") this.#print(index, message.level, message.line);
    else if (message.type === "failed") this.#fail(tunnelError(message.error));
    else this.#waiting[index]?.shift()?.(message);
  }

  /** What several workers say of the same matter is one line, as what one says often is. */
  #print(index: number, level: (typeof LEVELS)[number], line: string): void {
    if (level === "debug") {
      this.#log.debug?.(`worker ${index}: ${line}`);
      return;
    }
    const suffix = this.#limiter.pass(line, performance.now());
    if (suffix !== null) this.#log[level]?.(line + suffix);
  }

  #fail(error: Error): void {
    if (!this.#closing) this.#reject(error);
  }

  #all<T extends FromWorker["type"]>(
    type: T,
    message: ToWorker | null,
  ): Promise<(FromWorker & { type: T })[]> {
    return Promise.all(this.threads.map((_, index) => this.#ask(index, message, type)));
  }

  /** The next answer of a worker, which is of `type`. */
  #ask<T extends FromWorker["type"]>(
    index: number,
    message: ToWorker | null,
    _type: T,
  ): Promise<FromWorker & { type: T }> {
    const answer = new Promise<FromWorker & { type: T }>((resolve) => {
      this.#waiting[index]?.push((heard) => resolve(heard as FromWorker & { type: T }));
    });
    if (message !== null) this.threads[index]?.postMessage(message);
    return Promise.race([answer, this.failed]);
  }
}

/** How long a worker may take to end its flows. */
function patience(): Promise<void> {
  return new Promise((done) => setTimeout(done, PATIENCE).unref());
}

/** A channel for each two workers: [i][j] is the port by which i wakes j, and hears of it. */
function channels(count: number): (MessagePort | null)[][] {
  const { MessageChannel } = process.getBuiltinModule("node:worker_threads");
  const ports = Array.from({ length: count }, () =>
    new Array<MessagePort | null>(count).fill(null),
  );
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < i; j++) {
      const { port1, port2 } = new MessageChannel();
      (ports[i] as (MessagePort | null)[])[j] = port1;
      (ports[j] as (MessagePort | null)[])[i] = port2;
    }
  }
  return ports;
}

function tunnelError({ code, message }: PlainError): TunnelError {
  return new TunnelError(code, message);
}

function sum(a: WorkerStats, b: WorkerStats): WorkerStats {
  return {
    stack: sumOf(a.stack, b.stack),
    relay: sumOf(a.relay, b.relay),
    refusedPackets: a.refusedPackets + b.refusedPackets,
    unlistedFlows: a.unlistedFlows + b.unlistedFlows,
  };
}

function sumOf<T extends { [K in keyof T]: number }>(a: T, b: T): T {
  const result = { ...a };
  for (const key of Object.keys(a) as (keyof T)[]) result[key] = (a[key] + b[key]) as T[keyof T];
  return result;
}

/** A module of its own, which the program's bundle finds from its place as this one does. */
const ENTRY = new URL("../workers/worker.js", import.meta.url);
const LEVELS = ["error", "warn", "info", "debug"] as const satisfies readonly LogLevel[];
const PATIENCE = 400;
