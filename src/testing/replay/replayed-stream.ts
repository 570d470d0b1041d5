/**
 * One TCP stream under replay: it feeds the client's packets, plays the captured server as the relay would, and
 * listens to what the stack sends.
 *
 * A client's packet goes once its time has come and SND.NXT covers what it acknowledges; the server's acts go once
 * what they need has arrived. Nothing overtakes on its own side. Sequence numbers of the client are its own;
 * acknowledgements and SACK edges move by the difference of the two servers' ISNs; TSecr becomes what the client's
 * rule (RFC 7323 §4.3) takes from the stack's segments.
 */

import type { CloseReason, TcpConnection, TcpHandler } from "../../stack/ports.ts";
import { type Endpoint, formatAddress } from "../../stack/wire/address.ts";
import { read16, read32, write32 } from "../../stack/wire/octets.ts";
import { ACK, FIN, RST, SYN, TCP_CHECKSUM } from "../../stack/wire/tcp.ts";
import { buildTcp, type TcpOption, type TcpPacket } from "../packet-builder.ts";
import type { StackDriver } from "../stack-driver.ts";
import type { Conversation, StreamPacket } from "./conversation.ts";
import { tunEnds } from "./ends.ts";
import { OctetAssembly, streamOffset } from "./octet-assembly.ts";
import { isEcho, type ServerAct, type ServerScript } from "./server-script.ts";

export class ReplayedStream implements TcpHandler {
  readonly conversation: Conversation;
  readonly script: ServerScript;
  /** As the packets have them: other than captured where a TUN would not carry the captured ones. */
  readonly client: Endpoint;
  readonly server: Endpoint;
  /** Since when the next packet of the client has waited, ms; -1: none waits. */
  waitingSince = -1;
  isStalled = false;
  /** Octets that arrived upstream, and that the stack sent to the client. */
  readonly upstream: OctetAssembly = new OctetAssembly();
  readonly downstream: OctetAssembly = new OctetAssembly();
  /** Segments of the stack whose octets are not the captured server's at their place. */
  wrongSegments = 0;
  finReceived = false;
  /** How the connection ended; null: it has not, or never opened. */
  closed: CloseReason | null = null;
  /** What came back first. */
  answer: "SYN-ACK" | "RST" | "ICMP" | null = null;
  /** Options of the stack's SYN-ACK. */
  offered: readonly TcpOption[] = [];
  /** Packets of the client fed, and acknowledgements that were added to them. */
  fed = 0;
  added = 0;
  readonly #driver: StackDriver;
  readonly #feedPackets: (packets: readonly Uint8Array[]) => void;
  readonly #patience: number;
  readonly #memory: Uint8Array;
  readonly #rows: Int32Array = new Int32Array(64);
  #connection: TcpConnection | null = null;
  /** What is due and has not happened: the client's packets, the server's acts. */
  readonly #packets: StreamPacket[] = [];
  readonly #acts: ServerAct[] = [];
  /** The stack's ISN and what it has sent: an offset from there. */
  #isn: number | null = null;
  #sndNxt = 0;
  #hasReset = false;
  /** Octets of the server that may go, that went, and what follows them. */
  #released = 0;
  #sent = 0;
  #finDue = false;
  /** The client's TS.Recent (RFC 7323 §4.3), and the last acknowledgement it sent. */
  #tsRecent = 0;
  #lastAck = 0;
  /** Its SND.NXT, and what its last packet said. */
  #clientNxt = 0;
  #window = 0;
  #tsVal: number | null = null;
  /** When it acknowledges what it has heard, should it still wait; -1: there is nothing. */
  #ackAt = -1;

  /** `feed` gives packets to the stack of `driver` and ends the turn; `patience`: what a packet waits, ms. */
  constructor(
    conversation: Conversation,
    script: ServerScript,
    driver: StackDriver,
    feed: (packets: readonly Uint8Array[]) => void,
    patience: number,
  ) {
    this.conversation = conversation;
    this.script = script;
    this.#driver = driver;
    this.#feedPackets = feed;
    this.#patience = patience;
    this.#memory = driver.memory.bytes;
    const { client, server } = conversation;
    [this.client, this.server] = tunEnds(client, server);
  }

  /** Packets of the client wait for something. */
  get isWaiting(): boolean {
    return this.#packets.length > 0;
  }

  /** The time of a packet of the client has come. */
  take(packet: StreamPacket): void {
    this.#packets.push(packet);
  }

  /** The time of an act of the server has come. */
  takeAct(act: ServerAct): void {
    this.#acts.push(act);
  }

  /** Lets everything happen that may. */
  run(): void {
    for (;;) {
      const act = this.#acts[0];
      const packet = this.#packets[0];
      const canAct = act !== undefined && this.#canAct(act);
      const canFeed = packet !== undefined && this.#covers(packet);
      if (canAct && !(canFeed && packet.packet.order < act.order)) {
        this.#acts.shift();
        this.#act(act);
        this.#driver.turn();
      } else if (canFeed) {
        this.#packets.shift();
        this.#feed(packet);
      } else {
        break;
      }
    }
    if (!this.isWaiting) this.waitingSince = -1;
    else if (this.waitingSince < 0) this.waitingSince = this.#driver.time.now();
  }

  /** When {@link ReplayedStream.expire} wants to be called; Infinity: never. */
  get deadline(): number {
    if (!this.isWaiting) return Number.POSITIVE_INFINITY;
    const limit = this.waitingSince + this.#patience;
    return this.#ackAt < 0 ? limit : Math.min(limit, this.#ackAt);
  }

  /** The deadline has come. */
  expire(): void {
    const now = this.#driver.time.now();
    if (!this.isWaiting) return;
    if (this.waitingSince + this.#patience <= now) this.#stall();
    else if (this.#ackAt >= 0 && this.#ackAt <= now) this.#acknowledge();
  }

  /** Gives up on the client's packets that wait. */
  #stall(): void {
    this.isStalled = true;
    this.#packets.length = 0;
    this.#acts.length = 0;
    this.waitingSince = -1;
  }

  /** Ends what is left of the connection. */
  end(): void {
    this.#connection?.abort();
    this.#connection = null;
  }

  /** A SYN of the client opens a connection. null: one too many. */
  open(connection: TcpConnection): TcpHandler | null {
    if (this.#isn !== null || (this.#connection !== null && this.script.answer === "accepted")) {
      return null;
    }
    this.#connection = connection;
    if (this.script.answer === "none") {
      connection.forget();
      this.#connection = null;
    }
    return this;
  }

  /** A packet of the stack to the client. */
  hear(packet: TcpPacket): void {
    const { flags, payload } = packet;
    if ((flags & RST) !== 0) {
      this.answer ??= "RST";
      this.#hasReset = true;
      return;
    }
    if ((flags & SYN) !== 0) {
      this.answer ??= "SYN-ACK";
      this.#isn = packet.seq | 0;
      this.offered = packet.options;
    }
    if (this.#isn === null) return;
    const at = streamOffset(packet.seq | 0, (this.#isn + 1) | 0, this.#sndNxt);
    const end = at + payload.length + (flags & SYN ? 1 : 0) + (flags & FIN ? 1 : 0);
    this.#sndNxt = Math.max(this.#sndNxt, end);
    if (payload.length > 0) this.#hearOctets(at, payload);
    if (end > at && this.#ackAt < 0) this.#ackAt = this.#driver.time.now() + DELAYED_ACK;
    const stamp = packet.options.find((option) => option.kind === "TS");
    if (stamp === undefined) return;
    // RFC 7323 §4.3 (2): a segment at or before Last.ACK.sent that is not older than the last.
    const isFirst = (flags & SYN) !== 0;
    const isNext = ((packet.seq - this.#lastAck) | 0) <= 0;
    if (isFirst || (isNext && ((stamp.value - this.#tsRecent) | 0) >= 0)) {
      this.#tsRecent = stamp.value | 0;
    }
  }

  #hearOctets(at: number, payload: Uint8Array): void {
    this.downstream.add(at, payload);
    const sent = this.script.octets.subarray(Math.max(0, at), at + payload.length);
    if (at < 0 || !Buffer.from(payload).equals(sent)) this.wrongSegments++;
  }

  // ---- the client ------------------------------------------------------------------------------

  /** Nothing stands in the way of a packet but its time. */
  #covers(p: StreamPacket): boolean {
    if (!(p.flags & ACK) || p.flags & RST) return true;
    const { isn, octets, hasFin } = this.script;
    if (this.script.answer !== "accepted" || isn === null || this.#isOver) return true;
    const at = streamOffset(p.ack, (isn + 1) | 0, this.#sndNxt);
    // It acknowledges what the captured server never sent: neither will ours.
    if (at > octets.length + (hasFin ? 1 : 0)) return true;
    return this.#isn !== null && at <= this.#sndNxt;
  }

  get #isOver(): boolean {
    return this.#hasReset || this.closed !== null;
  }

  #feed(p: StreamPacket): void {
    const { packet, flags } = p;
    const { upper } = packet;
    const { isn } = this.script;
    if (isn !== null && this.#isn !== null) {
      const delta = (this.#isn - isn) | 0;
      if ((flags & ACK) !== 0) {
        const ack = (p.ack + delta) | 0;
        write32(upper, 8, ack);
        this.#lastAck = ack;
      }
      for (const at of p.sackEdgesAt) write32(upper, at, (read32(upper, at) + delta) | 0);
      if (isEcho(this.script, p)) write32(upper, p.tsEcrAt, this.#tsRecent);
    }
    packet.finish(this.client, this.server, TCP_CHECKSUM, upper.length);
    this.fed++;
    this.#remember(p);
    this.#feedPackets(packet.packets);
  }

  /** What the client would say if it had to speak now. */
  #remember(p: StreamPacket): void {
    this.#clientNxt = (p.seq + p.payload.length + (p.flags & (SYN | FIN) ? 1 : 0)) | 0;
    this.#window = read16(p.packet.upper, 14);
    this.#tsVal = p.hasTimestamps ? p.tsVal : null;
    this.#ackAt = -1;
  }

  /**
   * An acknowledgement that was not captured, of all the client has heard. Octets are let go at their captured times,
   * so cwnd, which grows while it is the limit, lags behind the captured server's, and the client would wait for
   * octets that wait for the client; or its ACK of the SYN-ACK is not in the capture. Any client acknowledges within
   * 500 ms (RFC 9293 §3.8.6.3).
   */
  #acknowledge(): void {
    this.#ackAt = -1;
    if (this.#isn === null || this.#isOver) return;
    this.added++;
    const ack = (this.#isn + 1 + this.#sndNxt) | 0;
    this.#lastAck = ack;
    const options: TcpOption[] = [];
    if (this.#tsVal !== null) {
      const [value, echo] = [this.#tsVal >>> 0, this.#tsRecent >>> 0];
      options.push({ kind: "nop" }, { kind: "nop" }, { kind: "TS", value, echo });
    }
    this.#feedPackets([
      buildTcp({
        source: formatAddress(this.client),
        destination: formatAddress(this.server),
        sourcePort: this.client.port,
        destinationPort: this.server.port,
        seq: this.#clientNxt >>> 0,
        ack: ack >>> 0,
        flags: ACK,
        window: this.#window,
        options,
      }),
    ]);
  }

  // ---- the server ------------------------------------------------------------------------------

  #canAct(act: ServerAct): boolean {
    if (this.#connection === null || this.upstream.prefix < act.needs) return false;
    return this.fed >= act.fed;
  }

  #act(act: ServerAct): void {
    const connection = this.#connection as TcpConnection;
    switch (act.kind) {
      case "accept":
        connection.accept(act.profile);
        return;
      case "refuse":
        connection.refuse(act.reason);
        this.#connection = null;
        return;
      case "octets":
        this.#released = act.end;
        this.#fill();
        return;
      case "fin":
        this.#finDue = true;
        this.#fill();
        return;
      case "reset":
        // Octets that have not left yet were sent before the RST.
        this.#acts.length = 0;
        if (this.#sndNxt < this.script.octets.length) {
          connection.resetWhenDrained();
        } else {
          connection.abort();
          this.#connection = null;
        }
    }
  }

  /** Puts what may go into the stack's rows. */
  #fill(): void {
    const connection = this.#connection;
    if (connection === null) return;
    const { octets } = this.script;
    while (this.#sent < this.#released) {
      const rows = connection.space(this.#rows);
      if (rows === 0) return;
      let filled = 0;
      for (let row = 0; row < rows && this.#sent + filled < this.#released; row++) {
        const from = this.#sent + filled;
        const length = Math.min(this.#rows[2 * row + 1], this.#released - from);
        this.#memory.set(octets.subarray(from, from + length), this.#rows[2 * row]);
        filled += length;
      }
      connection.commit(filled);
      this.#sent += filled;
    }
    if (this.#finDue) connection.shutdown();
  }

  // ---- events ----------------------------------------------------------------------------------

  onReadable(): void {
    const connection = this.#connection;
    if (connection === null) return;
    while (connection.readableOctets > 0) {
      const rows = connection.readable(this.#rows);
      let taken = 0;
      for (let row = 0; row < rows; row++) {
        const start = this.#rows[2 * row];
        const length = this.#rows[2 * row + 1];
        this.upstream.add(this.upstream.end, this.#memory.subarray(start, start + length));
        taken += length;
      }
      connection.consume(taken);
    }
  }

  onFin(): void {
    this.finReceived = true;
  }

  onWritable(): void {
    this.#fill();
  }

  onClosed(reason: CloseReason): void {
    this.closed = reason;
    this.#connection = null;
  }
}

/** What a client that has heard something and waits to say it waits at most, ms: below every RTO. */
const DELAYED_ACK = 40;
