/**
 * A TCP client for tests: simple, slow, and independent of the stack it talks to.
 *
 * RFC 9293 for an active opener with window scaling, timestamps, SACK (the latest block first, RFC 2018 §4) and
 * D-SACK (RFC 2883) if asked. Sequence numbers are kept as
 * plain offsets into the two streams (0 is SYN, 1 the first octet); congestion control is a fixed window that
 * shrinks to one segment after a timeout. It acknowledges every segment at once.
 */

import type { PacketMeta } from "./memory-device.ts";
import { offloadedTcp } from "./memory-device.ts";
import {
  buildTcp,
  type DecodedPacket,
  decodePacket,
  TcpFlag,
  type TcpOption,
} from "./packet-builder.ts";

export interface ReferenceClientOptions {
  readonly address: string;
  readonly port: number;
  readonly target: string;
  readonly targetPort: number;
  readonly iss: number;
  readonly mss: number;
  readonly wscale: number | null;
  readonly sack: boolean;
  /** False: octets that came twice are not reported. True by default. */
  readonly dsack?: boolean;
  readonly timestamps: boolean;
  /** Receive buffer, octets. */
  readonly buffer: number;
  /** Octets the program behind the client reads per millisecond. */
  readonly readRate: number;
  /** Sends FIN only after the peer's. */
  readonly closesLast: boolean;
  /** Segments per packet handed to the link; above 1 they leave as one super-segment. */
  readonly gsoSegments: number;
}

const INITIAL_RTO = 250;
const MAX_RTO = 1000;
const SEGMENTS_IN_FLIGHT = 24;

export class ReferenceClient {
  readonly #options: ReferenceClientOptions;
  readonly #emit: (bytes: Uint8Array, meta: PacketMeta) => void;
  readonly #out: Uint8Array;
  state: "closed" | "syn-sent" | "open" | "reset" = "closed";
  // The sender: offsets into the own sequence space.
  #una = 0;
  #next = 0;
  #peerEdge = 0;
  #probing = false;
  #flight = SEGMENTS_IN_FLIGHT;
  #duplicates = 0;
  #rto = INITIAL_RTO;
  #resendAt = -1;
  // The receiver: offsets into the peer's.
  #irs = 0;
  #received = 0;
  #in: Uint8Array = new Uint8Array(4096);
  #have: Uint8Array = new Uint8Array(4096);
  #furthest = 0;
  /** Where octets arrived last, and what of them had been there, until the next acknowledgement. */
  #latest = 0;
  #twice: readonly [number, number] | null = null;
  #finAt = -1;
  #read = 0;
  #readAt = -1;
  #shift = 0;
  #peerShift = 0;
  #peerMss = 536;
  #sack = false;
  #timestamps = false;
  #tsRecent = 0;
  #advertised = 0;
  /** When {@link ReferenceClient.finReceived} became true, ms. */
  finishedAt = -1;
  /** The peer moved the right edge of its window to the left. */
  shrunk = 0;

  constructor(
    options: ReferenceClientOptions,
    out: Uint8Array,
    emit: (bytes: Uint8Array, meta: PacketMeta) => void,
  ) {
    this.#options = options;
    this.#out = out;
    this.#emit = emit;
  }

  /** The octets received in order so far. */
  get received(): Uint8Array {
    return this.#in.subarray(0, Math.max(0, this.#received - (this.finReceived ? 2 : 1)));
  }

  get finReceived(): boolean {
    return this.#finAt >= 0 && this.#received > this.#finAt;
  }

  /** Both directions have ended by FIN, and ours is acknowledged. */
  get finished(): boolean {
    return this.finReceived && this.#una === this.#out.length + 2;
  }

  open(now: number): void {
    this.state = "syn-sent";
    this.#next = 1;
    this.#send(0, 1, now);
    this.#arm(now);
  }

  /** When {@link ReferenceClient.expire} wants to be called; -1: never. */
  deadline(): number {
    if (this.state === "reset") return -1;
    if (this.#readAt < 0 || (this.#resendAt >= 0 && this.#resendAt < this.#readAt)) {
      return this.#resendAt;
    }
    return this.#readAt;
  }

  expire(now: number): void {
    if (this.#readAt >= 0 && now >= this.#readAt) this.#readOn(now);
    if (this.#resendAt < 0 || now < this.#resendAt) return;
    this.#rto = Math.min(2 * this.#rto, MAX_RTO);
    this.#flight = 1;
    // Go back to the first octet not acknowledged; with a closed window this is the probe.
    this.#probing = this.#una > 0 && this.#una >= this.#peerEdge;
    const length = Math.min(this.#peerMss, Math.max(1, this.#next - this.#una));
    const end = Math.min(this.#una + length, this.#end());
    this.#next = Math.max(this.#next, end);
    this.#send(this.#una, end, now);
    this.#arm(now);
  }

  /** A packet from the link. Damaged ones and those of others are ignored. */
  receive(bytes: Uint8Array, now: number): void {
    let packet: DecodedPacket;
    try {
      packet = decodePacket(bytes);
    } catch {
      return;
    }
    if (packet.kind !== "tcp" || packet.faults.length > 0 || this.state === "reset") return;
    if (packet.destinationPort !== this.#options.port) return;
    if ((packet.flags & TcpFlag.RST) !== 0) {
      // In TIME-WAIT, or past LAST-ACK, a late answer to a late packet means nothing.
      if (this.finished) return;
      if (this.state === "syn-sent" || packet.seq === (this.#irs + this.#received) >>> 0) {
        this.state = "reset";
      }
      return;
    }
    const stamp = packet.options.find((option) => option.kind === "TS");
    if (this.state === "syn-sent") {
      if ((packet.flags & TcpFlag.SYN) === 0) return;
      this.#established(packet.seq, packet.options);
    }
    if (stamp !== undefined) this.#tsRecent = stamp.value;
    this.#acknowledged(packet.ack, packet.window, (packet.flags & TcpFlag.SYN) !== 0, now);
    const from = (packet.seq - this.#irs) | 0;
    if (packet.payload.length > 0 || (packet.flags & (TcpFlag.FIN | TcpFlag.SYN)) !== 0) {
      this.#store(from, packet.payload, packet.flags);
      if (this.finReceived && this.finishedAt < 0) this.finishedAt = now;
      this.#send(this.#next, this.#next, now);
    } else if (from < this.#received) this.#send(this.#next, this.#next, now);
    if (this.#readAt < 0 && this.#read < this.#received) this.#readOn(now);
    this.#output(now);
  }

  #established(irs: number, options: readonly TcpOption[]): void {
    this.state = "open";
    this.#irs = irs;
    this.#advertised = 1 + Math.min(65535, this.#options.buffer);
    for (const option of options) {
      if (option.kind === "mss") this.#peerMss = Math.min(option.value, this.#options.mss);
      else if (option.kind === "sackOK") this.#sack = this.#options.sack;
      else if (option.kind === "TS") this.#timestamps = this.#options.timestamps;
      else if (option.kind === "wscale") {
        this.#peerShift = option.value;
        this.#shift = this.#options.wscale ?? 0;
      }
    }
    if (this.#timestamps) this.#peerMss -= 12;
  }

  #acknowledged(ack: number, window: number, syn: boolean, now: number): void {
    const offset = (ack - this.#options.iss) | 0;
    if (offset < this.#una || offset > this.#next) return;
    const edge = offset + (syn ? window : window * 2 ** this.#peerShift);
    const opened = edge > this.#peerEdge;
    if (opened) this.#peerEdge = edge;
    else if (edge < this.#peerEdge && offset > this.#una) this.shrunk++;
    // The octet of the probe was not taken: it is sent again with the others.
    if (opened && this.#probing && offset === this.#una) this.#next = this.#una;
    if (opened) this.#probing = false;
    if (offset > this.#una) {
      this.#una = offset;
      this.#duplicates = 0;
      this.#rto = INITIAL_RTO;
      this.#flight = Math.min(SEGMENTS_IN_FLIGHT, this.#flight + 1);
      this.#arm(now);
    } else if (!opened && this.#una < this.#next && ++this.#duplicates === 3) {
      this.#send(this.#una, Math.min(this.#una + this.#peerMss, this.#next), now);
    }
  }

  /** Where the own sequence space ends: after the last octet, and after FIN once it may be sent. */
  #end(): number {
    const mayClose = !this.#options.closesLast || this.finReceived;
    return 1 + this.#out.length + (mayClose ? 1 : 0);
  }

  #output(now: number): void {
    if (this.state !== "open") return;
    const room = this.#una + this.#flight * this.#peerMss;
    const edge = Math.min(this.#end(), Math.max(this.#peerEdge, this.#una), room);
    const most = this.#peerMss * this.#options.gsoSegments;
    while (this.#next < edge) {
      const end = Math.min(this.#next + most, edge);
      this.#send(this.#next, end, now);
      this.#next = end;
    }
    if (this.#resendAt < 0 && this.#una < this.#end()) this.#arm(now);
  }

  #arm(now: number): void {
    this.#resendAt = this.state !== "closed" && this.#una < this.#end() ? now + this.#rto : -1;
  }

  #store(from: number, payload: Uint8Array, flags: number): void {
    const start = (flags & TcpFlag.SYN) !== 0 ? from + 1 : from;
    const end = Math.min(start + payload.length, this.#advertised);
    // One octet beyond the window is a probe, and is not taken.
    if (start + payload.length > this.#advertised + 1) {
      throw new Error(`octets up to ${start + payload.length} beyond ${this.#advertised}`);
    }
    while (end + 2 > this.#in.length) this.#grow();
    let twice = end;
    let upTo = end;
    for (let at = 0; start + at < end; at++) {
      if (start + at < 1) continue;
      const index = start + at - 1;
      if (this.#have[index] === 1 && twice === end) twice = start + at;
      else if (this.#have[index] !== 1 && twice < end) upTo = Math.min(upTo, start + at);
      if (this.#have[index] === 1 && this.#in[index] !== payload[at]) {
        throw new Error(`octet ${index} came twice with different content`);
      }
      this.#in[index] = payload[at]!;
      this.#have[index] = 1;
    }
    if (end > start) this.#latest = start;
    if (twice < end && this.#options.dsack !== false && start > 0) this.#twice = [twice, upTo];
    this.#furthest = Math.max(this.#furthest, end);
    if ((flags & TcpFlag.FIN) !== 0 && end === start + payload.length) this.#finAt = end;
    if (this.#received === 0) this.#received = 1;
    while (this.#have[this.#received - 1] === 1) this.#received++;
    if (this.#received === this.#finAt) this.#received++;
  }

  #grow(): void {
    const [octets, flags] = [this.#in, this.#have];
    this.#in = new Uint8Array(2 * octets.length);
    this.#have = new Uint8Array(2 * flags.length);
    this.#in.set(octets);
    this.#have.set(flags);
  }

  /** The program behind the client reads; a window that has opened well is announced (RFC 9293 §3.8.6.2.2). */
  #readOn(now: number): void {
    const before = this.#window();
    this.#read = Math.min(this.#received, this.#read + Math.floor(this.#options.readRate * 10));
    this.#readAt = this.#read < this.#received ? now + 10 : -1;
    const opened = this.#window() - before;
    if (this.finReceived) return;
    if (opened > 0 && before < 2 * this.#options.mss) this.#send(this.#next, this.#next, now);
  }

  /** What may be advertised: never less than was, and a multiple of the scale. */
  #window(): number {
    const edge = Math.max(this.#advertised, this.#read + this.#options.buffer);
    return Math.max(0, edge - this.#received);
  }

  #sackBlocks(): TcpOption[] {
    const blocks: [number, number][] = [];
    for (let at = this.#received; at < this.#furthest; at++) {
      if (this.#have[at - 1] !== 1) continue;
      const start = at;
      while (at < this.#furthest && this.#have[at - 1] === 1) at++;
      if (start <= this.#latest && this.#latest < at) blocks.unshift([start, at]);
      else blocks.push([start, at]);
    }
    if (this.#twice !== null) {
      const [start, end] = this.#twice;
      const around = blocks.findIndex(([left, right]) => left <= start && end <= right);
      if (around > 0) blocks.unshift(...blocks.splice(around, 1));
      blocks.unshift([start, end]);
      this.#twice = null;
    }
    if (blocks.length === 0) return [];
    const edge = (at: number): number => (this.#irs + at) >>> 0;
    return [
      { kind: "sack", blocks: blocks.slice(0, 3).map(([l, r]) => [edge(l), edge(r)] as const) },
    ];
  }

  /** Sends [start, end) of the own sequence space; empty: an acknowledgement. */
  #send(start: number, end: number, now: number): void {
    const { iss, address, port, target, targetPort } = this.#options;
    const syn = start === 0 && end > 0;
    const fin = end === this.#out.length + 2;
    const scale = syn ? 0 : this.#shift;
    const window = Math.min(65535, Math.floor(this.#window() / 2 ** scale));
    if (!syn) this.#advertised = Math.max(this.#advertised, this.#received + window * 2 ** scale);
    let flags = syn ? TcpFlag.SYN : TcpFlag.ACK;
    if (fin && end > start) flags |= TcpFlag.FIN;
    const options: TcpOption[] = [];
    if (syn) options.push(...this.#synOptions(now));
    else if (this.#timestamps) {
      options.push(
        { kind: "nop" },
        { kind: "nop" },
        { kind: "TS", value: now, echo: this.#tsRecent },
      );
    }
    if (!syn && this.#sack) options.push(...this.#sackBlocks());
    const payload = syn
      ? new Uint8Array(0)
      : this.#out.subarray(start - 1, Math.min(end - 1, this.#out.length));
    const packet = buildTcp({
      source: address,
      destination: target,
      sourcePort: port,
      destinationPort: targetPort,
      seq: (iss + start) >>> 0,
      ack: syn ? 0 : (this.#irs + this.#received) >>> 0,
      flags,
      window,
      options,
      payload,
    });
    const superSegment = payload.length > this.#peerMss;
    this.#emit(packet, superSegment ? offloadedTcp(packet, this.#peerMss) : {});
  }

  #synOptions(now: number): TcpOption[] {
    const { mss, wscale, sack, timestamps } = this.#options;
    const options: TcpOption[] = [{ kind: "mss", value: mss }];
    if (sack) options.push({ kind: "sackOK" });
    if (timestamps) options.push({ kind: "TS", value: now, echo: 0 });
    if (wscale !== null) options.push({ kind: "nop" }, { kind: "wscale", value: wscale });
    return options;
  }
}
