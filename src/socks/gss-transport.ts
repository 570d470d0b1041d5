/**
 * A way to the proxy through the GSSAPI method (RFC 1961): a socket that carries octets once the context stands and
 * the level is agreed on. What stands on it (SOCKS's request, then the stream) knows nothing of GSSAPI.
 *
 * As with TLS: the opening event follows when the proxy has authenticated us, an error before it is the proxy's
 * refusal, and the end of stream, resets and back-pressure pass through.
 */

import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Endpoint } from "../stack/wire/address.ts";
import { GssChannel, type GssChannelHandler } from "./gss-channel.ts";
import type { GssOptions, GssProvider } from "./gss-context.ts";
import type { Refusal } from "./ports.ts";
import { SocksRefusal } from "./refusal.ts";
import type { Transport } from "./transport.ts";

export interface GssParts {
  readonly provider: GssProvider;
  readonly options: GssOptions;
  /** The proxy's host, as written. */
  readonly host: string;
  /** Names the proxy in refusals. */
  readonly label: string;
}

export class GssTransport implements Transport {
  readonly openEvent = "connect";
  readonly #parts: GssParts;
  readonly #below: Transport;
  readonly #isOrdered: boolean;
  readonly #onChannel: ((channel: GssChannel) => void) | null;

  /**
   * `below`: what carries GSSAPI's own messages. `onChannel` is told the channel of each socket, for the datagrams of an
   * association; they may be lost, so that its context does not expect messages in order.
   */
  constructor(
    parts: GssParts,
    below: Transport,
    onChannel: ((channel: GssChannel) => void) | null = null,
  ) {
    this.#parts = parts;
    this.#below = below;
    this.#isOrdered = onChannel === null;
    this.#onChannel = onChannel;
  }

  open(address: Endpoint, isAlone?: boolean): Socket | number {
    const below = this.#below.open(address, isAlone);
    if (typeof below === "number") return below;
    const { provider, options, host, label } = this.#parts;
    const { service, principal } = options;
    const context = provider.open({ service, host, principal, isOrdered: this.#isOrdered });
    const socket = new GssSocket(below);
    const channel = new GssChannel(context, options, label, socket);
    this.#onChannel?.(channel);
    const stream = socket.begin(channel);
    // What is written leaves when TCP stands. To a proxy behind TLS nothing is said before it is trusted.
    if (this.#below.openEvent === "connect") channel.start();
    else below.once(this.#below.openEvent, () => this.#startTrusted(below, socket, channel));
    return stream;
  }

  #startTrusted(below: Socket, socket: GssSocket, channel: GssChannel): void {
    const why = this.#below.distrust?.(below) ?? null;
    if (why === null) channel.start();
    else socket.onFailed(new SocksRefusal("protocol", this.#parts.label, why));
  }

  explain(error: NodeJS.ErrnoException & { refusal?: Refusal }): Refusal | string | null {
    return error.refusal ?? this.#below.explain?.(error) ?? null;
  }

  settled(socket: Socket): void {
    this.#below.settled?.((socket as CarriedSocket)[CARRIER]);
  }

  reset(socket: Socket): void {
    this.#below.reset((socket as CarriedSocket)[CARRIER]);
    socket.destroy();
  }
}

/** The connection below. */
const CARRIER: unique symbol = Symbol("carrier");
type CarriedSocket = Socket & { [CARRIER]: Socket };

class GssSocket implements GssChannelHandler {
  readonly #below: Socket;
  readonly #stream: Duplex;
  #channel!: GssChannel;

  constructor(below: Socket) {
    const { Duplex } = process.getBuiltinModule("node:stream");
    this.#below = below;
    this.#stream = new Duplex({
      read: () => below.resume(),
      write: (chunk: Buffer, _encoding, done) => this.#write(chunk, done),
      final: (done) => {
        below.end(done);
      },
      destroy: (error, done) => {
        this.#channel.close();
        below.destroy();
        done(error);
      },
    });
    below.on("data", (chunk: Buffer) => this.#channel.receive(chunk));
    below.on("end", () => {
      if (this.#channel.end()) this.#stream.push(null);
    });
    below.on("error", (error) => this.#stream.destroy(error));
  }

  /** As a socket: what those of node:net have and a stream has not goes to the one below. */
  begin(channel: GssChannel): Socket {
    const below = this.#below;
    const stream = this.#stream;
    this.#channel = channel;
    return Object.assign(stream, {
      [CARRIER]: below,
      setKeepAlive: (enable?: boolean, delay?: number) => below.setKeepAlive(enable, delay),
      setTimeout: (milliseconds: number, listener: () => void) =>
        below.setTimeout(milliseconds, listener),
      unref: () => below.unref(),
      destroySoon: () => {
        stream.end(() => stream.destroy());
      },
    }) as unknown as Socket;
  }

  #write(chunk: Buffer, done: (error?: Error | null) => void): void {
    const below = this.#below;
    const messages = this.#channel.seal(chunk);
    // It failed, and has destroyed the stream.
    if (messages === null) return;
    below.cork();
    messages.forEach((message, index) => {
      below.write(message, index === messages.length - 1 ? done : undefined);
    });
    below.uncork();
  }

  onSend(bytes: Uint8Array): void {
    this.#below.write(bytes);
  }

  onOpen(): void {
    this.#stream.emit("connect");
  }

  onOctets(bytes: Uint8Array): void {
    if (!this.#stream.push(bytes)) this.#below.pause();
  }

  onFailed(refusal: Refusal): void {
    this.#stream.destroy(Object.assign(new Error("GSSAPI failed"), { refusal }));
  }
}
