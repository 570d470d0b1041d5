/**
 * A TCP connection to the host's loopback, or straight to a destination: the direct shape without a proxy.
 *
 * Level-triggered, as the poller is: a paused stream whose peer is gone is taken out of the poller and put back by
 * `resume`, so that it neither spins nor loses the end.
 */

import { type Addon, Epoll } from "../native/binding.ts";
import type { Poller, PollHandler } from "../native/poller.ts";
import { Timer, type TimerHandler, type Timers } from "../stack/timer-wheel.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { loopbackRefusal } from "./loopback-refusal.ts";
import type { OwnSockets } from "./own-sockets.ts";
import type { DirectStream, Refusal, StreamHandler } from "./ports.ts";
import { Silence, USER_TIMEOUT } from "./silence.ts";
import type { SourceAddresses } from "./source-addresses.ts";

/** What a stream needs of its worker. */
export interface LoopbackEnvironment {
  readonly addon: Addon;
  readonly poller: Poller;
  readonly timers: Timers;
  /** Beyond loopback: how its sockets lead out. */
  readonly out?: DirectWay;
}

/** The way straight out. */
export interface DirectWay {
  readonly sources: SourceAddresses;
  /** The first descriptor that a stream may not have. */
  readonly descriptorLimit: number;
  readonly ownSockets: OwnSockets | undefined;
  /** SO_MARK, SO_BINDTODEVICE, and where datagrams leave from, as in SocketEnvironment. */
  readonly mark: number;
  readonly device: string;
  readonly addresses: readonly Endpoint[];
}

/** Where it leads, for refusals. */
const BEYOND = "the destination";

const EAGAIN = 11;

const CONNECTING = 0;
const OPEN = 1;
const CLOSED = 2;

export class LoopbackStream implements DirectStream, PollHandler, TimerHandler {
  readonly shape = "direct";
  readonly #environment: LoopbackEnvironment;
  readonly #handler: StreamHandler;
  readonly #failure: Timer = new Timer(this);
  readonly #silence: Silence;
  #fd: number;
  #pollId = -1;
  #state: number = CONNECTING;
  #paused = false;
  #blocked = false;

  constructor(environment: LoopbackEnvironment, endpoint: Endpoint, handler: StreamHandler) {
    this.#environment = environment;
    this.#handler = handler;
    this.#silence = new Silence(environment.addon, environment.timers, USER_TIMEOUT);
    const { w0, w1, w2, w3, port } = endpoint;
    const address = Int32Array.of(w0, w1, w2, w3, port);
    const { addon, out } = environment;
    this.#fd =
      out === undefined
        ? addon.tcpConnect(address, 0, "", USER_TIMEOUT)
        : out.sources.connect(address, USER_TIMEOUT, out.descriptorLimit, false);
    if (this.#fd >= 0) {
      out?.ownSockets?.addConnecting(this.#fd, address);
      this.#pollId = environment.poller.add(this.#fd, this, Epoll.OUT);
      if (this.#pollId >= 0) return;
      out?.ownSockets?.delete(this.#fd);
      addon.close(this.#fd);
      this.#fd = this.#pollId;
    }
    // A refusal is an event: it comes with the next turn, never from within a call.
    environment.timers.set(this.#failure, environment.timers.now());
  }

  recv(rows: Int32Array, count: number): number {
    return this.#environment.addon.recv(this.#fd, rows, count);
  }

  send(rows: Int32Array, count: number): number {
    const sent = this.#environment.addon.send(this.#fd, rows, count);
    this.#silence.sent(this.#fd);
    let offered = 0;
    for (let i = 1; i < 2 * count; i += 2) offered += rows[i] as number;
    if (sent === -EAGAIN || (sent >= 0 && sent < offered)) {
      this.#blocked = true;
      this.#watch();
    }
    return sent;
  }

  pause(): void {
    this.#paused = true;
    this.#watch();
  }

  resume(): void {
    this.#paused = false;
    this.#watch();
  }

  shutdown(): void {
    this.#environment.addon.shutdown(this.#fd);
  }

  reset(): void {
    const fd = this.#fd;
    if (this.#release()) this.#environment.addon.reset(fd);
  }

  close(): void {
    const fd = this.#fd;
    if (this.#release()) this.#environment.addon.close(fd);
  }

  /** The connection could not even be started: `#fd` holds -errno. */
  onTimer(): void {
    if (this.#state === CLOSED) return;
    this.#state = CLOSED;
    this.#handler.onRefused(this.#refusal(-this.#fd));
  }

  onPoll(bits: number): void {
    if (this.#state === CONNECTING) {
      this.#connected();
      return;
    }
    if (this.#blocked && (bits & (Epoll.OUT | Epoll.ERR | Epoll.HUP)) !== 0) {
      this.#blocked = false;
      this.#watch();
      this.#handler.onWritable();
      if (this.#state === CLOSED) return;
    }
    if (!this.#paused) this.#handler.onReadable();
    else if ((bits & (Epoll.ERR | Epoll.HUP)) !== 0) this.#unwatch();
  }

  #connected(): void {
    const { addon, out } = this.#environment;
    const errno = addon.socketError(this.#fd);
    if (errno !== 0) {
      this.close();
      this.#handler.onRefused(this.#refusal(errno));
      return;
    }
    out?.ownSockets?.delete(this.#fd);
    this.#state = OPEN;
    this.#watch();
    this.#handler.onOpen();
  }

  #refusal(errno: number): Refusal {
    return loopbackRefusal(errno, this.#environment.out === undefined ? undefined : BEYOND);
  }

  /** Brings the poller's interest in line. */
  #watch(): void {
    if (this.#state !== OPEN) return;
    const { poller } = this.#environment;
    const bits = (this.#paused ? 0 : Epoll.IN) | (this.#blocked ? Epoll.OUT : 0);
    if (this.#pollId >= 0) poller.modify(this.#pollId, this.#fd, bits);
    else this.#pollId = poller.add(this.#fd, this, bits);
  }

  #unwatch(): void {
    if (this.#pollId >= 0) this.#environment.poller.remove(this.#pollId, this.#fd);
    this.#pollId = -1;
  }

  /** True when there is a descriptor to close. */
  #release(): boolean {
    if (this.#state === CLOSED) return false;
    this.#unwatch();
    this.#environment.timers.clear(this.#failure);
    this.#silence.stop();
    if (this.#state === CONNECTING) this.#environment.out?.ownSockets?.delete(this.#fd);
    this.#state = CLOSED;
    return this.#fd >= 0;
  }
}
