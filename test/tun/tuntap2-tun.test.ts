/** The adapter for npm's TUN binding, against an object with the binding's interface. */

import { expect, test } from "vitest";
import { plainMemory } from "../../src/memory.ts";
import { TX_HEADER_OCTETS, TxBatch } from "../../src/tun/batch.ts";
import { openTuntap2, type Tuntap2, Tuntap2Tun } from "../../src/tun/tuntap2-tun.ts";

class Binding implements Tuntap2 {
  readonly name = "tun3";
  mtu = 0;
  ipv4 = "";
  ipv6 = "";
  isUp = false;
  writableLength = 0;
  released = false;
  readonly written: number[][] = [];
  #data: (packet: Uint8Array) => void = () => {};
  #error: (error: Error) => void = () => {};

  on(event: "data" | "error", listener: (argument: never) => void): void {
    if (event === "data") this.#data = listener as (packet: Uint8Array) => void;
    else this.#error = listener as (error: Error) => void;
  }

  write(packet: Uint8Array): boolean {
    this.written.push([...packet]);
    return true;
  }

  release(): void {
    this.released = true;
  }

  receive(packet: Uint8Array): void {
    this.#data(packet);
  }

  fail(error: Error): void {
    this.#error(error);
  }
}

const memory = plainMemory();
const batch = (): TxBatch =>
  new TxBatch(memory.headersStart, memory.headersStart + TX_HEADER_OCTETS);

test("a packet read becomes one row in the rx arena", () => {
  const binding = new Binding();
  const device = new Tuntap2Tun(binding, memory, 1500);
  const received: number[][] = [];
  device.start({
    onBatch: (rows, count) => {
      expect(count).toBe(1);
      received.push(
        [...memory.bytes.subarray(rows[0]!, rows[0]! + rows[1]!)],
        [rows[2]!, rows[3]!],
      );
    },
    onDeviceError: () => expect.unreachable(),
  });
  binding.receive(Uint8Array.of(0x45, 1, 2, 3));
  expect(received).toEqual([
    [0x45, 1, 2, 3],
    [0, 0],
  ]);
});

test("headers and slices are written as one packet", () => {
  const binding = new Binding();
  const device = new Tuntap2Tun(binding, memory, 1500);
  const tx = batch();
  memory.bytes.set([7, 8, 9], memory.pagesStart);
  for (const first of [1, 4]) {
    const at = tx.reserve(2);
    memory.bytes.set([first, first + 1], at);
    tx.attach(memory.pagesStart, memory.pagesStart + 1);
    tx.attach(memory.pagesStart + 1, memory.pagesStart + 3);
    tx.commit(0, 0, 0, -1);
  }
  expect(device.write(tx)).toBe(0);
  expect(binding.written).toEqual([
    [1, 2, 7, 8, 9],
    [4, 5, 7, 8, 9],
  ]);
  expect(tx.packets).toBe(0);
});

test("packets are dropped and counted when the device's queue is full", () => {
  const binding = new Binding();
  const device = new Tuntap2Tun(binding, memory, 1500);
  binding.writableLength = 4 << 20;
  const tx = batch();
  tx.reserve(20);
  tx.commit(0, 0, 0, -1);
  expect(device.write(tx)).toBe(1);
  expect(binding.written).toEqual([]);
});

test("a failing device is told once, and closing releases it once", () => {
  const binding = new Binding();
  const device = new Tuntap2Tun(binding, memory, 1500);
  const errors: string[] = [];
  device.start({ onBatch: () => {}, onDeviceError: (error) => errors.push(error.message) });
  binding.fail(new Error("gone"));
  binding.fail(new Error("gone again"));
  expect(errors).toEqual(["cannot use tun3: gone; see `ip link` and the kernel log"]);
  const other = new Binding();
  const closing = new Tuntap2Tun(other, memory, 1500);
  closing.close();
  closing.close();
  expect(other.released).toBe(true);
});

test("without the package the error names it and how to install it", async () => {
  await expect(
    openTuntap2(memory, { mtu: 1500, ipv4: "198.18.0.1/15", ipv6: "fd00:18::1/64" }),
  ).rejects.toMatchObject({
    code: "ERR_ADDON_MISSING",
    message: expect.stringContaining("npm install @xiaobaidadada/node-tuntap2-wintun"),
  });
});
