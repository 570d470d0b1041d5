import { describe, expect, test } from "vitest";
import { MAX_DELIVERED, Reassembler } from "../../src/stack/fragments.ts";
import { BIG_PAGE } from "../../src/stack/page-pool.ts";
import { IpHeader, parseIp } from "../../src/stack/wire/ip.ts";
import { printPacket } from "../../src/stack/wire/print.ts";
import { counting, endpoint, fragment, ipPacket, Kit } from "./kit.ts";

const FAMILIES = [
  { name: "IPv4", src: endpoint("10.0.0.1"), dst: endpoint("192.0.2.1"), timeout: 30_000 },
  { name: "IPv6", src: endpoint("fd00::1"), dst: endpoint("2001:db8::1"), timeout: 60_000 },
];
const UDP = 17;

class Bench extends Kit {
  readonly ip = new IpHeader();
  readonly reassembler: Reassembler;

  constructor(maxOctets?: number, pageOctets?: number) {
    super({ icmp: "reply" }, pageOctets);
    this.reassembler = new Reassembler(
      this.memory,
      this.pages,
      this.wheel,
      this.icmp,
      this.stats,
      maxOctets,
    );
  }

  /** The datagram that `packet` completes, or null. */
  input(packet: Uint8Array): Uint8Array | null {
    const end = this.put(packet);
    if (parseIp(this.bytes, 0, end, this.ip) !== 0) throw new Error("bad packet");
    if (!this.ip.isFragment) throw new Error("no fragment");
    if (!this.reassembler.input(this.ip)) return null;
    return this.bytes.slice(this.ip.payloadStart, this.ip.totalEnd);
  }

  sent(): string[] {
    this.icmp.flush(this.sink);
    return this.sink.take().map(({ bytes }) => printPacket(bytes, 0, bytes.length));
  }
}

describe.each(FAMILIES)("$name", ({ src, dst, timeout }) => {
  const body = counting(3000);
  const piece = (from: number, to: number, id = 1, more?: boolean) =>
    fragment(src, dst, UDP, id, body, from, to, more);

  test("fragments in any order make the datagram, whose header looks whole (RFC 1122 §3.3.2, RFC 8200 §4.5)", () => {
    const bench = new Bench();
    expect(bench.input(piece(2800, 3000))).toBeNull();
    expect(bench.input(piece(0, 1400))).toBeNull();
    expect(bench.input(piece(1400, 2800))).toEqual(body);
    expect(bench.ip).toMatchObject({ protocol: UDP, start: -1, isFragment: false });
    expect(bench.ip.src.sameAddress(src)).toBe(true);
    expect(bench.stats).toMatchObject({ fragmentsIn: 3, fragmentsReassembled: 1 });
  });

  test("the page of a delivered datagram is free after endBatch, not before", () => {
    const bench = new Bench();
    bench.input(piece(0, 1400));
    bench.input(piece(1400, 3000));
    expect(bench.pages.inUse).toBe(BIG_PAGE);
    bench.reassembler.endBatch();
    expect(bench.pages.inUse).toBe(0);
  });

  test("datagrams with different identifications do not mix (RFC 791 §3.2, RFC 8200 §4.5)", () => {
    const bench = new Bench();
    bench.input(piece(0, 1400, 1));
    expect(bench.input(piece(1400, 3000, 2))).toBeNull();
    expect(bench.input(piece(1400, 3000, 1))).toEqual(body);
  });

  test("exact duplicates are tolerated (RFC 8200 §4.5)", () => {
    const bench = new Bench();
    bench.input(piece(0, 1400));
    bench.input(piece(0, 1400));
    bench.input(piece(2800, 3000));
    bench.input(piece(2800, 3000));
    expect(bench.input(piece(1400, 2800))).toEqual(body);
    expect(bench.stats.fragmentsDuplicate).toBe(2);
  });

  test.each([
    ["overlaps the one before", 1392, 2800],
    ["reaches over the one behind", 1400, 2808],
    ["lies within another", 8, 1392],
    ["begins like another but is shorter", 0, 1392],
  ])("a fragment that %s discards the whole datagram (RFC 5722 §3)", (_, from, to) => {
    const bench = new Bench();
    bench.input(piece(0, 1400));
    bench.input(piece(2800, 3000));
    expect(bench.input(piece(from, to))).toBeNull();
    expect(bench.stats.fragmentsOverlap).toBe(1);
    expect(bench.pages.inUse).toBe(0);
    // Those that still come belong to it as well.
    for (const rest of [piece(0, 1400), piece(1400, 2800), piece(2800, 3000)]) {
      expect(bench.input(rest)).toBeNull();
    }
    expect(bench.stats.fragmentsOfDiscarded).toBe(3);
  });

  test("a duplicate with other octets discards the datagram (RFC 5722 §4, RFC 8200 §4.5)", () => {
    const bench = new Bench();
    bench.input(piece(0, 1400));
    const forged = piece(0, 1400);
    forged[forged.length - 1] ^= 1;
    bench.input(forged);
    expect(bench.stats.fragmentsOverlap).toBe(1);
  });

  test.each([
    ["a fragment behind the last", [2800, 3000, false], [3000, 3008, true]],
    ["a last fragment before another", [2800, 3000, true], [1400, 1408, false]],
    ["a second last fragment", [2800, 3000, false], [1400, 1408, false]],
    ["more fragments at the end", [2800, 3000, false], [2992, 3000, true]],
  ] as const)("%s discards the datagram (RFC 5722 §4, RFC 8200 §4.5)", (_, a, b) => {
    const bench = new Bench();
    const longer = counting(4000);
    for (const [from, to, more] of [a, b]) {
      bench.input(fragment(src, dst, UDP, 1, longer, from, to, more));
    }
    expect(bench.stats.fragmentsOverlap).toBe(1);
  });

  test("a fragment that is empty, beyond 65,535 octets or not a multiple of 8 is malformed (RFC 8200 §4.5)", () => {
    const bench = new Bench();
    expect(bench.input(piece(8, 8, 1, true))).toBeNull();
    expect(bench.input(piece(0, 1001, 1, true))).toBeNull();
    expect(bench.input(fragment(src, dst, UDP, 1, new Uint8Array(65600), 65528, 65544))).toBeNull();
    expect(bench.stats.fragmentsMalformed).toBe(3);
    expect(bench.pages.inUse).toBeLessThan(BIG_PAGE);
  });

  test("the largest datagram is reassembled (RFC 1122 §3.3.2)", () => {
    const bench = new Bench();
    const largest = counting(dst.isV4 ? 65515 : 65535);
    let whole: Uint8Array | null = null;
    for (let from = 0; from < largest.length; from += 1400) {
      const to = Math.min(from + 1400, largest.length);
      whole = bench.input(fragment(src, dst, UDP, 1, largest, from, to));
    }
    expect(whole).toEqual(largest);
  });

  test("a datagram that stays incomplete is given up, and its sender told if the first fragment came (RFC 792, RFC 1122 §3.3.2, RFC 8200 §4.5)", () => {
    const bench = new Bench();
    bench.input(piece(0, 1400, 1));
    bench.input(piece(1400, 2800, 2));
    bench.wheel.advance(timeout - 10);
    expect(bench.stats.fragmentsTimeout).toBe(0);
    bench.wheel.advance(timeout);
    expect(bench.stats.fragmentsTimeout).toBe(2);
    expect(bench.pages.inUse).toBeLessThan(BIG_PAGE);
    expect(bench.sent()).toEqual([
      expect.stringMatching(
        dst.isV4
          ? /^icmp reassembly-exceeded 192.0.2.1 > 10.0.0.1 \(udp/
          : /^icmp6 reassembly-exceeded 2001:db8::1 > fd00::1 \(udp/,
      ),
    ]);
  });

  test("a discarded datagram is forgotten in silence (RFC 5722 §4)", () => {
    const bench = new Bench();
    bench.input(piece(0, 1400));
    bench.input(piece(0, 1392));
    bench.wheel.advance(timeout);
    expect(bench.sent()).toEqual([]);
    bench.input(piece(0, 1400));
    expect(bench.input(piece(1400, 3000))).toEqual(body);
  });

  test("at the bound the oldest datagram gives way and is counted", () => {
    const bench = new Bench(3 * BIG_PAGE);
    for (let id = 1; id <= 4; id++) {
      bench.wheel.advance(id * 10);
      bench.input(piece(0, 1400, id));
    }
    expect(bench.stats.fragmentsEvicted).toBe(1);
    expect(bench.pages.inUse).toBe(3 * BIG_PAGE);
    expect(bench.input(piece(1400, 3000, 2))).toEqual(body);
    expect(bench.input(piece(1400, 3000, 1))).toBeNull();
  });

  test("without a page the fragment is dropped and counted", () => {
    const bench = new Bench(undefined, BIG_PAGE);
    bench.input(piece(0, 1400, 1));
    bench.input(piece(0, 1400, 2));
    expect(bench.stats.fragmentsNoMemory).toBe(1);
  });

  test("congestion experienced by one fragment is that of the datagram (RFC 3168 §5.3)", () => {
    const bench = new Bench();
    const marked = piece(1400, 3000);
    if (dst.isV4) {
      marked[1] = 3;
      // The header's checksum follows: its word grew by 3.
      const sum = ((marked[10] << 8) | marked[11]) - 3;
      marked[10] = sum >> 8;
      marked[11] = sum;
    } else {
      marked[1] |= 0x30;
    }
    bench.input(marked);
    bench.input(piece(0, 1400));
    expect(bench.ip.trafficClass & 3).toBe(3);
  });
});

test("IPv4 datagrams of different protocols do not mix (RFC 791 §2.3)", () => {
  const bench = new Bench();
  const { src, dst } = FAMILIES[0];
  const body = counting(3000);
  bench.input(fragment(src, dst, 6, 1, body, 0, 1400));
  expect(bench.input(fragment(src, dst, UDP, 1, body, 1400, 3000))).toBeNull();
});

test("of IPv6 fragments the first alone says the next header (RFC 8200 §4.5)", () => {
  const bench = new Bench();
  const { src, dst } = FAMILIES[1];
  const body = counting(3000);
  bench.input(fragment(src, dst, 99, 1, body, 1400, 3000));
  expect(bench.input(fragment(src, dst, UDP, 1, body, 0, 1400))).toEqual(body);
  expect(bench.ip.protocol).toBe(UDP);
});

test("extension headers in the fragmentable part are walked after reassembly (RFC 8200 §4.5)", () => {
  const bench = new Bench();
  const { src, dst } = FAMILIES[1];
  const body = Uint8Array.of(UDP, 0, 1, 4, 0, 0, 0, 0, ...counting(100));
  bench.input(fragment(src, dst, 60, 1, body, 0, 64));
  expect(bench.input(fragment(src, dst, 60, 1, body, 64, 108))).toEqual(counting(100));
  expect(bench.ip.protocol).toBe(UDP);

  const nested = Uint8Array.of(UDP, 0, 0, 1, 0, 0, 0, 0, ...counting(100));
  bench.input(fragment(src, dst, 44, 2, nested, 0, 64));
  expect(bench.input(fragment(src, dst, 44, 2, nested, 64, 108))).toBeNull();
  expect(bench.stats.ipBadExtension).toBe(1);
});

test("a bad length of an IPv6 fragment is a parameter problem (RFC 8200 §4.5)", () => {
  const bench = new Bench();
  const { src, dst } = FAMILIES[1];
  bench.input(fragment(src, dst, UDP, 1, counting(2000), 0, 1001, true));
  bench.input(fragment(src, dst, UDP, 2, new Uint8Array(65600), 0, 8, true));
  bench.icmp.flush(bench.sink);
  const [problem] = bench.sink.take();
  expect([...problem.bytes.subarray(40, 48)]).toEqual([
    4,
    0,
    ...problem.bytes.subarray(42, 44),
    0,
    0,
    0,
    4,
  ]);
});

test.each([
  ["in the options", 60, [UDP, 7, 1, 60]],
  ["before the upper layer", 60, [UDP, 0, 1, 4, 0, 0, 0, 0]],
  ["in the TCP header", 6, new Array<number>(16).fill(0)],
])(
  "a first fragment that ends %s is refused with parameter problem 3 (RFC 8200 §4.5, RFC 7112 §5)",
  (_, next, start) => {
    const bench = new Bench();
    const { src, dst } = FAMILIES[1];
    const body = Uint8Array.from([...start, ...counting(200)]);
    const length = Math.max(8, start.length);
    expect(bench.input(fragment(src, dst, next, 1, body, 0, length))).toBeNull();
    bench.icmp.flush(bench.sink);
    const [problem] = bench.sink.take();
    expect([...problem.bytes.subarray(40, 42), ...problem.bytes.subarray(44, 48)]).toEqual([
      4, 3, 0, 0, 0, 0,
    ]);
    expect(bench.stats.fragmentsMalformed).toBe(1);
    expect(bench.pages.inUse).toBe(0);
  },
);

test("a whole packet is no fragment, nor is an atomic one (RFC 6946)", () => {
  const ip = new IpHeader();
  const { src, dst } = FAMILIES[1];
  for (const packet of [
    ipPacket(src, dst, UDP, counting(8)),
    fragment(src, dst, UDP, 1, counting(8), 0, 8),
  ]) {
    expect(parseIp(packet, 0, packet.length, ip)).toBe(0);
    expect(ip.isFragment).toBe(false);
  }
});

test("beyond the datagrams a batch can hold one more is dropped and counted", () => {
  const bench = new Bench();
  const { src, dst } = FAMILIES[0];
  const body = counting(16);
  for (let id = 1; id <= MAX_DELIVERED + 1; id++) {
    bench.input(fragment(src, dst, UDP, id, body, 0, 8));
    bench.input(fragment(src, dst, UDP, id, body, 8, 16));
  }
  expect(bench.stats).toMatchObject({
    fragmentsReassembled: MAX_DELIVERED,
    fragmentsNoMemory: 1,
  });
  bench.reassembler.endBatch();
  expect(bench.pages.inUse).toBe(0);
});

test("a new datagram brings the time-out forward when its own is the first", () => {
  const bench = new Bench();
  const body = counting(3000);
  const [v4, v6] = FAMILIES;
  bench.input(fragment(v6.src, v6.dst, UDP, 1, body, 8, 16));
  bench.input(fragment(v4.src, v4.dst, UDP, 1, body, 8, 16));
  bench.wheel.advance(30_000);
  expect(bench.stats.fragmentsTimeout).toBe(1);
  bench.wheel.advance(60_000);
  expect(bench.stats.fragmentsTimeout).toBe(2);
  bench.wheel.advance(90_000);
  expect(bench.wheel.next()).toBe(-1);
});
