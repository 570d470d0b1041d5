/**
 * The stack: packets in, events out, packets out, and no other effect (see ports.ts for the six invariants).
 *
 *     input × n ──▶ IP ──▶ fragments ──▶ TCP / UDP / ICMP      state changes, resets and opens are told at once
 *     endBatch  ──▶ events: onReadable, onFin, onWritable, onClosed; onBatchEnd       the rx arena is free
 *     flush     ──▶ ICMP, UDP, RSTs, then dirty connections in turn                   until the sink is full
 *
 * Time comes from the wheel it is given, octets from the one memory, and randomness from a secret: the same packets
 * at the same times give the same packets.
 */

import { Reassembler } from "./fragments.ts";
import { handOver, share } from "./hand-over.ts";
import { Icmp } from "./icmp.ts";
import { PagePool } from "./page-pool.ts";
import {
  type Neighbours,
  Owner,
  type PacketSink,
  type StackListener,
  type StackMemory,
  type StackOptions,
} from "./ports.ts";
import { StackStats } from "./stats.ts";
import { DEFAULT_BUDGET } from "./tcp/budget.ts";
import { TcpFlows } from "./tcp/flows.ts";
import type { Timers } from "./timer-wheel.ts";
import { UdpFlows } from "./udp.ts";
import { IpDrop, IpHeader, Protocol, parseIp } from "./wire/ip.ts";

export class Stack {
  readonly stats: StackStats = new StackStats();
  /** Pages of this stack's memory, `limit` of them: the budget (tcp/budget.ts). */
  readonly pages: PagePool;
  readonly #bytes: Uint8Array;
  readonly #ip: IpHeader = new IpHeader();
  readonly #icmp: Icmp;
  readonly #fragments: Reassembler;
  readonly #udp: UdpFlows;
  readonly #tcp: TcpFlows;
  readonly #servesV6: boolean;
  readonly #neighbours: Neighbours | null;

  /** Records of octets in order, out of order, in flight: 0 when no TCP flow holds any. */
  get ranges(): number {
    return this.#tcp.ranges;
  }

  /** Takes the whole page region of `memory`. @throws Error when the options contradict each other. */
  constructor(options: StackOptions, memory: StackMemory, timers: Timers, listener: StackListener) {
    if (options.secret.length < 4) throw new Error("secret: four words are needed");
    const { stats } = this;
    this.#bytes = memory.bytes;
    this.#servesV6 = options.mtu >= MIN_MTU_V6;
    this.#neighbours = options.neighbours ?? null;
    const budget = share(options.memoryBudget ?? DEFAULT_BUDGET, options);
    this.pages = new PagePool(memory, timers, budget);
    this.#icmp = new Icmp(options, memory, this.pages, timers, listener, stats);
    this.#fragments = new Reassembler(
      memory,
      this.pages,
      timers,
      this.#icmp,
      stats,
      options.maxFragmentOctets,
    );
    this.#udp = new UdpFlows(options, memory, timers, listener, this.#icmp, stats);
    this.#tcp = new TcpFlows(options, memory, this.pages, timers, listener, this.#icmp, stats);
  }

  /**
   * Says which packets the next calls of `input` bring: `count` rows of `stride` words, the first two start and length.
   * Changes nothing but the time they take, which is less when flows are many.
   */
  lookAhead(rows: Int32Array, count: number, stride: number): void {
    this.#tcp.lookAhead(rows, count, stride);
  }

  /**
   * One packet at [start, end) of the memory, valid to the end of the batch. `flags`: bits of PacketFlag, and
   * gso_type << 8; `gsoSize` as virtio_net_hdr has it. Never throws, whatever the packet is.
   */
  input(
    start: number,
    end: number,
    flags: number,
    gsoSize: number,
    _csumStart: number,
    _csumOffset: number,
  ): void {
    const { stats } = this;
    const ip = this.#ip;
    stats.packetsIn++;
    const drop = parseIp(this.#bytes, start, end, ip);
    if (drop !== 0) {
      this.#drop(drop, ip);
      return;
    }
    if (ip.version === 6 && !this.#servesV6) {
      stats.ipNotServed++;
      return;
    }
    if (this.#isMartian(ip)) return;
    if (!ip.isFragment) {
      this.#dispatch(ip, flags, gsoSize);
    } else if (this.#isReassembledElsewhere(ip, flags, gsoSize)) {
      return;
    } else if (this.#fragments.input(ip) && !this.#isMartian(ip)) {
      // Only now it is known to be TCP where extension headers were in the fragments.
      this.#dispatch(ip, 0, 0);
    }
  }

  /** Ends the batch: handlers get their events. Afterwards the rx arena is free and no view is valid. */
  endBatch(): void {
    this.#tcp.endBatch();
    this.#udp.endBatch();
    this.#fragments.endBatch();
  }

  /** Emits what waits. False: the sink is full; write it and call again. */
  flush(sink: PacketSink): boolean {
    // ICMP first: an error that refuses an open precedes the RST that follows it.
    return this.#icmp.flush(sink) && this.#udp.flush(sink) && this.#tcp.flush(sink);
  }

  #dispatch(ip: IpHeader, flags: number, gsoSize: number): void {
    switch (ip.protocol) {
      case Protocol.TCP:
        this.#tcp.input(ip, flags, gsoSize);
        return;
      case Protocol.UDP:
        this.#udp.input(ip, flags, flags >> 8, gsoSize);
        return;
      case Protocol.ICMP:
      case Protocol.ICMPV6:
        // Each family has its own; the other's number is a protocol like any unknown one.
        if ((ip.protocol === Protocol.ICMP) === (ip.version === 4)) {
          this.#icmpInput(ip, flags);
          return;
        }
        break;
      case Protocol.NO_NEXT_HEADER:
        if (ip.version === 6) return;
        break;
    }
    this.stats.ipUnknownProtocol++;
    this.#icmp.protocolUnreachable(ip);
  }

  #icmpInput(ip: IpHeader, flags: number): void {
    if (!this.#icmp.input(ip, flags)) return;
    const { message } = this.#icmp;
    if (message.quotedProtocol === Protocol.TCP) this.#tcp.icmpError(message, ip, flags);
  }

  #isReassembledElsewhere(ip: IpHeader, flags: number, gsoSize: number): boolean {
    const neighbours = this.#neighbours;
    if (neighbours === null) return false;
    const owner = neighbours.ownerOfFragment(ip);
    if (owner === Owner.OURS) return false;
    handOver(neighbours, this.stats, owner, ip, flags, gsoSize);
    return true;
  }

  /** Destinations that would reach the proxy's own host or nobody, and packets from ourselves to ourselves. */
  #isMartian(ip: IpHeader): boolean {
    const { src, dst } = ip;
    if (dst.isLoopback || dst.isUnspecified) {
      this.stats.ipMartian++;
      return true;
    }
    if (ip.protocol === Protocol.TCP && (dst.isMartianDestination || dst.isBroadcast)) {
      // Streams have one peer (RFC 9293 §3.9.2.3). UDP and ICMP decide for themselves.
      this.stats.ipMartian++;
      return true;
    }
    if (src.isLoopback || (src.isUnspecified && ip.protocol !== Protocol.UDP)) {
      this.stats.ipMartian++;
      return true;
    }
    if (src.sameAddress(dst)) {
      this.stats.ipLand++;
      return true;
    }
    return false;
  }

  #drop(drop: number, ip: IpHeader): void {
    const { stats } = this;
    switch (drop) {
      case IpDrop.TRUNCATED:
        stats.ipTruncated++;
        break;
      case IpDrop.BAD_VERSION:
        stats.ipBadVersion++;
        break;
      case IpDrop.BAD_HEADER_LENGTH:
        stats.ipBadHeaderLength++;
        break;
      case IpDrop.BAD_CHECKSUM:
        stats.ipBadChecksum++;
        break;
      case IpDrop.BAD_OPTIONS:
        stats.ipBadOptions++;
        break;
      case IpDrop.BAD_EXTENSION:
        stats.ipBadExtension++;
        break;
      case IpDrop.BAD_SOURCE:
        stats.ipBadSource++;
        break;
      case IpDrop.BAD_DESTINATION:
        stats.ipBadDestination++;
        break;
      case IpDrop.JUMBOGRAM:
      case IpDrop.PARAMETER_PROBLEM:
        if (drop === IpDrop.JUMBOGRAM) stats.ipJumbogram++;
        else stats.ipParameterProblem++;
        if (this.#servesV6) this.#icmp.parameterProblem(ip);
        break;
    }
  }
}

/** RFC 8200 §5. */
const MIN_MTU_V6 = 1280;
