/**
 * An upstream whose other side is the test: it grants, refuses, delivers, ends and breaks when told.
 *
 * It keeps to the contract of src/socks/ports.ts as a kernel would: readiness is level-triggered (a handler that
 * neither reads nor pauses is a spin, and throws), room is limited when the test says so, and using a closed stream throws.
 */

import { TunnelError } from "../../src/errors.ts";
import type { MemoryLayout } from "../../src/memory.ts";
import { udpHeaderLength } from "../../src/socks/message.ts";
import type {
  Association,
  AssociationHandler,
  Destination,
  DirectStream,
  Honesty,
  LayeredStream,
  ProxyUpstream,
  Refusal,
  Stream,
  StreamHandler,
} from "../../src/socks/ports.ts";
import { Endpoint, formatEndpoint, parseAddress } from "../../src/stack/wire/address.ts";

const EAGAIN = 11;
const EPIPE = 32;
export const ECONNRESET = 104;
/** An error of send that leaves the connection alive. */
export const ENOBUFS = 105;

/** A refusal by the server: REP of RFC 1928 §6. */
export function reply(code: number): Refusal {
  const error = new TunnelError("ERR_PROXY_PROTOCOL", `the server answered ${code}`);
  return { kind: "reply", reply: code, error };
}

/** A refusal of another kind. */
export function trouble(kind: Exclude<Refusal["kind"], "reply">): Refusal {
  const error = new TunnelError("ERR_PROXY_UNREACHABLE", `no proxy: ${kind}`);
  return { kind, reply: 0, error };
}

/** "1.2.3.4:5" or "[::1]:5". */
export function endpoint(text: string): Endpoint {
  const at = text.lastIndexOf(":");
  const address = parseAddress(text.slice(0, at).replace(/[[\]]/g, ""));
  if (address === null) throw new Error(`not an address: ${text}`);
  const result = new Endpoint().copy(address);
  result.port = Number(text.slice(at + 1));
  return result;
}

export class ScriptedUpstream implements ProxyUpstream {
  readonly label: string;
  /** Shape of the streams to come. */
  shape: Stream["shape"] = "direct";
  readonly streams: ScriptedStream[] = [];
  readonly associations: ScriptedAssociation[] = [];
  /** What `probe` resolves with. */
  answer: Refusal | null = null;
  probes = 0;
  closed = false;
  isFull = false;
  /** Of the streams to come. */
  honesty: Honesty | null = null;
  readonly #memory: MemoryLayout;

  constructor(memory: MemoryLayout, label = "socks5://scripted") {
    this.#memory = memory;
    this.label = label;
  }

  async resolve(): Promise<void> {}

  async probe(): Promise<Refusal | null> {
    this.probes++;
    return this.answer;
  }

  close(): void {
    this.closed = true;
  }

  connect(destination: Destination, handler: StreamHandler): Stream {
    const kind = this.shape === "direct" ? ScriptedDirect : ScriptedLayered;
    const stream = new kind(this.#memory, destination, handler);
    stream.honesty = this.honesty;
    this.streams.push(stream);
    return stream;
  }

  associate(handler: AssociationHandler): Association {
    const association = new ScriptedAssociation(this.#memory, handler);
    this.associations.push(association);
    return association;
  }

  get stream(): ScriptedStream {
    return last(this.streams);
  }

  get association(): ScriptedAssociation {
    return last(this.associations);
  }
}

export type ScriptedStream = ScriptedDirect | ScriptedLayered;

abstract class ScriptedEnd {
  /** "ADDRESS:PORT" or "NAME:PORT" asked for. */
  readonly target: string;
  /** What the relay did last. */
  state: "dialing" | "open" | "closed" | "reset" = "dialing";
  /** Octets the relay sent. */
  readonly sent: number[] = [];
  /** The relay sent FIN. */
  shut = false;
  paused = false;
  /** Octets the socket still takes. */
  room = Number.POSITIVE_INFINITY;
  /** What send fails with, or 0. */
  sendError = 0;
  /** Calls of send. */
  sends = 0;
  honesty: Honesty | null = null;
  protected readonly memory: MemoryLayout;
  protected readonly handler: StreamHandler;

  constructor(memory: MemoryLayout, destination: Destination, handler: StreamHandler) {
    this.memory = memory;
    this.target = formatDestination(destination);
    this.handler = handler;
  }

  /** CONNECT is granted. */
  open(): void {
    this.state = "open";
    this.handler.onOpen();
  }

  /** CONNECT is refused. */
  refuse(refusal: Refusal): void {
    this.state = "closed";
    this.handler.onRefused(refusal);
  }

  /** The socket has room for `octets` more. */
  allow(octets: number): void {
    this.room = octets;
    this.handler.onWritable();
  }

  get sentBytes(): Uint8Array {
    return Uint8Array.from(this.sent);
  }

  pause(): void {
    this.use();
    this.paused = true;
  }

  shutdown(): void {
    this.use();
    this.shut = true;
  }

  reset(): void {
    this.use();
    this.state = "reset";
  }

  close(): void {
    if (this.state !== "reset") this.state = "closed";
  }

  protected take(bytes: Uint8Array, start: number, end: number): number {
    const taken = Math.min(end - start, this.room);
    for (let at = start; at < start + taken; at++) this.sent.push(bytes[at]!);
    this.room -= taken;
    return taken;
  }

  protected use(): void {
    if (this.state === "closed" || this.state === "reset")
      throw new Error("stream used after close");
  }
}

export class ScriptedDirect extends ScriptedEnd implements DirectStream {
  readonly shape = "direct";
  /** One event per wake-up, as epoll does it; otherwise as many as it takes. */
  onePoll = false;
  #waiting: Uint8Array = new Uint8Array(0);
  #ended = false;
  #errno = 0;

  /** Octets that recv has not taken. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Octets arrive. */
  deliver(octets: Uint8Array): void {
    this.arrive(octets);
    this.#poll();
  }

  /** Octets arrive, but the poller has not looked yet. */
  arrive(octets: Uint8Array): void {
    this.#waiting = new Uint8Array(Buffer.concat([this.#waiting, octets]));
  }

  /** FIN arrives. */
  end(): void {
    this.#ended = true;
    this.#poll();
  }

  /** RST arrives: what was received before can still be read, and nothing can be sent. */
  breakOff(): void {
    this.#errno = ECONNRESET;
    this.#poll();
  }

  /** RST arrives, but the poller has not looked yet. */
  breakUnseen(): void {
    this.#errno = ECONNRESET;
  }

  resume(): void {
    this.use();
    this.paused = false;
  }

  /** What epoll does at every wake-up. */
  poll(): void {
    this.#poll();
  }

  recv(rows: Int32Array, count: number): number {
    this.use();
    if (this.#waiting.length === 0) {
      if (this.#errno !== 0) {
        const errno = this.#errno;
        this.#errno = 0;
        this.#ended = true;
        return -errno;
      }
      return this.#ended ? 0 : -EAGAIN;
    }
    let got = 0;
    for (let row = 0; row < 2 * count && got < this.#waiting.length; row += 2) {
      const part = this.#waiting.subarray(got, got + rows[row + 1]!);
      this.memory.bytes.set(part, rows[row]!);
      got += part.length;
    }
    this.#waiting = this.#waiting.slice(got);
    return got;
  }

  send(rows: Int32Array, count: number): number {
    this.use();
    this.sends++;
    if (this.sendError === ENOBUFS) return -ENOBUFS;
    if (this.#errno !== 0 || this.sendError !== 0) {
      // As Linux does: the error is told once, then the stream looks ended.
      const errno = this.#errno || this.sendError;
      this.#errno = 0;
      this.sendError = EPIPE;
      this.#ended = true;
      return -errno;
    }
    let total = 0;
    for (let row = 0; row < 2 * count; row += 2) {
      const start = rows[row]!;
      const taken = this.take(this.memory.bytes, start, start + rows[row + 1]!);
      total += taken;
      if (taken < rows[row + 1]!) return total > 0 ? total : -EAGAIN;
    }
    return total;
  }

  #poll(): void {
    for (let round = 0; ; round++) {
      const ready = this.#waiting.length > 0 || this.#ended || this.#errno !== 0;
      if (!ready || this.paused || this.state !== "open") return;
      if (round > 10_000) throw new Error("the relay neither reads nor pauses: the loop spins");
      this.handler.onReadable();
      if (this.onePoll) return;
    }
  }
}

export class ScriptedLayered extends ScriptedEnd implements LayeredStream {
  readonly shape = "layered";
  resumed = 0;

  /** Octets arrive. */
  deliver(octets: Uint8Array): void {
    // In a buffer with something else around, as slices of Node's pool are.
    const padded = new Uint8Array(octets.length + 14).fill(0xee);
    padded.set(octets, 7);
    this.handler.onBytes(padded, 7, 7 + octets.length);
    padded.fill(0xee);
  }

  end(): void {
    this.handler.onEnd();
  }

  breakOff(): void {
    this.sendError = ECONNRESET;
    this.state = "closed";
    this.handler.onReset(ECONNRESET);
  }

  resume(): void {
    this.use();
    this.paused = false;
    this.resumed++;
  }

  send(bytes: Uint8Array, start: number, end: number): number {
    this.use();
    this.sends++;
    return this.sendError !== 0 ? -this.sendError : this.take(bytes, start, end);
  }
}

export interface SentDatagram {
  readonly to: string;
  readonly payload: Uint8Array;
}

export class ScriptedAssociation implements Association {
  /** What the kernel was given. */
  readonly sent: SentDatagram[] = [];
  state: "dialing" | "open" | "closed" | "lost" = "dialing";
  /** Datagrams the queue holds. */
  capacity = 64;
  /** Octets of the largest datagram to the proxy, header included. */
  largest = 65_507;
  readonly #memory: MemoryLayout;
  readonly #handler: AssociationHandler;
  #queue: Array<{ to: string; start: number; end: number }> = [];

  constructor(memory: MemoryLayout, handler: AssociationHandler) {
    this.#memory = memory;
    this.#handler = handler;
  }

  /** UDP ASSOCIATE is granted. */
  open(): void {
    this.state = "open";
    this.#handler.onOpen();
  }

  refuse(refusal: Refusal): void {
    this.state = "closed";
    this.#handler.onRefused(refusal);
  }

  /** A datagram arrives from `from`. */
  deliver(from: string, payload: Uint8Array): void {
    const at = this.#memory.datagrams.take(payload.length);
    if (at < 0) throw new Error("the arena is full");
    this.#memory.bytes.set(payload, at);
    this.#handler.onDatagram(endpoint(from), at, at + payload.length);
  }

  /** The control connection ends. */
  lose(): void {
    this.state = "lost";
    this.#handler.onLost();
  }

  send(to: Destination, start: number, end: number, segment: number): boolean {
    if (this.state !== "open") throw new Error(`association used while ${this.state}`);
    const step = segment > 0 ? segment : Math.max(1, end - start);
    if (Math.min(step, end - start) > this.maxPayload(to)) return false;
    if (this.#queue.length + Math.ceil((end - start) / step) > this.capacity) return false;
    const text = formatDestination(to);
    let at = start;
    do {
      this.#queue.push({ to: text, start: at, end: Math.min(at + step, end) });
      at += step;
    } while (at < end);
    return true;
  }

  maxPayload({ name, endpoint: to }: Destination): number {
    return this.largest - udpHeaderLength(name, to);
  }

  flush(): void {
    if (this.state !== "open") throw new Error(`association used while ${this.state}`);
    for (const { to, start, end } of this.#queue) {
      this.sent.push({ to, payload: this.#memory.bytes.slice(start, end) });
    }
    this.#queue = [];
  }

  close(): void {
    this.state = "closed";
  }
}

function formatDestination({ name, endpoint }: Destination): string {
  return name === null ? formatEndpoint(endpoint) : `${name}:${endpoint.port}`;
}

function last<T>(items: readonly T[]): T {
  const item = items.at(-1);
  if (item === undefined) throw new Error("the relay asked for nothing");
  return item;
}
