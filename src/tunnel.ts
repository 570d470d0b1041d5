/**
 * The composition root: a TUN device, a stack and a relay, joined by the turn.
 *
 * A `Tunnel` owns the device and the relay's flows; the loop, its memory and the upstream belong to the caller.
 */

import type { TunnelError } from "./errors.ts";
import type { Loop, LoopParticipant } from "./loop.ts";
import { RX_ROW } from "./native/binding.ts";
import type { Relay } from "./relay/relay.ts";
import type {
  Neighbours,
  StackListener,
  StackOptions,
  TcpConnection,
  TcpHandler,
  UdpFlow,
  UdpHandler,
} from "./stack/ports.ts";
import { Stack } from "./stack/stack.ts";
import type { Endpoint } from "./stack/wire/address.ts";
import { TxBatch } from "./tun/batch.ts";
import type { TunDevice, TunDeviceHandler } from "./tun/device.ts";

export interface TunnelOptions {
  readonly device: TunDevice;
  readonly loop: Loop;
  readonly relay: Relay;
  /** What the device does not tell: addresses, echo policy, time-outs, bounds. */
  readonly stack: Omit<StackOptions, "mtu" | "offload" | "neighbours">;
  /** The tunnels that serve the other queues of the device (src/workers); undefined: it has one queue. */
  readonly neighbours?: TunnelNeighbours;
  /** The device failed for good. The tunnel is closed already. */
  readonly onDeviceError: (error: TunnelError) => void;
}

/** The other workers of a device with several queues: whose packets are whose, and those that were handed to us. */
export interface TunnelNeighbours extends Neighbours {
  /** Calls `onArrival` when something was handed over. */
  start(onArrival: () => void): void;
  /** Gives the stack a batch of what was handed over, in [start, end) of the memory. True: there is more. */
  deliver(stack: Stack, start: number, end: number): boolean;
  /** The end of a batch: those to whom something was handed over are woken. */
  notify(): void;
}

export class Tunnel implements StackListener, TunDeviceHandler, LoopParticipant {
  readonly stack: Stack;
  readonly device: TunDevice;
  /** Packets the device refused. */
  refusedPackets = 0;
  readonly relay: Relay;
  readonly #loop: Loop;
  readonly #tx: TxBatch;
  readonly #onDeviceError: (error: TunnelError) => void;
  readonly #neighbours: TunnelNeighbours | null;
  #arrival: NodeJS.Immediate | null = null;
  #open = true;

  constructor(options: TunnelOptions) {
    const { device, loop } = options;
    this.device = device;
    this.#loop = loop;
    this.relay = options.relay;
    this.#onDeviceError = options.onDeviceError;
    this.#neighbours = options.neighbours ?? null;
    this.#tx = new TxBatch(loop.memory.headersStart, loop.memory.headersEnd);
    this.stack = new Stack(
      {
        ...options.stack,
        mtu: device.mtu,
        offload: device.offload,
        ...(options.neighbours === undefined ? {} : { neighbours: options.neighbours }),
      },
      loop.memory,
      loop.timers,
      this,
    );
  }

  /** Starts serving the device. */
  start(): void {
    this.#loop.add(this);
    this.#neighbours?.start(this.#onArrival);
    this.device.start(this);
  }

  /** Ends every flow (upstream sees a reset) and closes the device. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    if (this.#arrival !== null) clearImmediate(this.#arrival);
    this.relay.close();
    // The resets of the flows: a device that stays would leave their clients waiting.
    this.flush();
    this.#loop.remove(this);
    this.device.close();
  }

  onBatch(rows: Int32Array, count: number): void {
    const stack = this.stack;
    this.#loop.enter();
    try {
      if (this.#neighbours !== null) {
        // What was handed over came before this batch; the arena behind it is free.
        const last = (count - 1) * RX_ROW;
        this.#deliver(this.#neighbours, (rows[last] as number) + (rows[last + 1] as number));
      }
      stack.lookAhead(rows, count, RX_ROW);
      for (let i = 0, row = 0; i < count; i++, row += RX_ROW) {
        const start = rows[row] as number;
        stack.input(
          start,
          start + (rows[row + 1] as number),
          rows[row + 2] as number,
          rows[row + 3] as number,
          rows[row + 4] as number,
          rows[row + 5] as number,
        );
      }
      stack.endBatch();
      this.#neighbours?.notify();
    } finally {
      this.#loop.leave();
    }
  }

  onDeviceError(error: TunnelError): void {
    this.close();
    this.#onDeviceError(error);
  }

  onTcpOpen(connection: TcpConnection): TcpHandler | null {
    return this.relay.onTcpOpen(connection);
  }

  onUdpOpen(flow: UdpFlow, target: Endpoint): UdpHandler | null {
    return this.relay.onUdpOpen(flow, target);
  }

  onDirty(): void {
    this.#loop.schedule();
  }

  /** A turn without the device. */
  readonly #onArrival = (): void => {
    this.#arrival = null;
    const neighbours = this.#neighbours;
    if (!this.#open || neighbours === null) return;
    this.#loop.enter();
    try {
      this.#deliver(neighbours, this.#loop.memory.rxStart);
      neighbours.notify();
    } finally {
      this.#loop.leave();
    }
  };

  #deliver(neighbours: TunnelNeighbours, start: number): void {
    const { rxEnd } = this.#loop.memory;
    const isMore = neighbours.deliver(this.stack, (start + ALIGN - 1) & -ALIGN, rxEnd);
    if (isMore && this.#arrival === null) this.#arrival = setImmediate(this.#onArrival);
  }

  flush(): void {
    const tx = this.#tx;
    for (let more = true; more; ) {
      more = !this.stack.flush(tx);
      if (tx.packets > 0) this.refusedPackets += this.device.write(tx);
    }
  }
}

/** Of packets in the rx arena, as the addon has it. */
const ALIGN = 64;
