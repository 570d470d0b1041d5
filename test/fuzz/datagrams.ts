/**
 * Datagrams in fragments, in any order, with duplicates, some forged: what is delivered is what was sent, and a
 * datagram that a forged fragment overlapped is not delivered at all (RFC 5722 §3).
 */

import { buildTcp, buildUdp, StackDriver } from "../../src/testing/index.ts";
import type { Dice } from "./dice.ts";
import { fragment } from "./mutation.ts";
import { Finding } from "./observer.ts";
import { look, type PacketView } from "./packet-view.ts";
import { STRAY } from "./world.ts";

interface Datagram {
  readonly text: string;
  readonly fragments: Uint8Array[];
  /** Nothing forged came before it was whole. */
  readonly arrives: boolean;
}

/** One round. @throws Finding, or what the stack throws */
export function runDatagrams(dice: Dice): void {
  const delivered: string[] = [];
  const driver: StackDriver = new StackDriver(
    {
      onUdpOpen: () => ({
        onDatagram: (_target, start, end) => {
          delivered.push(Buffer.from(driver.memory.bytes.subarray(start, end)).toString("hex"));
        },
        onBatchEnd: () => {},
        onClosed: () => {},
      }),
    },
    { pages: 32 << 16 },
  );
  const datagrams = Array.from({ length: dice.between(1, 6) }, (_, id) => datagram(dice, id + 1));
  for (let waiting = datagrams; waiting.length > 0; ) {
    const next = dice.pick(waiting);
    driver.device.queue(next.fragments.shift()!);
    if (dice.chance(0.2)) driver.turn();
    waiting = waiting.filter(({ fragments }) => fragments.length > 0);
  }
  driver.turn();
  const expected = datagrams.filter(({ arrives }) => arrives).map(({ text }) => text);
  if (delivered.sort().join() !== expected.sort().join()) {
    throw new Finding(`${delivered.length} datagrams arrived, ${expected.length} had to`);
  }
  driver.advance(120_000);
  driver.inject(buildTcp(STRAY));
  driver.inject(buildTcp(STRAY));
  const { inUse } = driver.stack.pages;
  if (inUse !== 0) throw new Finding(`${inUse} octets of fragments are left`);
}

function datagram(dice: Dice, id: number): Datagram {
  const v6 = dice.chance(0.5);
  const payload = dice.octets(dice.between(24, 3000));
  const packet = buildUdp({
    source: v6 ? "fd00::2" : "10.0.0.2",
    destination: v6 ? "2001:db8::1" : "198.51.100.1",
    sourcePort: 1000 + id,
    destinationPort: 53,
    payload,
  });
  const at = look(packet)!;
  // Without a checksum nothing but the reassembly protects it.
  if (!v6 && dice.chance(0.5)) at.view.setUint16(at.start + 6, 0);
  const edges = new Set<number>();
  const parts = pieces(dice, packet, at, id, edges);
  for (let i = parts.length - 1; i > 0; i--) {
    const other = dice.below(i + 1);
    [parts[i], parts[other]] = [parts[other]!, parts[i]!];
  }
  const whole = parts.length;
  const fragments = parts.flatMap((part) => (dice.chance(0.2) ? [part, part.slice()] : [part]));
  let arrives = true;
  const forgery = dice.chance(0.5) ? forged(dice, packet, at, id, edges) : null;
  if (forgery !== null) {
    const place = dice.below(fragments.length + 1);
    const before = new Set(
      fragments.slice(0, place).map((part) => Buffer.from(part).toString("hex")),
    );
    arrives = before.size === whole;
    fragments.splice(place, 0, forgery);
  }
  return { text: Buffer.from(payload).toString("hex"), fragments, arrives };
}

/** At least two. `edges` gets where they begin and end. */
function pieces(
  dice: Dice,
  packet: Uint8Array,
  at: PacketView,
  id: number,
  edges: Set<number>,
): Uint8Array[] {
  const base = at.start;
  const octets = at.end - base;
  const result: Uint8Array[] = [];
  for (let from = 0; from < octets; ) {
    const most = Math.floor((octets - 1) / 8);
    const length = Math.min(octets - from, 8 * dice.between(1, Math.min(most, 180)));
    result.push(fragment(packet, at, base, from, length, from, from + length < octets, id));
    edges.add(from);
    from += length;
  }
  edges.add(octets);
  return result;
}

/**
 * Other octets in the place of some; null where they would be just whole pieces: one that comes before what it stands for completes
 * the datagram, and where it has no checksum nobody can tell (RFC 4963 §2).
 */
function forged(
  dice: Dice,
  packet: Uint8Array,
  at: PacketView,
  id: number,
  edges: ReadonlySet<number>,
): Uint8Array | null {
  const units = Math.floor((at.end - at.start - 1) / 8);
  const from = 8 * dice.below(units);
  const length = 8 * dice.between(1, units - from / 8);
  if (edges.has(from) && edges.has(from + length)) return null;
  const other = packet.map((octet) => octet ^ 0x55);
  other.set(packet.subarray(0, at.start));
  return fragment(other, at, at.start, from, length, from, true, id);
}
