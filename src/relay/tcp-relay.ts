/**
 * One TCP flow ⇄ one upstream stream.
 *
 *     WAITING  a place in the dial queue, then the answer to CONNECT, is awaited; the SYN is unanswered
 *     OPEN     octets both ways; each direction ends by itself (half-close, RFC 9293 §3.6)
 *     ENDED    stack and stream are released; late events fall through
 *
 * Nothing is buffered here for a direct stream: the stack's pages and the socket's buffer are the only queues, and the
 * TCP window on one side and a paused socket on the other bound them. A layered stream may hand over more octets
 * than there is room for; those wait in one bounded buffer.
 *
 * A stream that breaks says so by RST to the client, after what was received first: a transfer cut short never
 * looks like a whole one.
 */

import type {
  Destination,
  DirectStream,
  LayeredStream,
  Refusal,
  Stream,
  StreamHandler,
  Upstream,
} from "../socks/ports.ts";
import type { CloseReason, TcpConnection, TcpHandler } from "../stack/ports.ts";
import type { RelayContext } from "./context.ts";
import type { Dial } from "./dial-queue.ts";
import { tcpAnswer } from "./refusal.ts";

const WAITING = 0;
const OPEN = 1;
const ENDED = 2;

const EAGAIN = 11;

/** Octets one flow may read per event, so that a fast one does not starve the others. */
const READ_BUDGET = 1 << 20;

/** Octets of a layered stream that wait for room in the stack. A paused stream delivers one chunk more at most. */
export const MAX_LEFTOVER: number = 1 << 20;

/** Who is told when a relay ends, so that it can be forgotten. */
export interface TcpRelayOwner {
  ended(relay: TcpRelay): void;
}

export class TcpRelay implements TcpHandler, Dial {
  readonly #owner: TcpRelayOwner;
  readonly #context: RelayContext;
  readonly #upstream: Upstream;
  readonly #destination: Destination;
  readonly #connection: TcpConnection;
  #state: number = WAITING;
  #stream: Stream | null = null;
  /** The stream, once it is open, if it is direct. */
  #direct: DirectStream | null = null;
  /** The upstream took fewer octets than offered: wait for its onWritable. */
  #blocked = false;
  #clientFinished = false;
  #upShut = false;
  /** The stack has no room, or nothing is to be read any more. */
  #paused = false;
  #upstreamFinished = false;
  /** The stream broke while octets received before are still to be delivered. */
  #broken = false;
  /** When the upstream granted it, ms. */
  #openedAt = 0;
  /** Octets came from the upstream, or their lack has been told. */
  #heard = false;
  /** Octets [start, end) of a layered stream that wait. */
  #leftover: Uint8Array | null = null;
  #leftoverStart = 0;
  #leftoverEnd = 0;

  constructor(
    owner: TcpRelayOwner,
    context: RelayContext,
    upstream: Upstream,
    destination: Destination,
    connection: TcpConnection,
  ) {
    this.#owner = owner;
    this.#context = context;
    this.#upstream = upstream;
    this.#destination = destination;
    this.#connection = connection;
    context.stats.tcpFlows++;
  }

  /** Asks for a place among the dials. */
  start(): void {
    this.#context.dials.request(this);
  }

  /** Ends the flow from our side: the client and the upstream see a reset. */
  close(): void {
    if (this.#state === ENDED) return;
    if (this.#state === WAITING) {
      this.#connection.refuse("reset");
      this.#closeStream();
    } else {
      this.#connection.abort();
      this.#resetStream();
    }
    this.#end();
  }

  startDial(): void {
    this.#stream = this.#upstream.connect(this.#destination, new UpstreamEnd(this));
  }

  stopDial(): void {
    this.#stream?.close();
    this.#stream = null;
  }

  // ---- from the stack ---------------------------------------------------------------------------

  onReadable(): void {
    if (!this.#blocked) this.sendUp();
  }

  onFin(): void {
    this.#clientFinished = true;
    if (!this.#blocked) this.sendUp();
  }

  onWritable(): void {
    if (this.#state !== OPEN) return;
    if (this.#leftover !== null && !this.#writeLeftover()) return;
    if (this.#paused && !this.#upstreamFinished) {
      this.#paused = false;
      this.#stream?.resume();
    }
  }

  onClosed(reason: CloseReason): void {
    if (this.#state === WAITING) this.#context.stats.tcpCancelled++;
    if (this.#state === WAITING || reason === "closed") this.#closeStream();
    else this.#resetStream();
    this.#end();
  }

  // ---- from the upstream ------------------------------------------------------------------------

  opened(): void {
    if (this.#state !== WAITING) return;
    this.#state = OPEN;
    if (this.#stream?.shape === "direct") this.#direct = this.#stream;
    this.#context.dials.release(this);
    this.#openedAt = this.#context.timers.now();
    this.#context.stats.tcpOpened++;
    this.#connection.accept();
  }

  refused(refusal: Refusal): void {
    if (this.#state !== WAITING) return;
    const answer = tcpAnswer(refusal);
    this.#stream?.honesty?.refused(refusal);
    this.#context.logRefusal(this.#upstream, refusal);
    this.#context.log.debug?.(`tcp: ${answer}: ${refusal.error.message}`);
    if (answer === "forget") {
      this.#context.stats.tcpForgotten++;
      this.#connection.forget();
    } else {
      this.#context.stats.tcpRefused++;
      this.#connection.refuse(answer);
    }
    this.#stream = null;
    this.#end();
  }

  /** Client → upstream: what the client sent, as far as the stream takes it, then its FIN. */
  sendUp(): void {
    if (this.#state !== OPEN || this.#broken || this.#upShut) return;
    this.#blocked = false;
    const connection = this.#connection;
    const rows = this.#context.rows;
    for (;;) {
      const count = connection.readable(rows);
      if (count === 0) break;
      const offered = sum(rows, count);
      const taken =
        this.#direct !== null ? this.#direct.send(rows, count) : this.#sendLayered(rows, count);
      if (taken < 0 && taken !== -EAGAIN) {
        this.#break();
        return;
      }
      if (taken > 0) {
        connection.consume(taken);
        this.#context.stats.octetsUp += taken;
      }
      if (taken < offered) {
        this.#blocked = true;
        return;
      }
    }
    if (this.#clientFinished) {
      this.#upShut = true;
      this.#stream?.shutdown();
    }
  }

  /** Upstream → client, direct shape: straight from the socket into the stack's pages. */
  receive(): void {
    const stream = this.#direct;
    if (this.#state !== OPEN || stream === null) return;
    const connection = this.#connection;
    const rows = this.#context.rows;
    if (this.#upstreamFinished) {
      this.#receiveAfterEnd(stream, rows);
      return;
    }
    for (let budget = READ_BUDGET; budget > 0; ) {
      const count = connection.space(rows);
      if (count === 0) {
        this.#paused = true;
        stream.pause();
        return;
      }
      const room = sum(rows, count);
      const got = stream.recv(rows, count);
      connection.commit(Math.max(got, 0));
      if (got <= 0) {
        if (got === 0) this.#finishReceiving();
        else if (got !== -EAGAIN || this.#broken) this.#abandon();
        return;
      }
      this.#heard = true;
      this.#context.stats.octetsDown += got;
      budget -= got;
      // A short read drained the socket. Readiness is level-triggered, so an end behind it is told again; a
      // broken stream is drained to its end at once.
      if (got < room && !this.#broken) return;
    }
  }

  /** Upstream → client, layered shape. */
  receiveBytes(bytes: Uint8Array, start: number, end: number): void {
    if (this.#state !== OPEN) return;
    this.#heard = true;
    this.#context.stats.octetsDown += end - start;
    const taken = this.#leftover === null ? this.#connection.write(bytes, start, end) : 0;
    if (start + taken === end) return;
    if (!this.#keep(bytes, start + taken, end)) {
      this.#context.warn("pause", `${this.#upstream.label}: a paused stream went on sending`);
      this.close();
      return;
    }
    if (!this.#paused) {
      this.#paused = true;
      this.#stream?.pause();
    }
  }

  /** Layered shape: the end of stream. */
  receiveEnd(): void {
    if (this.#state === OPEN && !this.#upstreamFinished) this.#finishReceiving();
  }

  /** Layered shape: the stream broke. */
  receiveReset(): void {
    if (this.#state === OPEN && !this.#broken) this.#break();
  }

  // ---- within ------------------------------------------------------------------------------------

  #sendLayered(rows: Int32Array, count: number): number {
    const stream = this.#stream as LayeredStream;
    const bytes = this.#context.memory.bytes;
    let total = 0;
    for (let row = 0; row < 2 * count; row += 2) {
      const start = rows[row] as number;
      const length = rows[row + 1] as number;
      const taken = stream.send(bytes, start, start + length);
      if (taken < 0) return total > 0 ? total : taken;
      total += taken;
      if (taken < length) return total;
    }
    return total;
  }

  /** The upstream's end of stream: FIN to the client behind what waits. */
  #finishReceiving(): void {
    // Reporting the error to send() cleared it in the kernel: what looks like an end now was a reset.
    if (this.#broken || this.#endedUnheard()) {
      this.#abandon();
      return;
    }
    this.#upstreamFinished = true;
    if (this.#direct !== null) {
      // The end is reported for ever; a later break shows in send().
      this.#paused = true;
      this.#direct.pause();
    }
    if (this.#leftover === null) this.#connection.shutdown();
  }

  /** News behind the end of stream can only be a reset: what the client still sends goes nowhere. */
  #receiveAfterEnd(stream: DirectStream, rows: Int32Array): void {
    rows[0] = this.#context.memory.scratchStart;
    rows[1] = 1;
    const got = stream.recv(rows, 1);
    if (got < 0 && got !== -EAGAIN) this.#abandon();
  }

  /** Sending failed. What was received before is delivered first. */
  #break(): void {
    this.#broken = true;
    if (this.#upstreamFinished ? this.#leftover === null : this.#drained()) this.#abandon();
    else if (this.#direct !== null && !this.#paused) this.receive();
  }

  /** Layered: nothing waits. A direct stream is drained when recv says so. */
  #drained(): boolean {
    return this.#direct === null && this.#leftover === null;
  }

  /** The upstream ended, or broke. True: what it granted was a refusal (src/socks/honesty.ts). */
  #endedUnheard(): boolean {
    if (this.#heard || this.#clientFinished) return false;
    this.#heard = true;
    const { stats } = this.#context;
    stats.tcpUnheard++;
    if (this.#stream?.honesty?.endedUnheard(this.#destination, this.#openedAt) !== true)
      return false;
    stats.tcpRefusedLate++;
    return true;
  }

  /** RST to the client behind all that was delivered. */
  #abandon(): void {
    this.#endedUnheard();
    this.#context.stats.tcpUpstreamResets++;
    this.#connection.resetWhenDrained();
    this.#closeStream();
    this.#end();
  }

  /** True when nothing waits any more. */
  #writeLeftover(): boolean {
    const taken = this.#connection.write(
      this.#leftover as Uint8Array,
      this.#leftoverStart,
      this.#leftoverEnd,
    );
    this.#leftoverStart += taken;
    if (this.#leftoverStart < this.#leftoverEnd) return false;
    this.#leftover = null;
    if (this.#broken) this.#abandon();
    else if (this.#upstreamFinished) this.#connection.shutdown();
    return true;
  }

  /** Copies [start, end) behind what waits. False: there is no room. */
  #keep(bytes: Uint8Array, start: number, end: number): boolean {
    const waiting = this.#leftover === null ? 0 : this.#leftoverEnd - this.#leftoverStart;
    const total = waiting + end - start;
    if (total > MAX_LEFTOVER) return false;
    const kept = new Uint8Array(total);
    if (this.#leftover !== null) {
      kept.set(this.#leftover.subarray(this.#leftoverStart, this.#leftoverEnd));
    }
    kept.set(bytes.subarray(start, end), waiting);
    this.#leftover = kept;
    this.#leftoverStart = 0;
    this.#leftoverEnd = total;
    return true;
  }

  #closeStream(): void {
    this.#stream?.close();
  }

  #resetStream(): void {
    this.#stream?.reset();
  }

  #end(): void {
    if (this.#state === ENDED) return;
    this.#state = ENDED;
    this.#stream = null;
    this.#direct = null;
    this.#leftover = null;
    this.#context.stats.tcpFlows--;
    this.#context.dials.release(this);
    this.#owner.ended(this);
  }
}

/** The stream's view of a relay: both sides have an onReadable and an onWritable of their own. */
class UpstreamEnd implements StreamHandler {
  readonly #relay: TcpRelay;

  constructor(relay: TcpRelay) {
    this.#relay = relay;
  }

  onOpen(): void {
    this.#relay.opened();
  }

  onRefused(refusal: Refusal): void {
    this.#relay.refused(refusal);
  }

  onReadable(): void {
    this.#relay.receive();
  }

  onBytes(bytes: Uint8Array, start: number, end: number): void {
    this.#relay.receiveBytes(bytes, start, end);
  }

  onEnd(): void {
    this.#relay.receiveEnd();
  }

  onWritable(): void {
    this.#relay.sendUp();
  }

  onReset(): void {
    this.#relay.receiveReset();
  }
}

/** Octets of `count` [offset, length] rows. */
function sum(rows: Int32Array, count: number): number {
  let octets = 0;
  for (let i = 1; i < 2 * count; i += 2) octets += rows[i] as number;
  return octets;
}
