/**
 * The sockets of this process that lead out, so that what comes back from one of them through the tunnel is known.
 *
 * That is a routing loop: each turn of it would open the next connection. A flow whose four addresses and ports are
 * those of a connection that is being made is that connection, wherever it was meant to go; a datagram from an address of
 * this host and the port of a socket of ours is ours. Bounded by the dials that may be under way, and by the associations.
 */

import type { Addon } from "../native/binding.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { ownAddresses } from "./access.ts";

/** Words of a connection's two ends: four of its address and its port, then the same of its peer. */
const LOCAL = 0;
const PEER = 5;

export class OwnSockets {
  readonly #addon: Addon;
  /** Connections that are being made, by local port. */
  readonly #connecting = new Map<number, Int32Array>();
  /** Local ports of sockets for datagrams. */
  readonly #datagrams = new Set<number>();
  /** Of all of them, by descriptor. */
  readonly #ports = new Map<number, number>();

  constructor(addon: Addon) {
    this.#addon = addon;
  }

  /** `fd` connects to `peer` (five int32). */
  addConnecting(fd: number, peer: Int32Array): void {
    const ends = new Int32Array(10);
    const port = this.#add(fd, ends);
    ends.set(peer.subarray(0, 5), PEER);
    if (port !== 0) this.#connecting.set(port, ends);
  }

  /** `fd` sends datagrams. */
  addDatagrams(fd: number): void {
    const port = this.#add(fd, new Int32Array(5));
    if (port !== 0) this.#datagrams.add(port);
  }

  /** `fd` is connected, or about to be closed. Idempotent. */
  delete(fd: number): void {
    const port = this.#ports.get(fd);
    if (port === undefined) return;
    this.#ports.delete(fd);
    if (!this.#datagrams.delete(port)) this.#connecting.delete(port);
  }

  /** A TCP flow from `client` to `target` is one of them. */
  hasConnection(client: Endpoint, target: Endpoint): boolean {
    const ends = this.#connecting.get(client.port);
    return ends !== undefined && equals(ends, LOCAL, client) && equals(ends, PEER, target);
  }

  /** A datagram from `client` is of one of them. */
  hasDatagrams(client: Endpoint): boolean {
    if (!this.#datagrams.has(client.port)) return false;
    return ownAddresses(this.#addon).some((own) => own.sameAddress(client));
  }

  /** The local port; 0: it is not known. */
  #add(fd: number, words: Int32Array): number {
    if (this.#addon.localAddress(fd, words) < 0) return 0;
    const port = words[LOCAL + 4] as number;
    this.#ports.set(fd, port);
    return port;
  }
}

function equals(ends: Int32Array, at: number, { w0, w1, w2, w3, port }: Endpoint): boolean {
  return (
    ends[at] === w0 &&
    ends[at + 1] === w1 &&
    ends[at + 2] === w2 &&
    ends[at + 3] === w3 &&
    ends[at + 4] === port
  );
}
