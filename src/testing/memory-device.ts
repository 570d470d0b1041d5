/**
 * A TUN device without a kernel: packets are injected and taken as copies.
 *
 * It does what Linux does with a written packet (completes the checksum that virtio_net_hdr asks for) and
 * refuses, by throwing, what Linux would silently mangle: a packet above the MTU without GSO, a GSO type of
 * the wrong family, GSO payload without NEEDS_CSUM, an offload the device does not have.
 */

import type { MemoryLayout } from "../memory.ts";
import { RX_ROW, TX_HEAD } from "../native/binding.ts";
import { type DeviceOffload, GsoType, PacketFlag } from "../stack/ports.ts";
import type { TxBatch } from "../tun/batch.ts";
import type { TunDevice, TunDeviceHandler } from "../tun/device.ts";
import { buildTcp, buildUdp, checksum, decodePacket, TcpFlag } from "./packet-builder.ts";

/** Everything a current Linux TUN offers. */
export const FULL_OFFLOAD: DeviceOffload = {
  checksum: true,
  tso4: true,
  tso6: true,
  uso4: true,
  uso6: true,
};

/** A device that completes nothing (`--binding tuntap2`, old kernels). */
export const NO_OFFLOAD: DeviceOffload = {
  checksum: false,
  tso4: false,
  tso6: false,
  uso4: false,
  uso6: false,
};

export interface MemoryDeviceOptions {
  readonly name?: string;
  /** 1500 by default. */
  readonly mtu?: number;
  /** {@link FULL_OFFLOAD} by default. */
  readonly offload?: DeviceOffload;
}

/** What the kernel would say about an injected packet; all zero (verify the checksum yourself) by default. */
export interface PacketMeta {
  /** Bits of PacketFlag. */
  readonly flags?: number;
  readonly gsoType?: number;
  readonly gsoSize?: number;
  readonly csumStart?: number;
  readonly csumOffset?: number;
}

/** A packet the stack wrote, its checksum completed. */
export interface TakenPacket {
  readonly bytes: Uint8Array;
  /** 0, or a value of GsoType: the packet is a super-segment. */
  readonly gsoType: number;
  readonly gsoSize: number;
  /** Counts calls of `write`: packets of one flush share it unless the batch was full. */
  readonly batch: number;
}

export class MemoryDevice implements TunDevice {
  readonly name: string;
  readonly mtu: number;
  readonly offload: DeviceOffload;
  /** Called for every packet written; while null, packets wait for {@link MemoryDevice.take}. */
  receiver: ((packet: TakenPacket) => void) | null = null;
  readonly #memory: MemoryLayout;
  readonly #rows: Int32Array = new Int32Array(64 * RX_ROW);
  #handler: TunDeviceHandler | null = null;
  #taken: TakenPacket[] = [];
  #batch = 0;
  #count = 0;
  #next: number;

  constructor(memory: MemoryLayout, options: MemoryDeviceOptions = {}) {
    this.#memory = memory;
    this.#next = memory.rxStart;
    this.name = options.name ?? "memory0";
    this.mtu = options.mtu ?? 1500;
    this.offload = options.offload ?? FULL_OFFLOAD;
  }

  start(handler: TunDeviceHandler): void {
    this.#handler = handler;
  }

  close(): void {
    this.#handler = null;
  }

  /** Gives one packet, copied, to whoever started the device, as a batch of its own. */
  inject(packet: Uint8Array, meta: PacketMeta = {}): void {
    this.queue(packet, meta);
    this.deliver();
  }

  /** Adds a packet, copied, to the batch that {@link MemoryDevice.deliver} hands over. */
  queue(packet: Uint8Array, meta: PacketMeta = {}): void {
    const start = this.#next;
    if (this.#count === 64 || start + packet.length > this.#memory.rxEnd) {
      throw new Error("memory device: the batch is full; deliver it first");
    }
    this.#memory.bytes.set(packet, start);
    this.#next = (start + packet.length + 63) & ~63;
    const at = this.#count++ * RX_ROW;
    this.#rows[at] = start;
    this.#rows[at + 1] = packet.length;
    this.#rows[at + 2] = (meta.flags ?? 0) | ((meta.gsoType ?? 0) << 8);
    this.#rows[at + 3] = meta.gsoSize ?? 0;
    this.#rows[at + 4] = meta.csumStart ?? 0;
    this.#rows[at + 5] = meta.csumOffset ?? 0;
  }

  /** Hands the queued packets over as one batch. Afterwards their memory is overwritten: no view survives. */
  deliver(): void {
    const count = this.#count;
    if (count === 0) return;
    this.#count = 0;
    this.#handler?.onBatch(this.#rows, count);
    this.#memory.bytes.fill(0xdb, this.#memory.rxStart, this.#next);
    this.#next = this.#memory.rxStart;
  }

  write(batch: TxBatch): number {
    this.#batch++;
    for (let row = 0, packet = 0; packet < batch.packets; packet++) {
      const slices = batch.rows[row + 6]!;
      const taken = this.#read(batch.rows.subarray(row, row + TX_HEAD + 2 * slices));
      if (this.receiver !== null) this.receiver(taken);
      else this.#taken.push(taken);
      row += TX_HEAD + 2 * slices;
    }
    batch.clear();
    return 0;
  }

  /** The packets written since the last call. */
  take(): TakenPacket[] {
    const taken = this.#taken;
    this.#taken = [];
    return taken;
  }

  #read(row: Int32Array): TakenPacket {
    const memory = this.#memory.bytes;
    const gsoType = row[2]!;
    const gsoSize = row[3]!;
    const parts = [memory.subarray(row[0]!, row[0]! + row[1]!)];
    for (let at = TX_HEAD; at < row.length; at += 2) {
      if (row[at + 1]! <= 0) throw new Error("memory device: a slice without octets");
      parts.push(memory.subarray(row[at]!, row[at]! + row[at + 1]!));
    }
    const bytes = new Uint8Array(Buffer.concat(parts));
    const csumOffset = row[5]!;
    if (csumOffset >= 0) this.#complete(bytes, row[4]!, csumOffset);
    this.#check(bytes, gsoType, gsoSize, csumOffset >= 0);
    return { bytes, gsoType, gsoSize, batch: this.#batch };
  }

  /** The field holds the folded pseudo-header sum; the rest is added as skb_checksum_help does. */
  #complete(bytes: Uint8Array, start: number, offset: number): void {
    if (!this.offload.checksum) throw new Error("memory device: no checksum offload");
    const at = start + offset;
    if (at + 2 > bytes.length) throw new Error("memory device: checksum outside the packet");
    const sum = checksum(bytes.subarray(start));
    const udp = offset === 6;
    new DataView(bytes.buffer).setUint16(at, udp && sum === 0 ? 0xffff : sum);
  }

  #check(bytes: Uint8Array, gsoType: number, gsoSize: number, partial: boolean): void {
    if (bytes.length > 65535 + 40) throw new Error("memory device: more than 65,535 octets");
    const v6 = bytes[0]! >> 4 === 6;
    const kind = gsoType & ~GsoType.ECN;
    if (kind === GsoType.NONE) {
      if (bytes.length > this.mtu) {
        throw new Error(`memory device: ${bytes.length} octets exceed the MTU ${this.mtu}`);
      }
      return;
    }
    if (!partial) throw new Error("memory device: GSO without NEEDS_CSUM");
    const header = superHeader(bytes);
    const allowed =
      kind === GsoType.UDP_L4
        ? header.udp && (v6 ? this.offload.uso6 : this.offload.uso4)
        : kind === (v6 ? GsoType.TCPV6 : GsoType.TCPV4) &&
          !header.udp &&
          (v6 ? this.offload.tso6 : this.offload.tso4);
    if (!allowed) throw new Error(`memory device: gso_type ${gsoType} is not possible here`);
    if (gsoSize <= 0 || header.octets + gsoSize > this.mtu) {
      throw new Error(`memory device: gso_size ${gsoSize} with ${header.octets} header octets`);
    }
    // virtio 1.2 §5.1.6.2.1: only the first of the segments has CWR, and the device has to know.
    if (header.cwr !== ((gsoType & GsoType.ECN) !== 0)) {
      throw new Error(`memory device: gso_type ${gsoType} ${header.cwr ? "with" : "without"} CWR`);
    }
    if (bytes.length - header.octets <= gsoSize) {
      throw new Error("memory device: GSO for a single segment");
    }
  }
}

function superHeader(bytes: Uint8Array): { octets: number; udp: boolean; cwr: boolean } {
  const v6 = bytes[0]! >> 4 === 6;
  const ip = v6 ? 40 : (bytes[0]! & 15) * 4;
  const udp = bytes[v6 ? 6 : 9] === 17;
  const cwr = !udp && (bytes[ip + 13]! & TcpFlag.CWR) !== 0;
  return { octets: ip + (udp ? 8 : (bytes[ip + 12]! >> 4) * 4), udp, cwr };
}

/**
 * The packets a super-segment stands for, as the kernel would cut them: sequence numbers and IPv4
 * identification count up, FIN and PSH only on the last, CWR only on the first. Others come back alone.
 */
export function splitSuperSegment(packet: TakenPacket): Uint8Array[] {
  if (packet.gsoType === GsoType.NONE) return [packet.bytes];
  const whole = decodePacket(packet.bytes);
  if (whole.kind !== "tcp" && whole.kind !== "udp") throw new Error("GSO on neither TCP nor UDP");
  const result: Uint8Array[] = [];
  const { payload } = whole;
  for (let at = 0; at < payload.length; at += packet.gsoSize) {
    const part = payload.subarray(at, at + packet.gsoSize);
    const last = at + part.length === payload.length;
    const id = (whole.id + result.length) & 0xffff;
    if (whole.kind === "udp") result.push(buildUdp({ ...whole, id, payload: part }));
    else {
      let flags = whole.flags;
      if (!last) flags &= ~(TcpFlag.FIN | TcpFlag.PSH);
      if (at > 0) flags &= ~TcpFlag.CWR;
      const seq = (whole.seq + at) >>> 0;
      result.push(buildTcp({ ...whole, id, seq, flags, payload: part }));
    }
  }
  return result;
}

/**
 * What the kernel says about a TCP packet it left to us: checksum not filled in (NEEDS_CSUM), and, with
 * `gsoSize`, that the packet is a super-segment. Rewrites the checksum field of `packet` accordingly.
 */
export function offloadedTcp(packet: Uint8Array, gsoSize: number = 0): PacketMeta {
  const v6 = packet[0]! >> 4 === 6;
  const csumStart = v6 ? 40 : (packet[0]! & 15) * 4;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const octets = packet.length - csumStart;
  const tail = Uint8Array.from([0, 0, octets >> 8, octets & 255, 0, 0, 0, 6]);
  const addresses = v6 ? packet.subarray(8, 40) : packet.subarray(12, 20);
  view.setUint16(csumStart + 16, 0xffff - checksum(addresses, tail));
  const ecn = (packet[csumStart + 13]! & TcpFlag.CWR) === 0 ? 0 : GsoType.ECN;
  const gsoType = gsoSize === 0 ? GsoType.NONE : (v6 ? GsoType.TCPV6 : GsoType.TCPV4) | ecn;
  return { flags: PacketFlag.NEEDS_CSUM, gsoType, gsoSize, csumStart, csumOffset: 16 };
}
