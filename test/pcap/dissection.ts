/**
 * What our own parsers make of a capture, counted as the ground truth counts it.
 *
 * Snapped packets are filled up with zeros to the length their IP header says, and IPv4 header checksums that the
 * sender left to its device are put right: the parser refuses both, and there is one test that it does.
 */

import type { CapturedPacket } from "../../src/pcap/captured-packet.ts";
import { ipPayload } from "../../src/pcap/link-type.ts";
import { Reassembler } from "../../src/stack/fragments.ts";
import { formatAddress } from "../../src/stack/wire/address.ts";
import { complement, sumOctets } from "../../src/stack/wire/checksum.ts";
import {
  IPV4_HEADER,
  IPV6_HEADER,
  IpDrop,
  IpHeader,
  Protocol,
  parseIp,
} from "../../src/stack/wire/ip.ts";
import { read16, write16 } from "../../src/stack/wire/octets.ts";
import { CWR, ECE, FIN, parseTcp, RST, SYN, TcpSegment, URG } from "../../src/stack/wire/tcp.ts";
import { parseUdp, UdpHeader } from "../../src/stack/wire/udp.ts";
import { Kit } from "../stack/kit.ts";
import { TcpStreams } from "./tcp-streams.ts";

const L4_NAMES: Readonly<Record<number, string>> = {
  1: "icmp",
  2: "igmp",
  6: "tcp",
  17: "udp",
  41: "ip6",
  58: "icmp6",
};

export class Dissection {
  total = 0;
  ip4 = 0;
  ip6 = 0;
  other = 0;
  snapped = 0;
  fragments = 0;
  /** By protocol of the outermost header; keys as the ground truth has them. */
  readonly l4: Record<string, number> = {};
  /** By name of the IpDrop. */
  readonly refused: Record<string, number> = {};
  /** `[src]:port > [dst]:port` → datagrams and octets of payload. */
  readonly flows: Record<string, [number, number]> = {};
  readonly streams: TcpStreams = new TcpStreams();
  /** Segments with a flag or option, and values of two options; keys as the ground truth has them. */
  readonly tcpFlags: Record<string, number> = {};
  readonly tcpOptions: Record<string, number> = {};
  readonly mss: Record<string, number> = {};
  readonly wscale: Record<string, number> = {};
  readonly #kit: Kit = new Kit();
  readonly #reassembler: Reassembler;
  readonly #ip: IpHeader = new IpHeader();
  readonly #udp: UdpHeader = new UdpHeader();
  readonly #tcp: TcpSegment = new TcpSegment();

  constructor() {
    const { memory, pages, wheel, icmp, stats } = this.#kit;
    this.#reassembler = new Reassembler(memory, pages, wheel, icmp, stats);
  }

  get reassembled(): number {
    return this.#kit.stats.fragmentsReassembled;
  }

  add(packet: CapturedPacket): void {
    this.total++;
    if (packet.truncated) this.snapped++;
    const captured = ipPayload(packet);
    if (captured === null) {
      this.other++;
      return;
    }
    if (captured[0] >> 4 === 4) this.ip4++;
    else this.ip6++;
    const ip = this.#ip;
    const end = this.#kit.put(repaired(captured));
    const drop = parseIp(this.#kit.bytes, 0, end, ip);
    if (drop !== 0) {
      count(this.refused, nameOfDrop(drop));
      return;
    }
    count(this.l4, L4_NAMES[ip.protocol] ?? String(ip.protocol));
    if (ip.isFragment) {
      this.fragments++;
      if (!this.#reassembler.input(ip)) return;
    }
    this.#addUpper(ip.start < 0 ? ip.totalEnd : captured.length);
    this.#reassembler.endBatch();
  }

  /** What lies behind `capturedEnd` was filled up. */
  #addUpper(capturedEnd: number): void {
    const ip = this.#ip;
    const bytes = this.#kit.bytes;
    if (ip.protocol === Protocol.UDP) {
      const udp = this.#udp;
      if (parseUdp(bytes, ip.payloadStart, ip.totalEnd, udp) !== 0) return;
      const src = `[${formatAddress(ip.src)}]:${udp.srcPort}`;
      const dst = `[${formatAddress(ip.dst)}]:${udp.dstPort}`;
      this.flows[`${src} > ${dst}`] ??= [0, 0];
      const flow = this.flows[`${src} > ${dst}`];
      flow[0]++;
      flow[1] += udp.length - 8;
    } else if (ip.protocol === Protocol.TCP) {
      const tcp = this.#tcp;
      if (parseTcp(bytes, ip.payloadStart, ip.totalEnd, tcp) !== 0) return;
      this.#countSegment();
      const payload = bytes.slice(tcp.payloadStart, Math.min(tcp.payloadEnd, capturedEnd));
      const src = `[${formatAddress(ip.src)}]:${tcp.srcPort}`;
      const dst = `[${formatAddress(ip.dst)}]:${tcp.dstPort}`;
      this.streams.add(this.total, src, dst, tcp, payload);
    }
  }

  #countSegment(): void {
    const { flags, mss, windowScale, sackPermitted, hasTimestamps, sackCount } = this.#tcp;
    for (const [mask, name] of FLAG_NAMES) if ((flags & mask) !== 0) count(this.tcpFlags, name);
    if (mss > 0) {
      count(this.tcpOptions, "mss");
      count(this.mss, String(mss));
    }
    if (windowScale >= 0) {
      count(this.tcpOptions, "wscale");
      count(this.wscale, String(windowScale));
    }
    if (sackPermitted) count(this.tcpOptions, "sack_perm");
    if (hasTimestamps) count(this.tcpOptions, "timestamps");
    if (sackCount > 0) count(this.tcpOptions, "sack");
  }
}

/** Of what the ground truth counts. */
const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [FIN, "fin"],
  [SYN, "syn"],
  [RST, "reset"],
  [URG, "urg"],
  [ECE, "ece"],
  [CWR, "cwr"],
];

/** A copy that the parser takes, if nothing is wrong but what the capture did to the packet. */
function repaired(captured: Uint8Array): Uint8Array {
  const isV4 = captured[0] >> 4 === 4;
  if (captured.length < (isV4 ? IPV4_HEADER : IPV6_HEADER)) return captured;
  const said = isV4 ? read16(captured, 2) : IPV6_HEADER + read16(captured, 4);
  const packet = new Uint8Array(Math.max(said, captured.length));
  packet.set(captured);
  if (isV4) {
    const headerEnd = (packet[0] & 15) << 2;
    write16(packet, 10, 0);
    write16(packet, 10, complement(sumOctets(packet, 0, headerEnd)));
  }
  return packet;
}

/** Reasons for which the stack would refuse the packets as captured. */
export function refusals(packets: readonly CapturedPacket[]): Record<string, number> {
  const refused: Record<string, number> = {};
  const ip = new IpHeader();
  for (const packet of packets) {
    const bytes = ipPayload(packet);
    if (bytes === null) continue;
    const drop = parseIp(bytes, 0, bytes.length, ip);
    if (drop !== 0) count(refused, nameOfDrop(drop));
  }
  return refused;
}

function nameOfDrop(drop: number): string {
  return Object.entries(IpDrop).find(([, value]) => value === drop)?.[0] ?? String(drop);
}

function count(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1;
}
