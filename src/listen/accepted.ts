/**
 * One BIND and the connection that comes of it (RFC 1928 §4): the first reply says where the proxy listens, the second
 * who connected; then octets pass between the proxy and a connection to a server of ours, each direction until its end.
 *
 * A connection that breaks on one side is reset on the other. Nothing is queued here but one chunk each way.
 */

import type { Socket } from "node:net";
import { constants } from "node:os";
import { oneLine } from "../one-line.ts";
import type { LayeredSocksStream } from "../socks/layered-stream.ts";
import { Reply, readAddress, readName, replyName, requestNeed, VERSION } from "../socks/message.ts";
import type { Turn } from "../socks/name-resolver.ts";
import type { Refusal, StreamHandler } from "../socks/ports.ts";
import { errnoOf, errnoRefusal, SocksRefusal } from "../socks/refusal.ts";
import { chooseRelay } from "../socks/relay-address.ts";
import { Endpoint, formatAddress, formatEndpoint } from "../stack/wire/address.ts";

/** Silence, seconds, after which the proxy is asked whether it is still there. */
const KEEP_ALIVE = 60;
/** CD of a reply that grants, and the octets of a reply (the memo of SOCKS4). */
const SOCKS4_GRANTED = 90;
const SOCKS4_REPLY = 8;

export interface AcceptedOwner {
  /** The proxy listens at `address`, "ADDRESS:PORT" or "NAME:PORT". */
  listening(address: string): void;
  /** `peer` connected; the server of ours is being dialled. */
  connected(accepted: Accepted, peer: string): void;
  /** BIND was refused, or the proxy stopped listening before anybody connected. Last call. */
  refused(accepted: Accepted, refusal: Refusal): void;
  /** Over, after `connected`. `error`: why the server of ours was not reached. Last call. */
  ended(accepted: Accepted, error: NodeJS.ErrnoException | null): void;
}

export class Accepted implements StreamHandler {
  readonly #owner: AcceptedOwner;
  readonly #label: string;
  readonly #turn: Turn;
  readonly #to: Endpoint;
  /** The second reply is SOCKS4's. */
  readonly #isSocks4: boolean;
  /** Set by `start`. */
  #stream: LayeredSocksStream | null = null;
  /** Of the second reply, until it is whole. */
  #reply = Buffer.alloc(0);
  #local: Socket | null = null;
  #localOpen = false;
  /** What the stream did not take. */
  #rest: Buffer | null = null;
  #localEnded = false;
  /** All that our server sent has left. */
  #flushed = false;
  #localClosed = false;

  /** `label` names the proxy; `to` is the server of ours. */
  constructor(owner: AcceptedOwner, label: string, turn: Turn, to: Endpoint, isSocks4 = false) {
    this.#owner = owner;
    this.#label = label;
    this.#turn = turn;
    this.#to = to;
    this.#isSocks4 = isSocks4;
  }

  /** `stream`: a BIND with this as its handler. */
  start(stream: LayeredSocksStream): void {
    this.#stream = stream;
  }

  /** Ends it by resets; nobody is told. Idempotent. */
  close(): void {
    this.#stream?.reset();
    this.#stream = null;
    this.#local?.resetAndDestroy();
    this.#local = null;
  }

  // ---- from the proxy --------------------------------------------------------------------------------------------

  onOpen(): void {
    const stream = this.#stream as LayeredSocksStream;
    const { handshake, server } = stream;
    if (handshake === null || server === null) return;
    stream.keepAlive(KEEP_ALIVE);
    const { bound, boundName } = handshake;
    if (boundName !== null && boundName !== "") {
      this.#owner.listening(`${oneLine(boundName)}:${bound.port}`);
      return;
    }
    const address = new Endpoint();
    if (boundName === "") address.copy(server).port = bound.port;
    else chooseRelay(bound, server, address, () => true);
    this.#owner.listening(formatEndpoint(address));
  }

  onRefused(refusal: Refusal): void {
    this.#stream = null;
    this.#owner.refused(this, refusal);
  }

  onBytes(bytes: Uint8Array, start: number, end: number): void {
    if (this.#local !== null) {
      this.#toLocal(Buffer.from(bytes.subarray(start, end)));
      return;
    }
    this.#reply = Buffer.concat([this.#reply, bytes.subarray(start, end)]);
    if (this.#isSocks4) this.#readSocks4Reply();
    else this.#readReply();
  }

  onEnd(): void {
    if (this.#local === null) this.#refuse("it stopped listening before anybody connected");
    else this.#local.end();
  }

  onReset(errno: number): void {
    this.#stream = null;
    if (this.#local === null) this.#owner.refused(this, errnoRefusal(this.#label, errno));
    else this.#local.resetAndDestroy();
  }

  onWritable(): void {
    const rest = this.#rest;
    this.#rest = null;
    if (rest !== null) this.#toProxy(rest);
  }

  onReadable(): void {}

  // ---- the second reply ------------------------------------------------------------------------------------------

  #readReply(): void {
    const reply = this.#reply;
    if (reply[0] !== VERSION) {
      this.#refuse(`its second reply is none (first octet ${reply[0]})`);
      return;
    }
    if (reply.length < 2) return;
    const code = reply[1] as number;
    if (code !== Reply.SUCCEEDED) {
      this.#refuse(`it stopped listening: ${replyName(code)}`, code);
      return;
    }
    const need = requestNeed(reply, 0, reply.length);
    if (need < 0) {
      this.#refuse(`its second reply has an unknown address type (${reply[3]})`);
    } else if (reply.length >= need) {
      const peer = new Endpoint();
      const next = readAddress(reply, 3, reply.length, peer);
      const name = readName(reply, 3);
      this.#accept(name === null ? formatEndpoint(peer) : `${oneLine(name)}:${peer.port}`, next);
    }
  }

  /** VN (0, or the protocol's number as servers have it), CD, DSTPORT, DSTIP. */
  #readSocks4Reply(): void {
    const reply = this.#reply;
    if (reply[0] !== 0 && reply[0] !== 4) {
      this.#refuse(`its second reply is none (first octet ${reply[0]})`);
    } else if (reply.length >= 2 && reply[1] !== SOCKS4_GRANTED) {
      this.#refuse(`it stopped listening (${reply[1]})`, Reply.GENERAL_FAILURE);
    } else if (reply.length >= SOCKS4_REPLY) {
      const peer = new Endpoint().set(0, 0, 0xffff, reply.readInt32BE(4), reply.readUInt16BE(2));
      this.#accept(formatEndpoint(peer), SOCKS4_REPLY);
    }
  }

  /** `peer` connected; what came behind the `length` octets of the reply is its first. */
  #accept(peer: string, length: number): void {
    const reply = this.#reply;
    this.#reply = Buffer.alloc(0);
    this.#connect(peer);
    if (length < reply.length) this.#toLocal(reply.subarray(length));
  }

  #refuse(why: string, reply = 0): void {
    this.close();
    const kind = reply === 0 ? "protocol" : "reply";
    this.#owner.refused(this, new SocksRefusal(kind, this.#label, why, reply));
  }

  // ---- our server ------------------------------------------------------------------------------------------------

  #connect(peer: string): void {
    const local = process.getBuiltinModule("node:net").connect({
      host: formatAddress(this.#to),
      port: this.#to.port,
      allowHalfOpen: true,
      noDelay: true,
    });
    this.#local = local;
    local.on("connect", () => {
      this.#localOpen = true;
    });
    local.on("data", (chunk: Buffer) => this.#within(() => this.#toProxy(chunk)));
    local.on("drain", () => this.#within(() => this.#stream?.resume()));
    local.on("end", () => this.#within(() => this.#onLocalEnd()));
    local.on("error", (error) => this.#within(() => this.#onLocalError(error)));
    local.on("close", () => {
      this.#localClosed = true;
      this.#within(() => this.#settle());
    });
    this.#owner.connected(this, peer);
  }

  #within(work: () => void): void {
    this.#turn.enter();
    try {
      work();
    } finally {
      this.#turn.leave();
    }
  }

  #toLocal(chunk: Buffer): void {
    if (this.#local?.write(chunk) === false) this.#stream?.pause();
  }

  #toProxy(chunk: Buffer): void {
    const taken = this.#stream?.send(chunk, 0, chunk.length) ?? -constants.errno.EPIPE;
    if (taken === chunk.length) {
      this.#local?.resume();
      if (this.#localEnded) this.#shutdown();
    } else if (taken >= 0 || taken === -constants.errno.EAGAIN) {
      this.#rest = chunk.subarray(Math.max(0, taken));
      this.#local?.pause();
    } else {
      this.#stream?.reset();
      this.#stream = null;
      this.#local?.resetAndDestroy();
    }
  }

  #onLocalEnd(): void {
    this.#localEnded = true;
    if (this.#rest === null) this.#shutdown();
  }

  #shutdown(): void {
    this.#stream?.shutdown(() => {
      this.#flushed = true;
      this.#within(() => this.#settle());
    });
  }

  #onLocalError(error: NodeJS.ErrnoException): void {
    const stream = this.#stream;
    if (stream === null && this.#local === null) return;
    stream?.reset();
    this.#stream = null;
    this.#local = null;
    this.#owner.ended(this, this.#localOpen ? null : error);
  }

  /** Both directions are over, or the proxy's side broke. */
  #settle(): void {
    if (this.#local === null || !this.#localClosed) return;
    if (this.#stream !== null && !this.#flushed) return;
    this.#stream?.close();
    this.#stream = null;
    this.#local = null;
    this.#owner.ended(this, null);
  }
}

/** For the log: why our server was not reached. */
export function localFailure(error: NodeJS.ErrnoException): string {
  return error.code ?? `error ${errnoOf(error)}`;
}
