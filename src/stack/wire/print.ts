/**
 * A packet as one line of the drill's grammar (packetdrill's notation), for logs, goldens and failures:
 *
 *     S 0:0(0) win 65535 <mss 1460,sackOK,TS val 1 ecr 0,wscale 7>
 *     udp 10.0.0.1:40000 > 1.2.3.4:53 (20)
 *     icmp host-unreachable 1.2.3.4 > 10.0.0.1 (tcp 10.0.0.1:40000 > 1.2.3.4:443)
 *
 * Not for the packet path: it allocates.
 */

import { Endpoint, formatAddress, formatEndpoint } from "./address.ts";
import { IcmpKind, IcmpMessage, parseIcmp } from "./icmp.ts";
import { IpHeader, Protocol, parseIp } from "./ip.ts";
import { read16, read32 } from "./octets.ts";
import { parseUdp, UdpHeader } from "./udp.ts";

/** What a TCP line says; numbers as on the wire or relative, as the caller likes. */
export interface PrintedTcp {
  /** FIN SYN RST PSH ACK URG ECE CWR, bits 0..7 of the header's 14th octet. */
  readonly flags: number;
  readonly seq: number;
  readonly length: number;
  readonly ack: number;
  readonly win: number;
  readonly mss?: number | undefined;
  readonly sackOk?: boolean | undefined;
  readonly tsVal?: number | undefined;
  readonly tsEcr?: number | undefined;
  readonly windowScale?: number | undefined;
  /** Pairs of left and right edge. */
  readonly sack?: readonly number[] | undefined;
}

export interface PrintOptions {
  /** The initial sequence numbers of sender and receiver: numbers are printed relative to them. */
  readonly relative?: { readonly seq: number; readonly ack: number };
  /** Puts `10.0.0.1:40000 > 1.2.3.4:443` before a TCP segment. Default true without `relative`. */
  readonly endpoints?: boolean;
}

/** A TCP segment in the drill's grammar. A pure ACK is `. 1 ack 1 win 512`. */
export function printTcp(segment: PrintedTcp): string {
  let flags = "";
  for (const [mask, letter] of FLAG_LETTERS) if ((segment.flags & mask) !== 0) flags += letter;
  const seq = segment.seq >>> 0;
  const isPureAck = flags === "." && segment.length === 0;
  const range = isPureAck ? `${seq}` : `${seq}:${(seq + segment.length) >>> 0}(${segment.length})`;
  const ack = (segment.flags & ACK) !== 0 ? ` ack ${segment.ack >>> 0}` : "";
  const options: string[] = [];
  if (segment.mss !== undefined) options.push(`mss ${segment.mss}`);
  if (segment.sackOk === true) options.push("sackOK");
  if (segment.tsVal !== undefined && segment.tsEcr !== undefined) {
    options.push(`TS val ${segment.tsVal >>> 0} ecr ${segment.tsEcr >>> 0}`);
  }
  if (segment.windowScale !== undefined) options.push(`wscale ${segment.windowScale}`);
  const sack = segment.sack ?? [];
  if (sack.length > 0) {
    const blocks: string[] = [];
    for (let i = 0; i < sack.length; i += 2) blocks.push(`${sack[i] >>> 0}:${sack[i + 1] >>> 0}`);
    options.push(`sack ${blocks.join(" ")}`);
  }
  const list = options.length > 0 ? ` <${options.join(",")}>` : "";
  return `${flags || "-"} ${range}${ack} win ${segment.win}${list}`;
}

/** One line about the IP packet at [start, end), whatever it holds. */
export function printPacket(
  bytes: Uint8Array,
  start: number,
  end: number,
  options: PrintOptions = {},
): string {
  const ip = new IpHeader();
  const drop = parseIp(bytes, start, end, ip);
  if (drop !== 0) return `malformed ip (${drop}, ${end - start})`;
  const length = ip.totalEnd - ip.payloadStart;
  const addresses = `${formatAddress(ip.src)} > ${formatAddress(ip.dst)}`;
  if (ip.isFragment) {
    const from = ip.fragmentOffset;
    const more = ip.moreFragments ? "+" : "";
    const id = ip.id >>> 0;
    return `fragment ${addresses} id ${id} ${from}:${from + length}(${length})${more}`;
  }
  switch (ip.protocol) {
    case Protocol.TCP:
      return printTcpPacket(bytes, ip, options);
    case Protocol.UDP:
      return printUdpPacket(bytes, ip);
    case Protocol.ICMP:
    case Protocol.ICMPV6:
      return printIcmpPacket(bytes, ip);
    default:
      return `protocol ${ip.protocol} ${addresses} (${length})`;
  }
}

function printTcpPacket(bytes: Uint8Array, ip: IpHeader, options: PrintOptions): string {
  const at = ip.payloadStart;
  const headerLength = (bytes[at + 12] >> 4) << 2;
  if (ip.totalEnd - at < 20 || headerLength < 20 || at + headerLength > ip.totalEnd) {
    return `malformed tcp ${formatAddress(ip.src)} > ${formatAddress(ip.dst)}`;
  }
  const seqBase = options.relative?.seq ?? 0;
  const ackBase = options.relative?.ack ?? 0;
  const line = printTcp({
    flags: bytes[at + 13],
    seq: read32(bytes, at + 4) - seqBase,
    length: ip.totalEnd - at - headerLength,
    ack: read32(bytes, at + 8) - ackBase,
    win: read16(bytes, at + 14),
    ...readOptions(bytes, at + 20, at + headerLength, ackBase),
  });
  if (!(options.endpoints ?? options.relative === undefined)) return line;
  return `${printEnds(ip, read16(bytes, at), read16(bytes, at + 2))} ${line}`;
}

type TcpOptions = Pick<PrintedTcp, "mss" | "sackOk" | "tsVal" | "tsEcr" | "windowScale" | "sack">;

/** The options a line shows; what is malformed ends the list. */
function readOptions(bytes: Uint8Array, start: number, end: number, ackBase: number): TcpOptions {
  const found: { -readonly [K in keyof TcpOptions]: TcpOptions[K] } = {};
  let at = start;
  while (at < end && bytes[at] !== 0) {
    if (bytes[at] === 1) {
      at++;
      continue;
    }
    const length = at + 1 < end ? bytes[at + 1] : 0;
    if (length < 2 || at + length > end) break;
    if (bytes[at] === 2 && length === 4) found.mss = read16(bytes, at + 2);
    if (bytes[at] === 3 && length === 3) found.windowScale = bytes[at + 2];
    if (bytes[at] === 4 && length === 2) found.sackOk = true;
    if (bytes[at] === 5) {
      const edges: number[] = [];
      for (let edge = at + 2; edge + 4 <= at + length; edge += 4) {
        edges.push(read32(bytes, edge) - ackBase);
      }
      found.sack = edges.slice(0, edges.length & ~1);
    }
    if (bytes[at] === 8 && length === 10) {
      found.tsVal = read32(bytes, at + 2);
      found.tsEcr = read32(bytes, at + 6);
    }
    at += length;
  }
  return found;
}

function printUdpPacket(bytes: Uint8Array, ip: IpHeader): string {
  const header = new UdpHeader();
  if (parseUdp(bytes, ip.payloadStart, ip.totalEnd, header) !== 0) {
    return `malformed udp ${formatAddress(ip.src)} > ${formatAddress(ip.dst)}`;
  }
  return `udp ${printEnds(ip, header.srcPort, header.dstPort)} (${header.length - 8})`;
}

function printIcmpPacket(bytes: Uint8Array, ip: IpHeader): string {
  const family = ip.version === 4 ? "icmp" : "icmp6";
  const addresses = `${formatAddress(ip.src)} > ${formatAddress(ip.dst)}`;
  const message = new IcmpMessage();
  const drop = parseIcmp(bytes, ip, true, message);
  if (drop !== 0) return `malformed ${family} ${addresses}`;
  const names = ip.version === 4 ? ICMP_NAMES : ICMPV6_NAMES;
  const key = message.type * 256 + message.code;
  const name = names[key] ?? `type ${message.type} code ${message.code}`;
  const mtu = message.kind === IcmpKind.TOO_BIG ? ` mtu ${message.mtu}` : "";
  if (message.kind < IcmpKind.ERROR) {
    const length = ip.totalEnd - ip.payloadStart - 8;
    return `${family} ${name} ${addresses} (${length})`;
  }
  const protocol = message.quotedProtocol === Protocol.TCP ? "tcp" : "udp";
  const quoted = `${formatEndpoint(message.quotedSrc)} > ${formatEndpoint(message.quotedDst)}`;
  return `${family} ${name}${mtu} ${addresses} (${protocol} ${quoted})`;
}

function printEnds(ip: IpHeader, srcPort: number, dstPort: number): string {
  const src = new Endpoint().copy(ip.src);
  const dst = new Endpoint().copy(ip.dst);
  src.port = srcPort;
  dst.port = dstPort;
  return `${formatEndpoint(src)} > ${formatEndpoint(dst)}`;
}

const ACK = 0x10;
/** In packetdrill's order; ACK is the dot. */
const FLAG_LETTERS: readonly (readonly [number, string])[] = [
  [0x01, "F"],
  [0x02, "S"],
  [0x04, "R"],
  [0x08, "P"],
  [ACK, "."],
  [0x20, "U"],
  [0x40, "E"],
  [0x80, "W"],
];

const ICMP_NAMES: Readonly<Record<number, string>> = {
  0: "echo-reply",
  768: "net-unreachable",
  769: "host-unreachable",
  770: "protocol-unreachable",
  771: "port-unreachable",
  772: "too-big",
  781: "prohibited",
  2048: "echo",
  2816: "ttl-exceeded",
  2817: "reassembly-exceeded",
};

const ICMPV6_NAMES: Readonly<Record<number, string>> = {
  256: "net-unreachable",
  257: "prohibited",
  259: "host-unreachable",
  260: "port-unreachable",
  512: "too-big",
  768: "ttl-exceeded",
  769: "reassembly-exceeded",
  1024: "parameter-problem",
  1025: "next-header-unknown",
  1026: "option-unknown",
  32768: "echo",
  33024: "echo-reply",
};
