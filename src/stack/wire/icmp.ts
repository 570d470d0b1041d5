/**
 * ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, and errors with the packet they quote.
 */

import { Endpoint } from "./address.ts";
import { complement, pseudoHeaderSum, sumOctets } from "./checksum.ts";
import { IPV4_HEADER, IPV6_HEADER, type IpHeader, Protocol } from "./ip.ts";
import { read16, read32, write16, write32 } from "./octets.ts";

export const ICMP_HEADER = 8;

/** Types of ICMP. */
export const IcmpType = {
  ECHO_REPLY: 0,
  DESTINATION_UNREACHABLE: 3,
  SOURCE_QUENCH: 4,
  REDIRECT: 5,
  ECHO: 8,
  TIME_EXCEEDED: 11,
  PARAMETER_PROBLEM: 12,
} as const;

/** Types of ICMPv6; errors are below 128. */
export const Icmpv6Type = {
  DESTINATION_UNREACHABLE: 1,
  PACKET_TOO_BIG: 2,
  TIME_EXCEEDED: 3,
  PARAMETER_PROBLEM: 4,
  ECHO_REQUEST: 128,
  ECHO_REPLY: 129,
} as const;

/** What a message is, whatever its family. */
export const IcmpKind = {
  /** Neither echo request nor an error we could relate to a flow. */
  OTHER: 0,
  ECHO: 1,
  /** Destination unreachable, time exceeded, parameter problem. */
  ERROR: 2,
  /** Fragmentation needed, packet too big: `mtu` is set. */
  TOO_BIG: 3,
} as const;
export type IcmpKind = (typeof IcmpKind)[keyof typeof IcmpKind];

export const IcmpDrop = { TRUNCATED: -1, BAD_CHECKSUM: -2 } as const;

/** A parsed message. Reused: valid until the next parse. */
export class IcmpMessage {
  kind: IcmpKind = IcmpKind.OTHER;
  type = 0;
  code = 0;
  /** The second word of the header: echo identifier and sequence number, pointer, … (int32). */
  rest = 0;
  /** Of TOO_BIG; an old router's 0 stands as it came (RFC 1191 §3). */
  mtu = 0;
  /** Of the quoted packet: TCP or UDP. */
  quotedProtocol = 0;
  /** Its source and destination with ports: the sender was us when the source is a target. */
  readonly quotedSrc: Endpoint = new Endpoint();
  readonly quotedDst: Endpoint = new Endpoint();
  /** TCP sequence number of the quoted segment (RFC 5927 §4.1). */
  quotedSeq = 0;
}

/**
 * Parses the message of `ip` ([payloadStart, totalEnd)), its checksum too when `verify` is set. An error that
 * quotes too little, a later fragment or neither TCP nor UDP is OTHER. Returns 0 or an {@link IcmpDrop}.
 */
export function parseIcmp(
  bytes: Uint8Array,
  ip: IpHeader,
  verify: boolean,
  message: IcmpMessage,
): number {
  const start = ip.payloadStart;
  const end = ip.totalEnd;
  if (end - start < ICMP_HEADER) return IcmpDrop.TRUNCATED;
  const v6 = ip.version === 6;
  if (verify) {
    const initial = v6 ? pseudoHeaderSum(ip.src, ip.dst, Protocol.ICMPV6, end - start) : 0;
    if (sumOctets(bytes, start, end, initial) !== 0xffff) return IcmpDrop.BAD_CHECKSUM;
  }
  message.type = bytes[start];
  message.code = bytes[start + 1];
  message.rest = read32(bytes, start + 4);
  message.mtu = 0;
  message.kind = v6 ? kindOfIcmpv6(message) : kindOfIcmp(message);
  if (message.kind >= IcmpKind.ERROR) {
    const quoted = v6
      ? parseQuote6(bytes, start + ICMP_HEADER, end, message)
      : parseQuote4(bytes, start + ICMP_HEADER, end, message);
    if (!quoted) message.kind = IcmpKind.OTHER;
  }
  return 0;
}

function kindOfIcmp(message: IcmpMessage): IcmpKind {
  switch (message.type) {
    case IcmpType.ECHO:
      return message.code === 0 ? IcmpKind.ECHO : IcmpKind.OTHER;
    case IcmpType.DESTINATION_UNREACHABLE:
      if (message.code !== FRAGMENTATION_NEEDED) return IcmpKind.ERROR;
      message.mtu = message.rest & 0xffff;
      return IcmpKind.TOO_BIG;
    case IcmpType.TIME_EXCEEDED:
    case IcmpType.PARAMETER_PROBLEM:
      return IcmpKind.ERROR;
    default:
      return IcmpKind.OTHER;
  }
}

function kindOfIcmpv6(message: IcmpMessage): IcmpKind {
  switch (message.type) {
    case Icmpv6Type.ECHO_REQUEST:
      return message.code === 0 ? IcmpKind.ECHO : IcmpKind.OTHER;
    case Icmpv6Type.PACKET_TOO_BIG:
      // An int32 below zero is an MTU beyond 2³¹: as good as none.
      message.mtu = message.rest < 0 ? 0x7fffffff : message.rest;
      return IcmpKind.TOO_BIG;
    case Icmpv6Type.DESTINATION_UNREACHABLE:
    case Icmpv6Type.TIME_EXCEEDED:
    case Icmpv6Type.PARAMETER_PROBLEM:
      return IcmpKind.ERROR;
    default:
      return IcmpKind.OTHER;
  }
}

function parseQuote4(bytes: Uint8Array, at: number, end: number, message: IcmpMessage): boolean {
  const headerLength = (bytes[at] & 0xf) << 2;
  if (end - at < IPV4_HEADER || bytes[at] >> 4 !== 4 || headerLength < IPV4_HEADER) return false;
  if ((read16(bytes, at + 6) & 0x1fff) !== 0) return false;
  message.quotedSrc.set(0, 0, 0xffff, read32(bytes, at + 12), 0);
  message.quotedDst.set(0, 0, 0xffff, read32(bytes, at + 16), 0);
  return parseQuotedPorts(bytes, bytes[at + 9], at + headerLength, end, message);
}

function parseQuote6(bytes: Uint8Array, at: number, end: number, message: IcmpMessage): boolean {
  if (end - at < IPV6_HEADER || bytes[at] >> 4 !== 6) return false;
  const src = message.quotedSrc;
  const dst = message.quotedDst;
  src.set(read32(bytes, at + 8), read32(bytes, at + 12), read32(bytes, at + 16), 0, 0);
  src.w3 = read32(bytes, at + 20);
  dst.set(read32(bytes, at + 24), read32(bytes, at + 28), read32(bytes, at + 32), 0, 0);
  dst.w3 = read32(bytes, at + 36);
  // We send no extension header but the fragment header, and that only with UDP.
  let protocol = bytes[at + 6];
  let upper = at + IPV6_HEADER;
  if (protocol === Protocol.FRAGMENT && end - upper >= 8) {
    if ((read16(bytes, upper + 2) & 0xfff8) !== 0) return false;
    protocol = bytes[upper];
    upper += 8;
  }
  return parseQuotedPorts(bytes, protocol, upper, end, message);
}

function parseQuotedPorts(
  bytes: Uint8Array,
  protocol: number,
  at: number,
  end: number,
  message: IcmpMessage,
): boolean {
  if (protocol !== Protocol.TCP && protocol !== Protocol.UDP) return false;
  if (end - at < 8) return false;
  message.quotedProtocol = protocol;
  message.quotedSrc.port = read16(bytes, at);
  message.quotedDst.port = read16(bytes, at + 2);
  message.quotedSeq = protocol === Protocol.TCP ? read32(bytes, at + 4) : 0;
  return true;
}

/**
 * Writes type, code and rest, and the checksum over [at, end): the body is in place already. For ICMPv6
 * `pseudoSum` is {@link pseudoHeaderSum}, for ICMP 0.
 */
export function emitIcmp(
  bytes: Uint8Array,
  at: number,
  end: number,
  type: number,
  code: number,
  rest: number,
  pseudoSum: number,
): void {
  bytes[at] = type;
  bytes[at + 1] = code;
  write16(bytes, at + 2, 0);
  write32(bytes, at + 4, rest);
  write16(bytes, at + 2, complement(sumOctets(bytes, at, end, pseudoSum)));
}

/** Code of destination unreachable that carries an MTU (RFC 1191 §4). */
export const FRAGMENTATION_NEEDED = 4;
