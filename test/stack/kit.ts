/**
 * What tests of the parts of the stack need: a memory, a wheel, a sink that keeps packets, packet builders.
 */

import { plainMemory } from "../../src/memory.ts";
import { Icmp } from "../../src/stack/icmp.ts";
import { PagePool } from "../../src/stack/page-pool.ts";
import type {
  DeviceOffload,
  PacketSink,
  StackListener,
  StackMemory,
  StackOptions,
} from "../../src/stack/ports.ts";
import { StackStats } from "../../src/stack/stats.ts";
import { TimerWheel } from "../../src/stack/timer-wheel.ts";
import { type Endpoint, parseAddress } from "../../src/stack/wire/address.ts";
import { complement, pseudoHeaderSum, sumOctets } from "../../src/stack/wire/checksum.ts";
import { emitIcmp } from "../../src/stack/wire/icmp.ts";
import { emitIp, emitIpv4, emitIpv6, ipHeaderLength, Protocol } from "../../src/stack/wire/ip.ts";
import { write16, write32 } from "../../src/stack/wire/octets.ts";
import { emitUdp } from "../../src/stack/wire/udp.ts";

export const NO_OFFLOAD: DeviceOffload = {
  checksum: false,
  tso4: false,
  tso6: false,
  uso4: false,
  uso6: false,
};
export const FULL_OFFLOAD: DeviceOffload = {
  checksum: true,
  tso4: true,
  tso6: true,
  uso4: true,
  uso6: true,
};

/** `10.0.0.1:80`, `[::1]:80`, or an address alone. */
export function endpoint(text: string): Endpoint {
  const match = /^(?:\[(.*)\]|([^:]*)):(\d+)$/.exec(text);
  const address = parseAddress(match === null ? text : (match[1] ?? match[2]));
  if (address === null) throw new Error(`bad endpoint ${text}`);
  address.port = match === null ? 0 : Number(match[3]);
  return address;
}

export function options(changes: Partial<StackOptions> = {}): StackOptions {
  return {
    mtu: 1500,
    offload: NO_OFFLOAD,
    secret: Uint32Array.of(1, 2, 3, 4),
    ownAddresses: [endpoint("198.18.0.1"), endpoint("fd00:18::1")],
    icmp: "own",
    udpTimeout: 300_000,
    ...changes,
  };
}

export interface SentPacket {
  /** Headers and payload joined. */
  readonly bytes: Uint8Array;
  readonly gsoType: number;
  readonly gsoSize: number;
  readonly csumStart: number;
  readonly csumOffset: number;
  readonly slices: number;
}

/** Keeps packets as the device would see them; full after `room` packets until `packets` is emptied. */
export class KeepingSink implements PacketSink {
  packets: SentPacket[] = [];
  room = 1000;
  readonly #memory: Uint8Array;
  readonly #headersAt: number;
  #length = 0;
  #slices: [number, number][] = [];

  constructor(memory: Uint8Array, headersAt: number) {
    this.#memory = memory;
    this.#headersAt = headersAt;
  }

  reserve(octets: number): number {
    if (octets > 256) throw new Error(`${octets} octets of headers`);
    if (this.packets.length >= this.room) return -1;
    this.#length = octets;
    this.#slices = [];
    // Stale octets must not look like written ones.
    this.#memory.fill(0xaa, this.#headersAt, this.#headersAt + 256);
    return this.#headersAt;
  }

  attach(start: number, end: number): void {
    if (end <= start) throw new Error("an empty slice");
    this.#slices.push([start, end]);
  }

  commit(gsoType: number, gsoSize: number, csumStart: number, csumOffset: number): void {
    const parts = [this.#memory.slice(this.#headersAt, this.#headersAt + this.#length)];
    for (const [start, end] of this.#slices) parts.push(this.#memory.slice(start, end));
    const bytes = Uint8Array.from(Buffer.concat(parts));
    const slices = this.#slices.length;
    this.packets.push({ bytes, gsoType, gsoSize, csumStart, csumOffset, slices });
  }

  take(): SentPacket[] {
    const packets = this.packets;
    this.packets = [];
    return packets;
  }
}

/** Where the regions of every memory lie. */
const LAYOUT = plainMemory(8 << 20);

/** Everything around a part of the stack. */
export class Kit {
  readonly memory: StackMemory;
  readonly wheel: TimerWheel = new TimerWheel();
  readonly pages: PagePool;
  readonly stats: StackStats = new StackStats();
  readonly options: StackOptions;
  readonly sink: KeepingSink;
  readonly icmp: Icmp;
  readonly released: [number, number][] = [];
  dirty = 0;
  listener: StackListener = {
    onTcpOpen: () => null,
    onUdpOpen: () => null,
    onDirty: () => {
      this.dirty++;
    },
  };

  constructor(changes: Partial<StackOptions> = {}, pageOctets = 8 << 20) {
    const pagesEnd = LAYOUT.pagesStart + pageOctets;
    const bytes = new Uint8Array(pagesEnd);
    const released = (start: number, end: number) => this.released.push([start, end]);
    this.memory = { bytes, pagesStart: LAYOUT.pagesStart, pagesEnd, released };
    this.options = options(changes);
    this.pages = new PagePool(this.memory, this.wheel);
    this.sink = new KeepingSink(bytes, LAYOUT.headersStart);
    const listener: StackListener = {
      onTcpOpen: (connection) => this.listener.onTcpOpen(connection),
      onUdpOpen: (flow, target) => this.listener.onUdpOpen(flow, target),
      onDirty: () => this.listener.onDirty(),
    };
    this.forward = listener;
    this.icmp = new Icmp(this.options, this.memory, this.pages, this.wheel, listener, this.stats);
  }

  /** Hands on to `listener`, which tests may replace. */
  readonly forward: StackListener;

  get bytes(): Uint8Array {
    return this.memory.bytes;
  }

  /** Puts a packet into the rx arena, which starts at 0. Returns its end. */
  put(packet: Uint8Array, at = 0): number {
    this.bytes.set(packet, at);
    return at + packet.length;
  }
}

/** The octets 0, 1, 2 … from `first` on. */
export function counting(length: number, first = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => first + i);
}

/** An IP packet of either family with a correct header. */
export function ipPacket(
  src: Endpoint,
  dst: Endpoint,
  protocol: number,
  body: Uint8Array,
): Uint8Array {
  const header = ipHeaderLength(dst);
  const packet = new Uint8Array(header + body.length);
  emitIp(packet, 0, src, dst, protocol, 0, 7, body.length);
  packet.set(body, header);
  return packet;
}

/** UDP header and payload with a correct checksum. */
export function udpBody(src: Endpoint, dst: Endpoint, payload: Uint8Array): Uint8Array {
  const body = new Uint8Array(8 + payload.length);
  body.set(payload, 8);
  emitUdp(body, 0, src.port, dst.port, body.length, 0);
  const sum = sumOctets(body, 0, body.length, pseudoHeaderSum(src, dst, 17, body.length));
  write16(body, 6, complement(sum) || 0xffff);
  return body;
}

export function udpPacket(src: Endpoint, dst: Endpoint, payload: Uint8Array): Uint8Array {
  return ipPacket(src, dst, Protocol.UDP, udpBody(src, dst, payload));
}

export function icmpPacket(
  src: Endpoint,
  dst: Endpoint,
  type: number,
  code: number,
  rest: number,
  payload: Uint8Array,
): Uint8Array {
  const body = new Uint8Array(8 + payload.length);
  body.set(payload, 8);
  const protocol = dst.isV4 ? Protocol.ICMP : Protocol.ICMPV6;
  const sum = dst.isV4 ? 0 : pseudoHeaderSum(src, dst, protocol, body.length);
  emitIcmp(body, 0, body.length, type, code, rest, sum);
  return ipPacket(src, dst, protocol, body);
}

/** One fragment of an upper-layer body: octets [from, to) of it. */
export function fragment(
  src: Endpoint,
  dst: Endpoint,
  protocol: number,
  id: number,
  body: Uint8Array,
  from: number,
  to: number,
  more: boolean = to < body.length,
): Uint8Array {
  const data = body.subarray(from, to);
  if (dst.isV4) {
    const packet = new Uint8Array(20 + data.length);
    const field = (from >> 3) | (more ? 0x2000 : 0);
    emitIpv4(packet, 0, src, dst, protocol, 64, 0, id, field, packet.length);
    packet.set(data, 20);
    return packet;
  }
  const packet = new Uint8Array(48 + data.length);
  emitIpv6(packet, 0, src, dst, Protocol.FRAGMENT, 64, 0, 8 + data.length);
  packet[40] = protocol;
  write16(packet, 42, from | (more ? 1 : 0));
  write32(packet, 44, id);
  packet.set(data, 48);
  return packet;
}
