/**
 * A stream straight to a name: this host resolves it, then its addresses are tried in the resolver's order, one after
 * the other, until one answers. After that it is the stream to that address.
 */

import { constants } from "node:os";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { Endpoint } from "../stack/wire/address.ts";
import { type LoopbackEnvironment, LoopbackStream } from "./loopback-stream.ts";
import { Reply } from "./message.ts";
import type { NameHandler, NameResolver } from "./name-resolver.ts";
import type { DirectStream, Refusal, StreamHandler } from "./ports.ts";
import { SocksRefusal } from "./refusal.ts";

const { EAGAIN } = constants.errno;

export class NamedStream implements DirectStream, NameHandler, TimerHandler {
  readonly shape = "direct";
  readonly #environment: LoopbackEnvironment;
  readonly #port: number;
  readonly #handler: StreamHandler;
  readonly #failure: Timer = new Timer(this);
  #addresses: readonly Endpoint[] = [];
  /** Addresses tried. */
  #tried = 0;
  #stream: LoopbackStream | null = null;
  #closed = false;

  constructor(
    environment: LoopbackEnvironment,
    resolver: NameResolver,
    name: string,
    port: number,
    handler: StreamHandler,
  ) {
    this.#environment = environment;
    this.#port = port;
    this.#handler = handler;
    // Too many are being looked up: a refusal never comes from within a call.
    if (!resolver.resolve(name, this))
      environment.timers.set(this.#failure, environment.timers.now());
  }

  onAddresses(addresses: readonly Endpoint[]): void {
    if (this.#closed) return;
    this.#addresses = addresses;
    if (addresses.length === 0) this.onTimer();
    else this.#tryNext();
  }

  /** It cannot be looked up, or has no address. */
  onTimer(): void {
    const why = "the name does not resolve on this host";
    this.#refuse(new SocksRefusal("reply", "direct", why, Reply.HOST_UNREACHABLE));
  }

  #tryNext(): void {
    const endpoint = new Endpoint().copy(this.#addresses[this.#tried++] as Endpoint);
    endpoint.port = this.#port;
    const handler = this.#handler;
    this.#stream = new LoopbackStream(this.#environment, endpoint, {
      onOpen: () => handler.onOpen(),
      onRefused: (refusal) => {
        if (this.#tried < this.#addresses.length && refusal.kind !== "local") this.#tryNext();
        else this.#refuse(refusal);
      },
      onReadable: () => handler.onReadable(),
      onBytes() {},
      onEnd() {},
      onWritable: () => handler.onWritable(),
      onReset() {},
    });
  }

  #refuse(refusal: Refusal): void {
    this.#closed = true;
    this.#handler.onRefused(refusal);
  }

  recv(rows: Int32Array, count: number): number {
    return this.#stream?.recv(rows, count) ?? -EAGAIN;
  }

  send(rows: Int32Array, count: number): number {
    return this.#stream?.send(rows, count) ?? -EAGAIN;
  }

  pause(): void {
    this.#stream?.pause();
  }

  resume(): void {
    this.#stream?.resume();
  }

  shutdown(): void {
    this.#stream?.shutdown();
  }

  reset(): void {
    this.#end();
    this.#stream?.reset();
  }

  close(): void {
    this.#end();
    this.#stream?.close();
  }

  #end(): void {
    this.#closed = true;
    this.#environment.timers.clear(this.#failure);
  }
}
