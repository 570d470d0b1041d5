import * as fc from "fast-check";
import { expect, test } from "vitest";
import { TunnelError } from "../../src/errors.ts";
import { CaptureDecoder } from "../../src/pcap/capture-decoder.ts";
import { MAX_CAPTURED_OCTETS } from "../../src/pcap/captured-packet.ts";
import { ipPayload } from "../../src/pcap/link-type.ts";
import { OctetQueue } from "../../src/pcap/octet-queue.ts";
import { MAX_BLOCK_OCTETS } from "../../src/pcap/pcapng-reader.ts";
import { Blocks, pcap, readAll } from "./capture-builder.ts";

const IP = Uint8Array.of(0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2);
const NG = new Blocks();
const SEEDS: readonly Buffer[] = [
  pcap([{ bytes: IP }, { bytes: IP, originalLength: 99 }, { bytes: IP }]),
  pcap([{ bytes: IP }, { bytes: IP }], { isLittle: false, nanoseconds: true, network: 1 }),
  Buffer.concat([
    NG.section(),
    NG.interface(101, 0, Buffer.concat([NG.resolution(9), NG.offset(3n)])),
    NG.block(5, IP),
    NG.enhanced(0, 1n, IP),
    NG.simple(IP),
    NG.obsolete(0, 2n, IP),
    new Blocks(false).section(),
    new Blocks(false).interface(0),
    new Blocks(false).enhanced(0, 1n, IP),
  ]),
];

const mutation = fc.record({
  at: fc.nat(400),
  octet: fc.oneof(fc.constantFrom(0, 1, 4, 0x7f, 0x80, 0xff), fc.nat(255)),
});

test("mutated captures give packets within bounds, then nothing or the documented error", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...SEEDS),
      fc.array(mutation, { minLength: 1, maxLength: 8 }),
      fc.integer({ min: 1, max: 500 }),
      async (seed, mutations, chunk) => {
        const bytes = Buffer.from(seed);
        for (const { at, octet } of mutations) bytes[at % bytes.length] = octet;
        const { packets, error } = await readAll(bytes, chunk);
        for (const packet of packets) {
          expect(packet.bytes.length).toBeLessThanOrEqual(bytes.length);
          expect(ipPayload(packet)?.length ?? 0).toBeLessThanOrEqual(packet.bytes.length);
        }
        if (error !== null) {
          expect(error).toBeInstanceOf(TunnelError);
          expect(error).toMatchObject({ code: "ERR_CAPTURE" });
        }
        // The chunks make no difference.
        const whole = await readAll(bytes);
        expect(whole.packets).toEqual(packets);
        expect(String(whole.error)).toBe(String(error));
      },
    ),
    { numRuns: 1500 },
  );
});

test("octets of any kind behind any link type never throw", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(0, 1, 9, 12, 14, 101, 108, 113, 228, 229, 276, 147),
      fc.uint8Array({ maxLength: 60 }),
      (linkType, bytes) => {
        const originalLength = bytes.length;
        const rest = { time: null, interface: 0, originalLength, truncated: false };
        const ip = ipPayload({ ...rest, linkType, bytes });
        if (ip !== null) expect([4, 6]).toContain(ip[0] >> 4);
      },
    ),
    { numRuns: 5000 },
  );
});

test("a gigabyte of packets leaves no more behind than a chunk and a record", () => {
  const decoder = new CaptureDecoder();
  const records = Array.from({ length: 1000 }, () => ({ bytes: new Uint8Array(1400) }));
  const file = pcap(records);
  decoder.push(file.subarray(0, 24));
  const chunk = file.subarray(24);
  let packets = 0;
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 750; i++) {
    // A cut within a record each time, so that what is left is carried over.
    const cut = (i * 7919) % chunk.length;
    for (const part of [chunk.subarray(0, cut), chunk.subarray(cut)]) {
      decoder.push(part);
      while (decoder.next() !== null) packets++;
    }
  }
  decoder.finish();
  expect(packets).toBe(750_000);
  expect(decoder.offset).toBe(24 + 750 * chunk.length);
  // Garbage included: it is collected as it is made.
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(256 << 20);
});

test("a queue that gets octets one by one grows to twice what waits, no further", () => {
  const queue = new OctetQueue();
  const one = Uint8Array.of(1);
  let most = 0;
  for (let i = 0; i < 3 * MAX_CAPTURED_OCTETS; i++) {
    queue.push(one);
    if (queue.length === MAX_CAPTURED_OCTETS) queue.take(MAX_CAPTURED_OCTETS);
    most = Math.max(most, queue.bytes.length);
  }
  expect(most).toBeLessThanOrEqual(2 * MAX_CAPTURED_OCTETS);
  expect(queue.offset).toBe(3 * MAX_CAPTURED_OCTETS);
  expect(MAX_BLOCK_OCTETS).toBe(4 * MAX_CAPTURED_OCTETS);
});
