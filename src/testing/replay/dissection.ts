/**
 * A capture taken apart for a replay: its streams, its datagrams, the rest; in the order of time.
 */

import type { CapturedPacket } from "../../pcap/captured-packet.ts";
import { ipPayload } from "../../pcap/link-type.ts";
import type { RefuseReason } from "../../stack/ports.ts";
import type { Endpoint } from "../../stack/wire/address.ts";
import { IcmpKind, IcmpMessage, parseIcmp } from "../../stack/wire/icmp.ts";
import { IPV4_HEADER, IPV6_HEADER, IpHeader, Protocol } from "../../stack/wire/ip.ts";
import { ACK, FIN, RST, SYN, TCP_HEADER } from "../../stack/wire/tcp.ts";
import { type Conversation, Conversations } from "./conversation.ts";
import { PacketAssembler, type WholePacket } from "./whole-packet.ts";

export interface Dissection {
  /** Packets of the capture, and those of them that are no IP. */
  readonly packets: number;
  readonly notIp: number;
  readonly conversations: readonly Conversation[];
  readonly datagrams: readonly WholePacket[];
  /** ICMP errors about datagrams. */
  readonly refusals: readonly DatagramRefusal[];
  /** Neither TCP nor UDP nor an error about them. */
  readonly others: readonly WholePacket[];
}

/** A datagram from `src` to `dst` was refused. */
export interface DatagramRefusal {
  readonly packet: WholePacket;
  readonly src: Endpoint;
  readonly dst: Endpoint;
  readonly reason: RefuseReason;
}

/**
 * Takes a capture apart. Time runs by the capture's timestamps; of a gap longer than a day, which a damaged clock
 * leaves, a day passes.
 *
 * Where times go back in the capture its packets were mixed up, or its clock was set: that order is taken in which
 * fewer packets acknowledge what comes behind them.
 */
export function dissect(captured: Iterable<CapturedPacket>): Dissection {
  const asCaptured = timed(captured);
  const sorted = [...asCaptured].sort((a, b) => Number(a.time - b.time) || a.frame - b.frame);
  const inTime = takeApart(sorted);
  if (sorted.every((packet, i) => packet === asCaptured[i])) return inTime;
  const inOrder = takeApart(asCaptured);
  return disorder(inOrder) < disorder(inTime) ? inOrder : inTime;
}

/** The message of ICMP or ICMPv6 in `upper`; null: there are not even eight octets. */
export function icmpMessage(upper: Uint8Array, version: 4 | 6): IcmpMessage | null {
  const message = new IcmpMessage();
  const ip = new IpHeader();
  ip.version = version;
  ip.totalEnd = upper.length;
  return parseIcmp(upper, ip, false, message) === 0 ? message : null;
}

/** An MTU in which every client may send, and be sent, the segments that its SYN asked for; at least 1,500. */
export function mtuOf({ conversations }: Dissection): number {
  let mtu = 1500;
  for (const { client, packets } of conversations) {
    const headers = (client.isV4 ? IPV4_HEADER : IPV6_HEADER) + TCP_HEADER;
    for (const { fromClient, mss } of packets) {
      if (fromClient) mtu = Math.max(mtu, mss + headers);
    }
  }
  return Math.min(mtu, MAX_MTU);
}

interface Timed {
  readonly packet: CapturedPacket;
  /** From 1. */
  readonly frame: number;
  /** Nanoseconds; that of the packet before, or of the first, where the capture has none. */
  readonly time: bigint;
}

function timed(captured: Iterable<CapturedPacket>): Timed[] {
  const packets = [...captured];
  let last = packets.find(({ time }) => time !== null)?.time ?? 0n;
  return packets.map((packet, index) => {
    last = packet.time ?? last;
    return { packet, frame: index + 1, time: last };
  });
}

function takeApart(packets: readonly Timed[]): Dissection {
  const conversations = new Conversations();
  const assembler = new PacketAssembler();
  const datagrams: WholePacket[] = [];
  const refusals: DatagramRefusal[] = [];
  const others: WholePacket[] = [];
  let notIp = 0;
  let at = 0;
  for (const [order, { packet, frame, time }] of packets.entries()) {
    // Differences of whole milliseconds: rounding does not add up.
    const before = packets[Math.max(0, order - 1)].time;
    const gap = Number(time / NANOSECONDS - before / NANOSECONDS);
    at += Math.max(0, Math.min(gap, DAY));
    const ip = ipPayload(packet);
    if (ip === null) notIp++;
    const whole = ip === null ? null : assembler.add(ip, frame, at, order);
    if (whole === null) continue;
    if (whole.protocol === Protocol.UDP) datagrams.push(whole);
    else if (whole.protocol !== Protocol.TCP || !conversations.add(whole)) {
      if (!takeError(whole, conversations, refusals)) others.push(whole);
    }
  }
  others.push(...assembler.rest());
  const all = conversations.all();
  return { packets: packets.length, notIp, conversations: all, datagrams, refusals, others };
}

/** True: an ICMP error about TCP or UDP, which comes from the captured network and is not the client's to send. */
function takeError(
  packet: WholePacket,
  conversations: Conversations,
  refusals: DatagramRefusal[],
): boolean {
  const { protocol, upper } = packet;
  if (protocol !== Protocol.ICMP && protocol !== Protocol.ICMPV6) return false;
  const version = protocol === Protocol.ICMP ? 4 : 6;
  const message = icmpMessage(upper, version);
  if (message === null || message.kind < IcmpKind.ERROR) return false;
  if (message.kind !== IcmpKind.ERROR) return true;
  const reason = REASONS[`${version}/${message.type}/${message.code}`] ?? "host-unreachable";
  const { quotedSrc: src, quotedDst: dst, quotedSeq: seq } = message;
  if (message.quotedProtocol === Protocol.UDP) refusals.push({ packet, src, dst, reason });
  else conversations.refuse(src, dst, { packet, reason, seq });
  return true;
}

/** Packets that acknowledge more than was captured before them. */
function disorder({ conversations }: Dissection): number {
  let count = 0;
  for (const { packets } of conversations) {
    /** Behind the last octet of either side. */
    let client: number | null = null;
    let server: number | null = null;
    for (const { fromClient, flags, seq, ack, payload } of packets) {
      const own: number | null = fromClient ? client : server;
      const other: number | null = fromClient ? server : client;
      if ((flags & (ACK | RST)) === ACK && (other === null || ((ack - other) | 0) > 0)) count++;
      const end = (seq + payload.length + (flags & (SYN | FIN) ? 1 : 0)) | 0;
      const last: number = own === null || ((end - own) | 0) > 0 ? end : own;
      if (fromClient) client = last;
      else server = last;
    }
  }
  return count;
}

/** What ICMP errors (RFC 792, RFC 4443 §3) mean to the relay, by version, type and code. */
const REASONS: Readonly<Record<string, RefuseReason>> = {
  "4/3/0": "net-unreachable",
  "4/3/1": "host-unreachable",
  "4/3/3": "port-unreachable",
  "4/3/9": "prohibited",
  "4/3/10": "prohibited",
  "4/3/13": "prohibited",
  "4/11/0": "ttl-exceeded",
  "6/1/0": "net-unreachable",
  "6/1/1": "prohibited",
  "6/1/3": "host-unreachable",
  "6/1/4": "port-unreachable",
  "6/3/0": "ttl-exceeded",
};

/** In a millisecond. */
const NANOSECONDS = 1_000_000n;
const DAY = 86_400_000;
/** The most a device has. */
const MAX_MTU = 65_535;
