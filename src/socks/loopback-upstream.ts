/** The way to the host's loopback under `--host-loopback`: an upstream without a proxy. */

import type { MemoryLayout } from "../memory.ts";
import type { Addon } from "../native/binding.ts";
import type { Poller } from "../native/poller.ts";
import type { Timers } from "../stack/timer-wheel.ts";
import { LoopbackAssociation } from "./loopback-association.ts";
import { type LoopbackEnvironment, LoopbackStream } from "./loopback-stream.ts";
import type {
  Association,
  AssociationHandler,
  Destination,
  Stream,
  StreamHandler,
  Upstream,
} from "./ports.ts";

/** The worker; a loop is one. */
export interface LoopbackWorker {
  readonly poller: Poller | null;
  readonly memory: MemoryLayout;
  readonly timers: Timers;
}

export class LoopbackUpstream implements Upstream {
  readonly label = "host loopback";
  readonly #environment: LoopbackEnvironment;
  readonly #memory: MemoryLayout;

  /** @throws Error when the worker has no poller. */
  constructor(addon: Addon, worker: LoopbackWorker) {
    if (worker.poller === null) throw new Error("a direct upstream needs a poller");
    this.#environment = { addon, poller: worker.poller, timers: worker.timers };
    this.#memory = worker.memory;
  }

  connect(destination: Destination, handler: StreamHandler): Stream {
    return new LoopbackStream(this.#environment, destination.endpoint, handler);
  }

  associate(handler: AssociationHandler): Association {
    return new LoopbackAssociation(this.#environment, this.#memory, handler);
  }
}
