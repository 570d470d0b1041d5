/**
 * The sockets of all workers that lead out, so that each knows what comes back to it (src/socks/own-sockets.ts):
 * connections under way in a table as the flows have it, sockets for datagrams counted by their local port.
 */

import type { SharedSockets } from "../socks/own-sockets.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { directoryMemory, FlowDirectory } from "./flow-directory.ts";

export interface SocketMemory {
  readonly connections: SharedArrayBuffer;
  readonly datagrams: SharedArrayBuffer;
}

export function socketMemory(buckets: number = BUCKETS): SocketMemory {
  return {
    connections: directoryMemory(buckets),
    datagrams: new SharedArrayBuffer(PORTS * Int32Array.BYTES_PER_ELEMENT),
  };
}

export class WorkerSockets implements SharedSockets {
  readonly #connections: FlowDirectory;
  readonly #datagrams: Int32Array;

  /** `secret`: two words, the same for all workers. */
  constructor(memory: SocketMemory, secret: Uint32Array) {
    // Whose they are does not matter: of one worker, nothing is a matter of the hash.
    this.#connections = new FlowDirectory(memory.connections, secret, 0, 1);
    this.#datagrams = new Int32Array(memory.datagrams);
  }

  addConnection(local: Endpoint, peer: Endpoint): void {
    this.#connections.claim(local, peer);
  }

  deleteConnection(local: Endpoint, peer: Endpoint): void {
    this.#connections.release(local, peer);
  }

  hasConnection(client: Endpoint, target: Endpoint): boolean {
    return this.#connections.isListed(client, target);
  }

  countDatagrams(port: number, change: 1 | -1): void {
    Atomics.add(this.#datagrams, port, change);
  }

  hasDatagrams(port: number): boolean {
    return Atomics.load(this.#datagrams, port) > 0;
  }
}

/** 32,768 connections under way; one beyond in its bucket is not known to others. */
const BUCKETS = 4096;
const PORTS = 65_536;
