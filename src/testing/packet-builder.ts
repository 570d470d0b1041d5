/**
 * Packets for tests: an encoder and a decoder of whole IPv4/IPv6 packets with TCP, UDP and ICMP.
 *
 * Deliberately naive, written from the RFCs (791, 8200, 9293, 7323, 2018, 768, 792, 4443) and sharing
 * no line with src/stack/wire: it is the oracle the stack's own codec is judged by. Everything is copied,
 * nothing is fast. Encoding always writes whole checksums; decoding verifies every one of them.
 */

/** Control bits of the TCP header (RFC 9293 §3.1, RFC 3168 §6.1). */
export const TcpFlag = {
  FIN: 0x01,
  SYN: 0x02,
  RST: 0x04,
  PSH: 0x08,
  ACK: 0x10,
  URG: 0x20,
  ECE: 0x40,
  CWR: 0x80,
} as const;

/** A TCP option as the text of a drill writes it; SACK edges and timestamps are unsigned. */
export type TcpOption =
  | { readonly kind: "mss"; readonly value: number }
  | { readonly kind: "wscale"; readonly value: number }
  | { readonly kind: "sackOK" }
  | { readonly kind: "sack"; readonly blocks: ReadonlyArray<readonly [number, number]> }
  | { readonly kind: "TS"; readonly value: number; readonly echo: number }
  | { readonly kind: "nop" }
  | { readonly kind: "eol" }
  | { readonly kind: "raw"; readonly type: number; readonly data: Uint8Array };

/** Source and destination in text form; both IPv4 or both IPv6. */
export interface IpFields {
  readonly source: string;
  readonly destination: string;
  /** TTL or hop limit, 64 by default. */
  readonly ttl?: number;
  /** IPv4 identification. */
  readonly id?: number;
  /** TOS or traffic class. */
  readonly trafficClass?: number;
}

export interface TcpFields extends IpFields {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly seq: number;
  readonly ack?: number;
  /** Bits of {@link TcpFlag}. */
  readonly flags: number;
  /** The 16-bit field as on the wire. */
  readonly window?: number;
  readonly urgent?: number;
  readonly options?: readonly TcpOption[];
  readonly payload?: Uint8Array;
}

export interface UdpFields extends IpFields {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Uint8Array;
}

export interface IcmpFields extends IpFields {
  readonly type: number;
  readonly code: number;
  /** The second header word (identifier and sequence, MTU, pointer). */
  readonly rest?: number;
  /** What follows the eight header octets. */
  readonly body: Uint8Array;
}

interface DecodedIp {
  readonly version: 4 | 6;
  readonly source: string;
  readonly destination: string;
  readonly ttl: number;
  readonly id: number;
  readonly trafficClass: number;
  readonly protocol: number;
  /** Empty when every length and checksum is right. */
  readonly faults: readonly string[];
}

export interface TcpPacket extends DecodedIp {
  readonly kind: "tcp";
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly window: number;
  readonly urgent: number;
  readonly options: readonly TcpOption[];
  readonly payload: Uint8Array;
}

export interface UdpPacket extends DecodedIp {
  readonly kind: "udp";
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Uint8Array;
}

export interface IcmpPacket extends DecodedIp {
  readonly kind: "icmp";
  readonly type: number;
  readonly code: number;
  readonly rest: number;
  readonly body: Uint8Array;
}

/** A fragment, or a protocol this file does not know. */
export interface OtherPacket extends DecodedIp {
  readonly kind: "other";
  readonly payload: Uint8Array;
}

export type DecodedPacket = TcpPacket | UdpPacket | IcmpPacket | OtherPacket;

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMPV6 = 58;

/** A whole TCP packet (RFC 9293 §3.1). Options are padded with zeros to a multiple of four. */
export function buildTcp(fields: TcpFields): Uint8Array {
  const options = encodeOptions(fields.options ?? []);
  const payload = fields.payload ?? new Uint8Array(0);
  const segment = new Uint8Array(20 + options.length + payload.length);
  const view = new DataView(segment.buffer);
  view.setUint16(0, fields.sourcePort);
  view.setUint16(2, fields.destinationPort);
  view.setUint32(4, fields.seq);
  view.setUint32(8, fields.ack ?? 0);
  view.setUint8(12, ((20 + options.length) / 4) << 4);
  view.setUint8(13, fields.flags);
  view.setUint16(14, fields.window ?? 65535);
  view.setUint16(18, fields.urgent ?? 0);
  segment.set(options, 20);
  segment.set(payload, 20 + options.length);
  view.setUint16(16, transportChecksum(fields.source, fields.destination, TCP, segment));
  return buildIp(fields, TCP, segment);
}

/** A whole UDP packet (RFC 768); a checksum of zero is sent as ones. */
export function buildUdp(fields: UdpFields): Uint8Array {
  const datagram = new Uint8Array(8 + fields.payload.length);
  const view = new DataView(datagram.buffer);
  view.setUint16(0, fields.sourcePort);
  view.setUint16(2, fields.destinationPort);
  view.setUint16(4, datagram.length);
  datagram.set(fields.payload, 8);
  view.setUint16(6, transportChecksum(fields.source, fields.destination, UDP, datagram) || 0xffff);
  return buildIp(fields, UDP, datagram);
}

/** A whole ICMP (RFC 792) or ICMPv6 (RFC 4443) packet, as the addresses say. */
export function buildIcmp(fields: IcmpFields): Uint8Array {
  const v6 = fields.source.includes(":");
  const message = new Uint8Array(8 + fields.body.length);
  const view = new DataView(message.buffer);
  view.setUint8(0, fields.type);
  view.setUint8(1, fields.code);
  view.setUint32(4, fields.rest ?? 0);
  message.set(fields.body, 8);
  const sum = v6
    ? transportChecksum(fields.source, fields.destination, ICMPV6, message)
    : checksum(message);
  view.setUint16(2, sum);
  return buildIp(fields, v6 ? ICMPV6 : ICMP, message);
}

/** An IP header without options (RFC 791 §3.1) or extension headers (RFC 8200 §3) before `payload`. */
export function buildIp(fields: IpFields, protocol: number, payload: Uint8Array): Uint8Array {
  const source = addressOctets(fields.source);
  const destination = addressOctets(fields.destination);
  const header = source.length === 4 ? 20 : 40;
  const packet = new Uint8Array(header + payload.length);
  const view = new DataView(packet.buffer);
  packet.set(payload, header);
  if (header === 20) {
    view.setUint8(0, 0x45);
    view.setUint8(1, fields.trafficClass ?? 0);
    view.setUint16(2, packet.length);
    view.setUint16(4, fields.id ?? 0);
    view.setUint16(6, 0x4000);
    view.setUint8(8, fields.ttl ?? 64);
    view.setUint8(9, protocol);
    packet.set(source, 12);
    packet.set(destination, 16);
    view.setUint16(10, checksum(packet.subarray(0, 20)));
  } else {
    view.setUint32(0, 0x60000000 | ((fields.trafficClass ?? 0) << 20));
    view.setUint16(4, payload.length);
    view.setUint8(6, protocol);
    view.setUint8(7, fields.ttl ?? 64);
    packet.set(source, 8);
    packet.set(destination, 24);
  }
  return packet;
}

/**
 * Reads a packet and verifies every length and checksum; what is wrong stands in `faults`.
 *
 * @throws Error when not even the IP header can be read.
 */
export function decodePacket(packet: Uint8Array): DecodedPacket {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const version = view.getUint8(0) >> 4;
  if (version !== 4 && version !== 6) throw new Error(`IP version ${version}`);
  const faults: string[] = [];
  const header = version === 4 ? (view.getUint8(0) & 15) * 4 : 40;
  const v6 = version === 6;
  const total = v6 ? 40 + view.getUint16(4) : view.getUint16(2);
  if (total !== packet.length) faults.push(`IP length ${total} of ${packet.length} octets`);
  if (!v6 && checksum(packet.subarray(0, header)) !== 0) faults.push("IPv4 header checksum");
  const fragment = !v6 && (view.getUint16(6) & 0x3fff) !== 0;
  const ip: DecodedIp = {
    version,
    source: addressText(v6 ? packet.subarray(8, 24) : packet.subarray(12, 16)),
    destination: addressText(v6 ? packet.subarray(24, 40) : packet.subarray(16, 20)),
    ttl: view.getUint8(v6 ? 7 : 8),
    id: v6 ? 0 : view.getUint16(4),
    trafficClass: v6 ? (view.getUint16(0) >> 4) & 0xff : view.getUint8(1),
    protocol: view.getUint8(v6 ? 6 : 9),
    faults,
  };
  const body = packet.slice(header, total);
  if (fragment) return { ...ip, kind: "other", payload: body };
  if (ip.protocol === TCP) return decodeTcp(ip, body, faults);
  if (ip.protocol === UDP) return decodeUdp(ip, body, faults);
  if (ip.protocol === (v6 ? ICMPV6 : ICMP)) return decodeIcmp(ip, body, faults);
  return { ...ip, kind: "other", payload: body };
}

function decodeTcp(ip: DecodedIp, segment: Uint8Array, faults: string[]): TcpPacket {
  const view = new DataView(segment.buffer);
  const header = (view.getUint8(12) >> 4) * 4;
  if (header < 20 || header > segment.length) faults.push(`TCP data offset ${header}`);
  if (transportChecksum(ip.source, ip.destination, TCP, segment) !== 0) faults.push("TCP checksum");
  return {
    ...ip,
    kind: "tcp",
    sourcePort: view.getUint16(0),
    destinationPort: view.getUint16(2),
    seq: view.getUint32(4),
    ack: view.getUint32(8),
    flags: view.getUint8(13),
    window: view.getUint16(14),
    urgent: view.getUint16(18),
    options: decodeOptions(segment.subarray(20, header), faults),
    payload: segment.slice(header),
  };
}

function decodeUdp(ip: DecodedIp, datagram: Uint8Array, faults: string[]): UdpPacket {
  const view = new DataView(datagram.buffer);
  if (view.getUint16(4) !== datagram.length) faults.push(`UDP length ${view.getUint16(4)}`);
  const field = view.getUint16(6);
  if (field === 0 && ip.version === 6) faults.push("UDP checksum zero over IPv6");
  if (field !== 0 && transportChecksum(ip.source, ip.destination, UDP, datagram) !== 0) {
    faults.push("UDP checksum");
  }
  return {
    ...ip,
    kind: "udp",
    sourcePort: view.getUint16(0),
    destinationPort: view.getUint16(2),
    payload: datagram.slice(8),
  };
}

function decodeIcmp(ip: DecodedIp, message: Uint8Array, faults: string[]): IcmpPacket {
  const view = new DataView(message.buffer);
  const sum =
    ip.version === 6
      ? transportChecksum(ip.source, ip.destination, ICMPV6, message)
      : checksum(message);
  if (sum !== 0) faults.push("ICMP checksum");
  return {
    ...ip,
    kind: "icmp",
    type: view.getUint8(0),
    code: view.getUint8(1),
    rest: view.getUint32(4),
    body: message.slice(8),
  };
}

function encodeOptions(options: readonly TcpOption[]): Uint8Array {
  const octets: number[] = [];
  const word = (value: number): void => {
    octets.push((value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
  };
  for (const option of options) {
    if (option.kind === "eol") octets.push(0);
    else if (option.kind === "nop") octets.push(1);
    else if (option.kind === "mss") octets.push(2, 4, option.value >> 8, option.value & 255);
    else if (option.kind === "wscale") octets.push(3, 3, option.value);
    else if (option.kind === "sackOK") octets.push(4, 2);
    else if (option.kind === "raw")
      octets.push(option.type, option.data.length + 2, ...option.data);
    else if (option.kind === "TS") {
      octets.push(8, 10);
      word(option.value);
      word(option.echo);
    } else {
      octets.push(5, 2 + 8 * option.blocks.length);
      for (const [left, right] of option.blocks) {
        word(left);
        word(right);
      }
    }
  }
  while (octets.length % 4 !== 0) octets.push(0);
  if (octets.length > 40) throw new Error(`${octets.length} octets of TCP options`);
  return Uint8Array.from(octets);
}

function decodeOptions(octets: Uint8Array, faults: string[]): TcpOption[] {
  const options: TcpOption[] = [];
  const view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
  for (let at = 0; at < octets.length; ) {
    const type = octets[at]!;
    if (type === 0) break;
    if (type === 1) {
      options.push({ kind: "nop" });
      at++;
      continue;
    }
    const length = octets[at + 1] ?? 0;
    if (length < 2 || at + length > octets.length) {
      faults.push(`TCP option ${type} of length ${length}`);
      break;
    }
    if (type === 2) options.push({ kind: "mss", value: view.getUint16(at + 2) });
    else if (type === 3) options.push({ kind: "wscale", value: octets[at + 2]! });
    else if (type === 4) options.push({ kind: "sackOK" });
    else if (type === 8) {
      options.push({ kind: "TS", value: view.getUint32(at + 2), echo: view.getUint32(at + 6) });
    } else if (type === 5) {
      const blocks: [number, number][] = [];
      for (let b = at + 2; b < at + length; b += 8) {
        blocks.push([view.getUint32(b), view.getUint32(b + 4)]);
      }
      options.push({ kind: "sack", blocks });
    } else options.push({ kind: "raw", type, data: octets.slice(at + 2, at + length) });
    at += length;
  }
  return options;
}

/** The Internet checksum (RFC 1071): 0 over octets that contain their own right checksum. */
export function checksum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  let odd = false;
  for (const part of parts) {
    for (const octet of part) {
      sum += odd ? octet : octet * 256;
      odd = !odd;
    }
  }
  while (sum > 0xffff) sum = Math.floor(sum / 65536) + (sum % 65536);
  return 0xffff - sum;
}

/** The checksum over pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1) and segment. */
export function transportChecksum(
  source: string,
  destination: string,
  protocol: number,
  segment: Uint8Array,
): number {
  const tail = new Uint8Array(8);
  new DataView(tail.buffer).setUint32(0, segment.length);
  tail[7] = protocol;
  return checksum(addressOctets(source), addressOctets(destination), tail, segment);
}

/** "10.0.0.2" → 4 octets, "fd00::2" → 16 octets (RFC 4291 §2.2). */
export function addressOctets(text: string): Uint8Array {
  if (!text.includes(":")) return Uint8Array.from(text.split(".").map(Number));
  const [head = "", tail] = text.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? [] : Array(8 - left.length - right.length).fill("0");
  const groups = [...left, ...zeros, ...right].map((group) => Number.parseInt(group, 16));
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255]));
}

/** The text form of 4 or 16 octets; IPv6 as RFC 5952 §4 has it. */
export function addressText(octets: Uint8Array): string {
  if (octets.length === 4) return [...octets].join(".");
  const groups: string[] = [];
  for (let at = 0; at < 16; at += 2) {
    groups.push(((octets[at]! << 8) | octets[at + 1]!).toString(16));
  }
  const runs = groups.join(":").match(/(?<![^:])0(:0)+(?![^:])/g) ?? [];
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), "");
  if (longest === "") return groups.join(":");
  const joined = groups.join(":");
  const at = joined.search(new RegExp(`(?<![^:])${longest}(?![^:])`));
  const left = joined.slice(0, at).replace(/:$/, "");
  return `${left}::${joined.slice(at + longest.length).replace(/^:/, "")}`;
}
