import fc from "fast-check";
import { expect, test } from "vitest";
import { Fragmenter } from "../../src/stack/fragmentation.ts";
import { Reassembler } from "../../src/stack/fragments.ts";
import { IpHeader, parseIp } from "../../src/stack/wire/ip.ts";
import { counting, endpoint, fragment, Kit } from "../stack/kit.ts";

const ENDS = [
  [endpoint("10.0.0.1"), endpoint("192.0.2.1")],
  [endpoint("fd00::1"), endpoint("2001:db8::1")],
] as const;

function newReassembler() {
  const kit = new Kit();
  const { memory, pages, wheel, icmp, stats } = kit;
  const reassembler = new Reassembler(memory, pages, wheel, icmp, stats);
  const ip = new IpHeader();
  const input = (packet: Uint8Array): Uint8Array | null => {
    if (parseIp(kit.bytes, 0, kit.put(packet), ip) !== 0) throw new Error("bad packet");
    return reassembler.input(ip) ? kit.bytes.slice(ip.payloadStart, ip.totalEnd) : null;
  };
  return { kit, reassembler, input };
}

/** A body, and its cuts at multiples of eight, in a random order with duplicates. */
const cutBody = fc
  .record({
    length: fc.integer({ min: 9, max: 4000 }),
    cuts: fc.array(fc.nat(499), { minLength: 1, maxLength: 20 }),
    order: fc.array(fc.nat(), { maxLength: 40 }),
    family: fc.nat(1),
  })
  .map(({ length, cuts, order, family }) => {
    const inside = cuts.map((cut) => cut * 8).filter((cut) => cut > 0 && cut < length);
    const edges = [...new Set([0, ...(inside.length > 0 ? inside : [8]), length])];
    edges.sort((a, b) => a - b);
    const ranges = edges.slice(1).map((to, i) => [edges[i], to] as const);
    // Every range once, in the order the random numbers say, and some twice.
    const shuffled = ranges
      .map((range, i) => ({ range, key: order[i] ?? i }))
      .sort((a, b) => a.key - b.key)
      .map(({ range }) => range);
    return { body: counting(length, length), shuffled, order, family };
  });

test("any fragmentation in any order with any duplicates gives the body once", () => {
  fc.assert(
    fc.property(cutBody, ({ body, shuffled, order, family }) => {
      const { kit, reassembler, input } = newReassembler();
      const [src, dst] = ENDS[family];
      const send = ([from, to]: readonly [number, number]) =>
        input(fragment(src, dst, 17, 5, body, from, to));
      for (const [i, range] of shuffled.entries()) {
        const whole = send(range);
        const isLast = i === shuffled.length - 1;
        expect(whole).toEqual(isLast ? body : null);
        if (!isLast) expect(send(shuffled[(order[i] ?? 0) % (i + 1)])).toBeNull();
      }
      reassembler.endBatch();
      expect(kit.pages.inUse).toBe(0);
      expect(kit.stats.fragmentsOverlap).toBe(0);
    }),
    { numRuns: 150 },
  );
});

test("any overlap that is no exact duplicate discards the datagram for good (RFC 5722)", () => {
  const bad = fc.record({ from: fc.nat(499), octets: fc.integer({ min: 1, max: 100 }) });
  fc.assert(
    fc.property(cutBody, bad, fc.nat(), ({ body, shuffled, family }, { from, octets }, when) => {
      const { kit, input } = newReassembler();
      const [src, dst] = ENDS[family];
      const start = (from * 8) % (body.length & ~7);
      const end = Math.min(start + octets * 8, body.length);
      const isExact = shuffled.some(([a, b]) => a === start && b === end);
      fc.pre(!isExact && shuffled.length > 1);
      // Before the datagram is whole, and behind a fragment that it overlaps.
      const at = when % shuffled.length;
      fc.pre(shuffled.slice(0, at).some(([a, b]) => a < end && start < b));
      const ranges = [...shuffled.slice(0, at), [start, end] as const, ...shuffled.slice(at)];
      for (const [a, b] of ranges) {
        const whole = input(fragment(src, dst, 17, 5, body, a, b));
        expect(whole).toBeNull();
      }
      expect(kit.stats.fragmentsOverlap).toBe(1);
    }),
    { numRuns: 150 },
  );
});

test("what the fragmenter cuts the reassembler joins, for any length and MTU", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20_000 }),
      fc.integer({ min: 576, max: 9000 }),
      fc.nat(1),
      fc.integer({ min: 1, max: 5 }),
      (length, mtu, family, room) => {
        const { kit, input } = newReassembler();
        const [src, dst] = ENDS[family];
        fc.pre(length + 8 > mtu);
        const prefix = counting(8, 100);
        const payload = counting(length);
        const start = kit.memory.pagesStart - 65536;
        kit.bytes.set(payload, start);
        const fragmenter = new Fragmenter(kit.bytes, mtu, -1);
        kit.sink.room = room;
        const packets: Uint8Array[] = [];
        for (let isDone = false; !isDone; ) {
          isDone = fragmenter.emit(src, dst, 17, prefix, start, start + length, kit.sink);
          packets.push(...kit.sink.take().map(({ bytes }) => bytes));
        }
        let whole: Uint8Array | null = null;
        for (const packet of packets) {
          expect(packet.length).toBeLessThanOrEqual(mtu);
          whole = input(packet);
        }
        expect(whole).toEqual(Uint8Array.of(...prefix, ...payload));
      },
    ),
    { numRuns: 60 },
  );
});
