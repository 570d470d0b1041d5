/**
 * An upstream for datagrams, and what its refusals taught: whether it has UDP at all, and when to ask again. So the next
 * datagram is refused at once, whichever client endpoint it comes from, and a proxy in trouble is not asked anew by each.
 */

import type { Refusal, Upstream } from "../socks/ports.ts";
import { Backoff } from "./backoff.ts";
import type { RelayContext } from "./context.ts";
import { lacksUdp, type UdpAnswer, udpAnswer } from "./refusal.ts";

/** How long "no" is believed, ms. */
const REMEMBERED = 5 * 60_000;

export class UdpUpstream {
  readonly upstream: Upstream;
  #lackingUntil = 0;
  readonly #backoff = new Backoff();
  #answer: UdpAnswer = "silence";

  constructor(upstream: Upstream) {
    this.upstream = upstream;
  }

  /** True: do not ask for an association, refuse at once. */
  isLacking(now: number): boolean {
    return now < this.#lackingUntil;
  }

  /** No association before then, ms. */
  get retryAt(): number {
    return this.#backoff.retryAt;
  }

  /** How datagrams are refused until then; null: they are not. */
  answer(now: number): UdpAnswer | null {
    return now < this.#backoff.retryAt ? this.#answer : null;
  }

  /** An association was granted. */
  granted(): void {
    this.#backoff.succeed();
  }

  /** Learns from a refused association, and tells the operator. */
  refused(refusal: Refusal, context: RelayContext): void {
    const now = context.timers.now();
    // Those that were asked for at the same time say the same.
    if (now >= this.#backoff.retryAt) this.#backoff.fail(now);
    this.#answer = udpAnswer(refusal);
    if (!lacksUdp(refusal)) {
      context.logRefusal(this.upstream, refusal);
      return;
    }
    this.#lackingUntil = now + REMEMBERED;
    const { label } = this.upstream;
    context.warn(
      `${label} no udp`,
      `datagrams are refused, the proxy has no UDP: ${refusal.error.message} (${refusal.error.code})`,
    );
  }
}
