/**
 * TCP to the proxy below TLS or GSSAPI: by the addon, with mark, interface and source as all other connections, or by
 * Node.js without the addon.
 */

import type { Socket } from "node:net";
import type { Endpoint } from "../stack/wire/address.ts";
import type { SocksProxy } from "./proxy.ts";
import { TCP, type Transport } from "./transport.ts";

/** Its descriptor, while it connects. */
const DESCRIPTOR: unique symbol = Symbol("descriptor");
type Carrier = Socket & { [DESCRIPTOR]?: number };

export class TcpCarrier implements Transport {
  readonly openEvent = "connect";
  readonly #proxy: SocksProxy;

  constructor(proxy: SocksProxy) {
    this.#proxy = proxy;
  }

  /** By the addon Node.js has the descriptor from now on, and sees whether it connects. */
  open(address: Endpoint, isAlone = false): Socket | number {
    const { sources, words, descriptorLimit, environment } = this.#proxy;
    const { addon, ownSockets } = environment;
    if (addon === null || sources === null) return TCP.open(address);
    const { w0, w1, w2, w3, port } = address;
    words[0] = w0;
    words[1] = w1;
    words[2] = w2;
    words[3] = w3;
    words[4] = port;
    const fd = sources.connect(words, 0, isAlone ? 0 : descriptorLimit, isAlone);
    if (fd < 0) return fd;
    // What has failed already the kernel tells once, and to TLS it would tell it by a write whose error nobody sees.
    const error = addon.socketError(fd);
    if (error !== 0) {
      addon.close(fd);
      return -Math.abs(error);
    }
    ownSockets?.addConnecting(fd, words);
    const { Socket: NodeSocket } = process.getBuiltinModule("node:net");
    const socket: Carrier = new NodeSocket({
      fd,
      readable: true,
      writable: true,
      allowHalfOpen: true,
    });
    socket[DESCRIPTOR] = fd;
    return socket;
  }

  settled(socket: Socket): void {
    const fd = (socket as Carrier)[DESCRIPTOR];
    if (fd === undefined) return;
    delete (socket as Carrier)[DESCRIPTOR];
    this.#proxy.environment.ownSockets?.delete(fd);
  }

  reset(socket: Socket): void {
    TCP.reset(socket);
  }
}
