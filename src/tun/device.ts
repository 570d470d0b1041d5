/**
 * The port of a TUN device: packets in by rows, packets out by batches. Implementations: the addon's
 * device, the node-tuntap2 adapter, the in-memory device of src/testing.
 */

import type { TunnelError } from "../errors.ts";
import type { DeviceOffload } from "../stack/ports.ts";
import type { TxBatch } from "./batch.ts";

export interface TunDeviceHandler {
  /** `count` rows as {@link RX_ROW} of src/native/binding.ts describes; valid during the call. */
  onBatch(rows: Int32Array, count: number): void;
  /** The device failed for good (deleted, namespace gone). Last call. */
  onDeviceError(error: TunnelError): void;
}

export interface TunDevice {
  readonly name: string;
  readonly mtu: number;
  readonly offload: DeviceOffload;
  /** Starts delivering. Once. */
  start(handler: TunDeviceHandler): void;
  /** Writes and clears the batch. Returns packets the device refused. */
  write(batch: TxBatch): number;
  /** Idempotent; no call after it. */
  close(): void;
}
