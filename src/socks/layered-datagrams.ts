/** An association's socket by node:dgram, where the addon is not built. Every datagram is a turn of the loop. */

import type { RemoteInfo, Socket } from "node:dgram";
import { constants } from "node:os";
import type { Endpoint } from "../stack/wire/address.ts";
import { formatAddress, parseAddress } from "../stack/wire/address.ts";
import {
  type AssociationCounters,
  type DatagramHandler,
  type DatagramSocket,
  MAX_QUEUED,
} from "./datagram-socket.ts";
import type { SocketEnvironment } from "./environment.ts";
import { errnoOf } from "./refusal.ts";

const { EMSGSIZE } = constants.errno;

/** Octets that Node.js may hold unsent. */
const MAX_UNSENT = 1 << 20;

export class LayeredDatagrams implements DatagramSocket {
  readonly #environment: SocketEnvironment;
  readonly #counters: AssociationCounters;
  readonly #handler: DatagramHandler;
  #socket: Socket | null = null;
  #host = "";
  #port = 0;
  /** Copies: [header, payload] of each datagram. */
  #queue: Uint8Array[][] = [];

  constructor(
    environment: SocketEnvironment,
    counters: AssociationCounters,
    handler: DatagramHandler,
  ) {
    this.#environment = environment;
    this.#counters = counters;
    this.#handler = handler;
  }

  /** Node.js cannot ask for it. */
  hasRoute(): boolean {
    return true;
  }

  open(relay: Endpoint): number {
    const { createSocket } = process.getBuiltinModule("node:dgram");
    const socket = createSocket(relay.isV4 ? "udp4" : "udp6");
    this.#socket = socket;
    this.#host = formatAddress(relay);
    this.#port = relay.port;
    socket.on("message", (message, from) => this.#turn(() => this.#onMessage(message, from)));
    socket.on("error", (error) => this.#turn(() => this.#onError(errnoOf(error))));
    return 0;
  }

  get room(): number {
    return MAX_QUEUED - this.#queue.length;
  }

  queue(header: number, headerLength: number, start: number, length: number): void {
    const { bytes } = this.#environment.memory;
    this.#queue.push([
      bytes.slice(header, header + headerLength),
      bytes.slice(start, start + length),
    ]);
  }

  flush(): void {
    const socket = this.#socket;
    for (const message of this.#queue.splice(0)) {
      if (socket === null || socket.getSendQueueSize() > MAX_UNSENT) {
        this.#counters.sendFull++;
        continue;
      }
      socket.send(message, this.#port, this.#host, (error) => {
        if (error === null) this.#counters.sent++;
        else this.#turn(() => this.#refused(errnoOf(error), message));
      });
    }
  }

  #refused(errno: number, message: readonly Uint8Array[]): void {
    if (errno !== EMSGSIZE) {
      this.#counters.sendErrors++;
      return;
    }
    this.#counters.sendTooBig++;
    this.#handler.onTooBig(message.reduce((sum, { length }) => sum + length, 0));
  }

  close(): void {
    this.#queue = [];
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #turn(step: () => void): void {
    if (this.#socket === null) return;
    const { turn } = this.#environment;
    turn.enter();
    try {
      step();
    } finally {
      turn.leave();
    }
  }

  #onMessage(message: Buffer, from: RemoteInfo): void {
    const { bytes, datagrams } = this.#environment.memory;
    const source = parseAddress(from.address.replace(/%.*$/, ""));
    const at = datagrams.take(message.length);
    if (at < 0 || source === null) {
      this.#counters.noMemory++;
      return;
    }
    bytes.set(message, at);
    source.port = from.port;
    this.#handler.onReceived(source, at, at + message.length);
  }

  #onError(error: number): void {
    this.close();
    this.#handler.onBroken(error);
  }
}
