/**
 * Replays a capture: the client's side of it is fed to a stack in virtual time, the server's side is played upstream.
 *
 * The stack is not the captured server, so nothing is compared packet by packet. What has to hold is causality: a
 * packet of the client that acknowledges something waits until the stack has sent it; octets of the server wait until
 * what they answer has arrived. Then every octet of the client has to arrive upstream, and every octet of the server
 * at the client. The parts are in replay/:
 *
 *     captured packets ─ whole-packet ─▶ dissection ─ conversation ─▶ server-script ─▶ replayed-stream ─▶ stream-report
 *                                                   └ datagrams ───────────────────▶ replayed-datagrams
 */

import type { CapturedPacket } from "../pcap/captured-packet.ts";
import type { TcpConnection, TcpHandler } from "../stack/ports.ts";
import { type Endpoint, parseAddress } from "../stack/wire/address.ts";
import { IcmpKind } from "../stack/wire/icmp.ts";
import { IPV4_HEADER, IPV6_HEADER, Protocol } from "../stack/wire/ip.ts";
import { splitSuperSegment, type TakenPacket } from "./memory-device.ts";
import { decodePacket, type TcpPacket } from "./packet-builder.ts";
import { type Dissection, dissect, icmpMessage, mtuOf } from "./replay/dissection.ts";
import { endpointKey } from "./replay/ends.ts";
import { type DatagramCounts, ReplayedDatagrams } from "./replay/replayed-datagrams.ts";
import { ReplayedStream } from "./replay/replayed-stream.ts";
import { serverScript } from "./replay/server-script.ts";
import { type StreamReport, streamReport } from "./replay/stream-report.ts";
import { PacketAssembler, type WholePacket } from "./replay/whole-packet.ts";
import { StackDriver, type StackDriverOptions } from "./stack-driver.ts";

export interface ReplayOptions extends StackDriverOptions {
  /** Called for every packet that enters (`<`) or leaves (`>`) the stack, with virtual time in ms. */
  readonly trace?: (at: number, direction: "<" | ">", packet: Uint8Array) => void;
  /** How long a packet of the client waits for what it acknowledges, ms; an hour by default. */
  readonly patience?: number;
}

export interface ReplayReport {
  /** In the order of their first packets. */
  readonly streams: readonly StreamReport[];
  /** Datagrams and octets of payload by pair: as captured, and as they arrived. */
  readonly datagrams: {
    readonly expectedUpstream: DatagramCounts;
    readonly upstream: DatagramCounts;
    readonly expectedAnswers: DatagramCounts;
    readonly answers: DatagramCounts;
  };
  /** Packets of the capture, and those of them that are no IP. */
  readonly packets: number;
  readonly notIp: number;
  /** Packets fed as they were captured: no TCP or UDP, fragments that miss others, or nothing that can be parsed. */
  readonly asCaptured: number;
  /** The stack after the replay: every connection has been ended, every timer has expired. */
  readonly driver: StackDriver;
}

/**
 * Replays `packets`, which are held in memory until the end. Virtual time begins at the first packet. The MTU of the
 * device is what the captured clients had, unless `options` says it.
 *
 * @throws Error when the stack sends a packet with a wrong length or checksum, or leaves a timer for ever.
 */
export function replay(
  packets: Iterable<CapturedPacket>,
  options: ReplayOptions = {},
): ReplayReport {
  return new Replay(dissect(packets), options).run();
}

/** Something whose time comes. */
interface Due {
  readonly order: number;
  readonly at: number;
  happen(): void;
}

class Replay {
  readonly #dissection: Dissection;
  readonly #driver: StackDriver;
  readonly #trace: NonNullable<ReplayOptions["trace"]>;
  readonly #datagrams: ReplayedDatagrams;
  readonly #streams: ReplayedStream[] = [];
  /** Joins the fragments the stack sends. */
  readonly #assembler: PacketAssembler = new PacketAssembler();
  /** The stream whose client sent last, by its ends, the client first. */
  readonly #current: Map<string, ReplayedStream> = new Map();
  /** Streams whose client waits; those of them that have heard something. */
  readonly #waiting: Set<ReplayedStream> = new Set();
  readonly #awake: Set<ReplayedStream> = new Set();
  readonly #due: Due[] = [];
  #asCaptured = 0;

  constructor(dissection: Dissection, options: ReplayOptions) {
    this.#dissection = dissection;
    this.#trace = options.trace ?? (() => {});
    this.#driver = new StackDriver(
      {
        onTcpOpen: (connection) => this.#open(connection),
        onUdpOpen: (flow) => this.#datagrams.open(flow),
      },
      { mtu: mtuOf(dissection), ...options },
    );
    this.#driver.device.receiver = (packet) => this.#hear(packet);
    this.#datagrams = new ReplayedDatagrams(this.#driver, this.#feed);
    for (const conversation of dissection.conversations) {
      const script = serverScript(conversation);
      const patience = options.patience ?? HOUR;
      this.#streams.push(
        new ReplayedStream(conversation, script, this.#driver, this.#feed, patience),
      );
    }
  }

  run(): ReplayReport {
    this.#plan();
    for (const { at, happen } of this.#due) {
      this.#passTo(at);
      happen();
    }
    while (this.#waiting.size > 0) {
      this.#passTo(Math.min(...[...this.#waiting].map(({ deadline }) => deadline)));
    }
    this.#passTo(this.#driver.time.now() + LINGER);
    const streams = this.#streams.map(streamReport).sort((a, b) => a.frame - b.frame);
    this.#end();
    const { packets, notIp } = this.#dissection;
    const { expectedUpstream, upstream, expectedAnswers, answers } = this.#datagrams;
    return {
      streams,
      datagrams: { expectedUpstream, upstream, expectedAnswers, answers },
      packets,
      notIp,
      asCaptured: this.#asCaptured,
      driver: this.#driver,
    };
  }

  // ---- what happens when -----------------------------------------------------------------------

  #plan(): void {
    const { datagrams, refusals, others } = this.#dissection;
    for (const stream of this.#streams) this.#planStream(stream);
    for (const packet of datagrams) this.#planPacket(packet, this.#datagrams.plan(packet));
    for (const { packet, src, dst, reason } of refusals) {
      this.#planPacket(packet, this.#datagrams.planRefusal(src, dst, reason));
    }
    for (const packet of others) this.#planPacket(packet, null);
    this.#due.sort((a, b) => a.order - b.order);
  }

  /** null: the packet is fed as it is. */
  #planPacket(packet: WholePacket, happen: (() => void) | null): void {
    const { order, at } = packet;
    if (happen === null) this.#asCaptured++;
    this.#due.push({ order, at, happen: happen ?? (() => this.#feed(packet.packets)) });
  }

  #planStream(stream: ReplayedStream): void {
    const { client, server, conversation, script } = stream;
    const key = `${endpointKey(client)} ${endpointKey(server)}`;
    for (const p of conversation.packets) {
      if (!p.fromClient) continue;
      const { order, at } = p.packet;
      const happen = (): void => {
        this.#current.set(key, stream);
        stream.take(p);
        this.#run(stream);
      };
      this.#due.push({ order, at, happen });
    }
    for (const act of script.acts) {
      const happen = (): void => {
        stream.takeAct(act);
        this.#run(stream);
      };
      this.#due.push({ order: act.order, at: act.at, happen });
    }
  }

  // ---- time ------------------------------------------------------------------------------------

  /** Lets time pass up to `to`; streams that wait go on as soon as they may. */
  #passTo(to: number): void {
    const { time } = this.#driver;
    for (;;) {
      for (const stream of this.#awake) {
        this.#awake.delete(stream);
        this.#run(stream);
      }
      let limit = to;
      for (const { deadline } of this.#waiting) limit = Math.min(limit, deadline);
      if (this.#driver.runTo(Math.max(limit, time.now()), () => this.#awake.size > 0)) continue;
      for (const stream of this.#waiting) {
        if (stream.deadline > time.now()) continue;
        stream.expire();
        this.#run(stream);
      }
      if (time.now() >= to && this.#awake.size === 0) return;
    }
  }

  #run(stream: ReplayedStream): void {
    stream.run();
    if (stream.isWaiting) this.#waiting.add(stream);
    else this.#waiting.delete(stream);
  }

  /** Ends everything and lets every timer expire. */
  #end(): void {
    for (const stream of this.#streams) stream.end();
    this.#datagrams.end();
    this.#driver.turn();
    this.#driver.drain(DAY);
  }

  // ---- the stack -------------------------------------------------------------------------------

  readonly #feed = (packets: readonly Uint8Array[]): void => {
    for (const bytes of packets) {
      if (bytes.length === 0) continue;
      this.#trace(this.#driver.time.now(), "<", bytes);
      this.#driver.device.inject(bytes);
    }
    this.#driver.turn();
  };

  #open(connection: TcpConnection): TcpHandler | null {
    const key = `${endpointKey(connection.client)} ${endpointKey(connection.target)}`;
    return this.#current.get(key)?.open(connection) ?? null;
  }

  #hear(taken: TakenPacket): void {
    this.#trace(this.#driver.time.now(), ">", taken.bytes);
    const packet = decodePacket(taken.bytes);
    if (packet.faults.length > 0) {
      throw new Error(`the stack sent a packet with bad ${packet.faults.join(", ")}`);
    }
    if (packet.kind === "tcp") {
      const stream = this.#current.get(endsOf(packet));
      stream?.hear(packet);
      if (stream?.isWaiting) this.#awake.add(stream);
    } else if (packet.kind === "icmp") {
      this.#hearIcmp(taken.bytes, packet.version);
    } else {
      for (const bytes of splitSuperSegment(taken)) {
        const whole = this.#assembler.add(bytes, 0, 0, 0);
        if (whole?.protocol === Protocol.UDP) this.#datagrams.hear(whole);
      }
    }
  }

  #hearIcmp(bytes: Uint8Array, version: 4 | 6): void {
    const message = icmpMessage(bytes.subarray(version === 4 ? IPV4_HEADER : IPV6_HEADER), version);
    if (message === null || message.kind !== IcmpKind.ERROR) return;
    const key = `${endpointKey(message.quotedSrc)} ${endpointKey(message.quotedDst)}`;
    const stream = this.#current.get(key);
    if (stream !== undefined) stream.answer ??= "ICMP";
  }
}

/** The ends of a packet of the stack as a key, the client first. */
function endsOf(packet: TcpPacket): string {
  const client = parseAddress(packet.destination) as Endpoint;
  const server = parseAddress(packet.source) as Endpoint;
  client.port = packet.destinationPort;
  server.port = packet.sourcePort;
  return `${endpointKey(client)} ${endpointKey(server)}`;
}

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** After the last packet: delayed acknowledgements, the last octets. */
const LINGER = 1000;
