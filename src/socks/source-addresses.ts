/**
 * The addresses that connections leave from: those the user gave, else the kernel's choice, and, when that has no port
 * left, the others of the same interface.
 *
 * One address has one range of ports towards one peer (net.ipv4.ip_local_port_range, 28,232 of them), and a port
 * whose connection we ended first comes back after a minute (TIME-WAIT, RFC 9293 §3.6.1). Ports are shared among peers
 * (IP_BIND_ADDRESS_NO_PORT). A connect(2) that finds none has tried them all, which takes milliseconds; so for a
 * moment nobody asks again.
 */

import { constants, networkInterfaces } from "node:os";
import { TunnelError } from "../errors.ts";
import type { Addon } from "../native/binding.ts";
import type { Timers } from "../stack/timer-wheel.ts";
import { Endpoint, formatAddress, parseAddress } from "../stack/wire/address.ts";
import { readWords, writeWords } from "./words.ts";

const { EADDRNOTAVAIL } = constants.errno;

/** Of the interface that are used when the kernel's choice has no port left. */
export const MAX_OTHERS = 16;
/** How long an address without ports towards a peer is not asked for one, ms. */
export const EXHAUSTED = 100;
/** Pairs of address and peer remembered for that long. */
export const MAX_EXHAUSTED = 64;
/** How long the list of an interface's addresses is good, ms. */
const OTHERS_LIFE = 5000;

interface Exhausted {
  /** The source's words, null: the kernel's choice. */
  readonly source: Int32Array | null;
  readonly peer: Int32Array;
  readonly until: number;
}

export interface SourceEnvironment {
  readonly addon: Addon;
  readonly timers: Timers;
  /** SO_MARK and SO_BINDTODEVICE of the sockets. */
  readonly mark: number;
  readonly device: string;
  /** Given by the user; those of the peer's family are used. */
  readonly sources?: readonly Endpoint[];
}

export class SourceAddresses {
  /** Connects that found no port. */
  exhaustions = 0;
  readonly #environment: SourceEnvironment;
  readonly #given4: Int32Array[] = [];
  readonly #given6: Int32Array[] = [];
  /** Which comes first next. */
  #turn = 0;
  #others: readonly Int32Array[] = [];
  #othersKnown = Number.NEGATIVE_INFINITY;
  /** Oldest first. */
  readonly #exhausted: Exhausted[] = [];

  /** @throws TunnelError ERR_USAGE for a source that is no address of this host. */
  constructor(environment: SourceEnvironment) {
    const { addon, mark, device, sources } = environment;
    this.#environment = environment;
    for (const source of sources ?? []) {
      const words = wordsOf(source);
      const fd = addon.udpOpen(words, !source.isV4, mark, device);
      if (fd >= 0) addon.close(fd);
      else if (fd === -EADDRNOTAVAIL) {
        throw new TunnelError(
          "ERR_USAGE",
          `cannot send from ${formatAddress(source)}: this host has no such address; choose one that \`ip address\` shows`,
        );
      }
      (source.isV4 ? this.#given4 : this.#given6).push(words);
    }
  }

  /**
   * connect(2) to `peer` (five int32) from the next address that has a port. `isAlone`: from the first one only, which
   * datagrams of the same association leave from too. `limit` as in `tcpConnect`. A descriptor or -errno.
   */
  connect(peer: Int32Array, userTimeout: number, limit: number, isAlone: boolean): number {
    const given = this.#given(isV4(peer));
    if (isAlone) return this.#from(given[0] ?? null, peer, userTimeout, limit);
    if (given.length > 0) return this.#fromAny(given, peer, userTimeout, limit);
    const result = this.#from(null, peer, userTimeout, limit);
    if (result !== -EADDRNOTAVAIL) return result;
    this.#findOthers(peer);
    return this.#fromAny(this.#others, peer, userTimeout, limit);
  }

  #given(isPeerV4: boolean): readonly Int32Array[] {
    return isPeerV4 ? this.#given4 : this.#given6;
  }

  #fromAny(
    sources: readonly Int32Array[],
    peer: Int32Array,
    userTimeout: number,
    limit: number,
  ): number {
    const first = this.#turn++;
    for (let i = 0; i < sources.length; i++) {
      const source = sources[(first + i) % sources.length] as Int32Array;
      const result = this.#from(source, peer, userTimeout, limit);
      if (result !== -EADDRNOTAVAIL) return result;
    }
    return -EADDRNOTAVAIL;
  }

  #from(source: Int32Array | null, peer: Int32Array, userTimeout: number, limit: number): number {
    const { addon, mark, device } = this.#environment;
    if (this.#exhausted.length > 0 && this.#isExhausted(source, peer)) return -EADDRNOTAVAIL;
    const result = addon.tcpConnect(peer, mark, device, userTimeout, source, limit);
    if (result === -EADDRNOTAVAIL) {
      this.exhaustions++;
      const until = this.#environment.timers.now() + EXHAUSTED;
      if (this.#exhausted.length >= MAX_EXHAUSTED) this.#exhausted.shift();
      this.#exhausted.push({ source, peer: peer.slice(0, 5), until });
    }
    return result;
  }

  #isExhausted(source: Int32Array | null, peer: Int32Array): boolean {
    const now = this.#environment.timers.now();
    while (this.#exhausted.length > 0 && (this.#exhausted[0] as Exhausted).until <= now) {
      this.#exhausted.shift();
    }
    return this.#exhausted.some((pair) => pair.source === source && equals(pair.peer, peer));
  }

  /** Looks up which interface leads to `peer`, and what other addresses it has. */
  #findOthers(peer: Int32Array): void {
    const now = this.#environment.timers.now();
    if (now - this.#othersKnown < OTHERS_LIFE) return;
    this.#othersKnown = now;
    const used = this.#kernelsChoice(peer);
    this.#others = used === null ? [] : othersOf(used).slice(0, MAX_OTHERS).map(wordsOf);
  }

  /** The address that the kernel sends from to `peer`; null: it has none. */
  #kernelsChoice(peer: Int32Array): Endpoint | null {
    const { addon, mark, device } = this.#environment;
    const fd = addon.udpOpen(null, !isV4(peer), mark, device);
    if (fd < 0) return null;
    const words = new Int32Array(5);
    const result = addon.udpConnect(fd, peer) < 0 ? -1 : addon.localAddress(fd, words);
    addon.close(fd);
    return result < 0 ? null : readWords(words, 0, new Endpoint());
  }
}

/** The other addresses of the interface that has `used`, of its family and scope. */
function othersOf(used: Endpoint): Endpoint[] {
  // An address of a link means nothing without it.
  if (used.isLinkLocal) return [];
  for (const list of Object.values(networkInterfaces())) {
    const addresses = (list ?? []).map(({ address }) => parseAddress(address) ?? new Endpoint());
    if (!addresses.some((address) => address.sameAddress(used))) continue;
    return addresses.filter(
      (address) =>
        !address.sameAddress(used) &&
        address.isV4 === used.isV4 &&
        address.isLoopback === used.isLoopback &&
        !address.isLinkLocal,
    );
  }
  return [];
}

function wordsOf(address: Endpoint): Int32Array {
  const words = new Int32Array(5);
  writeWords(words, address);
  words[4] = 0;
  return words;
}

function isV4(words: Int32Array): boolean {
  return words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
}

function equals(a: Int32Array, b: Int32Array): boolean {
  return a[0] === b[0] && a[1] === b[1] && a[2] === b[2] && a[3] === b[3] && a[4] === b[4];
}
