/**
 * A client that sends exactly the segments a test asks for, for tests about many flows, windows and bounds.
 */

import type { CloseReason, TcpConnection, TcpHandler } from "../../src/stack/ports.ts";
import {
  buildIcmp,
  buildTcp,
  decodePacket,
  PatternedFlow,
  pattern,
  StackDriver,
  type StackDriverOptions,
  TcpFlag,
  type TcpOption,
  type TcpPacket,
} from "../../src/testing/index.ts";

/** The relay of one flow: consumes as told, remembers what it was told. */
export class RecordingHandler implements TcpHandler {
  readonly flow: PatternedFlow;
  autoconsume = true;
  fin = false;
  closed: CloseReason | null = null;

  constructor(connection: TcpConnection, memory: Uint8Array) {
    this.flow = new PatternedFlow(connection, memory);
  }

  onReadable(): void {
    const { readableOctets } = this.flow.connection;
    if (this.autoconsume) this.flow.take(readableOctets);
    else this.flow.verify(readableOctets);
  }

  onFin(): void {
    this.fin = true;
  }

  onWritable(): void {
    this.flow.fill();
  }

  onClosed(reason: CloseReason): void {
    this.closed = reason;
  }
}

/** A driver whose opens are recorded, in order. */
export class RecordingDriver extends StackDriver {
  readonly opened: RecordingHandler[];

  constructor(options: StackDriverOptions = {}) {
    const opened: RecordingHandler[] = [];
    let memory: Uint8Array | null = null;
    super(
      {
        onTcpOpen: (connection) => {
          const handler = new RecordingHandler(connection, memory!);
          opened.push(handler);
          return handler;
        },
      },
      options,
    );
    memory = this.memory.bytes;
    this.opened = opened;
  }

  /** The TCP packets written since the last call, decoded. @throws Error at one with a fault. */
  takeTcp(): TcpPacket[] {
    return this.take().map(({ bytes }) => {
      const packet = decodePacket(bytes);
      if (packet.kind !== "tcp" || packet.faults.length > 0) {
        throw new Error(`a ${packet.kind} packet with ${packet.faults.join(", ")}`);
      }
      return packet;
    });
  }
}

export interface RawClientOptions {
  readonly address?: string;
  readonly port?: number;
  readonly target?: string;
  readonly isn?: number;
  readonly options?: readonly TcpOption[];
}

export class RawClient {
  readonly driver: RecordingDriver;
  readonly address: string;
  readonly port: number;
  readonly #target: string;
  readonly isn: number;
  readonly #options: readonly TcpOption[];
  /** The stack's ISN, its last acknowledgement and window, all relative; scaled. */
  peerIsn = 0;
  acknowledged = 0;
  window = 0;
  shift = 0;
  /** Next octet of our stream (0 is the first). */
  sent = 0;
  /** Octets of the stack's stream received in order. */
  received = 0;

  constructor(driver: RecordingDriver, options: RawClientOptions = {}) {
    this.driver = driver;
    this.address = options.address ?? "10.0.0.2";
    this.port = options.port ?? 40000;
    this.#target = options.target ?? "198.51.100.1";
    this.isn = options.isn ?? 1_000_000;
    this.#options = options.options ?? [
      { kind: "mss", value: 1460 },
      { kind: "wscale", value: 7 },
    ];
  }

  /** A segment with relative numbers; payload is the pattern at its place. */
  segment(flags: number, seq: number, octets: number = 0, window: number = 512): Uint8Array {
    const syn = (flags & TcpFlag.SYN) !== 0;
    return buildTcp({
      source: this.address,
      destination: this.#target,
      sourcePort: this.port,
      destinationPort: 443,
      seq: (this.isn + seq) >>> 0,
      ack: (flags & TcpFlag.ACK) !== 0 ? (this.peerIsn + 1 + this.received) >>> 0 : 0,
      flags,
      window,
      options: syn ? this.#options : [],
      payload: pattern(0, Math.max(0, seq - 1), octets),
    });
  }

  /** "Port unreachable" from the client's host, about a segment from one of the two ends with that number. */
  complaint(about: { readonly source: "client" | "target"; readonly seq: number }): Uint8Array {
    const [client, target] = [
      { address: this.address, port: this.port },
      { address: this.#target, port: 443 },
    ];
    const [from, to] = about.source === "client" ? [client, target] : [target, client];
    const quoted = buildTcp({
      source: from.address,
      destination: to.address,
      sourcePort: from.port,
      destinationPort: to.port,
      seq: about.seq >>> 0,
      flags: TcpFlag.SYN,
    });
    const fields = { source: this.address, destination: this.#target, type: 3, code: 3 };
    return buildIcmp({ ...fields, rest: 0, body: quoted.subarray(0, 28) });
  }

  syn(): Uint8Array {
    return this.segment(TcpFlag.SYN, 0, 0, 65535);
  }

  /** The three-way handshake; returns the relay's end. */
  open(): RecordingHandler {
    this.driver.inject(this.syn());
    const handler = this.driver.opened.at(-1)!;
    handler.flow.connection.accept();
    this.driver.turn();
    this.hear(this.driver.takeTcp());
    this.driver.inject(this.segment(TcpFlag.ACK, 1));
    return handler;
  }

  /** Sends the next `octets` in one segment and hears what comes back. */
  send(octets: number): TcpPacket[] {
    this.driver.inject(this.segment(TcpFlag.ACK | TcpFlag.PSH, 1 + this.sent, octets));
    this.sent += octets;
    return this.hearAll();
  }

  hearAll(): TcpPacket[] {
    const packets = this.driver.takeTcp();
    this.hear(packets);
    return packets;
  }

  /** Follows acknowledgement, window and in-order octets of `packets` meant for this client. */
  hear(packets: readonly TcpPacket[]): void {
    for (const packet of packets) {
      if (packet.destinationPort !== this.port || packet.destination !== this.address) continue;
      const syn = (packet.flags & TcpFlag.SYN) !== 0;
      if (syn) {
        this.peerIsn = packet.seq;
        for (const o of packet.options) if (o.kind === "wscale") this.shift = o.value;
      }
      this.acknowledged = (packet.ack - this.isn - 1) | 0;
      this.window = syn ? packet.window : packet.window * 2 ** this.shift;
      const offset = (packet.seq - this.peerIsn - 1) | 0;
      if (!syn && offset === this.received) this.received += packet.payload.length;
    }
  }

  /** Octets of the stream the stack allows beyond what was sent. */
  get room(): number {
    return this.acknowledged + this.window - this.sent;
  }
}
