import { expect, test } from "vitest";
import { plainMemory } from "../../src/memory.ts";
import { RX_ROW } from "../../src/native/binding.ts";
import { GsoType } from "../../src/stack/ports.ts";
import {
  MemoryDevice,
  type MemoryDeviceOptions,
  NO_OFFLOAD,
  offloadedTcp,
  splitSuperSegment,
} from "../../src/testing/memory-device.ts";
import { buildTcp, decodePacket, TcpFlag } from "../../src/testing/packet-builder.ts";
import { pattern } from "../../src/testing/pattern.ts";
import { TxBatch } from "../../src/tun/batch.ts";

const ENDS = { source: "10.0.0.2", destination: "192.0.2.1", sourcePort: 1, destinationPort: 2 };

function segment(octets: number): Uint8Array {
  const flags = TcpFlag.ACK | TcpFlag.PSH | TcpFlag.FIN;
  return buildTcp({ ...ENDS, seq: 0xffffff00, flags, payload: pattern(0, 0, octets) });
}

/** A device, and a way to write `packet` through a TxBatch as headers and slices of 1,000 octets. */
function deviceAndWriter(options: MemoryDeviceOptions = {}) {
  const memory = plainMemory(16 << 20);
  const device = new MemoryDevice(memory, options);
  const batch = new TxBatch(memory.headersStart, memory.headersEnd);
  const write = (packet: Uint8Array, gsoType: number, gsoSize: number, partial: boolean): void => {
    const copy = packet.slice();
    if (partial) offloadedTcp(copy);
    const at = batch.reserve(40);
    memory.bytes.set(copy.subarray(0, 40), at);
    memory.bytes.set(copy.subarray(40), memory.pagesStart);
    for (let start = 40; start < copy.length; start += 1000) {
      const end = Math.min(start + 1000, copy.length);
      batch.attach(memory.pagesStart + start - 40, memory.pagesStart + end - 40);
    }
    batch.commit(gsoType, gsoSize, 20, partial ? 16 : -1);
    device.write(batch);
  };
  return { memory, device, write };
}

test("an injected packet reaches the handler as a row, and its memory is overwritten afterwards", () => {
  const { memory, device } = deviceAndWriter();
  let seen = new Uint8Array(0);
  let start = 0;
  device.start({
    onBatch(rows, count) {
      expect(count).toBe(1);
      start = rows[0]!;
      seen = memory.bytes.slice(start, start + rows[1]!);
      expect([...rows.subarray(2, RX_ROW)]).toEqual([1 | (GsoType.TCPV4 << 8), 700, 20, 16]);
    },
    onDeviceError() {},
  });
  const packet = segment(1400);
  device.inject(packet, offloadedTcp(packet, 700));
  expect(seen).toEqual(packet);
  expect(memory.bytes.subarray(start, start + 40)).toEqual(new Uint8Array(40).fill(0xdb));
});

test("a written packet comes back whole, its checksum completed as the kernel would", () => {
  const { device, write } = deviceAndWriter();
  write(segment(1400), GsoType.NONE, 0, true);
  const [taken] = device.take();
  expect(taken?.bytes).toEqual(segment(1400));
  expect(device.take()).toEqual([]);
});

test("a super-segment splits into the packets the kernel would make", () => {
  const { device, write } = deviceAndWriter();
  write(segment(3500), GsoType.TCPV4, 1000, true);
  const parts = splitSuperSegment(device.take()[0]!).map((part) => decodePacket(part));
  expect(parts.flatMap((part) => part.faults)).toEqual([]);
  expect(parts).toMatchObject([
    { id: 0, seq: 0xffffff00, flags: TcpFlag.ACK },
    { id: 1, seq: 0x2e8, flags: TcpFlag.ACK },
    { id: 2, seq: 0x6d0, flags: TcpFlag.ACK },
    { id: 3, seq: 0xab8, flags: TcpFlag.ACK | TcpFlag.PSH | TcpFlag.FIN },
  ]);
  const payload = parts.flatMap((part) => (part.kind === "tcp" ? [...part.payload] : []));
  expect(Uint8Array.from(payload)).toEqual(pattern(0, 0, 3500));
});

test.each([
  ["a packet above the MTU", {}, 1461, GsoType.NONE, 0, true, "exceed the MTU"],
  ["GSO without NEEDS_CSUM", {}, 3000, GsoType.TCPV4, 1000, false, "without NEEDS_CSUM"],
  ["GSO of the other family", {}, 3000, GsoType.TCPV6, 1000, true, "not possible here"],
  ["UDP GSO on TCP", {}, 3000, GsoType.UDP_L4, 1000, true, "not possible here"],
  ["a gso_size above the MTU", {}, 3000, GsoType.TCPV4, 1461, true, "gso_size 1461"],
  ["a gso_size of zero", {}, 3000, GsoType.TCPV4, 0, true, "gso_size 0"],
  ["GSO of one segment", {}, 1000, GsoType.TCPV4, 1000, true, "single segment"],
  ["a partial checksum it cannot finish", { offload: NO_OFFLOAD }, 9, 0, 0, true, "no checksum"],
])("the device throws at %s", (_, options, octets, type, size, partial, message) => {
  const { write } = deviceAndWriter(options);
  expect(() => write(segment(octets), type, size, partial)).toThrow(message);
});
