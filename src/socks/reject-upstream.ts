/** The upstream that refuses every flow, as a host does that has nothing on that port. */

import type { Timers } from "../stack/timer-wheel.ts";
import { Reply } from "./message.ts";
import type {
  Association,
  AssociationHandler,
  Destination,
  ProxyUpstream,
  Refusal,
  Stream,
  StreamHandler,
} from "./ports.ts";
import { SocksRefusal } from "./refusal.ts";
import { RefusedAssociation, RefusedStream } from "./refused.ts";

export class RejectUpstream implements ProxyUpstream {
  readonly label = "reject";
  readonly #timers: Timers;
  readonly #refusal = new SocksRefusal(
    "reply",
    this.label,
    "every flow is refused",
    Reply.CONNECTION_REFUSED,
  );

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  connect(_destination: Destination, handler: StreamHandler): Stream {
    return new RefusedStream(this.#timers, this.#refusal, handler);
  }

  associate(handler: AssociationHandler): Association {
    return new RefusedAssociation(this.#timers, this.#refusal, handler);
  }

  resolve(): Promise<void> {
    return Promise.resolve();
  }

  probe(): Promise<Refusal | null> {
    return Promise.resolve(null);
  }

  close(): void {}
}
