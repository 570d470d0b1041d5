/**
 * A stream through one proxy more: a stream to that proxy, opened by those before it, and the handshake on it.
 *
 * What the handshake needs is read and no more, so that afterwards the stream is the one below and nothing is kept here.
 */

import { constants } from "node:os";
import type { Dial, DialOwner } from "../socks/dial.ts";
import type { Destination, Honesty, Refusal, Stream, StreamHandler } from "../socks/ports.ts";
import type { ProxyHandshake } from "../socks/proxy-handshake.ts";
import { errnoRefusal } from "../socks/refusal.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { brokenChain, ChainRefusal } from "./chain-refusal.ts";
import type { ChainUpstream } from "./chain-upstream.ts";
import { StandInStream } from "./stand-in-stream.ts";

const { EAGAIN, ECONNRESET, EPIPE } = constants.errno;

export class ChainStream extends StandInStream implements DialOwner {
  readonly #chain: ChainUpstream;
  /** Null once open or closed. */
  #dial: Dial | null;
  /** There is a stream to the proxy: the handshake is under way. */
  #connected = false;

  /** `command` as in `ProxyHandshake.begin`. */
  constructor(
    chain: ChainUpstream,
    command: number,
    destination: Destination | null,
    handler: StreamHandler,
  ) {
    super(handler);
    this.#chain = chain;
    this.#dial = chain.proxy.takeDial(this, command, destination);
    this.#connect(this.#dial);
  }

  /** Of the last proxy, which is the one that grants. */
  override get honesty(): Honesty | null {
    return this.#chain.proxy.honesty;
  }

  // ---- while it is being opened, for associations ------------------------------------------------------------------

  /** During onOpen: what the proxy answered. */
  get handshake(): ProxyHandshake | null {
    return this.#dial?.handshake ?? null;
  }

  /** During onOpen: the proxy's address; where only the proxy before knows it, that of the relay stands for it. */
  get server(): Endpoint | null {
    const { server } = this.#chain;
    return server.isUnspecified ? (this.handshake?.bound ?? null) : server;
  }

  keepAlive(idle: number): void {
    const stream = this.stream as (Stream & { keepAlive?(idle: number): void }) | null;
    stream?.keepAlive?.(idle);
  }

  // ---- the handshake -----------------------------------------------------------------------------------------------

  #connect(dial: Dial): void {
    const { before, hop, server, proxy } = this.#chain;
    this.#connected = false;
    dial.addresses = [server];
    dial.index = 0;
    proxy.environment.timers.set(dial.timer, dial.deadline);
    this.stream = before.connect(hop, this);
  }

  override onOpen(): void {
    const dial = this.#dial as Dial;
    this.#connected = true;
    this.#chain.proxy.beginHandshake(dial);
    this.#drive(dial);
  }

  onRefused(refusal: Refusal): void {
    this.refuse(brokenChain(this.#chain.label, refusal));
  }

  override onReadable(): void {
    if (this.#dial === null) super.onReadable();
    else this.#receive(this.#dial);
  }

  override onBytes(bytes: Uint8Array, start: number, end: number): void {
    const { stream } = this;
    let next = start;
    // A handshake that is done again has another stream.
    while (this.#dial !== null && this.stream === stream && next < end) {
      next += this.#dial.handshake.read(bytes, next, end);
      this.#chain.proxy.heard(this.#dial);
      this.#drive(this.#dial);
    }
    if (next < end && this.#dial === null && this.stream === stream && stream !== null) {
      super.onBytes(bytes, next, end);
    }
  }

  override onEnd(): void {
    if (this.#dial === null) super.onEnd();
    else this.#broke(this.#dial, 0);
  }

  override onReset(errno: number): void {
    if (this.#dial === null) super.onReset(errno);
    else this.#broke(this.#dial, errno);
  }

  override onWritable(): void {
    if (this.#dial === null) super.onWritable();
    else this.#drive(this.#dial);
  }

  onDialTimer(dial: Dial): void {
    const { proxy } = this.#chain;
    if (this.#connected) this.#fail(dial, proxy.handshakeTimeout(dial));
    else this.#refuse(proxy.timeout("to the connection through the proxy before it", true));
  }

  /** Direct shape: reads until the handshake ends or nothing has come. */
  #receive(dial: Dial): void {
    const { stream } = this;
    if (stream?.shape !== "direct") return;
    const { proxy } = this.#chain;
    const { bytes, scratchStart } = proxy.environment.memory;
    const { row } = proxy;
    const { handshake } = dial;
    while (this.#dial === dial && this.stream === stream && handshake.need > 0) {
      row[0] = scratchStart;
      row[1] = handshake.need;
      const got = stream.recv(row, 1);
      if (got === -EAGAIN) return;
      if (got <= 0) {
        this.#broke(dial, -got);
        return;
      }
      handshake.read(bytes, scratchStart, scratchStart + got);
      proxy.heard(dial);
      this.#drive(dial);
    }
  }

  /** Sends the message that is due; opens or refuses if the handshake has ended. */
  #drive(dial: Dial): void {
    const { handshake } = dial;
    if (handshake.need === 0 && !this.#transmit(dial)) return;
    if (handshake.refusal !== null) this.#fail(dial, handshake.refusal);
    else if (handshake.granted) this.#open(dial);
  }

  /** False: the stream takes the rest when it has room, or it is broken. */
  #transmit(dial: Dial): boolean {
    const { proxy } = this.#chain;
    const { bytes, scratchStart } = proxy.environment.memory;
    const stream = this.stream as Stream;
    const start = scratchStart + dial.sent;
    const end = dial.handshake.write(bytes, scratchStart);
    if (end <= start) return true;
    const { row } = proxy;
    row[0] = start;
    row[1] = end - start;
    const sent = stream.shape === "direct" ? stream.send(row, 1) : stream.send(bytes, start, end);
    bytes.fill(0, scratchStart, end);
    if (sent === -EAGAIN) return false;
    if (sent < 0) {
      this.#broke(dial, -sent);
      return false;
    }
    dial.sent += sent;
    if (start + sent < end) return false;
    dial.sent = 0;
    proxy.written(dial);
    return true;
  }

  #open(dial: Dial): void {
    const { proxy } = this.#chain;
    const missing = this.#chain.missingRelay(dial.command, dial.handshake);
    if (missing !== null) {
      this.#refuse(missing);
      return;
    }
    proxy.environment.timers.clear(dial.timer);
    proxy.pipelining.granted(dial);
    super.onOpen();
    this.#releaseDial();
  }

  /** 0: the end of stream. */
  #broke(dial: Dial, error: number): void {
    const { handshake } = dial;
    if (error === 0 || error === ECONNRESET || error === EPIPE) handshake.end();
    else handshake.fail(errnoRefusal(this.#chain.proxy.label, error));
    if (handshake.refusal !== null) this.#fail(dial, handshake.refusal);
  }

  /** The handshake failed; it may have to be done again. */
  #fail(dial: Dial, refusal: Refusal): void {
    if (!this.#chain.proxy.pipelining.refused(dial, refusal)) {
      this.#refuse(refusal);
      return;
    }
    this.stream?.close();
    this.#connect(dial);
  }

  #refuse(refusal: Refusal): void {
    this.stream?.close();
    this.refuse(new ChainRefusal(this.#chain.label, refusal));
  }

  protected release(): void {
    this.#releaseDial();
  }

  #releaseDial(): void {
    const dial = this.#dial;
    this.#dial = null;
    if (dial !== null) this.#chain.proxy.giveDial(dial);
  }
}
