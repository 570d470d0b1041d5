/** Streams and associations that are refused before anything is asked: the refusal is told by a timer, at once. */

import { Timer, type TimerHandler, type Timers } from "../stack/timer-wheel.ts";
import type {
  Association,
  AssociationHandler,
  DirectStream,
  Refusal,
  StreamHandler,
} from "./ports.ts";

class Refused implements TimerHandler {
  readonly #timers: Timers;
  readonly #refusal: Refusal;
  readonly #handler: Pick<StreamHandler, "onRefused">;
  readonly #timer: Timer = new Timer(this);

  constructor(timers: Timers, refusal: Refusal, handler: Pick<StreamHandler, "onRefused">) {
    this.#timers = timers;
    this.#refusal = refusal;
    this.#handler = handler;
    timers.set(this.#timer, timers.now());
  }

  onTimer(): void {
    this.#handler.onRefused(this.#refusal);
  }

  close(): void {
    this.#timers.clear(this.#timer);
  }
}

export class RefusedAssociation extends Refused implements Association {
  constructor(timers: Timers, refusal: Refusal, handler: AssociationHandler) {
    super(timers, refusal, handler);
  }

  send(): boolean {
    return false;
  }

  maxPayload(): number {
    return 0;
  }

  flush(): void {}
}

/** It never opens: what is for open streams does nothing. */
export class RefusedStream extends Refused implements DirectStream {
  readonly shape = "direct";

  recv(): number {
    return 0;
  }

  send(): number {
    return 0;
  }

  pause(): void {}

  resume(): void {}

  shutdown(): void {}

  reset(): void {
    this.close();
  }
}
