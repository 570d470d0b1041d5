import fc from "fast-check";
import { beforeEach, expect, test } from "vitest";
import { plainMemory } from "../../src/memory.ts";
import { Icmp } from "../../src/stack/icmp.ts";
import { PagePool } from "../../src/stack/page-pool.ts";
import { MAX_SLICES, type PacketSink } from "../../src/stack/ports.ts";
import { StackStats } from "../../src/stack/stats.ts";
import { Connection } from "../../src/stack/tcp/connection.ts";
import { TcpContext } from "../../src/stack/tcp/context.ts";
import * as reassembly from "../../src/stack/tcp/reassembly.ts";
import * as sack from "../../src/stack/tcp/sack.ts";
import * as sendBuffer from "../../src/stack/tcp/send-buffer.ts";
import { State } from "../../src/stack/tcp/state.ts";
import { Timer, TimerWheel } from "../../src/stack/timer-wheel.ts";
import { Endpoint } from "../../src/stack/wire/address.ts";
import { FULL_OFFLOAD } from "../../src/testing/memory-device.ts";

const memory = plainMemory();
const MSS = 100;
let context: TcpContext;

beforeEach(() => {
  const time = new TimerWheel();
  const stats = new StackStats();
  const pages = new PagePool(memory, time);
  const listener = { onTcpOpen: () => null, onUdpOpen: () => null, onDirty: () => {} };
  const options = {
    mtu: 1500,
    offload: FULL_OFFLOAD,
    secret: Uint32Array.of(1, 2, 3, 4),
    ownAddresses: [],
    icmp: "own",
    udpTimeout: 1000,
  } as const;
  const icmp = new Icmp(options, memory, pages, time, listener, stats);
  const handler = { onTimer: () => {} };
  const events = new Timer(handler);
  const starved = new Timer(handler);
  context = new TcpContext(options, memory, pages, time, listener, icmp, stats, events, starved);
});

/** A connection whose numbers wrap in the middle of what the tests use. */
function connection(): Connection {
  const c = new Connection(context, new Endpoint(), new Endpoint());
  c.open(-601, -501);
  c.sndUna = -500;
  c.sndNxt = 1500;
  c.sndMss = MSS;
  return c;
}

const BASE = -500;
const SPAN = 2000;
const block = fc.tuple(fc.integer({ min: -50, max: SPAN }), fc.integer({ min: 1, max: 400 }));

test("the scoreboard equals a naive array of octets, for any blocks (RFC 6675 §3)", () => {
  fc.assert(
    fc.property(fc.array(block, { maxLength: 40 }), fc.nat(SPAN), (blocks, una) => {
      const c = connection();
      const naive = new Uint8Array(SPAN);
      for (const [left, length] of blocks) {
        const before = naive.reduce((a, b) => a + b, 0);
        if (left > 0 && left + length <= SPAN) naive.fill(1, left, left + length);
        const news = sack.update(c, BASE + left, BASE + left + length);
        expect(news).toBe(naive.reduce((a, b) => a + b, 0) - before);
      }
      c.sndUna = BASE + una;
      sack.advance(c);
      naive.fill(0, 0, una);
      expect(c.sackedOctets).toBe(naive.reduce((a, b) => a + b, 0));
      expect(sack.holes(c, BASE + una, BASE + SPAN)).toBe(SPAN - una - c.sackedOctets);
      const firstHole = naive.indexOf(0, una);
      expect(sack.skip(c, BASE + una)).toBe(BASE + (firstHole < 0 ? SPAN : firstHole));
      if (firstHole >= 0) {
        const next = naive.indexOf(1, firstHole);
        const end = next < 0 ? SPAN : next;
        expect(sack.holeEnd(c, BASE + firstHole, BASE + SPAN)).toBe(BASE + end);
      }
      expect(sack.lostEnd(c)).toBe(BASE + naiveLostEnd(naive, una));
      sack.clear(c);
      expect(context.ranges.size).toBe(0);
    }),
    { numRuns: 500 },
  );
});

/** RFC 6675 §4 IsLost, octet by octet. */
function naiveLostEnd(sacked: Uint8Array, una: number): number {
  let end = una;
  for (let at = una; at < SPAN; at++) {
    if (sacked[at] === 1) continue;
    let octets = 0;
    let runs = 0;
    for (let above = at + 1; above < SPAN; above++) {
      octets += sacked[above] as number;
      if (sacked[above] === 1 && sacked[above - 1] === 0) runs++;
    }
    if (runs >= 3 || octets > 2 * MSS) end = at + 1;
  }
  return end;
}

test("the scoreboard is bounded: more blocks are not believed", () => {
  const c = connection();
  c.sndNxt = BASE + 4 * sack.MAX_BLOCKS;
  for (let n = 1; n <= 2 * sack.MAX_BLOCKS; n++) sack.update(c, BASE + 2 * n - 1, BASE + 2 * n);
  expect(c.sackCount).toBe(sack.MAX_BLOCKS);
  expect(context.ranges.size).toBe(sack.MAX_BLOCKS);
  sack.clear(c);
});

const segment = fc.tuple(fc.integer({ min: 1, max: SPAN }), fc.integer({ min: 1, max: 400 }));

test("reassembly equals a naive array, for any overlap, and leaves no page", () => {
  fc.assert(
    fc.property(fc.array(segment, { maxLength: 40 }), fc.nat(SPAN), (segments, upTo) => {
      const c = connection();
      c.rcvNxt = BASE;
      const stream = memory.rxStart;
      for (let at = 0; at < 2 * SPAN; at++) memory.bytes[stream + at] = (at * 31) >> 3;
      const naive = new Uint8Array(2 * SPAN);
      for (const [left, length] of segments) {
        expect(reassembly.insert(c, BASE + left, stream + left, length)).toBe(true);
        naive.fill(1, left, left + length);
      }
      const edges = new Int32Array(8);
      const count = reassembly.sackBlocks(c, edges, 4);
      for (let i = 0; i < count; i++) {
        const [left, right] = [edges[2 * i]! - BASE, edges[2 * i + 1]! - BASE];
        expect([naive[left - 1], naive[left], naive[right - 1], naive[right]]).toEqual([
          0, 1, 1, 0,
        ]);
        expect(naive.subarray(left, right).every((octet) => octet === 1)).toBe(true);
      }
      const last = segments.at(-1);
      if (last !== undefined) {
        expect(edges[0]! - BASE).toBeLessThanOrEqual(last[0]);
        expect(edges[1]! - BASE).toBeGreaterThan(last[0]);
      }
      // Octets in order arrive up to somewhere, and what follows them is released.
      c.rcvNxt = BASE + upTo;
      reassembly.advance(c);
      let end = upTo;
      while (naive[end] === 1) end++;
      expect(c.rcvNxt).toBe(BASE + end);
      expect(c.readableOctets).toBe(end - upTo);
      const rows = new Int32Array(256);
      let at = upTo;
      for (let row = 0, rowCount = c.readable(rows); row < rowCount; row++) {
        const from = rows[2 * row] as number;
        for (let i = 0; i < (rows[2 * row + 1] as number); i++, at++) {
          expect(memory.bytes[from + i]).toBe(memory.bytes[stream + at]);
        }
      }
      expect(at).toBe(end);
      context.release(c);
      context.freeConsumed();
      expect(context.ranges.size).toBe(0);
      expect(context.pages.inUse).toBe(0);
    }),
    { numRuns: 300 },
  );
});

const step = fc.oneof(
  fc.record({ verb: fc.constant("offer"), octets: fc.nat(300_000) }),
  fc.record({ verb: fc.constant("write"), octets: fc.nat(100_000) }),
  fc.record({ verb: fc.constant("acknowledge"), octets: fc.nat(200_000) }),
);

test("the send buffer equals naive concatenation, for any offers, writes and acknowledgements", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const c = connection();
      c.sndUna = BASE;
      c.sndNxt = BASE;
      c.sndEnd = BASE;
      c.state = State.ESTABLISHED;
      const rows = new Int32Array(64);
      let committed = 0;
      let acknowledged = 0;
      const octetAt = (at: number): number => (at * 7 + (at >> 8)) & 0xff;
      for (const { verb, octets } of steps) {
        if (verb === "offer") {
          const count = c.space(rows);
          let filled = 0;
          for (let row = 0; row < count && filled < octets; row++) {
            const start = rows[2 * row] as number;
            const length = Math.min(rows[2 * row + 1] as number, octets - filled);
            for (let i = 0; i < length; i++) {
              memory.bytes[start + i] = octetAt(committed + filled + i);
            }
            filled += length;
          }
          c.commit(filled);
          committed += filled;
        } else if (verb === "write") {
          const bytes = Uint8Array.from({ length: octets }, (_, i) => octetAt(committed + i));
          committed += c.write(bytes, 0, octets);
        } else {
          acknowledged = Math.min(committed, acknowledged + octets);
          c.sndUna = (BASE + acknowledged) | 0;
          c.sndNxt = (BASE + committed) | 0;
          sendBuffer.acknowledge(c, c.sndUna);
        }
        expect((c.sndEnd - BASE) | 0).toBe(committed);
        compare(c, acknowledged, committed, octetAt);
      }
      context.release(c);
      expect(context.ranges.size).toBe(0);
      expect(context.pages.inUse).toBe(0);
    }),
    { numRuns: 60 },
  );
});

/** Every super-segment of [from, to) is what was committed, in no more slices than a packet has. */
function compare(c: Connection, from: number, to: number, octetAt: (at: number) => number): void {
  for (let at = from; at < to; at += 65160) {
    let next = at;
    let slices = 0;
    const sink: PacketSink = {
      reserve: () => 0,
      commit: () => {},
      attach: (start, end) => {
        slices++;
        // The edges of slices are where it can go wrong.
        for (const offset of [0, 1, end - start - 1]) {
          const i = Math.max(0, Math.min(offset, end - start - 1));
          expect(memory.bytes[start + i]).toBe(octetAt(next + i));
        }
        next += end - start;
      },
    };
    const length = Math.min(65160, to - at);
    sendBuffer.attach(c, (BASE + at) | 0, length, sink);
    expect(next).toBe(at + length);
    expect(slices).toBeLessThanOrEqual(MAX_SLICES);
  }
}
