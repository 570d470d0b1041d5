/**
 * IP packets out of classic capture files, as seeds to mutate: as much of the format as that needs.
 */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Octets before the IP header by link type; others are skipped. */
const LINK_HEADER: Readonly<Record<number, number>> = {
  1: 14,
  12: 0,
  14: 0,
  101: 0,
  113: 16,
  228: 0,
  229: 0,
};

/** Up to `most` packets of every .pcap below `directory`, one list a file; none when it is not there. */
export function capturedPackets(directory: string, most: number): Uint8Array[][] {
  if (!existsSync(directory)) return [];
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" }).sort();
  return names
    .filter((name) => name.endsWith(".pcap"))
    .map((name) => packetsOf(readFileSync(join(directory, name)), most))
    .filter((packets) => packets.length > 0);
}

function packetsOf(file: Buffer, most: number): Uint8Array[] {
  if (file.length < 24) return [];
  const view = new DataView(file.buffer, file.byteOffset, file.length);
  const little = [0xa1b2c3d4, 0xa1b23c4d].includes(view.getUint32(0, true));
  if (!little && ![0xa1b2c3d4, 0xa1b23c4d].includes(view.getUint32(0))) return [];
  const skip = LINK_HEADER[view.getUint32(20, little) & 0xffff];
  if (skip === undefined) return [];
  const packets: Uint8Array[] = [];
  for (let at = 24; at + 16 <= file.length && packets.length < most; ) {
    const length = view.getUint32(at + 8, little);
    const start = at + 16 + skip;
    const end = at + 16 + length;
    if (end > file.length || length > 65536) break;
    const version = start < end ? file[start]! >> 4 : 0;
    if (version === 4 || version === 6) packets.push(new Uint8Array(file.subarray(start, end)));
    at = end;
  }
  return packets;
}
