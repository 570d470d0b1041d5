import fc from "fast-check";
import { expect, test } from "vitest";
import { type LinkOptions, LossyLink, seededRandom } from "../../src/testing/lossy-link.ts";
import { buildUdp, decodePacket } from "../../src/testing/packet-builder.ts";

/** Sends packets 0..count−1, a millisecond apart, and returns what arrives as [time, number]. */
function pass(options: LinkOptions, seed: number, count: number): [number, number][] {
  const link = new LossyLink(options, seededRandom(seed));
  const arrivals: [number, number][] = [];
  for (let now = 0; now < count || link.next() >= 0; now++) {
    if (now < count) link.send(Uint8Array.of(now >> 8, now & 255), {}, now);
    for (let p = link.receive(now); p !== undefined; p = link.receive(now)) {
      arrivals.push([now, (p.bytes[0]! << 8) | p.bytes[1]!]);
    }
  }
  return arrivals;
}

test("a good link delivers everything in order after its delay", () => {
  expect(pass({ delay: 20 }, 1, 100)).toEqual(Array.from({ length: 100 }, (_, n) => [n + 20, n]));
});

test("the same seed gives the same link, another seed another", () => {
  const options = { loss: 0.1, duplicate: 0.1, reorder: 0.2, jitter: 9 };
  expect(pass(options, 5, 300)).toEqual(pass(options, 5, 300));
  expect(pass(options, 5, 300)).not.toEqual(pass(options, 6, 300));
});

test("loss and duplication come as often as asked", () => {
  const numbers = pass({ loss: 0.2, duplicate: 0.1 }, 3, 10_000).map(([, n]) => n);
  const different = new Set(numbers).size;
  expect(different / 10_000).toBeCloseTo(0.8, 1);
  expect((numbers.length - different) / different).toBeCloseTo(0.1, 1);
});

test("jitter alone keeps the order; reordering does not, and loses nothing", () => {
  const ordered = (numbers: number[]): boolean =>
    numbers.every((n, i) => i === 0 || n > numbers[i - 1]!);
  fc.assert(
    fc.property(fc.nat(), (seed) => {
      expect(ordered(pass({ jitter: 20 }, seed, 100).map(([, n]) => n))).toBe(true);
      const mixed = pass({ jitter: 20, reorder: 0.25 }, seed, 100).map(([, n]) => n);
      expect(ordered(mixed)).toBe(false);
      expect(mixed.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, n) => n));
    }),
    { numRuns: 20 },
  );
});

test("corruption is noticed by the checksums, and spares packets without one", () => {
  const link = new LossyLink({ corrupt: 1, delay: 0 }, seededRandom(2));
  const ends = { source: "10.0.0.2", destination: "10.0.0.3", sourcePort: 1, destinationPort: 2 };
  const packet = buildUdp({ ...ends, payload: new Uint8Array(50) });
  for (let n = 0; n < 200; n++) {
    link.send(packet, {}, n);
    const { bytes } = link.receive(n)!;
    expect(bytes).not.toEqual(packet);
    let noticed = true;
    try {
      noticed = decodePacket(bytes).faults.length > 0;
    } catch {}
    expect(noticed).toBe(true);
  }
  link.send(packet, { flags: 1 }, 200);
  expect(link.receive(200)?.bytes).toEqual(packet);
});

test("only packets that are ECT are marked, and stay right (RFC 3168 §5)", () => {
  for (const source of ["10.0.0.2", "fd00::2"]) {
    const destination = source === "fd00::2" ? "2001:db8::1" : "192.0.2.1";
    const link = new LossyLink({ mark: 1 }, seededRandom(1));
    const ports = { sourcePort: 1, destinationPort: 2, payload: new Uint8Array(4) };
    const fields = [0, 1, 2, 3];
    for (const ecn of fields) {
      link.send(buildUdp({ source, destination, trafficClass: 0xb8 | ecn, ...ports }), {}, ecn);
    }
    const arrived = fields.map(() => decodePacket(link.receive(100)!.bytes));
    expect(arrived.map(({ trafficClass }) => trafficClass & 3)).toEqual([0, 3, 3, 3]);
    for (const packet of arrived) expect(packet).toMatchObject({ faults: [] });
    expect(arrived[1]!.trafficClass).toBe(0xbb);
    expect(link.marked).toBe(2);
  }
});
