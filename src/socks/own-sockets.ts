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

interface OwnSocket {
  readonly port: number;
  /** Both ends of a connection that is being made; null: a socket for datagrams. */
  readonly ends: Int32Array | null;
}

export class OwnSockets {
  readonly #addon: Addon;
  readonly #byDescriptor = new Map<number, OwnSocket>();
  /** By local port, which connections to different peers share, and those with sockets for datagrams. */
  readonly #byPort = new Map<number, Set<OwnSocket>>();

  constructor(addon: Addon) {
    this.#addon = addon;
  }

  /** `fd` connects to `peer` (five int32). */
  addConnecting(fd: number, peer: Int32Array): void {
    const ends = new Int32Array(10);
    if (this.#addon.localAddress(fd, ends) < 0) return;
    ends.set(peer.subarray(0, 5), PEER);
    this.#add(fd, { port: ends[LOCAL + 4] as number, ends });
  }

  /** `fd` sends datagrams. */
  addDatagrams(fd: number): void {
    const words = new Int32Array(5);
    if (this.#addon.localAddress(fd, words) < 0) return;
    this.#add(fd, { port: words[LOCAL + 4] as number, ends: null });
  }

  /** `fd` is connected, or about to be closed. Idempotent. */
  delete(fd: number): void {
    const socket = this.#byDescriptor.get(fd);
    if (socket === undefined) return;
    this.#byDescriptor.delete(fd);
    const others = this.#byPort.get(socket.port) as Set<OwnSocket>;
    others.delete(socket);
    if (others.size === 0) this.#byPort.delete(socket.port);
  }

  /** A TCP flow from `client` to `target` is one of them. */
  hasConnection(client: Endpoint, target: Endpoint): boolean {
    for (const { ends } of this.#byPort.get(client.port) ?? NONE) {
      if (ends !== null && equals(ends, LOCAL, client) && equals(ends, PEER, target)) return true;
    }
    return false;
  }

  /** A datagram from `client` is of one of them. */
  hasDatagrams(client: Endpoint): boolean {
    for (const { ends } of this.#byPort.get(client.port) ?? NONE) {
      if (ends === null) return ownAddresses(this.#addon).some((own) => own.sameAddress(client));
    }
    return false;
  }

  #add(fd: number, socket: OwnSocket): void {
    if (socket.port === 0) return;
    this.delete(fd);
    this.#byDescriptor.set(fd, socket);
    const others = this.#byPort.get(socket.port);
    if (others === undefined) this.#byPort.set(socket.port, new Set([socket]));
    else others.add(socket);
  }
}

const NONE: ReadonlySet<OwnSocket> = new Set();

function equals(ends: Int32Array, at: number, { w0, w1, w2, w3, port }: Endpoint): boolean {
  return (
    ends[at] === w0 &&
    ends[at + 1] === w1 &&
    ends[at + 2] === w2 &&
    ends[at + 3] === w3 &&
    ends[at + 4] === port
  );
}
