/**
 * Whether a proxy answers CONNECT before it knows: shadowsocks and others say 00 at once, and close the connection when
 * the destination refuses. (OpenSSH writes its 00 as early, but holds it back until the channel stands.)
 *
 * That looks like a destination which accepts and closes: a service with a list of friends, a firewall that resets what
 * it reads. So one such end says nothing. {@link ENOUGH} different hosts within {@link MEMORY} do, unless the proxy meanwhile
 * refused a destination as one does that has tried it (REP 03 to 06): then it waits, and what was held against it is forgotten.
 * What it is certain of only a port known to be closed shows, which `tun2socks probe` asks for; a tunnel asks for nothing
 * that no program asked for.
 */

import type { Log } from "../log.ts";
import type { Timers } from "../stack/timer-wheel.ts";
import { formatAddress } from "../stack/wire/address.ts";
import { Reply } from "./message.ts";
import type { Destination, Honesty, Refusal } from "./ports.ts";

/** Hosts that ended without an octet before the proxy is called a liar: also the bound of what is remembered. */
export const ENOUGH = 3;
/** An end later than this after the grant, ms, is some server's idea of idle. */
export const SOON = 5000;
/** How long an end is held against the proxy, ms. */
export const MEMORY = 600_000;

export class ProxyHonesty implements Honesty {
  readonly #label: string;
  readonly #timers: Timers;
  readonly #log: Log;
  /** Hosts that ended without an octet. */
  readonly #hosts = new Set<string>();
  /** When the first of them did, ms. */
  #since = 0;
  #lies = false;
  #told = false;

  constructor(label: string, timers: Timers, log: Log) {
    this.#label = label;
    this.#timers = timers;
    this.#log = log;
  }

  /** It says yes before it knows. */
  get lies(): boolean {
    return this.#lies;
  }

  refused({ kind, reply }: Refusal): void {
    if (kind !== "reply" || !KNOWS.has(reply)) return;
    this.#hosts.clear();
    this.#lies = false;
  }

  endedUnheard({ name, endpoint }: Destination, openedAt: number): boolean {
    const now = this.#timers.now();
    if (now - openedAt > SOON) return false;
    if (this.#lies) return true;
    if (now - this.#since > MEMORY) this.#hosts.clear();
    if (this.#hosts.size === 0) this.#since = now;
    this.#hosts.add(name ?? formatAddress(endpoint));
    if (this.#hosts.size < ENOUGH) return false;
    this.#hosts.clear();
    this.#lies = true;
    this.#tell();
    return true;
  }

  #tell(): void {
    if (this.#told) return;
    this.#told = true;
    this.#log.warn?.(
      `proxy ${this.#label}: says yes before it knows: refusals reach programs as resets (${ENOUGH} hosts in a row were closed without an octet)`,
    );
  }
}

/** Of a destination that was tried. */
const KNOWS: ReadonlySet<number> = new Set([
  Reply.NETWORK_UNREACHABLE,
  Reply.HOST_UNREACHABLE,
  Reply.CONNECTION_REFUSED,
  Reply.TTL_EXPIRED,
]);
