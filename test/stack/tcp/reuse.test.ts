import { describe, expect, test } from "vitest";
import { plainMemory } from "../../../src/memory.ts";
import type {
  CloseReason,
  PacketSink,
  StackListener,
  TcpConnection,
  TcpHandler,
} from "../../../src/stack/ports.ts";
import { GsoType, PacketFlag } from "../../../src/stack/ports.ts";
import { Stack } from "../../../src/stack/stack.ts";
import { TimerWheel } from "../../../src/stack/timer-wheel.ts";
import { type Endpoint, parseAddress } from "../../../src/stack/wire/address.ts";
import { emitIp, Protocol } from "../../../src/stack/wire/ip.ts";
import { read16, read32 } from "../../../src/stack/wire/octets.ts";
import {
  ACK,
  emitMss,
  emitTcp,
  emitTimestamps,
  emitWindowScale,
  FIN,
  RST,
  SYN,
} from "../../../src/stack/wire/tcp.ts";
import { FULL_OFFLOAD } from "../../../src/testing/memory-device.ts";

const SUPER = 44 * 1448;

/**
 * Client, device and relay of one port, with octets that nobody looks at: 4 GB are 65,536 super-segments and take
 * a second. What a packet says is read from the headers the stack wrote.
 */
class Port implements PacketSink, TcpHandler, StackListener {
  opens = 0;
  /** Of the connections that are over. */
  readonly endings: CloseReason[] = [];
  fin = false;
  resets = 0;
  /** Of the last packet from the stack. */
  flags = 0;
  /** What the stack sent last as its ISN. */
  iss = 0;
  sndNxt = 0;
  rcvNxt = 0;
  connection: TcpConnection | null = null;
  readonly #timestamps: boolean;
  readonly #memory = plainMemory(plainMemory(0).pagesStart + (16 << 20));
  readonly #time = new TimerWheel();
  readonly #stack: Stack;
  readonly #client: Endpoint = parseAddress("10.0.0.2") as Endpoint;
  readonly #target: Endpoint = parseAddress("192.0.2.1") as Endpoint;
  readonly #rows = new Int32Array(64);
  #rx: number;
  #edge = 0;
  #payload = 0;
  #toSend = 0;

  constructor(timestamps: boolean) {
    this.#timestamps = timestamps;
    this.#rx = this.#memory.rxStart;
    this.#client.port = 40000;
    this.#target.port = 443;
    const options = {
      mtu: 1500,
      offload: FULL_OFFLOAD,
      secret: Uint32Array.of(1, 2, 3, 4),
      ownAddresses: [],
      icmp: "own",
      udpTimeout: 300_000,
    } as const;
    this.#stack = new Stack(options, this.#memory, this.#time, this);
  }

  onTcpOpen(connection: TcpConnection): TcpHandler {
    this.opens++;
    this.connection = connection;
    this.fin = false;
    connection.accept();
    return this;
  }
  onUdpOpen(): null {
    return null;
  }
  onDirty(): void {}
  onReadable(): void {
    const connection = this.connection as TcpConnection;
    connection.consume(connection.readableOctets);
  }
  onFin(): void {
    this.fin = true;
  }
  onWritable(): void {
    this.#fill();
  }
  onClosed(reason: CloseReason): void {
    this.endings.push(reason);
  }

  reserve(): number {
    this.#payload = 0;
    return this.#memory.headersStart;
  }
  attach(start: number, end: number): void {
    this.#payload += end - start;
  }
  commit(): void {
    const { bytes, headersStart } = this.#memory;
    const tcp = headersStart + 20;
    const seq = read32(bytes, tcp + 4);
    this.flags = bytes[tcp + 13]!;
    if (this.flags & RST) {
      this.resets++;
      return;
    }
    if (this.flags & SYN) {
      this.iss = seq;
      this.rcvNxt = (seq + 1) | 0;
    }
    const scale = this.flags & SYN ? 0 : 7;
    this.#edge = (read32(bytes, tcp + 8) + (read16(bytes, tcp + 14) << scale)) | 0;
    if (seq === this.rcvNxt) this.rcvNxt = (seq + this.#payload + (this.flags & FIN)) | 0;
  }

  /** Sends one segment and lets the stack answer. */
  segment(flags: number, length: number = 0): void {
    const { bytes } = this.#memory;
    const { port } = this.#client;
    const syn = (flags & SYN) !== 0;
    const options = (syn ? 8 : 0) + (this.#timestamps ? 12 : 0);
    const total = 20 + options + length;
    const ip = emitIp(bytes, this.#rx, this.#client, this.#target, Protocol.TCP, 0, 0, total);
    const tcp = this.#rx + ip;
    const ack = flags & ACK ? this.rcvNxt : 0;
    emitTcp(bytes, tcp, port, 443, this.sndNxt, ack, 20 + options, flags, 65535, 0);
    let option = tcp + 20;
    if (syn) option = emitWindowScale(bytes, emitMss(bytes, option, 1460), 7);
    if (this.#timestamps) emitTimestamps(bytes, option, this.#time.now() | 0, 0);
    const gso = length > 1448;
    const meta = PacketFlag.NEEDS_CSUM | (gso ? GsoType.TCPV4 << 8 : 0);
    this.#stack.input(this.#rx, tcp + total, meta, gso ? 1448 : 0, ip, 16);
    this.sndNxt = (this.sndNxt + length + (flags & (SYN | FIN) ? 1 : 0)) | 0;
    this.#turn();
  }

  /** Opens a connection whose first number is `isn`. */
  open(isn: number): void {
    this.sndNxt = isn | 0;
    const opens = this.opens;
    this.segment(SYN);
    expect(this.opens).toBe(opens + 1);
    expect(this.flags).toBe(SYN | ACK);
    this.segment(ACK);
  }

  /** Moves so many octets both ways. */
  transfer(octets: number): void {
    this.#toSend = octets;
    this.#fill();
    this.#turn();
    for (let left = octets; left > 0 || this.#toSend > 0; ) {
      const length = Math.min(left, SUPER, (this.#edge - this.sndNxt) | 0);
      this.segment(ACK, Math.max(0, length));
      left -= length;
      this.#fill();
      this.#turn();
      this.#time.advance(this.#time.now() + 1);
    }
    this.segment(ACK);
    this.segment(ACK);
  }

  shutdown(): void {
    this.connection?.shutdown();
    this.#turn();
  }

  #turn(): void {
    this.#stack.endBatch();
    while (!this.#stack.flush(this));
  }

  #fill(): void {
    const connection = this.connection as TcpConnection;
    while (this.#toSend > 0) {
      const count = connection.space(this.#rows);
      let room = 0;
      for (let row = 0; row < count; row++) room += this.#rows[2 * row + 1]!;
      const octets = Math.min(room, this.#toSend);
      if (octets === 0) return;
      connection.commit(octets);
      this.#toSend -= octets;
    }
  }
}

/** How the first connection ends, and the state that waits for the next SYN. */
const ENDINGS: Record<string, (port: Port) => void> = {
  "TIME-WAIT": (port) => {
    port.shutdown();
    port.segment(ACK);
    port.segment(FIN | ACK);
  },
  "LAST-ACK": (port) => {
    port.segment(FIN | ACK);
    port.shutdown();
    // The client's last acknowledgement is lost.
  },
  CLOSING: (port) => {
    port.shutdown();
    // Its FIN crosses ours.
    const { rcvNxt } = port;
    port.rcvNxt = (rcvNxt - 1) | 0;
    port.segment(FIN | ACK);
    port.rcvNxt = rcvNxt;
  },
};

describe.each([
  ["with timestamps", true],
  ["without timestamps", false],
])("%s", (_, timestamps) => {
  describe.each([
    ["1 MB", 1 << 20],
    ["4 GB, once round the sequence space,", 2 ** 32 + 2 ** 20],
  ])("after %s both ways", (__, octets) => {
    test.each(Object.entries(ENDINGS))(
      "a client that uses its port again finds %s out of its way (RFC 9293 §3.6.1 MAY-2, §3.4.1)",
      (___, end) => {
        const port = new Port(timestamps);
        port.open(4_000_000_000);
        port.transfer(octets);
        for (const distance of [1, 100_000, -1, -100_000, 2 ** 31 - 1, 2 ** 31]) {
          end(port);
          const isn = port.sndNxt + distance;
          expect(port.fin).toBe(true);
          const last = port.rcvNxt;
          port.open(isn);
          // RFC 6528 §3, RFC 9293 §3.6.1: an old duplicate of ours is outside the new window.
          expect((port.iss - last) | 0).toBeGreaterThan(65_535);
          port.transfer(100_000);
        }
        expect(port.endings).toEqual(new Array(6).fill("closed"));
        expect(port.resets).toBe(0);
      },
    );
  });
});
