/**
 * Whether greeting, credentials and request leave in one write: one decision for each proxy.
 *
 *     LEARNING   step by step, until so many handshakes have passed
 *     READY      the next CONNECT is a trial: all in one write, and a short time for the reply
 *     TRYING     the trial is under way; others go step by step
 *     TAKEN      all in one write
 *     NOT_TAKEN  step by step from now on
 *
 * RFC 1928 neither allows nor forbids it. Servers that read message after message do not notice; those that take each
 * recv(2) for one message (microsocks) lose the request and wait for it. So a trial that hangs, breaks or is refused is
 * done again step by step on another connection, and what comes of that tells whether it was the destination or the
 * form: no flow is lost, one is late. Where the form is taken and breaks later, another server is there now: learn anew.
 *
 * Credentials leave unasked only for a server that has chosen their method before (RFC 1928 §3).
 */

import type { Log } from "../log.ts";
import type { Timers } from "../stack/timer-wheel.ts";
import type { Dial } from "./dial.ts";
import type { SocketEnvironment } from "./environment.ts";
import { Command } from "./message.ts";
import type { Refusal } from "./ports.ts";
import { NO_COMMAND } from "./proxy-handshake.ts";

/** "on" and "off" leave nothing to find out. */
export type PipelineMode = "auto" | "on" | "off";

/** Handshakes that pass before a trial: programs with a few connections never wait for one. */
export const FIRST_STEPWISE = 4;
/** Trials that may end without telling (a slow destination, a client that left) before it is given up. */
export const MAX_TRIALS = 8;
/** Destinations in a row that do not answer after a handshake in one write before it is learnt anew. */
export const MAX_SILENT = 8;
/** How long a trial waits for the reply, ms: twice what the slowest step by step took, within these. */
export const MIN_PATIENCE = 1000;
const MAX_PATIENCE = 10_000;

const State = { LEARNING: 0, READY: 1, TRYING: 2, TAKEN: 3, NOT_TAKEN: 4 } as const;
type State = (typeof State)[keyof typeof State];

export class Pipelining {
  /** Trials begun. */
  trials = 0;
  /** Dials done again step by step. */
  redone = 0;
  readonly #mode: PipelineMode;
  readonly #label: string;
  readonly #hasCredentials: boolean;
  readonly #timers: Timers;
  readonly #log: Log;
  #state: State;
  /** The server has chosen the one method that we offer. */
  #methodKnown = false;
  #passed = 0;
  /** Of the replies while learning, ms. */
  #slowest = 0;
  #inconclusive = 0;
  #silent = 0;
  /** What the last line said. */
  #said: State = State.LEARNING;

  constructor(label: string, hasCredentials: boolean, environment: SocketEnvironment) {
    const mode = environment.pipeline ?? "auto";
    this.#mode = mode;
    this.#label = label;
    this.#hasCredentials = hasCredentials;
    this.#timers = environment.timers;
    this.#log = environment.log;
    this.#state = mode === "on" ? State.TAKEN : mode === "off" ? State.NOT_TAKEN : State.LEARNING;
  }

  /** For a status line. */
  get status(): "unknown" | "taken" | "not taken" {
    if (this.#state === State.TAKEN) return "taken";
    return this.#state === State.NOT_TAKEN ? "not taken" : "unknown";
  }

  /** How long a trial waits for the reply, ms. */
  get patience(): number {
    return Math.min(MAX_PATIENCE, Math.max(MIN_PATIENCE, 2 * this.#slowest));
  }

  /** `dial` is connected and about to speak: sets its `ahead`. */
  begin(dial: Dial): void {
    dial.ahead = false;
    if (dial.redone || dial.command === NO_COMMAND) return;
    if (this.#state === State.TAKEN) {
      dial.ahead = this.#methodKnown || !this.#hasCredentials;
    } else if (this.#state === State.READY && dial.command === Command.CONNECT) {
      this.#state = State.TRYING;
      this.trials++;
      dial.ahead = true;
      dial.trial = true;
    }
  }

  /** The request of `dial` was granted, or its authentication where nothing is requested. */
  granted(dial: Dial): void {
    this.#methodKnown = true;
    if (dial.ahead) this.#silent = 0;
    if (!dial.trial) {
      if (!dial.ahead) this.#pass(dial);
      return;
    }
    dial.trial = false;
    if (dial.ahead) this.#decide(State.TAKEN);
    // Done again it is no faster: it was the destination that took its time.
    else if (dial.trialHung && this.#waited(dial) >= this.patience) this.#endInconclusive();
    else this.#decide(State.NOT_TAKEN);
  }

  /** The handshake of `dial` failed. True: it is to be done again, step by step on another connection. */
  refused(dial: Dial, refusal: Refusal): boolean {
    const isReply = refusal.kind === "reply";
    if (isReply) this.#methodKnown = true;
    if (!dial.ahead) {
      this.#refusedStepwise(dial, refusal);
      return false;
    }
    if (this.#mode !== "auto" || refusal.kind === "local") return false;
    if (dial.trial) {
      dial.trialHung = refusal.kind === "timeout";
      dial.trialReply = isReply ? refusal.reply : 0;
    } else if (isReply) {
      this.#silent = 0;
      return false;
    } else if (refusal.kind === "timeout" && refusal.isProxySilent !== true) {
      // It has had its time. Either nobody is there, time after time, or the proxy waits for a request that it lost.
      if (++this.#silent >= MAX_SILENT) this.#learnAnew();
      return false;
    } else {
      this.#learnAnew();
    }
    dial.redone = true;
    this.redone++;
    return true;
  }

  /** `dial` ends; whoever began a trial and did not see its end lets the next one try. */
  ended(dial: Dial): void {
    if (!dial.trial) return;
    dial.trial = false;
    this.#endInconclusive();
  }

  #refusedStepwise(dial: Dial, { kind, reply }: Refusal): void {
    if (!dial.trial) {
      if (kind === "reply") this.#pass(dial);
      return;
    }
    dial.trial = false;
    // The same answer both times: the form makes no difference.
    if (kind === "reply" && reply === dial.trialReply) this.#decide(State.TAKEN);
    else this.#endInconclusive();
  }

  #pass(dial: Dial): void {
    if (this.#state !== State.LEARNING || dial.command !== Command.CONNECT) return;
    this.#slowest = Math.max(this.#slowest, this.#waited(dial));
    if (++this.#passed >= FIRST_STEPWISE) this.#state = State.READY;
  }

  /** How long ago the request left, ms. */
  #waited(dial: Dial): number {
    return this.#timers.now() - dial.requestedAt;
  }

  #learnAnew(): void {
    if (this.#state === State.TAKEN) this.#state = State.LEARNING;
    this.#passed = 0;
    this.#inconclusive = 0;
    this.#silent = 0;
  }

  #endInconclusive(): void {
    if (++this.#inconclusive >= MAX_TRIALS) this.#decide(State.NOT_TAKEN);
    else this.#state = State.READY;
  }

  #decide(state: State): void {
    this.#state = state;
    if (this.#said === state) return;
    this.#said = state;
    const saves = this.#hasCredentials ? "two round trips" : "a round trip";
    this.#log.info?.(
      state === State.TAKEN
        ? `proxy ${this.#label}: takes a whole handshake in one write, which saves ${saves}`
        : `proxy ${this.#label}: handshakes go step by step, it does not take one in one write`,
    );
  }
}
