/** What the main thread and a worker say to each other. Everything is plain data. */

import type { MessagePort } from "node:worker_threads";
import type { ErrorCode } from "../errors.ts";
import type { LogLevel } from "../log.ts";
import type { TunInfo } from "../native/binding.ts";
import type { DnsMode } from "../relay/relay.ts";
import type { RelayStats } from "../relay/stats.ts";
import type { SessionOptions } from "../session.ts";
import type { StackStats } from "../stack/stats.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { SocketMemory } from "./shared-sockets.ts";
import type { SharedState } from "./shared-state.ts";

/** What a worker is made with. */
export interface WorkerStart {
  readonly index: number;
  readonly state: SharedState;
  readonly sockets: SocketMemory;
  /** See SessionShare. */
  readonly origin: number;
  readonly options: Omit<SessionOptions, "log" | "share" | "dnsServer" | "sources">;
  readonly dnsServer: PlainEndpoint | null;
  readonly sources: readonly PlainEndpoint[];
  /** Levels that somebody reads. */
  readonly levels: readonly Exclude<LogLevel, "silent">[];
  /** By worker: the port that wakes it; null for itself. */
  readonly ports: readonly (MessagePort | null)[];
}

/** A structured clone has no class: the worker makes an Endpoint of it. */
export type PlainEndpoint = Pick<Endpoint, "w0" | "w1" | "w2" | "w3" | "port">;

/** A TunnelError on its way. */
export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
}

/** Counters of one worker, or of all together. */
export interface WorkerStats {
  readonly stack: StackStats;
  readonly relay: RelayStats;
  /** Packets the device refused. */
  readonly refusedPackets: number;
  /** Flows that found the directory full, see flow-directory.ts. */
  readonly unlistedFlows: number;
}

export type ToWorker =
  | { readonly type: "probe" }
  /** The worker owns the descriptor from now on. */
  | { readonly type: "serve"; readonly tun: TunInfo }
  | { readonly type: "stats" }
  | { readonly type: "close" };

export type FromWorker =
  | { readonly type: "opened"; readonly label: string; readonly dns: DnsMode }
  | { readonly type: "probed"; readonly refusal: PlainError | null }
  | { readonly type: "serving" }
  | { readonly type: "stats"; readonly stats: WorkerStats }
  | { readonly type: "failed"; readonly error: PlainError }
  | { readonly type: "log"; readonly level: Exclude<LogLevel, "silent">; readonly line: string };
