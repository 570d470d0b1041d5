/**
 * Structural damage to packets: fields at their edges, lengths that lie, options that end early, segments cut,
 * moved and overlapping, fragments in any order.
 *
 * A mutated packet is made whole again (see packet-view.ts), so that it gets past the checksums; one in ten is
 * then damaged in one bit, which a checksum always notices (RFC 1071).
 */

import { checksum } from "../../src/testing/index.ts";
import type { Dice } from "./dice.ts";
import { isTcp, look, makeWhole, type PacketView, Proto } from "./packet-view.ts";

/** What `packet` becomes: none, one or several packets. `packet` itself stays as it is. */
export function mutate(dice: Dice, packet: Uint8Array): Uint8Array[] {
  const copy = packet.slice();
  const at = look(copy);
  if (at === null) return [flipBit(dice, copy)];
  let packets: Uint8Array[];
  switch (dice.below(7)) {
    case 0:
      packets = [mutateIp(dice, copy, at)];
      break;
    case 1:
      packets =
        at.protocol === Proto.TCP || at.isFragment ? [copy] : fragments(dice, copy, at, true);
      break;
    case 2:
      packets = at.isFragment ? [copy] : fragments(dice, copy, at, false);
      break;
    case 3:
      packets = [resized(dice, copy, at.v6)];
      break;
    default:
      packets = isTcp(at) ? mutateTcp(dice, copy, at) : [mutateUpper(dice, copy, at)];
  }
  for (const whole of packets) makeWhole(whole);
  // In one only: two bits in two fragments of a datagram may hide each other.
  if (packets.length > 0 && dice.chance(0.1)) flipBit(dice, dice.pick(packets));
  return packets;
}

function flipBit(dice: Dice, packet: Uint8Array): Uint8Array {
  if (packet.length > 0) packet[dice.below(packet.length)]! ^= 1 << dice.below(8);
  return packet;
}

function mutateIp(dice: Dice, packet: Uint8Array, { view, v6 }: PacketView): Uint8Array {
  switch (dice.below(5)) {
    case 0:
      view.setUint16(v6 ? 4 : 2, dice.awkward() & 0xffff);
      break;
    case 1:
      view.setUint8(v6 ? 6 : 9, dice.pick([0, 1, 2, 6, 17, 43, 44, 50, 51, 58, 59, 60, 255]));
      break;
    case 2:
      view.setUint8(v6 ? 7 : 8, dice.below(3));
      break;
    case 3:
      if (v6) packet[8 + dice.below(32)] = dice.pick([0, 1, 0xfe, 0xff, dice.below(256)]);
      else packet[12 + dice.below(8)] = dice.pick([0, 10, 127, 224, 255, dice.below(256)]);
      break;
    default:
      view.setUint8(0, v6 ? 0x60 | dice.below(16) : 0x40 | dice.below(16));
      view.setUint8(1, dice.below(256));
  }
  return packet;
}

/** Shorter or longer than its headers say, or with headers that say so too. */
function resized(dice: Dice, packet: Uint8Array, v6: boolean): Uint8Array {
  const length = dice.chance(0.7)
    ? dice.between(1, packet.length)
    : packet.length + dice.between(1, 600);
  const result = new Uint8Array(length);
  result.set(packet.subarray(0, length));
  if (length < 20 || dice.chance(0.3)) return result;
  const total = v6 ? Math.max(0, length - 40) : length;
  new DataView(result.buffer).setUint16(v6 ? 4 : 2, total & 0xffff);
  return result;
}

function mutateUpper(dice: Dice, packet: Uint8Array, at: PacketView): Uint8Array {
  const octets = at.end - at.start;
  if (octets < 8) return flipBit(dice, packet);
  if (dice.chance(0.5)) {
    at.view.setUint16(at.start + 2 * dice.below(4), dice.awkward() & 0xffff);
  } else {
    for (let n = dice.between(1, 4); n > 0; n--)
      packet[at.start + dice.below(octets)] = dice.awkward();
  }
  return packet;
}

function mutateTcp(dice: Dice, packet: Uint8Array, at: PacketView): Uint8Array[] {
  const { view, start } = at;
  switch (dice.below(9)) {
    case 0:
      shift(dice, view, start + 4);
      break;
    case 1:
      shift(dice, view, start + 8);
      break;
    case 2:
      view.setUint8(start + 13, dice.chance(0.5) ? 0x10 ^ (1 << dice.below(8)) : dice.below(256));
      break;
    case 3:
      view.setUint16(start + 14, dice.awkward() & 0xffff);
      break;
    case 4:
      view.setUint8(start + 12, (dice.below(16) << 4) | dice.below(16));
      break;
    case 5:
    case 6:
      return [withOptions(packet, at, mutatedOptions(dice, packet, at))];
    case 7:
      return overlapping(dice, packet, at);
    default:
      view.setUint16(start + 18, dice.awkward() & 0xffff);
      view.setUint8(start + 13, view.getUint8(start + 13) | 0x20);
  }
  return [packet];
}

/** A little, a window or half the space to the left or to the right. */
function shift(dice: Dice, view: DataView, at: number): void {
  const sign = dice.chance(0.5) ? 1 : -1;
  const by = dice.chance(0.6) ? dice.between(1, 3000) : dice.awkward();
  view.setUint32(at, (view.getUint32(at) + sign * by) >>> 0);
}

function mutatedOptions(dice: Dice, packet: Uint8Array, { view, start }: PacketView): Uint8Array {
  const header = (view.getUint8(start + 12) >> 4) * 4;
  const options = packet.slice(start + 20, start + header);
  if (options.length > 0 && dice.chance(0.4)) {
    options[dice.below(options.length)] = dice.awkward();
    return options;
  }
  const list: number[] = [];
  for (let n = dice.between(1, 4); n > 0; n--) {
    const kind = dice.pick([0, 1, 2, 3, 4, 5, 8, 19, 28, 34, 253, dice.below(256)]);
    const usual = { 2: 4, 3: 3, 4: 2, 5: 2 + 8 * dice.between(1, 4), 8: 10 }[kind] ?? dice.below(8);
    list.push(kind);
    if (kind < 2) continue;
    const length = dice.chance(0.8) ? usual : dice.below(256);
    list.push(length);
    const near = kind === 5 ? [start + 4, start + 8] : [];
    for (let i = 2; i < length && list.length < 40; i += 4) {
      // Blocks near what both sides have seen are the ones that matter.
      const base =
        near.length > 0 ? view.getUint32(dice.pick(near)) + dice.between(-2000, 6000) : 0;
      const word = near.length > 0 ? base >>> 0 : dice.awkward();
      list.push(word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255);
    }
  }
  return Uint8Array.from(list.slice(0, 40));
}

/** `packet` with other options, padded, all lengths right. */
function withOptions(
  packet: Uint8Array,
  { view, v6, start, end }: PacketView,
  options: Uint8Array,
): Uint8Array {
  const before = start + (view.getUint8(start + 12) >> 4) * 4;
  const header = 20 + Math.ceil(options.length / 4) * 4;
  const result = new Uint8Array(start + header + end - before);
  result.set(packet.subarray(0, start + 20));
  result.set(options, start + 20);
  result.set(packet.subarray(before, end), start + header);
  const out = new DataView(result.buffer);
  out.setUint8(start + 12, (header / 4) << 4);
  out.setUint16(v6 ? 4 : 2, v6 ? result.length - 40 : result.length);
  return result;
}

/** Several segments that cover the same octets in other cuts. */
function overlapping(dice: Dice, packet: Uint8Array, at: PacketView): Uint8Array[] {
  const header = (at.view.getUint8(at.start + 12) >> 4) * 4;
  const payload = at.end - at.start - header;
  const packets: Uint8Array[] = [];
  for (let n = dice.between(2, 5); n > 0; n--) {
    const from = dice.between(-20, Math.max(0, payload));
    const length = dice.between(0, Math.max(1, Math.min(1400, payload - from + 20)));
    const part = new Uint8Array(at.start + header + length);
    part.set(packet.subarray(0, at.start + header));
    const view = new DataView(part.buffer);
    view.setUint32(at.start + 4, (at.view.getUint32(at.start + 4) + from) >>> 0);
    view.setUint16(at.v6 ? 4 : 2, at.v6 ? part.length - 40 : part.length);
    packets.push(part);
  }
  return packets;
}

/** `packet` in fragments; `damaged`: some overlap, lie or are missing. Anyhow in any order. */
export function fragments(
  dice: Dice,
  packet: Uint8Array,
  at: PacketView,
  damaged: boolean,
): Uint8Array[] {
  const base = at.v6 ? 40 : at.start;
  const octets = at.end - base;
  makeWhole(packet);
  const cut = 8 * dice.between(1, Math.max(1, Math.ceil(octets / 16)));
  const id = dice.below(65536);
  const result: Uint8Array[] = [];
  for (let from = 0; from < octets && result.length < 12; ) {
    const to = Math.min(octets, from + cut);
    let offset = from;
    let more = to < octets;
    if (damaged && dice.chance(0.2)) offset = 8 * dice.below(8192);
    if (damaged && dice.chance(0.2)) more = !more;
    const length = damaged && dice.chance(0.2) ? dice.between(0, to - from) : to - from;
    result.push(fragment(packet, at, base, from, length, offset, more, id));
    if (dice.chance(0.1)) result.push(result.at(-1)!.slice());
    from = to;
  }
  for (let i = result.length - 1; i > 0 && dice.chance(0.7); i--) {
    const other = dice.below(i + 1);
    [result[i], result[other]] = [result[other]!, result[i]!];
  }
  if (dice.chance(0.2)) result.pop();
  return result;
}

/** The fragment of `packet` with `length` octets from `from` behind the header at `base`, which says `offset`. */
export function fragment(
  packet: Uint8Array,
  at: PacketView,
  base: number,
  from: number,
  length: number,
  offset: number,
  more: boolean,
  id: number,
): Uint8Array {
  const extra = at.v6 ? 8 : 0;
  const result = new Uint8Array(base + extra + length);
  result.set(packet.subarray(0, base));
  result.set(packet.subarray(base + from, base + from + length), base + extra);
  const view = new DataView(result.buffer);
  if (at.v6) {
    view.setUint16(4, result.length - 40);
    view.setUint8(40, packet[6]!);
    view.setUint8(6, 44);
    view.setUint16(42, (offset & 0xfff8) | (more ? 1 : 0));
    view.setUint32(44, id);
  } else {
    view.setUint16(2, result.length);
    view.setUint16(4, id);
    view.setUint16(6, (offset >> 3) | (more ? 0x2000 : 0));
    view.setUint16(10, 0);
    view.setUint16(10, checksum(result.subarray(0, base)));
  }
  return result;
}
