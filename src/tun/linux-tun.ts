/**
 * A Linux TUN device on the addon: IFF_NO_PI | IFF_VNET_HDR, offloads as probed, batches both ways.
 */

import { getSystemErrorName } from "node:util";
import { TunnelError } from "../errors.ts";
import type { MemoryLayout } from "../memory.ts";
import {
  type Addon,
  type Handle,
  type NativeError,
  Offload,
  RX_ROW,
  type TunInfo,
  type TunOpenOptions,
} from "../native/binding.ts";
import type { DeviceOffload } from "../stack/ports.ts";
import type { TxBatch } from "./batch.ts";
import type { TunDevice, TunDeviceHandler } from "./device.ts";

/** Packets of one read batch. */
const RX_PACKETS = 64;

export class LinuxTun implements TunDevice {
  readonly name: string;
  readonly mtu: number;
  readonly offload: DeviceOffload;
  readonly #addon: Addon;
  readonly #memory: MemoryLayout;
  readonly #info: TunInfo;
  readonly #rows: Int32Array = new Int32Array(RX_PACKETS * RX_ROW);
  #handle: Handle | null = null;
  #open = true;

  /** Takes ownership of `info.fd`. */
  constructor(addon: Addon, memory: MemoryLayout, info: TunInfo) {
    this.#addon = addon;
    this.#memory = memory;
    this.#info = info;
    this.name = info.name;
    this.mtu = info.mtu;
    this.offload = deviceOffload(info);
  }

  start(handler: TunDeviceHandler): void {
    const memory = this.#memory;
    const rows = this.#rows;
    this.#handle = this.#addon.tunStart(
      this.#info.fd,
      this.#info.vnetHeader,
      memory.rxStart,
      memory.rxEnd,
      rows,
      (count) => {
        if (count >= 0) handler.onBatch(rows, count);
        else {
          this.close();
          handler.onDeviceError(readFailure(this.name, -count));
        }
      },
    );
  }

  write(batch: TxBatch): number {
    const packets = batch.packets;
    const taken =
      this.#handle === null ? 0 : this.#addon.tunWrite(this.#handle, batch.rows, packets);
    batch.clear();
    return packets - taken;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    // Once started the descriptor belongs to the handle.
    if (this.#handle === null) this.#addon.close(this.#info.fd);
    else this.#addon.tunStop(this.#handle);
    this.#handle = null;
  }
}

/** What the kernel says of a descriptor whose device was deleted; libuv has no name for it. */
const EBADFD = 77;

function readFailure(name: string, errno: number): TunnelError {
  const [why, remedy] =
    errno === EBADFD
      ? ["the device was deleted", "leave it in place while it is served"]
      : [getSystemErrorName(-errno), "see `ip link` and the kernel log"];
  return new TunnelError("ERR_TUN_OPEN", `cannot read ${name}: ${why}; ${remedy}`);
}

/**
 * Opens the TUN device `name`, or creates it.
 *
 * @throws TunnelError ERR_TUN_MISSING, ERR_TUN_PERMISSION, ERR_TUN_BUSY, ERR_TUN_OPEN.
 */
export function openTun(addon: Addon, name: string, options: TunOpenOptions = {}): TunInfo {
  try {
    return addon.tunOpen(name, options);
  } catch (error) {
    throw explain(name, error as NativeError);
  }
}

/**
 * Opens `count` queues of the device `name`, or creates it with as many; one, where the device can have no more.
 *
 * @throws TunnelError as {@link openTun}; ERR_TUN_BUSY too if another process has a queue of it, which the kernel allows.
 */
export function openQueues(
  addon: Addon,
  name: string,
  count: number,
  bounds: Pick<TunOpenOptions, "offload" | "vnetHeader"> = {},
): readonly TunInfo[] {
  const first = openTun(addon, name, { ...bounds, multiQueue: count > 1 });
  const queues = [first];
  try {
    if (first.multiQueue && !first.created && isServed(addon, first.name)) {
      throw new TunnelError("ERR_TUN_BUSY", `cannot open ${first.name}: ${BUSY}`);
    }
    while (first.multiQueue && queues.length < count) {
      queues.push(openTun(addon, first.name, { ...bounds, multiQueue: true }));
    }
    return queues;
  } catch (error) {
    for (const { fd } of queues) addon.close(fd);
    throw error;
  }
}

/** Somebody has a queue besides ours. Where we may not ask, nobody has. */
function isServed(addon: Addon, name: string): boolean {
  try {
    return addon.tunQueues(name) > 1;
  } catch {
    return false;
  }
}

const BUSY = "another process serves this device; stop it or choose another name";

/** The error a user reads when a step of opening or configuring a device failed. */
export function explain(name: string, cause: NativeError): TunnelError {
  const what = `cannot open ${name}: ${cause.syscall}: ${cause.code}`;
  const isNode = cause.syscall.startsWith("open ");
  const say = (
    code: "ERR_TUN_MISSING" | "ERR_TUN_PERMISSION" | "ERR_TUN_BUSY" | "ERR_TUN_OPEN",
    remedy: string,
  ): TunnelError => new TunnelError(code, `${what}; ${remedy}`, { cause });
  switch (cause.code) {
    case "ENOENT":
    case "ENODEV":
    case "ENXIO":
      return say(
        "ERR_TUN_MISSING",
        "load the driver with `modprobe tun` (in a container: pass --device /dev/net/tun)",
      );
    case "EPERM":
    case "EACCES":
      return say(
        "ERR_TUN_PERMISSION",
        isNode
          ? "this user may not open the device node: run as root, or open it with `chmod 0666 /dev/net/tun`"
          : "run as root or grant CAP_NET_ADMIN, or use `tun2socks exec`, which needs no root",
      );
    case "EBUSY":
      return say("ERR_TUN_BUSY", BUSY);
    case "EINVAL":
      return say("ERR_TUN_OPEN", "is it a TUN device (not TAP, not another kind of interface)?");
    default:
      return say("ERR_TUN_OPEN", "see `ip link` and the kernel log");
  }
}

function deviceOffload(info: TunInfo): DeviceOffload {
  const has = (bit: number): boolean => info.vnetHeader && (info.offload & bit) === bit;
  return {
    checksum: has(Offload.CSUM),
    tso4: has(Offload.TSO4),
    tso6: has(Offload.TSO6),
    uso4: has(Offload.USO4),
    uso6: has(Offload.USO6),
  };
}
