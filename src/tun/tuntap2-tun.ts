/**
 * The TUN port on an npm binding of the node-tuntap2 family, an optional peer dependency.
 *
 * It serves where our addon was not built: no offload, no virtio header, one packet per read and write, a
 * device name chosen by the kernel. The stack above it is the same.
 */

import { createRequire } from "node:module";
import { RESOLVER_IPV4 } from "../addresses.ts";
import { TunnelError } from "../errors.ts";
import type { MemoryLayout } from "../memory.ts";
import { RX_ROW, TX_HEAD } from "../native/binding.ts";
import type { DeviceOffload } from "../stack/ports.ts";
import type { TxBatch } from "./batch.ts";
import type { TunDevice, TunDeviceHandler } from "./device.ts";

/** The npm package that `--binding tuntap2` loads. */
export const TUNTAP2_PACKAGE = "@xiaobaidadada/node-tuntap2-wintun";

/** The part of the binding's `Tun` that we use: a duplex stream of packets with settable properties. */
export interface Tuntap2 {
  readonly name: string;
  mtu: number;
  ipv4: string;
  ipv6: string;
  isUp: boolean;
  readonly writableLength: number;
  on(event: "data", listener: (packet: Uint8Array) => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  write(packet: Uint8Array): boolean;
  release(): void;
}

export interface Tuntap2Settings {
  readonly mtu: number;
  /** With prefix length. */
  readonly ipv4: string;
  readonly ipv6: string;
}

/** What members of the family call their class. */
interface Tuntap2Exports {
  readonly LinuxTun?: new () => Tuntap2;
  readonly Tun?: new () => Tuntap2;
}

/**
 * The binding's read blocks a thread of Node's pool until a packet comes, and Node waits for that thread when it
 * ends: a datagram to a reserved address of the device is the packet.
 */
function wakeReader(): void {
  const socket = process.getBuiltinModule("node:dgram").createSocket("udp4");
  socket.on("error", () => {});
  socket.send("", DISCARD_PORT, RESOLVER_IPV4, () => socket.close());
}

/** RFC 863. */
const DISCARD_PORT = 9;

/** Octets the binding's stream may hold for the device; beyond it packets are dropped and counted. */
const MAX_QUEUED = 4 << 20;
const NO_OFFLOAD: DeviceOffload = {
  checksum: false,
  tso4: false,
  tso6: false,
  uso4: false,
  uso6: false,
};

export class Tuntap2Tun implements TunDevice {
  readonly name: string;
  readonly mtu: number;
  readonly offload: DeviceOffload = NO_OFFLOAD;
  readonly #tun: Tuntap2;
  readonly #memory: MemoryLayout;
  readonly #rows: Int32Array = new Int32Array(RX_ROW);
  #open = true;

  /** Takes ownership of a configured `tun`. */
  constructor(tun: Tuntap2, memory: MemoryLayout, mtu: number) {
    this.#tun = tun;
    this.#memory = memory;
    this.name = tun.name;
    this.mtu = mtu;
  }

  start(handler: TunDeviceHandler): void {
    this.#tun.on("data", (packet) => {
      if (!this.#open || packet.length > this.#memory.rxEnd - this.#memory.rxStart) return;
      this.#memory.bytes.set(packet, this.#memory.rxStart);
      this.#rows[0] = this.#memory.rxStart;
      this.#rows[1] = packet.length;
      handler.onBatch(this.#rows, 1);
    });
    this.#tun.on("error", (cause) => {
      if (!this.#open) return;
      this.close();
      handler.onDeviceError(
        new TunnelError(
          "ERR_TUN_OPEN",
          `cannot use ${this.name}: ${cause.message}; see \`ip link\` and the kernel log`,
          { cause },
        ),
      );
    });
  }

  write(batch: TxBatch): number {
    const rows = batch.rows;
    let refused = 0;
    let row = 0;
    for (let i = 0; i < batch.packets; i++) {
      const parts = 1 + (rows[row + 6] as number);
      if (this.#open && this.#tun.writableLength < MAX_QUEUED)
        this.#tun.write(this.#join(rows, row));
      else refused++;
      row += TX_HEAD + 2 * (parts - 1);
    }
    batch.clear();
    return refused;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#tun.release();
    wakeReader();
  }

  /** The stream keeps a packet until the thread pool has written it, hence the copy. */
  #join(rows: Int32Array, row: number): Uint8Array {
    const slices = rows[row + 6] as number;
    let octets = rows[row + 1] as number;
    for (let i = 0; i < slices; i++) octets += rows[row + TX_HEAD + 2 * i + 1] as number;
    const packet = new Uint8Array(octets);
    const bytes = this.#memory.bytes;
    let at = rows[row + 1] as number;
    packet.set(bytes.subarray(rows[row] as number, (rows[row] as number) + at), 0);
    for (let i = 0; i < slices; i++) {
      const start = rows[row + TX_HEAD + 2 * i] as number;
      const length = rows[row + TX_HEAD + 2 * i + 1] as number;
      packet.set(bytes.subarray(start, start + length), at);
      at += length;
    }
    return packet;
  }
}

/**
 * Loads the binding, creates a device and configures it.
 *
 * @throws TunnelError ERR_ADDON_MISSING if the package is not installed, ERR_TUN_PERMISSION or ERR_TUN_OPEN.
 */
export async function openTuntap2(
  memory: MemoryLayout,
  settings: Tuntap2Settings,
): Promise<Tuntap2Tun> {
  let binding: Tuntap2Exports & { readonly default?: Tuntap2Exports };
  try {
    binding = createRequire(import.meta.url)(TUNTAP2_PACKAGE) as typeof binding;
  } catch (cause) {
    throw new TunnelError(
      "ERR_ADDON_MISSING",
      `cannot load ${TUNTAP2_PACKAGE}: it is not installed or not built; run \`npm install ${TUNTAP2_PACKAGE}\` or drop --binding tuntap2`,
      { cause },
    );
  }
  const exports = { ...binding.default, ...binding };
  const Tun = exports.LinuxTun ?? exports.Tun;
  if (Tun === undefined) {
    throw new TunnelError(
      "ERR_ADDON_MISSING",
      `${TUNTAP2_PACKAGE} has no class LinuxTun or Tun; install version 3`,
    );
  }
  try {
    const tun = new Tun();
    tun.mtu = settings.mtu;
    tun.ipv4 = settings.ipv4;
    tun.isUp = true;
    // After "up": the kernel drops IPv6 addresses of an interface that goes down and needs the link for them.
    tun.ipv6 = settings.ipv6;
    return new Tuntap2Tun(tun, memory, settings.mtu);
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    const denied = /EACCES|EPERM|not permitted|denied/i.test(text);
    throw new TunnelError(
      denied ? "ERR_TUN_PERMISSION" : "ERR_TUN_OPEN",
      `cannot open a TUN device by ${TUNTAP2_PACKAGE}: ${text}; run as root or grant CAP_NET_ADMIN`,
      { cause },
    );
  }
}
