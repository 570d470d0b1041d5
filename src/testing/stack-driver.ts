/**
 * The turn in virtual time: packets in, events out, packets out, without a kernel, a socket or a clock.
 *
 * Owns what the tunnel owns in production (memory, time, device, stack) and keeps to the same contract: it
 * flushes only when the stack said `onDirty`, hands over packets in batches, and overwrites their memory after
 * each batch, so that whoever keeps a view too long is found out.
 */

import { type MemoryLayout, plainMemory } from "../memory.ts";
import { RX_ROW } from "../native/binding.ts";
import type { Neighbours, StackListener, StackOptions } from "../stack/ports.ts";
import { Stack } from "../stack/stack.ts";
import { TxBatch } from "../tun/batch.ts";
import type { TunDeviceHandler } from "../tun/device.ts";
import { MemoryDevice, type MemoryDeviceOptions, type TakenPacket } from "./memory-device.ts";
import { VirtualTime } from "./virtual-time.ts";

export interface StackDriverOptions extends MemoryDeviceOptions {
  /** Octets of pages, 48 MiB by default; the batch regions come on top. */
  readonly pages?: number;
  /** Anything of the stack's own options; MTU and offload come from the device. */
  readonly stack?: Partial<Omit<StackOptions, "mtu" | "offload" | "neighbours">>;
  /** Makes the stack one of several of its device. */
  readonly neighbours?: (memory: MemoryLayout) => Neighbours;
}

/** What a test listens to; `onDirty` is the driver's. */
export type DriverListener = Partial<Omit<StackListener, "onDirty">>;

export class StackDriver implements TunDeviceHandler {
  readonly memory: MemoryLayout;
  readonly time: VirtualTime = new VirtualTime();
  readonly device: MemoryDevice;
  readonly stack: Stack;
  readonly #batch: TxBatch;
  #dirty = false;

  constructor(listener: DriverListener, options: StackDriverOptions = {}) {
    const overhead = plainMemory(0).pagesStart;
    this.memory = plainMemory(overhead + (options.pages ?? 48 << 20));
    this.device = new MemoryDevice(this.memory, options);
    this.#batch = new TxBatch(this.memory.headersStart, this.memory.headersEnd);
    this.stack = new Stack(
      {
        secret: Uint32Array.of(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344),
        ownAddresses: [],
        icmp: "own",
        udpTimeout: 300_000,
        ...options.stack,
        mtu: this.device.mtu,
        offload: this.device.offload,
        ...(options.neighbours === undefined
          ? {}
          : { neighbours: options.neighbours(this.memory) }),
      },
      this.memory,
      this.time,
      {
        onTcpOpen: (connection) => listener.onTcpOpen?.(connection) ?? null,
        onUdpOpen: (flow, target) => listener.onUdpOpen?.(flow, target) ?? null,
        onDirty: () => {
          this.#dirty = true;
        },
      },
    );
    this.device.start(this);
  }

  onBatch(rows: Int32Array, count: number): void {
    this.stack.lookAhead(rows, count, RX_ROW);
    for (let packet = 0, at = 0; packet < count; packet++, at += RX_ROW) {
      const start = rows[at]!;
      this.stack.input(
        start,
        start + rows[at + 1]!,
        rows[at + 2]!,
        rows[at + 3]!,
        rows[at + 4]!,
        rows[at + 5]!,
      );
    }
    this.stack.endBatch();
  }

  onDeviceError(error: Error): void {
    throw error;
  }

  /** Gives `packets` (whole checksums) to the stack as one batch, then finishes the turn. */
  inject(...packets: readonly Uint8Array[]): void {
    for (const packet of packets) this.device.queue(packet);
    this.turn();
  }

  /** Ends a turn: queued packets, timers that are due, one flush. */
  turn(): void {
    this.device.deliver();
    // What is due now expires now; it may set timers for now again, which wait for the next turn.
    if (this.time.next() >= 0 && this.time.next() <= this.time.now())
      this.time.step(this.time.now());
    this.flush();
  }

  /** Moves what the stack wants to send to the device, if it said so. */
  flush(): void {
    if (!this.#dirty) return;
    this.#dirty = false;
    for (let round = 0; !this.stack.flush(this.#batch); round++) {
      if (round > 10_000) throw new Error("the stack never finishes flushing");
      this.device.write(this.#batch);
    }
    if (this.#batch.packets > 0) this.device.write(this.#batch);
  }

  /**
   * Lets time pass up to `to`, flushing after each expiry; stops early, with true, at the first moment
   * something was written or `stop` says so.
   */
  runTo(to: number, stop: () => boolean = () => false): boolean {
    for (let more = true; more; ) {
      more = this.time.step(to);
      this.flush();
      if (stop()) return true;
    }
    return false;
  }

  /** Lets `milliseconds` pass. */
  advance(milliseconds: number): void {
    this.runTo(this.time.now() + milliseconds);
  }

  /** Lets time pass until no timer is set. @throws Error if one still is after `limit` ms. */
  drain(limit: number = 3_600_000): void {
    const end = this.time.now() + limit;
    while (this.time.next() >= 0) {
      if (this.time.now() >= end) throw new Error(`a timer is still set after ${limit} ms`);
      this.runTo(Math.min(end, this.time.next()));
    }
  }

  /** The packets written since the last call. */
  take(): TakenPacket[] {
    return this.device.take();
  }
}
