/**
 * A stream through the proxy on a socket of the addon: dial, handshake, then the relay's own recv and send.
 *
 * Readiness is level-triggered. The descriptor is watched for what is wanted: IN until it is paused or at its end,
 * OUT while a send waits. ERR and HUP cannot be unwanted, so a descriptor that reports them while nobody reads leaves
 * the poll and comes back with `resume`: what was received before is then read before the error.
 */

import { constants } from "node:os";
import { type Addon, Epoll } from "../native/binding.ts";
import type { Poller, PollHandler } from "../native/poller.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { Dial, DialOwner } from "./dial.ts";
import { Command } from "./message.ts";
import type { Destination, DirectStream, Honesty, Refusal, StreamHandler } from "./ports.ts";
import type { SocksProxy } from "./proxy.ts";
import type { ProxyHandshake } from "./proxy-handshake.ts";
import { errnoRefusal } from "./refusal.ts";
import { Silence, USER_TIMEOUT } from "./silence.ts";
import type { SourceAddresses } from "./source-addresses.ts";

const { EADDRNOTAVAIL, EAGAIN, ECONNRESET, EMFILE, ENFILE, EPIPE } = constants.errno;

const FAILED: number = Epoll.ERR | Epoll.HUP;

/** Octets read at a time while the reply is awaited: it, and what may be glued to it. */
const MAX_READ = 1024;

/** Where the handshake stands after it was driven. */
const Progress = { WAIT: 0, OPEN: 1, REFUSED: 2 } as const;

export class DirectSocksStream implements DirectStream, PollHandler, DialOwner {
  readonly shape = "direct";
  readonly #proxy: SocksProxy;
  readonly #addon: Addon;
  readonly #poller: Poller;
  readonly #handler: StreamHandler;
  readonly #silence: Silence;
  /** Null once open or closed. */
  #dial: Dial | null;
  #fd = -1;
  /** In the poll, or -1. */
  #id = -1;
  /** What the descriptor is watched for. */
  #bits = 0;
  #connected = false;
  #paused = false;
  /** `send` fell short. */
  #blocked = false;
  /** `recv` reported the end of stream or an error: nothing more to read. */
  #ended = false;
  /** What came behind the reply, together with it. */
  #surplus: Uint8Array | null = null;
  /** The first errno (positive) that the kernel reported. Having told it, it forgets, and shows an orderly end. */
  #broken = 0;

  /** Starts the dial. `command` as in `ProxyHandshake.begin`. The environment of `proxy` has an addon. */
  constructor(
    proxy: SocksProxy,
    command: number,
    destination: Destination | null,
    handler: StreamHandler,
  ) {
    this.#proxy = proxy;
    this.#addon = proxy.environment.addon as Addon;
    this.#poller = proxy.environment.poller as Poller;
    this.#handler = handler;
    this.#silence = new Silence(this.#addon, proxy.environment.timers, this.#userTimeout);
    this.#dial = proxy.takeDial(this, command, destination);
    const refusal = this.#attempt(this.#dial);
    if (refusal !== null) {
      this.#dial.refusal = refusal;
      proxy.environment.timers.set(this.#dial.timer, proxy.environment.timers.now());
    }
  }

  get honesty(): Honesty | null {
    return this.#proxy.honesty;
  }

  // ---- dialling ----------------------------------------------------------------------------------------------

  /** During onOpen: what the server answered. */
  get handshake(): ProxyHandshake | null {
    return this.#dial?.handshake ?? null;
  }

  /** Until onOpen has returned: the proxy's address. */
  get server(): Endpoint | null {
    return this.#dial === null ? null : this.#dial.server;
  }

  /** Has the kernel ask after `idle` seconds of silence whether the proxy is there; three times without answer: reset. */
  keepAlive(idle: number): void {
    this.#addon.keepAlive(this.#fd, idle, 10, 3);
  }

  get #userTimeout(): number {
    return this.#proxy.environment.userTimeout ?? USER_TIMEOUT;
  }

  /** Connects to the address of `dial`, or to the next one that does not fail at once. Null: under way. */
  #attempt(dial: Dial): Refusal | null {
    const proxy = this.#proxy;
    if (dial.addresses.length === 0) return proxy.unresolved();
    for (;;) {
      const { w0, w1, w2, w3, port } = dial.server;
      proxy.words[0] = w0;
      proxy.words[1] = w1;
      proxy.words[2] = w2;
      proxy.words[3] = w3;
      proxy.words[4] = port;
      let result = this.#connect(dial);
      if (result >= 0) {
        this.#fd = result;
        proxy.environment.ownSockets?.addConnecting(result, proxy.words);
        this.#bits = Epoll.OUT;
        result = this.#poller.add(this.#fd, this, Epoll.OUT);
        if (result >= 0) {
          this.#id = result;
          proxy.setDeadline(dial, dial.addresses.length + 1);
          return null;
        }
        this.#drop();
      }
      const refusal = errnoRefusal(proxy.label, -result);
      // Towards another address the same ports are free.
      const isHopeless = refusal.kind === "local" && result !== -EADDRNOTAVAIL;
      if (isHopeless || !proxy.nextAddress(dial)) return refusal;
    }
  }

  /** To `proxy.words`. A descriptor, or -errno. */
  #connect(dial: Dial): number {
    const proxy = this.#proxy;
    const sources = proxy.sources as SourceAddresses;
    const isStream = dial.command === Command.CONNECT;
    const limit = isStream ? proxy.descriptorLimit : 0;
    const result = sources.connect(proxy.words, this.#userTimeout, limit, !isStream);
    if (result === -EMFILE || result === -ENFILE) proxy.descriptorExhaustions++;
    return result;
  }

  onDialTimer(dial: Dial): void {
    if (dial.refusal !== null) {
      this.#refuse(dial.refusal);
      return;
    }
    if (this.#connected) {
      this.#refuse(this.#proxy.handshakeTimeout(dial));
      return;
    }
    this.#tryNext(dial, this.#proxy.timeout("to the connection", true));
  }

  /** The address of `dial` failed as `refusal` says. */
  #tryNext(dial: Dial, refusal: Refusal): void {
    this.#drop();
    if (refusal.kind === "local" || !this.#proxy.nextAddress(dial)) {
      this.#refuse(refusal);
      return;
    }
    const next = this.#attempt(dial);
    if (next !== null) this.#refuse(next);
  }

  #onDialPoll(dial: Dial, bits: number): void {
    const proxy = this.#proxy;
    if (!this.#connected) {
      proxy.environment.ownSockets?.delete(this.#fd);
      // An error that nobody shows is none (tcp_poll in net/ipv4/tcp.c).
      const error = (bits & FAILED) === 0 ? 0 : this.#addon.socketError(this.#fd);
      if (error !== 0) {
        this.#tryNext(dial, errnoRefusal(proxy.label, Math.abs(error)));
        return;
      }
      this.#connected = true;
      proxy.reached(dial);
      proxy.beginHandshake(dial);
    }
    const progress = this.#drive(dial);
    if (progress === Progress.WAIT) {
      this.#setBits(dial.handshake.need > 0 ? Epoll.IN : Epoll.OUT);
    } else if (progress === Progress.REFUSED) {
      this.#refuse(dial.handshake.refusal as Refusal);
    } else {
      this.#open(dial);
    }
  }

  /** Writes and reads until the handshake ends or the socket has nothing for it. */
  #drive(dial: Dial): (typeof Progress)[keyof typeof Progress] {
    const { handshake } = dial;
    for (;;) {
      if (handshake.refusal !== null) return Progress.REFUSED;
      if (handshake.granted) return Progress.OPEN;
      const moved = handshake.need > 0 ? this.#receive(dial) : this.#transmit(dial);
      if (!moved) return Progress.WAIT;
    }
  }

  /** False: more has to come; it is told when it does. */
  #receive(dial: Dial): boolean {
    const { handshake } = dial;
    const { bytes, scratchStart } = this.#proxy.environment.memory;
    const { row } = this.#proxy;
    row[0] = scratchStart;
    // Once the request has left, one system call for all that is left.
    row[1] = dial.ahead || handshake.awaitsReply ? MAX_READ : handshake.need;
    const got = this.#addon.recv(this.#fd, row, 1);
    if (got === -EAGAIN) return false;
    if (got <= 0) {
      this.#handshakeBroke(handshake, -got);
      return true;
    }
    const end = scratchStart + got;
    const next = scratchStart + handshake.read(bytes, scratchStart, end);
    if (next < end && handshake.granted) this.#surplus = bytes.slice(next, end);
    this.#proxy.heard(dial);
    return handshake.need === 0;
  }

  /** False: the socket takes nothing now, or the answer has to come. */
  #transmit(dial: Dial): boolean {
    const { handshake } = dial;
    const { bytes, scratchStart } = this.#proxy.environment.memory;
    const { row } = this.#proxy;
    const length = handshake.write(bytes, scratchStart) - scratchStart;
    if (length === 0) return true;
    row[0] = scratchStart + dial.sent;
    row[1] = length - dial.sent;
    const sent = this.#addon.send(this.#fd, row, 1);
    bytes.fill(0, scratchStart, scratchStart + length);
    if (sent === -EAGAIN) return false;
    if (sent < 0) {
      this.#handshakeBroke(handshake, -sent);
      return true;
    }
    dial.sent += sent;
    if (dial.sent < length) return false;
    dial.sent = 0;
    this.#proxy.written(dial);
    return false;
  }

  /** 0: the end of stream. */
  #handshakeBroke(handshake: ProxyHandshake, error: number): void {
    if (error === 0 || error === ECONNRESET || error === EPIPE) handshake.end();
    else handshake.fail(errnoRefusal(this.#proxy.label, error));
  }

  #open(dial: Dial): void {
    this.#proxy.environment.timers.clear(dial.timer);
    this.#proxy.pipelining.granted(dial);
    this.#handler.onOpen();
    this.#releaseDial();
    if (this.#fd < 0) return;
    if (this.#surplus !== null && !this.#paused) this.#handler.onReadable();
    if (this.#fd >= 0) this.#watch();
  }

  #refuse(refusal: Refusal): void {
    const dial = this.#dial as Dial;
    let told: Refusal | null = refusal;
    if (!this.#connected) {
      this.#proxy.notReached();
    } else if (this.#proxy.pipelining.refused(dial, refusal)) {
      this.#drop();
      told = this.#attempt(dial);
      if (told === null) return;
    }
    this.close();
    this.#handler.onRefused(told);
  }

  #releaseDial(): void {
    if (this.#dial === null) return;
    this.#proxy.giveDial(this.#dial);
    this.#dial = null;
  }

  // ---- the open stream -----------------------------------------------------------------------------------------

  recv(rows: Int32Array, count: number): number {
    if (this.#surplus !== null) return this.#takeSurplus(this.#surplus, rows, count);
    const got = this.#addon.recv(this.#fd, rows, count);
    if (got > 0 || got === -EAGAIN) return got;
    this.#ended = true;
    if (got < 0) {
      this.#broken = -got;
      return got;
    }
    // EPIPE is what the kernel says of a reset behind the peer's end of stream (tcp_reset in net/ipv4/tcp_input.c).
    return this.#broken === EPIPE ? 0 : -this.#broken;
  }

  #takeSurplus(surplus: Uint8Array, rows: Int32Array, count: number): number {
    const { bytes } = this.#proxy.environment.memory;
    let taken = 0;
    for (let i = 0; i < count && taken < surplus.length; i++) {
      const length = Math.min(rows[2 * i + 1] as number, surplus.length - taken);
      bytes.set(surplus.subarray(taken, taken + length), rows[2 * i] as number);
      taken += length;
    }
    this.#surplus = taken < surplus.length ? surplus.slice(taken) : null;
    return taken;
  }

  send(rows: Int32Array, count: number): number {
    const sent = this.#addon.send(this.#fd, rows, count);
    if (sent < 0 && sent !== -EAGAIN) {
      if (this.#broken === 0) this.#broken = -sent;
      return sent;
    }
    this.#silence.sent(this.#fd);
    let offered = 0;
    for (let i = 0; i < count; i++) offered += rows[2 * i + 1] as number;
    if (sent < offered) {
      this.#blocked = true;
      this.#watch();
    }
    return sent;
  }

  pause(): void {
    // IN is taken back when the next event shows that it is there for nothing.
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (this.#dial === null) this.#watch();
  }

  shutdown(): void {
    this.#addon.shutdown(this.#fd);
  }

  reset(): void {
    this.#releaseDial();
    if (this.#fd < 0) return;
    this.#forget();
    this.#addon.reset(this.#fd);
    this.#fd = -1;
  }

  close(): void {
    this.#releaseDial();
    this.#drop();
  }

  onPoll(bits: number): void {
    if (this.#dial !== null) this.#onDialPoll(this.#dial, bits);
    else this.#onOpenPoll(bits);
  }

  #onOpenPoll(bits: number): void {
    const failed = (bits & FAILED) !== 0;
    // A reset that follows the peer's end of stream is news; what recv has told is not.
    const news = this.#ended ? (bits & Epoll.ERR) !== 0 && this.#broken === 0 : !this.#paused;
    const told = failed || this.#surplus !== null || (bits & Epoll.IN) !== 0;
    if (news && told) this.#handler.onReadable();
    if (this.#fd < 0) return;
    if (this.#blocked && (failed || (bits & Epoll.OUT) !== 0)) {
      this.#blocked = false;
      this.#handler.onWritable();
      if (this.#fd < 0) return;
    }
    if (failed && (this.#paused || this.#ended)) this.#unwatch();
    else this.#setBits(this.#wanted());
  }

  /** What is kept here nobody tells of but that there is room to send. */
  #wanted(): number {
    if (this.#paused) return this.#blocked ? Epoll.OUT : 0;
    const out = this.#blocked || this.#surplus !== null;
    return (this.#ended ? 0 : Epoll.IN) | (out ? Epoll.OUT : 0);
  }

  /** Sees to it that all that is wanted is watched; more may be, until it shows. */
  #watch(): void {
    const wanted = this.#wanted();
    if ((wanted & ~this.#bits) !== 0 || (this.#id < 0 && wanted !== 0)) this.#setBits(wanted);
  }

  #setBits(bits: number): void {
    if (this.#id < 0) {
      if (bits === 0) return;
      this.#id = this.#poller.add(this.#fd, this, bits);
    } else if (bits !== this.#bits) {
      this.#poller.modify(this.#id, this.#fd, bits);
    }
    this.#bits = bits;
  }

  #unwatch(): void {
    if (this.#id >= 0) this.#poller.remove(this.#id, this.#fd);
    this.#id = -1;
    this.#bits = 0;
  }

  #drop(): void {
    if (this.#fd < 0) return;
    this.#forget();
    this.#addon.close(this.#fd);
    this.#fd = -1;
    this.#connected = false;
  }

  /** Nobody else knows the descriptor any more: it may be closed. */
  #forget(): void {
    this.#unwatch();
    this.#silence.stop();
    if (!this.#connected) this.#proxy.environment.ownSockets?.delete(this.#fd);
  }
}
