/**
 * Link-layer headers of captures, as the tcpdump group's list of LINKTYPE_ values defines them: where IP starts.
 *
 * Ethernet may carry VLAN tags (IEEE 802.1Q, 802.1ad) and PPPoE (RFC 2516); every walk is bounded by the packet.
 */

import { read16, read32 } from "../stack/wire/octets.ts";
import type { CapturedPacket } from "./captured-packet.ts";

/** LINKTYPE_ values that can carry IP here. */
export const LinkType = {
  NULL: 0,
  EN10MB: 1,
  PPP: 9,
  /** DLT_RAW written by systems that did not map it to RAW. */
  RAW_12: 12,
  /** The same of OpenBSD. */
  RAW_14: 14,
  RAW: 101,
  LOOP: 108,
  LINUX_SLL: 113,
  IPV4: 228,
  IPV6: 229,
  LINUX_SLL2: 276,
} as const;

/**
 * The IP packet inside, from its header to the end of the captured frame: padding of the link may follow it, and of
 * a snapped packet the end is missing. A view. null: no IP, or a link type that is not known.
 */
export function ipPayload(packet: CapturedPacket): Uint8Array | null {
  const bytes = packet.bytes;
  switch (packet.linkType) {
    case LinkType.NULL:
    case LinkType.LOOP:
      return ofFamily(bytes);
    case LinkType.EN10MB:
      return ofEtherType(bytes, 12);
    case LinkType.PPP:
      // RFC 1662 §3.1 Address and Control, unless compressed away (RFC 1661 §6.6).
      return ofPppProtocol(bytes, bytes[0] === 0xff && bytes[1] === 0x03 ? 2 : 0);
    case LinkType.RAW_12:
    case LinkType.RAW_14:
    case LinkType.RAW:
      return ofVersion(bytes, 0, 4) ?? ofVersion(bytes, 0, 6);
    case LinkType.LINUX_SLL:
      return ofEtherType(bytes, 14);
    case LinkType.IPV4:
      return ofVersion(bytes, 0, 4);
    case LinkType.IPV6:
      return ofVersion(bytes, 0, 6);
    case LinkType.LINUX_SLL2:
      return bytes.length < 20 ? null : ofProtocol(bytes, read16(bytes, 0), 20);
    default:
      return null;
  }
}

/** What starts at `at`, if that is a header of `version`. */
function ofVersion(bytes: Uint8Array, at: number, version: number): Uint8Array | null {
  return at < bytes.length && bytes[at] >> 4 === version ? bytes.subarray(at) : null;
}

/** Behind the address family of BSD loopbacks: NULL has it in the byte order of the capturing machine. */
function ofFamily(bytes: Uint8Array): Uint8Array | null {
  if (bytes.length < 4) return null;
  const big = read32(bytes, 0);
  const little = bytes[0] | (bytes[1] << 8) | (bytes[2] << 16) | (bytes[3] << 24);
  const family = (big & 0xffff0000) === 0 ? big : little;
  // Some tools write Cisco HDLC headers under NULL, whose second half is the EtherType.
  const etherType = big & 0xffff;
  if (family === AF_INET || etherType === ETHERTYPE_IPV4) return ofVersion(bytes, 4, 4);
  const isIpv6 = AF_INET6.includes(family) || etherType === ETHERTYPE_IPV6;
  return isIpv6 ? ofVersion(bytes, 4, 6) : null;
}

/** Behind an EtherType at `at`. */
function ofEtherType(bytes: Uint8Array, at: number): Uint8Array | null {
  return at + 2 > bytes.length ? null : ofProtocol(bytes, read16(bytes, at), at + 2);
}

function ofProtocol(bytes: Uint8Array, etherType: number, start: number): Uint8Array | null {
  let type = etherType;
  let at = start;
  // Reads outside give 0, which ends the walk.
  while (VLAN_TAGS.includes(type)) {
    type = read16(bytes, at + 2);
    at += 4;
  }
  if (type === ETHERTYPE_IPV4) return ofVersion(bytes, at, 4);
  if (type === ETHERTYPE_IPV6) return ofVersion(bytes, at, 6);
  if (type !== ETHERTYPE_PPPOE || at + PPPOE_HEADER > bytes.length) return null;
  // RFC 2516 §4: the length tells padding of short Ethernet frames apart.
  const payload = at + PPPOE_HEADER;
  return ofPppProtocol(bytes.subarray(payload, payload + read16(bytes, at + 4)), 0);
}

/** Behind a PPP protocol field at `at`, of one octet if that is odd (RFC 1661 §6.5). */
function ofPppProtocol(bytes: Uint8Array, at: number): Uint8Array | null {
  if (at + 2 > bytes.length) return null;
  const isShort = (bytes[at] & 1) !== 0;
  const protocol = isShort ? bytes[at] : read16(bytes, at);
  const next = at + (isShort ? 1 : 2);
  if (protocol === PPP_IPV4) return ofVersion(bytes, next, 4);
  return protocol === PPP_IPV6 ? ofVersion(bytes, next, 6) : null;
}

const AF_INET = 2;
/** Of NetBSD and OpenBSD, FreeBSD, Darwin; Linux. */
const AF_INET6: readonly number[] = [24, 28, 30, 10];
/** Customer and service tags, and the service tag before 802.1ad. */
const VLAN_TAGS: readonly number[] = [0x8100, 0x88a8, 0x9100];
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
/** Session stage. */
const ETHERTYPE_PPPOE = 0x8864;
const PPPOE_HEADER = 6;
const PPP_IPV4 = 0x0021;
const PPP_IPV6 = 0x0057;
