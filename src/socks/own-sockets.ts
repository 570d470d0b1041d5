/**
 * The sockets of this process that lead out, so that what comes back from one of them through the tunnel is known.
 *
 * That is a routing loop: each turn of it would open the next connection. A flow whose four addresses and ports are
 * those of a connection that is being made is that connection, wherever it was meant to go; a datagram from an address of
 * this host and the port of a socket of ours is ours. Bounded by the dials that may be under way, and by the associations.
 */

import type { Addon } from "../native/binding.ts";
import { Endpoint } from "../stack/wire/address.ts";
import { ownAddresses } from "./access.ts";
import { readWords } from "./words.ts";

/** The same of all workers of this process, where there are several. */
export interface SharedSockets {
  /** A connection that is being made. */
  addConnection(local: Endpoint, peer: Endpoint): void;
  deleteConnection(local: Endpoint, peer: Endpoint): void;
  hasConnection(client: Endpoint, target: Endpoint): boolean;
  /** One more socket for datagrams (1) at this local port, or one less (-1). */
  countDatagrams(port: number, change: 1 | -1): void;
  hasDatagrams(port: number): boolean;
}

/** A socket that leads out. */
class OwnSocket {
  readonly fd: number;
  /** Where it connects to; of a socket for datagrams nothing. */
  readonly peer: Endpoint = new Endpoint();
  /** Its own end, port 0: not asked yet. A connection's is asked for when its peer is seen as a target, or to share it. */
  readonly local: Endpoint = new Endpoint();
  /** Its place in its list. */
  at = 0;

  /** Other workers know this connection. */
  isShared = false;

  constructor(fd: number) {
    this.fd = fd;
  }
}

export class OwnSockets {
  readonly #addon: Addon;
  readonly #words = new Int32Array(5);
  readonly #byDescriptor = new Map<number, OwnSocket>();
  /** Connections that are being made, by {@link keyOf} their peer. */
  readonly #byPeer = new Map<number, OwnSocket[]>();
  /** Sockets for datagrams, by their local port. */
  readonly #byPort = new Map<number, OwnSocket[]>();
  readonly #shared: SharedSockets | null;

  constructor(addon: Addon, shared: SharedSockets | null = null) {
    this.#addon = addon;
    this.#shared = shared;
  }

  /** `fd` connects to `peer` (five int32). */
  addConnecting(fd: number, peer: Int32Array): void {
    this.delete(fd);
    const socket = new OwnSocket(fd);
    readWords(peer, 0, socket.peer);
    this.#byDescriptor.set(fd, socket);
    append(this.#byPeer, keyOf(socket.peer), socket);
    // Others cannot ask the kernel by a descriptor that may be another's by then.
    if (this.#shared === null || !this.#ask(socket)) return;
    this.#shared.addConnection(socket.local, socket.peer);
    socket.isShared = true;
  }

  /** `fd` sends datagrams. */
  addDatagrams(fd: number): void {
    this.delete(fd);
    const socket = new OwnSocket(fd);
    if (!this.#ask(socket)) return;
    this.#byDescriptor.set(fd, socket);
    append(this.#byPort, socket.local.port, socket);
    this.#shared?.countDatagrams(socket.local.port, 1);
  }

  /** `fd` is connected, or about to be closed. Idempotent. */
  delete(fd: number): void {
    const socket = this.#byDescriptor.get(fd);
    if (socket === undefined) return;
    this.#byDescriptor.delete(fd);
    if (socket.peer.port !== 0) {
      remove(this.#byPeer, keyOf(socket.peer), socket);
      if (socket.isShared) this.#shared?.deleteConnection(socket.local, socket.peer);
    } else {
      remove(this.#byPort, socket.local.port, socket);
      this.#shared?.countDatagrams(socket.local.port, -1);
    }
  }

  /** A TCP flow from `client` to `target` is one of them. */
  hasConnection(client: Endpoint, target: Endpoint): boolean {
    for (const socket of this.#byPeer.get(keyOf(target)) ?? NONE) {
      if (!socket.peer.equals(target)) continue;
      if (socket.local.port === 0 && !this.#ask(socket)) continue;
      if (socket.local.equals(client)) return true;
    }
    return this.#shared?.hasConnection(client, target) === true;
  }

  /** A datagram from `client` is of one of them. */
  hasDatagrams(client: Endpoint): boolean {
    if (!this.#byPort.has(client.port) && this.#shared?.hasDatagrams(client.port) !== true) {
      return false;
    }
    return ownAddresses(this.#addon).some((own) => own.sameAddress(client));
  }

  /** Asks the kernel for the socket's own end. False: it has none. */
  #ask(socket: OwnSocket): boolean {
    if (this.#addon.localAddress(socket.fd, this.#words) < 0) return false;
    readWords(this.#words, 0, socket.local);
    return socket.local.port !== 0;
  }
}

const NONE: readonly OwnSocket[] = [];

/** Of an endpoint; others may have the same. */
function keyOf({ w3, port }: Endpoint): number {
  return w3 ^ (port << 15);
}

function append(lists: Map<number, OwnSocket[]>, key: number, socket: OwnSocket): void {
  const list = lists.get(key);
  if (list === undefined) {
    lists.set(key, [socket]);
    return;
  }
  socket.at = list.length;
  list.push(socket);
}

/** The last one takes its place; an empty list is kept no longer. */
function remove(lists: Map<number, OwnSocket[]>, key: number, socket: OwnSocket): void {
  const list = lists.get(key) as OwnSocket[];
  const last = list.pop() as OwnSocket;
  if (list.length === 0) lists.delete(key);
  if (last === socket) return;
  list[socket.at] = last;
  last.at = socket.at;
}
