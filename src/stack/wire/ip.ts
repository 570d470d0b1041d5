/**
 * IPv4 (RFC 791) and IPv6 (RFC 8200) headers: parsed into a reused IpHeader, emitted at an offset.
 *
 * Parsing ends at the upper-layer header, past IPv4 options and at most eight IPv6 extension headers. It
 * never throws: 0, or an IpDrop saying why the packet cannot be used. Of a real fragment the walk ends
 * behind the fragment header; `parseExtensions` goes on after reassembly.
 */

import { Endpoint } from "./address.ts";
import { complement, sumOctets } from "./checksum.ts";
import { read16, read32, write16, write32 } from "./octets.ts";

/** Protocol numbers (IANA "Assigned Internet Protocol Numbers"). */
export const Protocol = {
  HOP_BY_HOP: 0,
  ICMP: 1,
  TCP: 6,
  UDP: 17,
  ROUTING: 43,
  FRAGMENT: 44,
  ICMPV6: 58,
  NO_NEXT_HEADER: 59,
  DESTINATION_OPTIONS: 60,
} as const;

/** Why a packet cannot be used. PARAMETER_PROBLEM, JUMBOGRAM: answer ICMPv6 4/`problemCode` at `problemPointer`. */
export const IpDrop = {
  TRUNCATED: -1,
  BAD_VERSION: -2,
  BAD_HEADER_LENGTH: -3,
  BAD_CHECKSUM: -4,
  BAD_OPTIONS: -5,
  BAD_EXTENSION: -6,
  JUMBOGRAM: -7,
  BAD_SOURCE: -8,
  BAD_DESTINATION: -9,
  PARAMETER_PROBLEM: -10,
} as const;
export type IpDrop = (typeof IpDrop)[keyof typeof IpDrop];

export const IPV4_HEADER = 20;
export const IPV6_HEADER = 40;
export const FRAGMENT_HEADER = 8;
/** What every packet of ours leaves with: nothing beyond the client's own machine routes it. */
export const HOP_LIMIT = 64;
/** The largest IPv4 datagram, and the largest packet a TUN device carries. */
export const MAX_PACKET = 65535;

/** A parsed IP header. Reused: valid until the next parse. Offsets are absolute. */
export class IpHeader {
  /** 4 or 6. */
  version = 0;
  /** Offset of the IP header; -1 for a reassembled datagram, whose header exists only here. */
  start = 0;
  /** Offset of the upper-layer header; of a fragment: of its data. */
  payloadStart = 0;
  /** End of the packet by its own length field; octets behind it are padding. */
  totalEnd = 0;
  /** The upper layer; of an IPv6 fragment the next header of its fragment header. */
  protocol = 0;
  /** IPv6: offset into the packet of the octet that names `protocol`. */
  protocolPointer = 0;
  /** TTL or hop limit. */
  ttl = 0;
  /** TOS or traffic class: DSCP and, in the low two bits, ECN (RFC 3168). */
  trafficClass = 0;
  /** IPv4 identification, or that of the IPv6 fragment header (int32). */
  id = 0;
  dontFragment = false;
  /** Octets. */
  fragmentOffset = 0;
  moreFragments = false;
  /** Ports are 0. */
  readonly src: Endpoint = new Endpoint();
  readonly dst: Endpoint = new Endpoint();
  /** Of PARAMETER_PROBLEM (RFC 4443 §3.4): offset into the packet, and code. */
  problemPointer = 0;
  problemCode = 0;

  /** Octets before the upper-layer header. */
  get headerLength(): number {
    return this.payloadStart - this.start;
  }

  /** False for whole packets and atomic fragments (RFC 6946). */
  get isFragment(): boolean {
    return this.moreFragments || this.fragmentOffset !== 0;
  }
}

/** Parses the packet at [start, end) into `header`. Returns 0 or an {@link IpDrop}. */
export function parseIp(bytes: Uint8Array, start: number, end: number, header: IpHeader): number {
  if (start >= end) return IpDrop.TRUNCATED;
  header.start = start;
  header.fragmentOffset = 0;
  header.moreFragments = false;
  header.version = bytes[start] >> 4;
  if (header.version === 4) return parseIpv4(bytes, start, end, header);
  if (header.version === 6) return parseIpv6(bytes, start, end, header);
  return IpDrop.BAD_VERSION;
}

function parseIpv4(bytes: Uint8Array, start: number, end: number, header: IpHeader): number {
  if (end - start < IPV4_HEADER) return IpDrop.TRUNCATED;
  const headerLength = (bytes[start] & 0xf) << 2;
  const totalLength = read16(bytes, start + 2);
  if (headerLength < IPV4_HEADER || totalLength < headerLength) return IpDrop.BAD_HEADER_LENGTH;
  if (start + totalLength > end) return IpDrop.TRUNCATED;
  if (sumOctets(bytes, start, start + headerLength) !== 0xffff) return IpDrop.BAD_CHECKSUM;
  const fragment = read16(bytes, start + 6);
  header.payloadStart = start + headerLength;
  header.totalEnd = start + totalLength;
  header.trafficClass = bytes[start + 1];
  header.id = read16(bytes, start + 4);
  header.dontFragment = (fragment & 0x4000) !== 0;
  header.moreFragments = (fragment & 0x2000) !== 0;
  header.fragmentOffset = (fragment & 0x1fff) << 3;
  header.ttl = bytes[start + 8];
  header.protocol = bytes[start + 9];
  header.src.set(0, 0, 0xffff, read32(bytes, start + 12), 0);
  header.dst.set(0, 0, 0xffff, read32(bytes, start + 16), 0);
  if (headerLength > IPV4_HEADER) {
    const drop = checkIpv4Options(bytes, start + IPV4_HEADER, header.payloadStart);
    if (drop !== 0) return drop;
  }
  return checkAddresses(header);
}

/** Options are ignored but must be well formed; source routes are refused (RFC 7126 §4.3, §4.4). */
function checkIpv4Options(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end) {
    const type = bytes[at];
    if (type === 0) return 0;
    if (type === 1) {
      at++;
      continue;
    }
    const length = at + 1 < end ? bytes[at + 1] : 0;
    if (length < 2 || at + length > end || type === 131 || type === 137) return IpDrop.BAD_OPTIONS;
    at += length;
  }
  return 0;
}

function parseIpv6(bytes: Uint8Array, start: number, end: number, header: IpHeader): number {
  if (end - start < IPV6_HEADER) return IpDrop.TRUNCATED;
  const payloadLength = read16(bytes, start + 4);
  if (start + IPV6_HEADER + payloadLength > end) return IpDrop.TRUNCATED;
  header.totalEnd = start + IPV6_HEADER + payloadLength;
  header.trafficClass = (read16(bytes, start) >> 4) & 0xff;
  header.id = 0;
  header.dontFragment = true;
  header.ttl = bytes[start + 7];
  const src = header.src;
  const dst = header.dst;
  src.set(read32(bytes, start + 8), read32(bytes, start + 12), read32(bytes, start + 16), 0, 0);
  src.w3 = read32(bytes, start + 20);
  dst.set(read32(bytes, start + 24), read32(bytes, start + 28), read32(bytes, start + 32), 0, 0);
  dst.w3 = read32(bytes, start + 36);
  // A v4-mapped address never belongs on the wire (RFC 4038 §4.2); inside the stack it would mean IPv4.
  if (src.isV4) return IpDrop.BAD_SOURCE;
  if (dst.isV4) return IpDrop.BAD_DESTINATION;
  const drop = parseExtensions(bytes, header, bytes[start + 6], start + IPV6_HEADER);
  return drop !== 0 ? drop : checkAddresses(header);
}

/**
 * Walks the extension headers from `at` (of type `nextHeader`) to the upper layer and sets `protocol` and
 * `payloadStart`. At most eight: RFC 8200 sets no bound, hosts may (RFC 8504 §5.3).
 */
export function parseExtensions(
  bytes: Uint8Array,
  header: IpHeader,
  nextHeader: number,
  at: number,
): number {
  const end = header.totalEnd;
  const first = at;
  // Of a reassembled datagram errors quote a fixed header alone.
  header.protocolPointer = NEXT_HEADER;
  for (let walked = 0; walked <= MAX_EXTENSIONS; walked++) {
    header.protocol = nextHeader;
    header.payloadStart = at;
    if (
      nextHeader !== Protocol.HOP_BY_HOP &&
      nextHeader !== Protocol.DESTINATION_OPTIONS &&
      nextHeader !== Protocol.ROUTING &&
      nextHeader !== Protocol.FRAGMENT
    ) {
      return 0;
    }
    if (end - at < 8) return IpDrop.BAD_EXTENSION;
    if (nextHeader === Protocol.FRAGMENT) {
      // A fragment inside a reassembled datagram is not reassembled again.
      if (header.start < 0) return IpDrop.BAD_EXTENSION;
      const offset = read16(bytes, at + 2);
      header.fragmentOffset = offset & 0xfff8;
      header.moreFragments = (offset & 1) !== 0;
      header.id = read32(bytes, at + 4);
      nextHeader = bytes[at];
      header.protocolPointer = at - header.start;
      at += FRAGMENT_HEADER;
      if (header.isFragment) {
        header.protocol = nextHeader;
        header.payloadStart = at;
        return 0;
      }
      continue;
    }
    const length = (bytes[at + 1] + 1) << 3;
    if (at + length > end) return IpDrop.BAD_EXTENSION;
    if (nextHeader === Protocol.ROUTING) {
      // RFC 8200 §4.4: a route that is used up is skipped; we forward nothing.
      if (bytes[at + 3] !== 0) return problem(header, 0, at + 2);
    } else {
      // Hop-by-hop options come first or not at all (RFC 8200 §4.1).
      if (nextHeader === Protocol.HOP_BY_HOP && (at !== first || header.start < 0)) {
        return problem(header, 1, at);
      }
      const drop = checkIpv6Options(bytes, at + 2, at + length, header);
      if (drop !== 0) return drop;
    }
    nextHeader = bytes[at];
    if (header.start >= 0) header.protocolPointer = at - header.start;
    at += length;
  }
  return IpDrop.BAD_EXTENSION;
}

/** True when the first fragment that `header` describes holds the upper-layer header too (RFC 7112 §5). */
export function holdsUpperLayer(bytes: Uint8Array, header: IpHeader): boolean {
  let next = header.protocol;
  let at = header.payloadStart;
  while (
    next === Protocol.HOP_BY_HOP ||
    next === Protocol.DESTINATION_OPTIONS ||
    next === Protocol.ROUTING
  ) {
    if (header.totalEnd - at < 8) return false;
    next = bytes[at];
    at += (bytes[at + 1] + 1) << 3;
  }
  const upper =
    next === Protocol.TCP ? 20 : next === Protocol.UDP || next === Protocol.ICMPV6 ? 8 : 0;
  return header.totalEnd - at >= upper;
}

/** Unknown options are skipped or refuse the packet as their two highest bits say (RFC 8200 §4.2). */
function checkIpv6Options(bytes: Uint8Array, start: number, end: number, header: IpHeader): number {
  let at = start;
  while (at < end) {
    const type = bytes[at];
    if (type === 0) {
      at++;
      continue;
    }
    if (at + 1 >= end || at + 2 + bytes[at + 1] > end) return IpDrop.BAD_OPTIONS;
    // No TUN carries a jumbogram (RFC 2675 §1): to us its option is as unknown as any other.
    if (type === JUMBO_PAYLOAD) {
      problem(header, 2, at);
      return IpDrop.JUMBOGRAM;
    }
    const action = type >> 6;
    if (action === 1) return IpDrop.BAD_OPTIONS;
    if (action === 2) return problem(header, 2, at);
    if (action === 3) return header.dst.isMulticast ? IpDrop.BAD_OPTIONS : problem(header, 2, at);
    at += 2 + bytes[at + 1];
  }
  return 0;
}

function problem(header: IpHeader, code: number, at: number): number {
  // Of a reassembled datagram there is no packet to point into.
  if (header.start < 0) return IpDrop.BAD_EXTENSION;
  header.problemCode = code;
  header.problemPointer = at - header.start;
  return IpDrop.PARAMETER_PROBLEM;
}

/** Nobody can be answered at a multicast or broadcast source (RFC 1122 §3.2.1.3, RFC 4291 §2.7). */
function checkAddresses(header: IpHeader): number {
  return header.src.isMulticast || header.src.isBroadcast ? IpDrop.BAD_SOURCE : 0;
}

/** Bits of the IPv4 flags-and-offset field. */
export const DONT_FRAGMENT = 0x4000;
export const MORE_FRAGMENTS = 0x2000;

/**
 * Writes the 20-octet IPv4 header with its checksum. `fragment` is the flags-and-offset field, `totalLength`
 * at most 65,535.
 */
export function emitIpv4(
  bytes: Uint8Array,
  at: number,
  src: Endpoint,
  dst: Endpoint,
  protocol: number,
  ttl: number,
  trafficClass: number,
  id: number,
  fragment: number,
  totalLength: number,
): void {
  bytes[at] = 0x45;
  bytes[at + 1] = trafficClass;
  write16(bytes, at + 2, totalLength);
  write16(bytes, at + 4, id);
  write16(bytes, at + 6, fragment);
  bytes[at + 8] = ttl;
  bytes[at + 9] = protocol;
  write16(bytes, at + 10, 0);
  write32(bytes, at + 12, src.w3);
  write32(bytes, at + 16, dst.w3);
  write16(bytes, at + 10, complement(sumOctets(bytes, at, at + IPV4_HEADER)));
}

/** Writes the 40-octet IPv6 header; flow label 0. `payloadLength`: what follows it. */
export function emitIpv6(
  bytes: Uint8Array,
  at: number,
  src: Endpoint,
  dst: Endpoint,
  nextHeader: number,
  hopLimit: number,
  trafficClass: number,
  payloadLength: number,
): void {
  write32(bytes, at, 0x60000000 | (trafficClass << 20));
  write16(bytes, at + 4, payloadLength);
  bytes[at + 6] = nextHeader;
  bytes[at + 7] = hopLimit;
  write32(bytes, at + 8, src.w0);
  write32(bytes, at + 12, src.w1);
  write32(bytes, at + 16, src.w2);
  write32(bytes, at + 20, src.w3);
  write32(bytes, at + 24, dst.w0);
  write32(bytes, at + 28, dst.w1);
  write32(bytes, at + 32, dst.w2);
  write32(bytes, at + 36, dst.w3);
}

/** Octets of the header {@link emitIp} writes. */
export function ipHeaderLength(dst: Endpoint): number {
  return dst.isV4 ? IPV4_HEADER : IPV6_HEADER;
}

/**
 * Writes the header of a whole packet in the family of `dst`, don't-fragment set, hop limit 64, for
 * `length` octets of upper layer. Returns the header's octets (20 or 40). `id` counts in IPv4 only.
 */
export function emitIp(
  bytes: Uint8Array,
  at: number,
  src: Endpoint,
  dst: Endpoint,
  protocol: number,
  trafficClass: number,
  id: number,
  length: number,
): number {
  if (dst.isV4) {
    const total = IPV4_HEADER + length;
    emitIpv4(bytes, at, src, dst, protocol, HOP_LIMIT, trafficClass, id, DONT_FRAGMENT, total);
    return IPV4_HEADER;
  }
  emitIpv6(bytes, at, src, dst, protocol, HOP_LIMIT, trafficClass, length);
  return IPV6_HEADER;
}

const MAX_EXTENSIONS = 8;
const JUMBO_PAYLOAD = 0xc2;
/** Offset of the next-header octet of an IPv6 header. */
const NEXT_HEADER = 6;
