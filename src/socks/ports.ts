/**
 * What the relay needs from an upstream: streams (CONNECT) and associations (UDP ASSOCIATE).
 *
 * A stream has one of two shapes, decided once when it opens, so that TLS, GSSAPI and Unix sockets need no second
 * relay: direct (an addon socket; rows of offsets into the worker's memory) or layered (octets in buffers).
 * Handlers are called from the poll phase or from timers, never from inside a method of the stream.
 */

import type { TunnelError } from "../errors.ts";
import type { Endpoint } from "../stack/wire/address.ts";

/** Where a flow goes: `name` when the proxy shall resolve it, else the address of `endpoint`; port from `endpoint`. */
export interface Destination {
  readonly name: string | null;
  readonly endpoint: Endpoint;
}

/** Why an upstream said no. */
export interface Refusal {
  /**
   * "reply": the server's REP in `reply`. "unreachable": no connection to the proxy. "auth": method or password
   * refused. "protocol": not SOCKS5, or it closed without a reply. "timeout": no answer within the dial deadline.
   * "local": our own limit (descriptors, source ports).
   */
  readonly kind: "reply" | "unreachable" | "auth" | "protocol" | "timeout" | "local";
  /** REP of RFC 1928 §6 when kind is "reply", else 0. */
  readonly reply: number;
  /** With "timeout": the proxy itself is silent, nothing was asked of a destination yet. */
  readonly isProxySilent?: boolean;
  /** For the log and for the start-up probe. */
  readonly error: TunnelError;
}

/** What a proxy's grants turned out to be worth. Whoever sees its flows end tells it. */
export interface Honesty {
  /** A CONNECT was refused. */
  refused(refusal: Refusal): void;
  /**
   * A stream that was granted at `openedAt`, ms, has ended or broken before an octet came and before we ended it.
   * True: this proxy says yes before it knows, so that it was a refusal.
   */
  endedUnheard(destination: Destination, openedAt: number): boolean;
}

export interface StreamHandler {
  /** CONNECT was granted: the stream carries octets from now on. */
  onOpen(): void;
  /** CONNECT failed. Last call; the stream is closed. */
  onRefused(refusal: Refusal): void;
  /** Direct shape: `recv` has octets, the end of stream, or an error to tell. Level-triggered while not paused. */
  onReadable(): void;
  /** Layered shape: octets, valid during the call. */
  onBytes(bytes: Uint8Array, start: number, end: number): void;
  /** Layered shape: the end of stream. */
  onEnd(): void;
  /** `send` took fewer octets than given, and there is room again. */
  onWritable(): void;
  /** Layered shape: the stream broke (reset, time-out) after onOpen. Last call. Direct streams tell by recv/send. */
  onReset(errno: number): void;
}

export interface DirectStream {
  readonly shape: "direct";
  /** Of the proxy in between; absent where none is, or none that might lie. */
  readonly honesty?: Honesty | null;
  /** Octets received into `count` [offset, length] rows; 0 at end of stream; -errno (-EAGAIN: nothing now). */
  recv(rows: Int32Array, count: number): number;
  /** Octets of `count` rows that the socket took; -errno. After a short or -EAGAIN send, onWritable follows. */
  send(rows: Int32Array, count: number): number;
  /** Stops / restarts onReadable. A broken stream reports after resume, so that data received first is delivered first. */
  pause(): void;
  resume(): void;
  /** Sends FIN. */
  shutdown(): void;
  /** Sends RST and closes. No call after it. */
  reset(): void;
  /** Closes. Before onOpen: cancels the dial. No call after it. Idempotent. */
  close(): void;
}

export interface LayeredStream {
  readonly shape: "layered";
  /** As of a {@link DirectStream}. */
  readonly honesty?: Honesty | null;
  /** Octets taken (copied); fewer than given: wait for onWritable. -errno when broken. */
  send(bytes: Uint8Array, start: number, end: number): number;
  pause(): void;
  resume(): void;
  shutdown(): void;
  reset(): void;
  close(): void;
}

/** Its shape is known from onOpen on; until then `close` is all that may be called. */
export type Stream = DirectStream | LayeredStream;

export interface AssociationHandler {
  onOpen(): void;
  /** Last call. */
  onRefused(refusal: Refusal): void;
  /**
   * A datagram from `from`: payload [start, end) of the worker's memory, valid to the end of the turn. The address of
   * `from` is zero when the proxy gave the name that was sent to last instead.
   */
  onDatagram(from: Endpoint, start: number, end: number): void;
  /** The control connection ended or the socket broke. Last call. */
  onLost(): void;
}

export interface Association {
  /**
   * Queues payload [start, end) of the worker's memory for `to`; `segment` > 0: several datagrams of that size. The memory
   * must stay until `flush`. False: the queue is full and was not taken (call flush, try again) or it is too big to send.
   */
  send(to: Destination, start: number, end: number, segment: number): boolean;
  /** Octets of the longest payload that `send` takes for `to`: what this way carries less the headers it adds. */
  maxPayload(to: Destination): number;
  /** sendmmsg of what is queued. */
  flush(): void;
  /** Idempotent. No call after it. */
  close(): void;
}

/** One proxy. */
export interface Upstream {
  /** For logs: the URL without its password. */
  readonly label: string;
  /** Starts CONNECT. onOpen or onRefused follows, unless closed before. */
  connect(destination: Destination, handler: StreamHandler): Stream;
  /** Starts UDP ASSOCIATE. onOpen or onRefused follows, unless closed before. */
  associate(handler: AssociationHandler): Association;
}

/** The same for who makes and ends it. */
export interface ProxyUpstream extends Upstream {
  /** As many connections at a time as it is given: more wait. Absent: it is given any number. */
  readonly isFull?: boolean;
  /** Looks the proxy's name up. Never rejects: dials and the probe tell if it does not resolve. */
  resolve(): Promise<void>;
  /**
   * Tries the proxy: name, connection, method, credentials; nothing is asked of it. Null: it will have us.
   * Called outside a turn.
   */
  probe(): Promise<Refusal | null>;
  /** No look-up calls back any more. Streams and associations are closed by who opened them. */
  close(): void;
}
