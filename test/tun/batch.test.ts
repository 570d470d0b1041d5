import { expect, test } from "vitest";
import { TX_HEAD } from "../../src/native/binding.ts";
import { GsoType, MAX_SLICES } from "../../src/stack/ports.ts";
import { TX_HEADER_OCTETS, TX_PACKETS, TxBatch } from "../../src/tun/batch.ts";

const START = 1 << 20;
const batch = (): TxBatch => new TxBatch(START, START + TX_HEADER_OCTETS);

test("a packet is its header, its offload and its slices, in the addon's layout", () => {
  const tx = batch();
  expect(tx.reserve(40)).toBe(START);
  tx.attach(100, 164);
  tx.attach(300, 301);
  tx.commit(GsoType.TCPV4, 32, 20, 16);
  expect(tx.packets).toBe(1);
  expect([...tx.rows.subarray(0, tx.length)]).toEqual([
    START,
    40,
    GsoType.TCPV4,
    32,
    20,
    16,
    2,
    100,
    64,
    300,
    1,
  ]);
});

test("headers do not overlap, and lie in the ring", () => {
  const tx = batch();
  let end = START;
  for (let i = 0; i < TX_PACKETS; i++) {
    const at = tx.reserve(1 + (i % 256));
    expect(at).toBeGreaterThanOrEqual(end);
    end = at + 1 + (i % 256);
    tx.commit(0, 0, 0, -1);
  }
  expect(end).toBeLessThanOrEqual(START + TX_HEADER_OCTETS);
});

test("a full batch says so, and takes packets again once it was written", () => {
  const tx = batch();
  for (let i = 0; i < TX_PACKETS; i++) {
    expect(tx.reserve(60)).toBeGreaterThan(0);
    tx.commit(0, 0, 0, -1);
  }
  expect(tx.reserve(60)).toBe(-1);
  tx.clear();
  expect(tx.packets).toBe(0);
  expect(tx.reserve(60)).toBe(START);
});

test("packets of many slices fill the rows before the ring, and never overrun them", () => {
  const tx = batch();
  let packets = 0;
  while (tx.reserve(60) >= 0) {
    for (let i = 0; i < MAX_SLICES; i++) tx.attach(i, i + 1);
    tx.commit(0, 0, 0, -1);
    packets++;
  }
  expect(tx.packets).toBe(packets);
  expect(tx.length).toBe(packets * (TX_HEAD + 2 * MAX_SLICES));
  expect(tx.length).toBeLessThanOrEqual(tx.rows.length);
});
