/**
 * One upstream of a pool: what goes through it, and whether it works.
 *
 *     UP      flows are sent to it
 *     DOWN    it was found dead; none is sent to it before the back-off (1 s, doubling up to 60 s) has passed, then one,
 *             whose end tells. With probes of its own the pool waits for those instead.
 *
 * What ends an attempt says something about the proxy or about the destination. Attempts that began before the last
 * change of state say nothing of a failure: many dials at a dead proxy are one.
 */

import { Backoff } from "../relay/backoff.ts";
import type { ProxyUpstream, Refusal } from "../socks/ports.ts";

/** How long an upstream that has no UDP is not asked for it again, ms. */
const LACKING = 5 * 60_000;

/** What a refusal tells of the upstream that gave it. */
export type Verdict = "works" | "dead" | "nothing";

export function verdict(refusal: Refusal): Verdict {
  switch (refusal.kind) {
    case "reply":
      return "works";
    case "timeout":
      // A destination that does not answer was asked by a proxy that did.
      return refusal.isProxySilent === true ? "dead" : "works";
    case "local":
      return "nothing";
    default:
      return "dead";
  }
}

/** A stream or an association of a pool, on its way or open, at one member. */
export class Attempt {
  readonly member: PoolMember;
  /** As the member had it when this began. */
  readonly epoch: number;

  constructor(member: PoolMember) {
    this.member = member;
    this.epoch = member.epoch;
  }
}

export class PoolMember {
  readonly upstream: ProxyUpstream;
  /** Streams and associations on their way or open. */
  active = 0;
  /** The same, all there were. */
  total = 0;
  /** Of them those that found the proxy dead. */
  failures = 0;
  /** Changes of state. */
  epoch = 0;
  /** Why it is down; null: it is up. */
  down: Refusal | null = null;
  /** Why it is asked for no association. */
  lacking: Refusal | null = null;
  #lackingUntil = 0;
  readonly #backoff = new Backoff();
  /** The one that finds out whether a member that was down is back. */
  #trial: Attempt | null = null;

  constructor(upstream: ProxyUpstream) {
    this.upstream = upstream;
  }

  /** When it may be tried again, ms; for one that is down. */
  get retryAt(): number {
    return this.#backoff.retryAt;
  }

  /** A flow may be sent to it. `isProbed`: whether it is back is found out by others. */
  isUsable(now: number, isProbed: boolean): boolean {
    if (this.down === null) return true;
    return !isProbed && this.#trial === null && now >= this.#backoff.retryAt;
  }

  lacksUdp(now: number): boolean {
    if (now >= this.#lackingUntil) this.lacking = null;
    return this.lacking !== null;
  }

  /** It has no UDP: `refusal` says so. */
  setLacking(refusal: Refusal, now: number): void {
    this.lacking = refusal;
    this.#lackingUntil = now + LACKING;
  }

  begin(): Attempt {
    const attempt = new Attempt(this);
    if (this.down !== null) this.#trial = attempt;
    this.active++;
    this.total++;
    return attempt;
  }

  /** `attempt` is over, in whatever way. Once. */
  end(attempt: Attempt): void {
    this.active--;
    if (this.#trial === attempt) this.#trial = null;
  }

  /** The proxy works. True: that is news. */
  works(): boolean {
    this.#backoff.succeed();
    if (this.down === null) return false;
    this.down = null;
    this.epoch++;
    return true;
  }

  /** The proxy was dead for what began at `epoch`. True: that is news. */
  fail(refusal: Refusal, epoch: number, now: number): boolean {
    if (epoch !== this.epoch) return false;
    const isNews = this.down === null;
    this.down = refusal;
    this.epoch++;
    this.#backoff.fail(now);
    return isNews;
  }
}
