/** What all flows of one relay share, so that a flow is a few fields and no closures. */

import { type Log, LogLimiter } from "../log.ts";
import type { MemoryLayout } from "../memory.ts";
import type { Destination, Refusal, Upstream } from "../socks/ports.ts";
import { MAX_SLICES } from "../stack/ports.ts";
import type { Timers } from "../stack/timer-wheel.ts";
import { Endpoint } from "../stack/wire/address.ts";
import type { AddressPlan } from "./address-plan.ts";
import type { AssociationTable } from "./association-table.ts";
import { DialQueue } from "./dial-queue.ts";
import { isOperatorsConcern } from "./refusal.ts";
import { RelayStats } from "./stats.ts";

/** The worker a relay runs in. */
export interface RelayEnvironment {
  readonly memory: MemoryLayout;
  readonly timers: Timers;
  readonly log: Log;
}

export class RelayContext implements RelayEnvironment {
  readonly memory: MemoryLayout;
  readonly timers: Timers;
  readonly log: Log;
  readonly plan: AddressPlan;
  readonly associations: AssociationTable;
  readonly stats: RelayStats = new RelayStats();
  readonly dials: DialQueue;
  /** Scratch rows of one readable/send or space/recv pair. */
  readonly rows: Int32Array = new Int32Array(2 * ROWS);
  readonly #limiter = new LogLimiter();

  constructor(
    environment: RelayEnvironment,
    plan: AddressPlan,
    associations: AssociationTable,
    maxDials?: number,
  ) {
    this.memory = environment.memory;
    this.timers = environment.timers;
    this.log = environment.log;
    this.plan = plan;
    this.associations = associations;
    this.dials = new DialQueue(maxDials);
  }

  /** Tells the operator of trouble that is the proxy's or ours; at most one line per kind and 5 s. */
  logRefusal(upstream: Upstream, refusal: Refusal): void {
    if (!isOperatorsConcern(refusal)) return;
    const suffix = this.#pass(`${upstream.label} ${refusal.kind}`);
    // The error is made when it is asked for: not for lines that nobody sees.
    if (suffix !== null) {
      this.log.warn?.(`${refusal.error.message} (${refusal.error.code})${suffix}`);
    }
  }

  /** A warning at most once per `key` and 5 s. */
  warn(key: string, text: string): void {
    const suffix = this.#pass(key);
    if (suffix !== null) this.log.warn?.(text + suffix);
  }

  /** What to append to a line about `key`; null: no line. */
  #pass(key: string): string | null {
    return this.log.warn === undefined ? null : this.#limiter.pass(key, this.timers.now());
  }
}

/** A destination that is set before each use: valid during one call. */
export class AddressDestination implements Destination {
  name: string | null = null;
  endpoint: Endpoint = new Endpoint();

  at(endpoint: Endpoint, name: string | null = null): this {
    this.name = name;
    this.endpoint = endpoint;
    return this;
  }
}

/** As many as a packet has slices, twice: one system call moves what a wake-up brought. */
const ROWS = 2 * MAX_SLICES;
