/**
 * The datagrams of an association whose control connection has GSSAPI (RFC 1961 §5): each, header and all, is a
 * message of its own. At "clear" they pass as they are.
 */

import { constants } from "node:os";
import type { MemoryLayout } from "../memory.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { maxDatagram } from "./datagram-size.ts";
import type { AssociationCounters, DatagramHandler, DatagramSocket } from "./datagram-socket.ts";
import type { GssChannel } from "./gss-channel.ts";
import { GSS_HEADER } from "./gss-frames.ts";

export class GssDatagrams implements DatagramSocket, DatagramHandler {
  readonly #memory: MemoryLayout;
  readonly #counters: AssociationCounters;
  readonly #handler: DatagramHandler;
  readonly #socket: DatagramSocket;
  #channel: GssChannel | null = null;
  /** Octets of the largest datagram to the relay. */
  #most = 0;

  /** `create` makes the socket that carries the messages. */
  constructor(
    memory: MemoryLayout,
    counters: AssociationCounters,
    handler: DatagramHandler,
    create: (handler: DatagramHandler) => DatagramSocket,
  ) {
    this.#memory = memory;
    this.#counters = counters;
    this.#handler = handler;
    this.#socket = create(this);
  }

  /** The channel of the control connection, before `open`. */
  use(channel: GssChannel): void {
    this.#channel = channel;
  }

  open(relay: Endpoint): number {
    this.#most = maxDatagram(relay);
    return this.#channel === null ? -constants.errno.ENOTCONN : this.#socket.open(relay);
  }

  hasRoute(relay: Endpoint): boolean {
    return this.#socket.hasRoute(relay);
  }

  get room(): number {
    return this.#socket.room;
  }

  queue(header: number, headerLength: number, start: number, length: number): void {
    const channel = this.#channel as GssChannel;
    if (channel.level === "clear") {
      this.#socket.queue(header, headerLength, start, length);
      return;
    }
    const { bytes, datagrams } = this.#memory;
    const plain = new Uint8Array(headerLength + length);
    plain.set(bytes.subarray(header, header + headerLength));
    plain.set(bytes.subarray(start, start + length), headerLength);
    const message = channel.sealDatagram(plain);
    if (message === null || message.length > this.#most) {
      this.#counters.tooBig++;
      // What the seal adds is nothing that the association knows of.
      this.#handler.onTooBig(plain.length);
      return;
    }
    const at = datagrams.take(message.length);
    if (at < 0) {
      this.#counters.noMemory++;
      return;
    }
    bytes.set(message, at);
    this.#socket.queue(at, GSS_HEADER, at + GSS_HEADER, message.length - GSS_HEADER);
  }

  flush(): void {
    this.#socket.flush();
  }

  close(): void {
    this.#socket.close();
  }

  onReceived(from: Endpoint, start: number, end: number): void {
    const channel = this.#channel as GssChannel;
    if (channel.level === "clear") {
      this.#handler.onReceived(from, start, end);
      return;
    }
    const { bytes } = this.#memory;
    const plain = channel.openDatagram(bytes, start, end);
    if (plain === null || plain.length > end - start) {
      this.#counters.malformed++;
      return;
    }
    // A message is longer than what it carries.
    bytes.set(plain, start);
    this.#handler.onReceived(from, start, start + plain.length);
  }

  onTooBig(length: number): void {
    this.#handler.onTooBig(length);
  }

  onBroken(errno: number): void {
    this.#handler.onBroken(errno);
  }
}
