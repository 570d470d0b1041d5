import fc from "fast-check";
import { beforeEach, expect, test } from "vitest";
import { plainMemory } from "../../src/memory.ts";
import { Icmp } from "../../src/stack/icmp.ts";
import { PagePool } from "../../src/stack/page-pool.ts";
import { MAX_SLICES, type PacketSink } from "../../src/stack/ports.ts";
import { StackStats } from "../../src/stack/stats.ts";
import { Connection } from "../../src/stack/tcp/connection.ts";
import { TcpContext } from "../../src/stack/tcp/context.ts";
import * as flight from "../../src/stack/tcp/flight.ts";
import * as rack from "../../src/stack/tcp/rack.ts";
import * as reassembly from "../../src/stack/tcp/reassembly.ts";
import * as sack from "../../src/stack/tcp/sack.ts";
import { told } from "../../src/stack/tcp/sack-reports.ts";
import * as sendBuffer from "../../src/stack/tcp/send-buffer.ts";
import { State } from "../../src/stack/tcp/state.ts";
import { Timer, TimerWheel } from "../../src/stack/timer-wheel.ts";
import { Endpoint } from "../../src/stack/wire/address.ts";
import { FULL_OFFLOAD } from "../../src/testing/memory-device.ts";

const memory = plainMemory();
const MSS = 100;
let context: TcpContext;
let time: TimerWheel;

beforeEach(() => {
  time = new TimerWheel();
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
const move = fc.oneof(
  fc.record({ kind: fc.constant("send" as const), octets: fc.integer({ min: 1, max: 300 }) }),
  fc.record({ kind: fc.constant("wait" as const), octets: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ kind: fc.constant("ack" as const), octets: fc.nat(200) }),
  fc.record({ kind: fc.constant("repeat" as const), octets: fc.integer({ min: 1, max: 200 }) }),
  fc.record({
    kind: fc.constant("sack" as const),
    from: fc.integer({ min: -20, max: 600 }),
    octets: fc.integer({ min: 1, max: 400 }),
  }),
);

/** What is known of one octet in flight; the time only while it may be in the network. */
interface Octet {
  sentAt: number;
  flags: number;
}

test("the flight equals a naive array of octets, whatever is sent and told (RFC 6675 §3, RFC 8985 §5.1)", () => {
  fc.assert(
    fc.property(fc.array(move, { maxLength: 60 }), (moves) => {
      const c = connection();
      c.sackOk = true;
      c.sndNxt = c.sndUna;
      c.maxSndWnd = SPAN;
      const before = context.ranges.size;
      let now = time.now();
      let octets: Octet[] = [];
      for (const action of moves) {
        if (action.kind === "wait") {
          now += action.octets;
          time.advance(now);
        } else if (action.kind === "send") {
          expect(flight.canSend(c)).toBe(true);
          const end = (c.sndNxt + action.octets) | 0;
          flight.sent(c, c.sndNxt, end);
          c.sndNxt = end;
          for (let n = 0; n < action.octets; n++) octets.push({ sentAt: now, flags: 0 });
        } else if (action.kind === "ack") {
          const acked = Math.min(action.octets, octets.length);
          c.sndUna = (c.sndUna + acked) | 0;
          rack.acknowledge(c);
          octets = octets.slice(acked);
        } else if (action.kind === "sack") {
          const left = (c.sndUna + action.from) | 0;
          const news = sack.update(c, left, (left + action.octets) | 0);
          const isPossible = action.from > 0 && action.from + action.octets <= octets.length;
          const told = isPossible ? octets.slice(action.from, action.from + action.octets) : [];
          expect(news).toBe(told.filter(({ flags }) => flags !== SACKED).length);
          for (const octet of told) octet.flags = SACKED;
        } else {
          flight.loseHead(c, action.octets);
          const run = flight.firstLost(c);
          const isLost = octets.length > 0 && octets[0]!.flags !== SACKED;
          expect(run === -1).toBe(!isLost);
          if (!isLost) continue;
          const length = context.ranges.end[run]! - context.ranges.seq[run]!;
          flight.resent(c, run);
          flight.join(c);
          for (const octet of octets.slice(0, length)) {
            octet.flags = flight.Run.RETRANSMITTED;
            octet.sentAt = now;
          }
        }
        expect(shown(c)).toEqual(octets.map(plain));
        expect(c.sackedOctets).toBe(octets.filter(({ flags }) => flags === SACKED).length);
        expect(c.lostOctets).toBe(0);
      }
      flight.clear(c);
      expect(context.ranges.size).toBe(before);
    }),
    { numRuns: 300 },
  );
});

const { SACKED } = flight.Run;

function plain({ sentAt, flags }: Octet): string {
  return flags === SACKED ? "sacked" : `${flags} at ${sentAt}`;
}

/** The runs of a flight octet by octet. @throws where neighbours have a hole between them or should be one. */
function shown(c: Connection): string[] {
  const { ranges } = context;
  const octets: string[] = [];
  let seq = c.sndUna;
  let count = 0;
  for (let run = c.runHead; run !== -1; run = ranges.next[run]!) {
    expect(ranges.seq[run]).toBe(seq);
    const octet = plain({ sentAt: ranges.start[run]! >> 4, flags: ranges.page[run]! });
    for (; seq !== ranges.end[run]; seq = (seq + 1) | 0) octets.push(octet);
    count++;
  }
  expect(seq).toBe(c.sndNxt);
  expect(c.runCount).toBe(count);
  return octets;
}

test("the flight is bounded: holes beyond are not believed, later transmissions join the last", () => {
  const { MAX_RUNS, SPARE_RUNS } = flight;
  const c = connection();
  c.sndNxt = c.sndUna;
  for (let n = 0; n < 2 * MAX_RUNS; n++) {
    time.advance(n);
    expect(flight.canSend(c)).toBe(true);
    flight.sent(c, c.sndNxt, c.sndNxt + 2);
    c.sndNxt += 2;
  }
  expect(c.runCount).toBe(MAX_RUNS);
  // The last run was sent when its last octet was, and nothing of it earlier.
  expect(flight.age(c, c.runTail)).toBe(0);
  expect(sack.update(c, c.sndUna + 1, c.sndUna + 3)).toBe(0);
  flight.clear(c);
  flight.sent(c, c.sndUna, c.sndUna + 4 * MAX_RUNS);
  c.sndNxt = c.sndUna + 4 * MAX_RUNS;
  for (let n = 1; n < MAX_RUNS; n++) sack.update(c, c.sndUna + 2 * n, c.sndUna + 2 * n + 1);
  expect(c.runCount).toBe(MAX_RUNS - SPARE_RUNS);
  flight.clear(c);
  expect(context.ranges.size).toBe(0);
});

const segment = fc.tuple(fc.integer({ min: 1, max: SPAN }), fc.integer({ min: 1, max: 400 }));

test("reassembly equals a naive array, for any overlap, and leaves no page", () => {
  fc.assert(
    fc.property(fc.array(segment, { maxLength: 40 }), fc.nat(SPAN), (segments, upTo) => {
      const c = connection();
      c.sackOk = true;
      c.rcvNxt = BASE;
      const stream = memory.rxStart;
      for (let at = 0; at < 2 * SPAN; at++) memory.bytes[stream + at] = (at * 31) >> 3;
      const naive = new Uint8Array(2 * SPAN);
      for (const [left, length] of segments) {
        expect(reassembly.insert(c, BASE + left, stream + left, length)).toBe(true);
        naive.fill(1, left, left + length);
        while (c.sackReportsDue > 0) told(c, false);
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
