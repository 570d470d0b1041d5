/** An upstream for datagrams, and whether it has UDP at all: remembered, so that the next datagram is refused at once. */

import type { Refusal, Upstream } from "../socks/ports.ts";
import type { RelayContext } from "./context.ts";
import { lacksUdp } from "./refusal.ts";

/** How long "no" is believed, ms. */
const REMEMBERED = 5 * 60_000;

export class UdpUpstream {
  readonly upstream: Upstream;
  /** True when a SOCKS header takes room in every datagram. */
  readonly hasHeader: boolean;
  #lackingUntil = 0;

  constructor(upstream: Upstream, hasHeader: boolean) {
    this.upstream = upstream;
    this.hasHeader = hasHeader;
  }

  /** True: do not ask for an association, refuse at once. */
  isLacking(now: number): boolean {
    return now < this.#lackingUntil;
  }

  /** Learns from a refused association, and tells the operator. */
  refused(refusal: Refusal, context: RelayContext): void {
    if (!lacksUdp(refusal)) {
      context.logRefusal(this.upstream, refusal);
      return;
    }
    this.#lackingUntil = context.timers.now() + REMEMBERED;
    const { label } = this.upstream;
    context.warn(
      `${label} no udp`,
      `datagrams are refused, the proxy has no UDP: ${refusal.error.message} (${refusal.error.code})`,
    );
  }
}
