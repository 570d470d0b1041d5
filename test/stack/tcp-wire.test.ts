import fc from "fast-check";
import { expect, test } from "vitest";
import {
  ACK,
  emitMss,
  emitSack,
  emitSackPermitted,
  emitTcp,
  emitTimestamps,
  emitWindowScale,
  MAX_SACK_BLOCKS,
  parseTcp,
  SYN,
  TcpDrop,
  TcpSegment,
} from "../../src/stack/wire/tcp.ts";
import { buildTcp, decodePacket } from "../../src/testing/packet-builder.ts";

const int32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const port = fc.integer({ min: 0, max: 65535 });

test("parse reads what emit wrote, options included", () => {
  fc.assert(
    fc.property(
      port,
      port,
      int32,
      int32,
      port,
      fc.array(int32, { minLength: 2, maxLength: 6 }),
      (srcPort, dstPort, seq, ack, window, edges) => {
        const bytes = new Uint8Array(128);
        const at = 7;
        const count = edges.length >> 1;
        let end = emitTimestamps(bytes, at + 20, seq, ack);
        end = emitSack(bytes, end, Int32Array.from(edges), count);
        emitTcp(bytes, at, srcPort, dstPort, seq, ack, end - at, ACK, window, 0);
        const s = new TcpSegment();
        expect(parseTcp(bytes, at, end + 5, s)).toBe(0);
        expect([s.srcPort, s.dstPort, s.seq, s.ack, s.flags, s.window]).toEqual([
          srcPort,
          dstPort,
          seq,
          ack,
          ACK,
          window,
        ]);
        expect([s.hasTimestamps, s.tsVal, s.tsEcr]).toEqual([true, seq, ack]);
        expect([...s.sackEdges.subarray(0, 2 * s.sackCount)]).toEqual(edges.slice(0, 2 * count));
        expect([s.payloadStart, s.payloadEnd]).toEqual([end, end + 5]);
      },
    ),
  );
});

test("the options of a SYN-ACK are read by an independent decoder", () => {
  const packet = new Uint8Array(20 + 20 + 24);
  const tcp = packet.subarray(20);
  let at = emitMss(tcp, 20, 1460);
  at = emitSackPermitted(tcp, at);
  at = emitTimestamps(tcp, at, 1, 2);
  emitWindowScale(tcp, at, 7);
  emitTcp(tcp, 0, 443, 40000, 5, 6, 44, SYN | ACK, 65535, 0);
  packet.set([0x45, 0, 0, packet.length, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
  const decoded = decodePacket(packet);
  expect(decoded.kind).toBe("tcp");
  if (decoded.kind !== "tcp") return;
  expect(decoded.options.filter(({ kind }) => kind !== "nop")).toEqual([
    { kind: "mss", value: 1460 },
    { kind: "sackOK" },
    { kind: "TS", value: 1, echo: 2 },
    { kind: "wscale", value: 7 },
  ]);
});

test("a shift above 14 counts as 14, five SACK blocks as four (RFC 7323 §2.3, RFC 2018 §3)", () => {
  const blocks = Array.from({ length: 4 }, (_, n) => [n, n + 1] as const);
  const fields = {
    source: "10.0.0.2",
    destination: "10.0.0.1",
    sourcePort: 1,
    destinationPort: 2,
    seq: 0,
    flags: SYN,
  };
  const s = new TcpSegment();
  const scaled = buildTcp({ ...fields, options: [{ kind: "wscale", value: 255 }] });
  expect(parseTcp(scaled, 20, scaled.length, s)).toBe(0);
  expect(s.windowScale).toBe(14);
  const sacked = buildTcp({ ...fields, options: [{ kind: "sack", blocks }] });
  expect(parseTcp(sacked, 20, sacked.length, s)).toBe(0);
  expect(s.sackCount).toBe(MAX_SACK_BLOCKS);
  expect(s.windowScale).toBe(-1);
});

test("a segment shorter than its header is dropped with its reason", () => {
  const s = new TcpSegment();
  const bytes = new Uint8Array(60);
  expect(parseTcp(bytes, 0, 19, s)).toBe(TcpDrop.TRUNCATED);
  bytes[12] = 0x40;
  expect(parseTcp(bytes, 0, 60, s)).toBe(TcpDrop.BAD_OFFSET);
  bytes[12] = 0xf0;
  expect(parseTcp(bytes, 0, 59, s)).toBe(TcpDrop.BAD_OFFSET);
  expect(parseTcp(bytes, 0, 60, s)).toBe(0);
});

test("any octets parse without throwing and never beyond their end (RFC 9293 §3.1 MUST-7)", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 20, maxLength: 60 }), (bytes) => {
      const s = new TcpSegment();
      bytes[12] = (bytes.length >> 2) << 4;
      const length = (bytes.length >> 2) << 2;
      expect(parseTcp(bytes, 0, length, s)).toBe(0);
      expect(s.payloadStart).toBe(length);
      expect(s.sackCount).toBeLessThanOrEqual(MAX_SACK_BLOCKS);
    }),
    { numRuns: 2000 },
  );
});

test("an option that is cut off ends the list; those before it count (RFC 9293 §3.1 MUST-7)", () => {
  const bytes = new Uint8Array(28);
  bytes[12] = 0x70;
  bytes.set([2, 4, 5, 180, 8, 10, 0, 0], 20);
  const s = new TcpSegment();
  expect(parseTcp(bytes, 0, 28, s)).toBe(0);
  expect([s.mss, s.hasTimestamps]).toEqual([1460, false]);
});
