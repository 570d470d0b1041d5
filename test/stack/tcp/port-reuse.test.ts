import { describe, expect, test } from "vitest";
import type { TcpConnection, TcpHandler } from "../../../src/stack/ports.ts";
import {
  buildTcp,
  decodePacket,
  StackDriver,
  TcpFlag,
  type TcpOption,
  type TcpPacket,
} from "../../../src/testing/index.ts";

const { ACK, FIN, SYN } = TcpFlag;

/** How a connection ends, and the state in which the next SYN finds it. */
const ENDS = ["TIME-WAIT", "LAST-ACK", "CLOSING", "CLOSED"] as const;
type End = (typeof ENDS)[number];

/** An upstream that takes everything. */
class Sink implements TcpHandler {
  readonly connection: TcpConnection;
  closed: string | null = null;

  constructor(connection: TcpConnection) {
    this.connection = connection;
  }

  onReadable(): void {
    this.connection.consume(this.connection.readableOctets);
  }

  onFin(): void {}
  onWritable(): void {}

  onClosed(reason: string): void {
    this.closed = reason;
  }
}

/** A client with one port, which it uses for one connection after another. */
class OnePort {
  readonly opened: Sink[] = [];
  readonly driver: StackDriver = new StackDriver({
    onTcpOpen: (connection) => {
      const sink = new Sink(connection);
      this.opened.push(sink);
      return sink;
    },
  });
  readonly #timestamps: boolean;
  #tsVal = 0;
  #tsEcr = 0;
  /** Next sequence number of the client, and of the stack as far as it was heard. */
  seq = 0;
  ack = 0;

  constructor(timestamps: boolean) {
    this.#timestamps = timestamps;
  }

  get sink(): Sink {
    return this.opened.at(-1)!;
  }

  /** Opens a connection; it has to be accepted in the turn of its SYN. Returns the stack's ISN. */
  open(isn: number, tsVal: number): number {
    const before = this.opened.length;
    this.seq = isn;
    this.ack = 0;
    this.#tsVal = tsVal;
    this.#tsEcr = 0;
    this.driver.inject(this.#segment(SYN));
    if (this.opened.length !== before + 1) throw new Error(`SYN ${before + 1} opened nothing`);
    this.sink.connection.accept();
    const [synAck, ...others] = this.#turn();
    if (synAck?.flags !== (SYN | ACK) || synAck.ack !== (isn + 1) >>> 0 || others.length > 0) {
      throw new Error(`SYN ${before + 1} was not answered by SYN-ACK`);
    }
    this.seq = (isn + 1) >>> 0;
    this.driver.inject(this.#segment(ACK));
    return synAck.seq;
  }

  close(end: End): void {
    const { connection } = this.sink;
    const fin = (): void => {
      this.driver.inject(this.#segment(FIN | ACK));
      this.seq = (this.seq + 1) >>> 0;
    };
    if (end === "LAST-ACK" || end === "CLOSED") {
      fin();
      connection.shutdown();
      this.#turn();
    } else {
      connection.shutdown();
      const heard = this.ack;
      this.#turn();
      // The client's FIN crosses ours, or answers it.
      if (end === "CLOSING") this.ack = heard;
      fin();
    }
    if (end === "CLOSED") this.driver.inject(this.#segment(ACK));
    this.#turn();
  }

  #segment(flags: number): Uint8Array {
    const options: TcpOption[] = [];
    if (flags & SYN) options.push({ kind: "mss", value: 1460 }, { kind: "sackOK" });
    if (this.#timestamps) options.push({ kind: "TS", value: this.#tsVal, echo: this.#tsEcr });
    if (flags & SYN) options.push({ kind: "wscale", value: 7 });
    return buildTcp({
      source: "10.0.0.2",
      destination: "198.51.100.1",
      sourcePort: 40000,
      destinationPort: 443,
      seq: this.seq,
      ack: this.ack,
      flags,
      window: 65535,
      options,
    });
  }

  #turn(): TcpPacket[] {
    this.driver.turn();
    return this.driver.take().map(({ bytes }) => {
      const packet = decodePacket(bytes) as TcpPacket;
      const length = packet.payload.length + (packet.flags & (SYN | FIN) ? 1 : 0);
      this.ack = (packet.seq + length) >>> 0;
      for (const option of packet.options) if (option.kind === "TS") this.#tsEcr = option.value;
      return packet;
    });
  }
}

/** Numbers that look random, 32 bits. */
function* numbers(): Generator<number, never> {
  for (let n = 1; ; n = (Math.imul(n, 1664525) + 1013904223) >>> 0) yield n;
}

describe.each([
  ["without timestamps", false],
  ["with timestamps", true],
])("%s", (_, timestamps) => {
  test("one port is used for 20,000 connections in a row, whatever ended them (RFC 9293 §3.6.1)", () => {
    const client = new OnePort(timestamps);
    const random = numbers();
    let last = 0;
    for (let n = 0; n < 20_000; n++) {
      const iss = client.open(random.next().value, random.next().value);
      // Of a connection that is gone the stack knows nothing; then it is the clock (RFC 6528 §3).
      if (n % ENDS.length > 0 && ((iss - last) | 0) <= 0) {
        throw new Error(`the ISN of connection ${n} is not above the numbers before`);
      }
      client.close(ENDS[n % ENDS.length]!);
      last = client.ack;
      client.driver.time.advance(client.driver.time.now() + (n % 3));
      client.driver.flush();
      client.driver.take();
    }
    client.driver.drain();
    expect(client.opened).toHaveLength(20_000);
    expect(client.opened.filter(({ closed }) => closed !== "closed")).toEqual([]);
    expect(client.driver.stack.stats.tcpFlows).toBe(0);
    expect(client.driver.stack.pages.inUse).toBe(0);
  }, 120_000);
});
