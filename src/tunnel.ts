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
  readonly stack: Omit<StackOptions, "mtu" | "offload">;
  /** The device failed for good. The tunnel is closed already. */
  readonly onDeviceError: (error: TunnelError) => void;
}

export class Tunnel implements StackListener, TunDeviceHandler, LoopParticipant {
  readonly stack: Stack;
  readonly device: TunDevice;
  /** Packets the device refused. */
  refusedPackets = 0;
  readonly #loop: Loop;
  readonly #relay: Relay;
  readonly #tx: TxBatch;
  readonly #onDeviceError: (error: TunnelError) => void;
  #open = true;

  constructor(options: TunnelOptions) {
    const { device, loop } = options;
    this.device = device;
    this.#loop = loop;
    this.#relay = options.relay;
    this.#onDeviceError = options.onDeviceError;
    this.#tx = new TxBatch(loop.memory.headersStart, loop.memory.headersEnd);
    this.stack = new Stack(
      { ...options.stack, mtu: device.mtu, offload: device.offload },
      loop.memory,
      loop.timers,
      this,
    );
  }

  /** Starts serving the device. */
  start(): void {
    this.#loop.add(this);
    this.device.start(this);
  }

  /** Ends every flow (upstream sees a reset) and closes the device. Idempotent. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#relay.close();
    // The resets of the flows: a device that stays would leave their clients waiting.
    this.flush();
    this.#loop.remove(this);
    this.device.close();
  }

  onBatch(rows: Int32Array, count: number): void {
    const stack = this.stack;
    this.#loop.enter();
    try {
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
    } finally {
      this.#loop.leave();
    }
  }

  onDeviceError(error: TunnelError): void {
    this.close();
    this.#onDeviceError(error);
  }

  onTcpOpen(connection: TcpConnection): TcpHandler | null {
    return this.#relay.onTcpOpen(connection);
  }

  onUdpOpen(flow: UdpFlow, target: Endpoint): UdpHandler | null {
    return this.#relay.onUdpOpen(flow, target);
  }

  onDirty(): void {
    this.#loop.schedule();
  }

  flush(): void {
    const tx = this.#tx;
    for (let more = true; more; ) {
      more = !this.stack.flush(tx);
      if (tx.packets > 0) this.refusedPackets += this.device.write(tx);
    }
  }
}
