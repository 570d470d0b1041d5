/**
 * Where the headers of a raw packet are, and how to make it whole again after fields were changed.
 *
 * The content of every TCP stream of the fuzzer is a function of the absolute sequence number
 * ({@link streamOctet}): however segments are cut, repeated or moved, right octets can be told from wrong ones.
 */

import { checksum } from "../../src/testing/index.ts";

export const Proto = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58 } as const;

export interface PacketView {
  readonly view: DataView;
  readonly v6: boolean;
  readonly protocol: number;
  /** Where the upper layer begins and ends. */
  readonly start: number;
  readonly end: number;
  readonly isFragment: boolean;
}

/** The octet of a client's stream at sequence number `seq`. */
export function streamOctet(seq: number): number {
  return (seq ^ Math.imul(seq >>> 8, 37) ^ Math.imul(seq >>> 16, 11) ^ (seq >>> 24)) & 255;
}

/** Finds the upper layer; null when the headers do not say where it is. */
export function look(packet: Uint8Array): PacketView | null {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const version = packet.length > 0 ? packet[0]! >> 4 : 0;
  if (version === 4 && packet.length >= 20) {
    const start = (packet[0]! & 15) * 4;
    const end = Math.min(packet.length, view.getUint16(2));
    if (start < 20 || start > end) return null;
    const isFragment = (view.getUint16(6) & 0x3fff) !== 0;
    return { view, v6: false, protocol: packet[9]!, start, end, isFragment };
  }
  if (version !== 6 || packet.length < 40) return null;
  const end = Math.min(packet.length, 40 + view.getUint16(4));
  let protocol = packet[6]!;
  let start = 40;
  let isFragment = false;
  for (let headers = 0; headers < 16 && start + 8 <= end; headers++) {
    if (protocol === 44) isFragment ||= (view.getUint16(start + 2) & 0xfff9) !== 0;
    else if (protocol !== 0 && protocol !== 43 && protocol !== 60) break;
    const length = protocol === 44 ? 8 : 8 + packet[start + 1]! * 8;
    protocol = packet[start]!;
    start += length;
  }
  return start > end ? null : { view, v6: true, protocol, start, end, isFragment };
}

/** Whether a segment with control bits and options stands there. */
export function isTcp(at: PacketView): boolean {
  if (at.protocol !== Proto.TCP || at.isFragment || at.end - at.start < 20) return false;
  const header = (at.view.getUint8(at.start + 12) >> 4) * 4;
  return header >= 20 && header <= at.end - at.start;
}

/** Octets of sequence space a TCP segment covers. */
export function segmentLength(at: PacketView): number {
  const flags = at.view.getUint8(at.start + 13);
  const header = (at.view.getUint8(at.start + 12) >> 4) * 4;
  return at.end - at.start - header + (flags & 1) + ((flags >> 1) & 1);
}

/** Gives a TCP segment the octets its place in the stream demands, and every packet right checksums. In place. */
export function makeWhole(packet: Uint8Array): void {
  const at = look(packet);
  if (at === null) return;
  const { view, start, end } = at;
  if (isTcp(at)) {
    const header = (view.getUint8(start + 12) >> 4) * 4;
    const syn = (view.getUint8(start + 13) >> 1) & 1;
    const first = view.getUint32(start + 4) + syn - start - header;
    for (let o = start + header; o < end; o++) packet[o] = streamOctet((first + o) >>> 0);
  }
  if (!at.isFragment) sumUpper(packet, at);
  if (!at.v6) {
    view.setUint16(10, 0);
    view.setUint16(10, checksum(packet.subarray(0, start)));
  }
}

const CHECKSUM_AT: Readonly<Record<number, number>> = {
  [Proto.TCP]: 16,
  [Proto.UDP]: 6,
  [Proto.ICMP]: 2,
  [Proto.ICMPV6]: 2,
};

function sumUpper(packet: Uint8Array, { view, v6, protocol, start, end }: PacketView): void {
  const place = CHECKSUM_AT[protocol];
  if (place === undefined || start + place + 2 > end) return;
  const octets = end - start;
  const addresses = v6 ? packet.subarray(8, 40) : packet.subarray(12, 20);
  const tail = Uint8Array.of(octets >> 8, octets & 255, 0, protocol);
  view.setUint16(start + place, 0);
  const upper = packet.subarray(start, end);
  const sum = protocol === Proto.ICMP ? checksum(upper) : checksum(addresses, tail, upper);
  view.setUint16(start + place, sum === 0 && protocol === Proto.UDP ? 0xffff : sum);
}
