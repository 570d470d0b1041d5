/**
 * UDP: one flow per client endpoint (endpoint-independent mapping, RFC 4787 REQ-1), datagrams in and out.
 *
 * In: a datagram, or a super-packet of many (virtio UDP_L4), goes to its flow's handler at once; `onBatchEnd`
 * follows once per flow and batch. Out: datagrams wait in rows; flush joins those of equal size from one source
 * to one client into super-packets where the device takes them, and fragments those above the MTU.
 * Flows are bounded; the longest idle gives way.
 */

import { FlowTable } from "./flow-table.ts";
import { Fragmenter } from "./fragmentation.ts";
import { handOver } from "./hand-over.ts";
import type { Icmp } from "./icmp.ts";
import type { PacketSink, StackListener, StackMemory, StackOptions } from "./ports.ts";
import { GsoType, MAX_SLICES, Owner, PacketFlag } from "./ports.ts";
import type { StackStats } from "./stats.ts";
import type { Timers } from "./timer-wheel.ts";
import { ClientFlow, FlowOrder, type UdpOwner } from "./udp-flow.ts";
import { Endpoint } from "./wire/address.ts";
import { addSums, complement, pseudoHeaderSum, sumOctets } from "./wire/checksum.ts";
import { emitIp, type IpHeader, ipHeaderLength, MAX_PACKET, Protocol } from "./wire/ip.ts";
import { emitUdp, parseUdp, UDP_HEADER, UdpDrop, UdpHeader } from "./wire/udp.ts";

/** Default of `maxUdpFlows`. */
export const MAX_UDP_FLOWS = 65_536;
/** Datagrams that wait for one flush: two system calls' worth of messages that the kernel has joined (UDP_GRO). */
export const MAX_UDP_QUEUE = 8192;

export class UdpFlows implements UdpOwner {
  readonly timers: Timers;
  readonly icmp: Icmp;
  readonly listener: StackListener;
  readonly stats: StackStats;
  readonly #options: StackOptions;
  readonly #bytes: Uint8Array;
  readonly #table: FlowTable;
  readonly #flows: (ClientFlow | undefined)[] = [];
  readonly #order: FlowOrder = new FlowOrder();
  readonly #fragmenter: Fragmenter;
  #id: number;

  readonly #header: UdpHeader = new UdpHeader();
  readonly #client: Endpoint = new Endpoint();
  readonly #target: Endpoint = new Endpoint();
  /** Flows with datagrams in this batch, linked by `nextInBatch`. */
  #batch: ClientFlow | null = null;

  /** Datagrams to send: client and source with ports, start, end. */
  readonly #rows: Int32Array = new Int32Array(MAX_UDP_QUEUE * ROW);
  #count = 0;
  /** Rows that have left already. */
  #sent = 0;
  readonly #prefix: Uint8Array = new Uint8Array(UDP_HEADER);

  constructor(
    options: StackOptions,
    memory: StackMemory,
    timers: Timers,
    listener: StackListener,
    icmp: Icmp,
    stats: StackStats,
  ) {
    this.timers = timers;
    this.icmp = icmp;
    this.listener = listener;
    this.stats = stats;
    this.#options = options;
    this.#bytes = memory.bytes;
    this.#table = new FlowTable(options.secret, options.maxUdpFlows ?? MAX_UDP_FLOWS);
    this.#fragmenter = new Fragmenter(memory.bytes, options.mtu, options.secret[3]);
    this.#id = options.secret[3] & 0xffff;
  }

  /** Datagrams wait for flush. */
  get isDirty(): boolean {
    return this.#count > 0;
  }

  /**
   * Takes the UDP packet `ip` describes; `flags` are 0 for a reassembled one, gsoType and gsoSize as the device
   * gave them.
   */
  input(ip: IpHeader, flags: number, gsoType: number, gsoSize: number): void {
    if (!this.#accepts(ip, flags)) return;
    const header = this.#header;
    const start = ip.payloadStart + UDP_HEADER;
    const end = ip.payloadStart + header.length;
    const isSuper = (gsoType & ~GsoType.ECN) === GsoType.UDP_L4;
    const segment = isSuper && gsoSize > 0 && gsoSize < end - start ? gsoSize : 0;
    this.#client.copy(ip.src).port = header.srcPort;
    this.#target.copy(ip.dst).port = header.dstPort;

    const index = this.#table.find(this.#client, NOWHERE);
    if (index < 0 && this.#isElsewhere(ip, flags, gsoSize)) return;
    this.stats.udpDatagramsIn += segment > 0 ? Math.ceil((end - start) / segment) : 1;
    const flow = index >= 0 ? (this.#flows[index] as ClientFlow) : this.#open(ip);
    if (flow === null) return;
    if (index >= 0) flow.remember(this.#bytes, ip, this.#target);
    this.touch(flow);
    if (!flow.isInBatch) {
      flow.isInBatch = true;
      flow.nextInBatch = this.#batch;
      this.#batch = flow;
    }
    flow.handler?.onDatagram(this.#target, start, end, segment);
  }

  /** Calls onBatchEnd once per handler that got datagrams since the last call. */
  endBatch(): void {
    let flow = this.#batch;
    this.#batch = null;
    while (flow !== null) {
      const next: ClientFlow | null = flow.nextInBatch;
      flow.isInBatch = false;
      flow.nextInBatch = null;
      if (flow.isOpen) flow.handler?.onBatchEnd();
      flow = next;
    }
  }

  /** Emits what waits. False: the sink is full; write it and call again. */
  flush(sink: PacketSink): boolean {
    while (this.#sent < this.#count) {
      const datagrams = this.#emit(this.#sent, sink);
      if (datagrams === 0) return false;
      this.stats.udpDatagramsOut += datagrams;
      this.#sent += datagrams;
    }
    this.#count = 0;
    this.#sent = 0;
    return true;
  }

  /** See {@link UdpOwner}. */
  queue(flow: ClientFlow, from: Endpoint, start: number, end: number): boolean {
    const client = flow.client;
    const stats = this.stats;
    if (from.isV4 !== client.isV4) {
      stats.udpWrongFamily++;
      return false;
    }
    if (end - start > MAX_PACKET - UDP_HEADER - (from.isV4 ? ipHeaderLength(from) : 0)) {
      stats.udpTooLong++;
      return false;
    }
    if (this.#count === MAX_UDP_QUEUE) {
      stats.udpQueueFull++;
      return false;
    }
    const rows = this.#rows;
    const at = this.#count * ROW;
    rows[at] = client.w0;
    rows[at + 1] = client.w1;
    rows[at + 2] = client.w2;
    rows[at + 3] = client.w3;
    rows[at + 4] = from.w0;
    rows[at + 5] = from.w1;
    rows[at + 6] = from.w2;
    rows[at + 7] = from.w3;
    rows[at + 8] = (client.port << 16) | from.port;
    rows[at + 9] = start;
    rows[at + 10] = end;
    this.#count++;
    this.touch(flow);
    this.listener.onDirty();
    return true;
  }

  /** See {@link UdpOwner}. */
  touch(flow: ClientFlow): void {
    this.#order.moveToEnd(flow);
    this.timers.set(flow.timer, this.timers.now() + flow.timeout);
  }

  /** See {@link UdpOwner}. */
  remove(flow: ClientFlow): void {
    this.#order.remove(flow);
    this.timers.clear(flow.timer);
    this.#table.remove(flow.index);
    this.#flows[flow.index] = undefined;
    this.stats.udpFlows = this.#table.size;
    this.#options.neighbours?.release(flow.client, NOWHERE);
  }

  /** Parses header and checksum; counts what cannot be used. */
  #accepts(ip: IpHeader, flags: number): boolean {
    const stats = this.stats;
    const header = this.#header;
    const drop = parseUdp(this.#bytes, ip.payloadStart, ip.totalEnd, header);
    if (drop !== 0) {
      if (drop === UdpDrop.TRUNCATED) stats.udpTruncated++;
      else stats.udpBadLength++;
      return false;
    }
    const hasChecksum = header.checksum !== 0;
    if (
      header.srcPort === 0 ||
      header.dstPort === 0 ||
      ip.src.isUnspecified ||
      ip.dst.isMartianDestination ||
      (!hasChecksum && ip.version === 6)
    ) {
      stats.udpMalformed++;
      return false;
    }
    if (hasChecksum && (flags & (PacketFlag.NEEDS_CSUM | PacketFlag.DATA_VALID)) === 0) {
      const pseudo = pseudoHeaderSum(ip.src, ip.dst, Protocol.UDP, header.length);
      const start = ip.payloadStart;
      if (sumOctets(this.#bytes, start, start + header.length, pseudo) !== 0xffff) {
        stats.udpBadChecksum++;
        return false;
      }
    }
    return true;
  }

  /** A neighbour has the flow of this client, and is given the packet; else the client is ours from now on. */
  #isElsewhere(ip: IpHeader, flags: number, gsoSize: number): boolean {
    const { neighbours } = this.#options;
    if (neighbours === undefined) return false;
    const owner = neighbours.claim(this.#client, NOWHERE);
    if (owner === Owner.OURS) return false;
    handOver(neighbours, this.stats, owner, ip, flags, gsoSize);
    return true;
  }

  /** A flow for a new client endpoint; null: the listener does not want it. */
  #open(ip: IpHeader): ClientFlow | null {
    if (this.#table.size >= this.#table.bound) {
      this.stats.udpFlowsEvicted++;
      this.#order.first().end();
    }
    const index = this.#table.insert(this.#client, NOWHERE);
    const flow = new ClientFlow(this, this.#client, index, this.#options.udpTimeout);
    this.#flows[index] = flow;
    this.stats.udpFlows = this.#table.size;
    this.touch(flow);
    flow.remember(this.#bytes, ip, this.#target);
    const handler = this.listener.onUdpOpen(flow, this.#target);
    if (!flow.isOpen) return null;
    if (handler === null) {
      this.stats.udpNotAccepted++;
      flow.close();
      return null;
    }
    flow.handler = handler;
    this.stats.udpFlowsOpened++;
    return flow;
  }

  /** Emits the datagrams from row `first` on that fit into one packet. Returns their number; 0: no room. */
  #emit(first: number, sink: PacketSink): number {
    const rows = this.#rows;
    const at = first * ROW;
    const client = this.#client;
    const from = this.#target;
    const ports = rows[at + 8];
    client.set(rows[at], rows[at + 1], rows[at + 2], rows[at + 3], ports >>> 16);
    from.set(rows[at + 4], rows[at + 5], rows[at + 6], rows[at + 7], ports & 0xffff);
    const start = rows[at + 9];
    const size = rows[at + 10] - start;
    const ipHeader = ipHeaderLength(client);
    if (ipHeader + UDP_HEADER + size > this.#options.mtu) {
      return this.#emitFragments(start, size, sink) ? 1 : 0;
    }

    const run = this.#runLength(first, size, MAX_PACKET - ipHeader - UDP_HEADER);
    const header = sink.reserve(ipHeader + UDP_HEADER);
    if (header < 0) return 0;
    let octets = 0;
    for (let row = first; row < first + run; row++) {
      octets += rows[row * ROW + 10] - rows[row * ROW + 9];
    }
    const length = UDP_HEADER + octets;
    const bytes = this.#bytes;
    const isPartial = this.#options.offload.checksum;
    emitIp(bytes, header, from, client, Protocol.UDP, 0, this.#id, length);
    this.#id = (this.#id + run) & 0xffff;
    const sum = pseudoHeaderSum(from, client, Protocol.UDP, length);
    emitUdp(bytes, header + ipHeader, from.port, client.port, length, isPartial ? sum : 0);
    // Without checksum offload there are no super-packets: the payload is one slice.
    if (!isPartial) this.#writeChecksum(header + ipHeader, start, size, sum);
    this.#attach(first, run, sink);
    if (run > 1) sink.commit(GsoType.UDP_L4, size, ipHeader, CHECKSUM_OFFSET);
    else sink.commit(GsoType.NONE, 0, isPartial ? ipHeader : 0, isPartial ? CHECKSUM_OFFSET : -1);
    return run;
  }

  /** How many rows from `first` on make one super-packet; 1: none. */
  #runLength(first: number, size: number, most: number): number {
    const { offload } = this.#options;
    const isV4 = this.#client.isV4;
    if (size === 0 || !offload.checksum || !(isV4 ? offload.uso4 : offload.uso6)) return 1;
    const rows = this.#rows;
    let octets = size;
    let slices = 1;
    let row = first + 1;
    const last = Math.min(this.#count, first + MAX_SEGMENTS);
    for (; row < last; row++) {
      const at = row * ROW;
      const octetsHere = rows[at + 10] - rows[at + 9];
      if (octetsHere === 0 || octetsHere > size || octets + octetsHere > most) break;
      if (!this.#hasSameEnds(first, row)) break;
      if (rows[at + 9] !== rows[at - ROW + 10] && ++slices > MAX_SLICES) break;
      octets += octetsHere;
      // Only the last segment may be shorter.
      if (octetsHere < size) return row + 1 - first;
    }
    return row - first;
  }

  #hasSameEnds(a: number, b: number): boolean {
    const rows = this.#rows;
    for (let word = 0; word < 9; word++) {
      if (rows[a * ROW + word] !== rows[b * ROW + word]) return false;
    }
    return true;
  }

  /** Attaches the payloads; neighbours in memory become one slice. */
  #attach(first: number, run: number, sink: PacketSink): void {
    const rows = this.#rows;
    let start = rows[first * ROW + 9];
    let end = rows[first * ROW + 10];
    for (let row = first + 1; row < first + run; row++) {
      if (rows[row * ROW + 9] !== end) {
        sink.attach(start, end);
        start = rows[row * ROW + 9];
      }
      end = rows[row * ROW + 10];
    }
    if (end > start) sink.attach(start, end);
  }

  #emitFragments(start: number, size: number, sink: PacketSink): boolean {
    const from = this.#target;
    const client = this.#client;
    const prefix = this.#prefix;
    const length = UDP_HEADER + size;
    let sum = pseudoHeaderSum(from, client, Protocol.UDP, length);
    emitUdp(prefix, 0, from.port, client.port, length, 0);
    sum = sumOctets(prefix, 0, UDP_HEADER, sum);
    const checksum = complement(sumOctets(this.#bytes, start, start + size, sum)) || 0xffff;
    emitUdp(prefix, 0, from.port, client.port, length, checksum);
    const end = start + size;
    const isWhole = this.#fragmenter.emit(from, client, Protocol.UDP, prefix, start, end, sink);
    if (isWhole) this.stats.udpFragmented++;
    return isWhole;
  }

  #writeChecksum(at: number, start: number, size: number, pseudo: number): void {
    const header = sumOctets(this.#bytes, at, at + UDP_HEADER, pseudo);
    const sum = addSums(header, sumOctets(this.#bytes, start, start + size));
    const checksum = complement(sum) || 0xffff;
    this.#bytes[at + CHECKSUM_OFFSET] = checksum >> 8;
    this.#bytes[at + CHECKSUM_OFFSET + 1] = checksum;
  }
}

/** Int32 per row: client and source words, ports, start, end. */
const ROW = 11;
/** Of one super-packet; Linux takes 128 (UDP_MAX_SEGMENTS, include/linux/udp.h), older kernels 64. */
const MAX_SEGMENTS = 64;
/** Of the checksum in the UDP header. */
const CHECKSUM_OFFSET = 6;
/** The second half of the key: flows are found by their client alone. */
const NOWHERE: Endpoint = new Endpoint();
