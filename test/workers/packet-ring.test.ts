/** The ring between two workers: a queue of packets with a bound, whatever their sizes. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { PacketRing, ringMemory } from "../../src/workers/packet-ring.ts";

const SIZE = 4096;
/** The record of a packet of 1,500 octets. */
const LARGEST = 16 + 1504;

function ends(): { writer: PacketRing; reader: PacketRing } {
  const memory = ringMemory(SIZE);
  return { writer: new PacketRing(memory), reader: new PacketRing(memory) };
}

function write(ring: PacketRing, octets: number, fill: number): boolean {
  const at = ring.reserve(octets, fill | 0x500, fill + 1);
  if (at < 0) return false;
  ring.bytes.fill(fill, at, at + octets);
  ring.publish();
  return true;
}

/** Takes the packet at the front: its octets and what they are filled with; null: none. */
function read(ring: PacketRing): [number, number] | null {
  const octets = ring.front();
  if (octets === 0) return null;
  const packet = ring.bytes.slice(ring.start, ring.start + octets);
  const fill = packet[0]!;
  expect(packet.every((octet) => octet === fill)).toBe(true);
  expect([ring.flags, ring.gsoSize]).toEqual([fill | 0x500, fill + 1]);
  ring.shift();
  return [octets, fill];
}

test("what is read is what was written, in order, and only a full ring takes nothing", () => {
  const step = fc.oneof(fc.integer({ min: 1, max: 1500 }), fc.constant("read" as const));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const { writer, reader } = ends();
      const model: [number, number][] = [];
      let next = 0;
      for (const octets of steps) {
        if (octets === "read") expect(read(reader)).toEqual(model.shift() ?? null);
        else {
          const fill = next++ & 0xff;
          const waiting = model.reduce((sum, [size]) => sum + 16 + ((size + 15) & ~15), 0);
          const need = 16 + ((octets + 15) & ~15);
          const isTaken = write(writer, octets, fill);
          if (isTaken) model.push([octets, fill]);
          // At the end of the ring a record, this one or one that waits, leaves less than its size unused.
          expect(isTaken || waiting + need + LARGEST > SIZE).toBe(true);
          expect(waiting + (isTaken ? need : 0)).toBeLessThanOrEqual(SIZE);
        }
      }
      for (const packet of model) expect(read(reader)).toEqual(packet);
      expect(read(reader)).toBe(null);
    }),
    { numRuns: 300 },
  );
});

test("a packet that is reserved and not published is not seen", () => {
  const { writer, reader } = ends();
  expect(writer.reserve(100, 0, 0)).toBeGreaterThan(0);
  expect(reader.front()).toBe(0);
});

test("a ring of the default size takes seven of the largest packets", () => {
  const ring = new PacketRing(ringMemory());
  for (let i = 0; i < 7; i++) expect(write(ring, 65_575, i)).toBe(true);
  expect(write(ring, 65_575, 7)).toBe(false);
});
