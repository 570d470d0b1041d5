/**
 * A stream through the proxy on a socket of Node.js: where the addon is not built, and what TLS and Unix sockets
 * stand on. The same dial and handshake as the direct shape; octets arrive and leave in buffers.
 *
 * Every callback of the socket is a turn of the loop.
 */

import type { Socket } from "node:net";
import { constants } from "node:os";
import type { Endpoint } from "../stack/wire/address.ts";
import type { Dial, DialOwner } from "./dial.ts";
import { Command } from "./message.ts";
import type { Destination, Honesty, LayeredStream, Refusal, StreamHandler } from "./ports.ts";
import type { SocksProxy } from "./proxy.ts";
import type { ProxyHandshake } from "./proxy-handshake.ts";
import { errnoOf, errnoRefusal, SocksRefusal } from "./refusal.ts";
import type { Transport } from "./transport.ts";

const { EAGAIN, ECONNRESET, EPIPE } = constants.errno;

/** Octets that a socket may hold unsent; beyond it `send` takes no more. Above Node's mark, so that "drain" follows. */
export const MAX_UNSENT = 262_144;

/** How long a closed stream with octets to send waits for a peer that takes none, ms. */
const LINGER = 30_000;

/** A socket knows whose it is, so that its listeners are the same for all: nothing is made per connection or event. */
const OWNER: unique symbol = Symbol("owner");
type OwnedSocket = Socket & { [OWNER]?: LayeredSocksStream | null };

const SocketEvent = { OPEN: 0, DATA: 1, END: 2, DRAIN: 3, ERROR: 4 } as const;
type SocketEvent = (typeof SocketEvent)[keyof typeof SocketEvent];

function onOpen(this: OwnedSocket): void {
  this[OWNER]?.onSocket(SocketEvent.OPEN, null);
}

function onData(this: OwnedSocket, chunk: Buffer): void {
  this[OWNER]?.onSocket(SocketEvent.DATA, chunk);
}

function onEnd(this: OwnedSocket): void {
  this[OWNER]?.onSocket(SocketEvent.END, null);
}

function onDrain(this: OwnedSocket): void {
  this[OWNER]?.onSocket(SocketEvent.DRAIN, null);
}

function onError(this: OwnedSocket, error: Error): void {
  this[OWNER]?.onSocket(SocketEvent.ERROR, error);
}

export class LayeredSocksStream implements LayeredStream, DialOwner {
  readonly shape = "layered";
  readonly #proxy: SocksProxy;
  readonly #transport: Transport;
  readonly #handler: StreamHandler;
  /** Null once open or closed. */
  #dial: Dial | null;
  #socket: OwnedSocket | null = null;
  #connected = false;
  /** `send` fell short. */
  #blocked = false;

  /** Starts the dial. `command` as in `ProxyHandshake.begin`. */
  constructor(
    proxy: SocksProxy,
    transport: Transport,
    command: number,
    destination: Destination | null,
    handler: StreamHandler,
  ) {
    this.#proxy = proxy;
    this.#transport = transport;
    this.#handler = handler;
    this.#dial = proxy.takeDial(this, command, destination);
    if (this.#dial.addresses.length === 0) {
      this.#dial.refusal = proxy.unresolved();
      proxy.environment.timers.set(this.#dial.timer, proxy.environment.timers.now());
    } else {
      this.#attempt(this.#dial);
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

  /** Has the kernel ask after `idle` seconds of silence whether the proxy is there. */
  keepAlive(idle: number): void {
    this.#socket?.setKeepAlive(true, idle * 1000);
  }

  #attempt(dial: Dial): void {
    const proxy = this.#proxy;
    const isAlone = dial.command !== Command.CONNECT;
    let opened: OwnedSocket | number = this.#transport.open(dial.server, isAlone);
    while (typeof opened === "number") {
      const refusal = errnoRefusal(proxy.label, -opened);
      if (refusal.kind === "local" || !proxy.nextAddress(dial)) {
        dial.refusal = refusal;
        proxy.environment.timers.set(dial.timer, proxy.environment.timers.now());
        return;
      }
      opened = this.#transport.open(dial.server, isAlone);
    }
    const socket = opened;
    this.#socket = socket;
    socket[OWNER] = this;
    proxy.setDeadline(dial, dial.addresses.length + 1);
    socket.once(this.#transport.openEvent, onOpen);
    socket.on("data", onData);
    socket.on("end", onEnd);
    socket.on("drain", onDrain);
    socket.on("error", onError);
  }

  /** An event of its socket, as a turn. `what`: the chunk, or the error. */
  onSocket(event: SocketEvent, what: unknown): void {
    const { turn } = this.#proxy.environment;
    turn.enter();
    try {
      switch (event) {
        case SocketEvent.OPEN:
          this.#onConnect();
          break;
        case SocketEvent.DATA:
          this.#onData(this.#socket as Socket, what as Buffer);
          break;
        case SocketEvent.END:
          this.#onEnd();
          break;
        case SocketEvent.DRAIN:
          this.#onDrain();
          break;
        default:
          this.#onError(what as NodeJS.ErrnoException);
      }
    } finally {
      turn.leave();
    }
  }

  onDialTimer(dial: Dial): void {
    if (dial.refusal !== null) this.#refuse(dial.refusal);
    else if (this.#connected) this.#refuse(this.#proxy.handshakeTimeout(dial));
    else this.#tryNext(dial, this.#proxy.timeout("to the connection", true));
  }

  #tryNext(dial: Dial, refusal: Refusal): void {
    this.#drop();
    if (refusal.kind === "local" || !this.#proxy.nextAddress(dial)) this.#refuse(refusal);
    else this.#attempt(dial);
  }

  #onConnect(): void {
    const dial = this.#dial as Dial;
    const proxy = this.#proxy;
    const socket = this.#socket as Socket;
    this.#transport.settled?.(socket);
    const why = this.#transport.distrust?.(socket) ?? null;
    if (why !== null) {
      this.#tryNext(dial, new SocksRefusal("protocol", proxy.label, why));
      return;
    }
    this.#connected = true;
    proxy.reached(dial);
    proxy.beginHandshake(dial);
    this.#drive(dial);
  }

  /** Writes the message that is due; ends the dial if the handshake has ended. */
  #drive(dial: Dial): void {
    const { handshake } = dial;
    const { bytes, scratchStart } = this.#proxy.environment.memory;
    const end = handshake.write(bytes, scratchStart);
    if (end > scratchStart) {
      // A copy: the socket may keep it for as long as it likes.
      this.#socket?.write(bytes.slice(scratchStart, end));
      bytes.fill(0, scratchStart, end);
      this.#proxy.written(dial);
    }
    if (handshake.refusal !== null) {
      this.#refuse(handshake.refusal);
    } else if (handshake.granted) {
      this.#proxy.environment.timers.clear(dial.timer);
      this.#proxy.pipelining.granted(dial);
      this.#handler.onOpen();
      this.#releaseDial();
    }
  }

  #refuse(refusal: Refusal): void {
    const dial = this.#dial as Dial;
    if (!this.#connected) {
      this.#proxy.notReached();
    } else if (this.#proxy.pipelining.refused(dial, refusal)) {
      this.#drop();
      this.#attempt(dial);
      return;
    }
    this.close();
    this.#handler.onRefused(refusal);
  }

  #releaseDial(): void {
    if (this.#dial === null) return;
    this.#proxy.giveDial(this.#dial);
    this.#dial = null;
  }

  // ---- events ------------------------------------------------------------------------------------------------

  #onData(socket: Socket, chunk: Buffer): void {
    let next = 0;
    // A handshake that is done again has another socket.
    while (this.#dial !== null && this.#socket === socket && next < chunk.length) {
      next += this.#dial.handshake.read(chunk, next, chunk.length);
      this.#proxy.heard(this.#dial);
      this.#drive(this.#dial);
    }
    if (next === chunk.length || this.#socket !== socket || this.#dial !== null) return;
    if (socket.isPaused()) socket.unshift(next === 0 ? chunk : chunk.subarray(next));
    else this.#handler.onBytes(chunk, next, chunk.length);
  }

  #onEnd(): void {
    if (this.#dial === null) this.#handler.onEnd();
    // Before it is open an error follows.
    else if (this.#connected) this.#endHandshake(this.#dial);
  }

  #endHandshake(dial: Dial): void {
    dial.handshake.end();
    this.#drive(dial);
  }

  #onDrain(): void {
    if (!this.#blocked) return;
    this.#blocked = false;
    this.#handler.onWritable();
  }

  #onError(error: NodeJS.ErrnoException): void {
    const dial = this.#dial;
    const errno = errnoOf(error);
    if (dial === null) {
      this.close();
      this.#handler.onReset(errno);
      return;
    }
    if (this.#connected && (errno === ECONNRESET || errno === EPIPE)) {
      this.#endHandshake(dial);
      return;
    }
    const { label } = this.#proxy;
    const why = this.#transport.explain?.(error) ?? null;
    const refusal =
      typeof why === "string"
        ? new SocksRefusal("protocol", label, why)
        : (why ?? errnoRefusal(label, errno));
    if (this.#connected) this.#refuse(refusal);
    else this.#tryNext(dial, refusal);
  }

  // ---- the open stream -----------------------------------------------------------------------------------------

  send(bytes: Uint8Array, start: number, end: number): number {
    const socket = this.#socket;
    if (socket === null || !socket.writable) return -EPIPE;
    const room = MAX_UNSENT - socket.writableLength;
    if (room <= 0) {
      this.#blocked = true;
      return -EAGAIN;
    }
    const taken = Math.min(room, end - start);
    // A copy: the memory is the caller's again when this returns.
    socket.write(bytes.slice(start, start + taken));
    if (taken < end - start) this.#blocked = true;
    return taken;
  }

  pause(): void {
    this.#socket?.pause();
  }

  resume(): void {
    this.#socket?.resume();
  }

  /** `flushed` is told, outside a turn, when all that was sent is the kernel's. */
  shutdown(flushed?: () => void): void {
    this.#socket?.end(flushed);
  }

  reset(): void {
    this.#releaseDial();
    const socket = this.#abandon();
    if (socket !== null) this.#transport.reset(socket);
  }

  close(): void {
    this.#releaseDial();
    this.#drop();
  }

  #drop(): void {
    const socket = this.#abandon();
    this.#connected = false;
    if (socket === null || socket.writableLength === 0) {
      socket?.destroy();
      return;
    }
    // What was sent still leaves, as with close(2), for as long as the peer takes it.
    socket.setTimeout(LINGER, () => socket.destroy());
    socket.unref();
    socket.destroySoon();
  }

  /** Its events are nobody's from now on. */
  #abandon(): Socket | null {
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null) {
      socket[OWNER] = null;
      this.#transport.settled?.(socket);
    }
    // Nobody would read what still comes; without a reader the socket would never see its end.
    socket?.resume();
    return socket;
  }
}
