/**
 * ICMP and ICMPv6 of the stack: answers echo, tells about refused packets, parses errors for TCP.
 *
 * Messages are queued whole (their memory is copied, checksums are complete) and leave in flush. Errors keep
 * RFC 1122 §3.2.2 and RFC 4443 §2.4: none about errors, multicast, broadcast or later fragments. Refusals of
 * flows are the relay's answers and always leave; whatever a single stray packet provokes is rate-limited.
 */

import { Fragmenter } from "./fragmentation.ts";
import { share } from "./hand-over.ts";
import { type PagePool, SMALL_PAGE } from "./page-pool.ts";
import type {
  PacketSink,
  RefuseReason,
  StackListener,
  StackMemory,
  StackOptions,
} from "./ports.ts";
import { PacketFlag } from "./ports.ts";
import type { StackStats } from "./stats.ts";
import type { Timers } from "./timer-wheel.ts";
import { Endpoint } from "./wire/address.ts";
import { pseudoHeaderSum } from "./wire/checksum.ts";
import {
  emitIcmp,
  FRAGMENTATION_NEEDED,
  ICMP_HEADER,
  IcmpDrop,
  IcmpKind,
  IcmpMessage,
  IcmpType,
  Icmpv6Type,
  parseIcmp,
} from "./wire/icmp.ts";
import { emitIp, type IpHeader, ipHeaderLength, Protocol } from "./wire/ip.ts";

/** Messages that wait for one flush. */
export const MAX_ICMP_QUEUE = 256;

export class Icmp {
  /** The error that `input` last returned true for. */
  readonly message: IcmpMessage = new IcmpMessage();
  readonly #options: StackOptions;
  readonly #bytes: Uint8Array;
  readonly #pages: PagePool;
  readonly #timers: Timers;
  readonly #listener: StackListener;
  readonly #stats: StackStats;
  readonly #fragmenter: Fragmenter;

  /** Short messages lie here, one row each; long ones in a page of their own. */
  readonly #inline: Uint8Array = new Uint8Array(MAX_ICMP_QUEUE * INLINE);
  readonly #src: Endpoint[] = [];
  readonly #dst: Endpoint[] = [];
  readonly #length: Int32Array = new Int32Array(MAX_ICMP_QUEUE);
  /** -1: inline. */
  readonly #page: Int32Array = new Int32Array(MAX_ICMP_QUEUE);
  #count = 0;
  /** Messages that have left already. */
  #sent = 0;
  /** Pages of messages emitted by the last flush: the device has read them by the next. */
  readonly #leaving: Int32Array = new Int32Array(MAX_ICMP_QUEUE);
  #leavingCount = 0;
  #bigPages = 0;
  /** Where the body of the message being built goes. */
  #target: Uint8Array;
  #at = 0;
  readonly #burst: number;
  #tokens: number;
  #refilledAt: number;

  constructor(
    options: StackOptions,
    memory: StackMemory,
    pages: PagePool,
    timers: Timers,
    listener: StackListener,
    stats: StackStats,
  ) {
    this.#options = options;
    this.#bytes = memory.bytes;
    this.#pages = pages;
    this.#timers = timers;
    this.#listener = listener;
    this.#stats = stats;
    this.#fragmenter = new Fragmenter(memory.bytes, options.mtu, options.secret[2]);
    this.#target = this.#inline;
    this.#burst = share(ERROR_BURST, options);
    this.#tokens = this.#burst;
    this.#refilledAt = timers.now();
    for (let i = 0; i < MAX_ICMP_QUEUE; i++) {
      this.#src.push(new Endpoint());
      this.#dst.push(new Endpoint());
    }
  }

  /** Messages wait for flush. */
  get isDirty(): boolean {
    return this.#count > 0;
  }

  /**
   * Takes the ICMP packet `ip` describes. Echo is answered here. True: `message` is an error about a packet
   * of ours, for the stack to hand to its flow.
   */
  input(ip: IpHeader, flags: number): boolean {
    const stats = this.#stats;
    const message = this.message;
    stats.icmpIn++;
    const verify = (flags & (PacketFlag.NEEDS_CSUM | PacketFlag.DATA_VALID)) === 0;
    const drop = parseIcmp(this.#bytes, ip, verify, message);
    if (drop !== 0) {
      if (drop === IcmpDrop.TRUNCATED) stats.icmpTruncated++;
      else stats.icmpBadChecksum++;
      return false;
    }
    if (message.kind >= IcmpKind.ERROR) {
      stats.icmpErrorsIn++;
      return true;
    }
    if (message.kind === IcmpKind.ECHO && this.#answersEcho(ip)) this.#reply(ip);
    else stats.icmpIgnored++;
    return false;
  }

  /**
   * Queues the error that says `reason` from `from` (the refused destination) to `to`, about the packet in
   * quote[start, end), copied. Never rate-limited. False: the queue is full. Flushed before TCP, so that the
   * RST that follows an error follows in the same batch.
   */
  refuse(
    reason: RefuseReason,
    from: Endpoint,
    to: Endpoint,
    quote: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    const typeAndCode = to.isV4 ? REFUSE_ICMP[reason] : REFUSE_ICMPV6[reason];
    return this.#queueError(typeAndCode >> 8, typeAndCode & 0xff, 0, from, to, quote, start, end);
  }

  /** Like {@link refuse}: fragmentation needed (RFC 1191) or packet too big, with `mtu`. */
  tooBig(
    mtu: number,
    from: Endpoint,
    to: Endpoint,
    quote: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    const type = to.isV4 ? IcmpType.DESTINATION_UNREACHABLE : Icmpv6Type.PACKET_TOO_BIG;
    const code = to.isV4 ? FRAGMENTATION_NEEDED : 0;
    const rest = to.isV4 ? Math.min(mtu, 0xffff) : mtu;
    return this.#queueError(type, code, rest, from, to, quote, start, end);
  }

  /**
   * Queues an error about the packet `ip` describes, in the name of its destination. False: forbidden,
   * above the rate, or no room.
   */
  error(type: number, code: number, rest: number, ip: IpHeader): boolean {
    if (!this.#mayProvokeError(ip)) {
      this.#stats.icmpForbidden++;
      return false;
    }
    if (!this.takeToken()) return false;
    const most = ip.version === 4 ? QUOTE_V4 : QUOTE_V6;
    const entry = this.#open(ip.dst, ip.src, ICMP_HEADER + quoteLength(ip, most));
    if (entry < 0) return false;
    copyQuote(this.#bytes, ip, this.#target, this.#at + ICMP_HEADER, most);
    this.#close(entry, type, code, rest);
    this.#stats.icmpErrorsOut++;
    return true;
  }

  /** Nobody here speaks the upper layer: RFC 1122 §3.2.2.1, RFC 8200 §4. */
  protocolUnreachable(ip: IpHeader): boolean {
    if (ip.version === 4) return this.error(IcmpType.DESTINATION_UNREACHABLE, 2, 0, ip);
    return this.error(Icmpv6Type.PARAMETER_PROBLEM, 1, ip.protocolPointer, ip);
  }

  /** What IpDrop.PARAMETER_PROBLEM asks for (RFC 4443 §3.4). */
  parameterProblem(ip: IpHeader): boolean {
    return this.error(Icmpv6Type.PARAMETER_PROBLEM, ip.problemCode, ip.problemPointer, ip);
  }

  /** False: too many errors of late (RFC 4443 §2.4 (f)); counted. */
  takeToken(): boolean {
    const now = this.#timers.now();
    const refill = ((now - this.#refilledAt) * this.#burst) / 1000;
    this.#tokens = Math.min(this.#burst, this.#tokens + refill);
    this.#refilledAt = now;
    if (this.#tokens < 1) {
      this.#stats.icmpRateLimited++;
      return false;
    }
    this.#tokens--;
    return true;
  }

  /** Emits what waits. False: the sink is full; write it and call again. */
  flush(sink: PacketSink): boolean {
    for (let i = 0; i < this.#leavingCount; i++) this.#pages.free(this.#leaving[i]);
    this.#leavingCount = 0;
    while (this.#sent < this.#count) {
      if (!this.#emit(this.#sent, sink)) return false;
      this.#sent++;
    }
    this.#count = 0;
    this.#sent = 0;
    this.#bigPages = 0;
    return true;
  }

  #emit(entry: number, sink: PacketSink): boolean {
    const src = this.#src[entry];
    const dst = this.#dst[entry];
    const length = this.#length[entry];
    const page = this.#page[entry];
    const protocol = dst.isV4 ? Protocol.ICMP : Protocol.ICMPV6;
    const header = ipHeaderLength(dst);
    if (header + length > this.#options.mtu) {
      const whole = this.#fragmenter.emit(src, dst, protocol, NO_PREFIX, page, page + length, sink);
      if (!whole) return false;
    } else {
      const at = sink.reserve(page < 0 ? header + length : header);
      if (at < 0) return false;
      emitIp(this.#bytes, at, src, dst, protocol, 0, 0, length);
      if (page < 0) {
        const from = entry * INLINE;
        for (let i = 0; i < length; i++) this.#bytes[at + header + i] = this.#inline[from + i];
      } else {
        sink.attach(page, page + length);
      }
      sink.commit(0, 0, 0, -1);
    }
    if (page >= 0) this.#leaving[this.#leavingCount++] = page;
    return true;
  }

  #answersEcho(ip: IpHeader): boolean {
    const mode = this.#options.icmp;
    if (mode === "off" || ip.dst.isMartianDestination || ip.src.isUnspecified) return false;
    if (mode === "reply") return true;
    for (const own of this.#options.ownAddresses) if (own.sameAddress(ip.dst)) return true;
    return false;
  }

  /** RFC 1122 §3.2.2.6, RFC 4443 §4.2: the same data, addresses swapped. */
  #reply(ip: IpHeader): void {
    this.#stats.icmpEchoIn++;
    const length = ip.totalEnd - ip.payloadStart;
    const entry = this.#open(ip.dst, ip.src, length);
    if (entry < 0) return;
    const bytes = this.#bytes;
    const target = this.#target;
    if (target === bytes) {
      bytes.copyWithin(this.#at, ip.payloadStart, ip.totalEnd);
    } else {
      for (let i = 0; i < length; i++) target[this.#at + i] = bytes[ip.payloadStart + i];
    }
    const type = ip.version === 4 ? IcmpType.ECHO_REPLY : Icmpv6Type.ECHO_REPLY;
    this.#close(entry, type, 0, this.message.rest);
    this.#stats.icmpEchoOut++;
  }

  #queueError(
    type: number,
    code: number,
    rest: number,
    from: Endpoint,
    to: Endpoint,
    quote: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    const length = Math.min(end - start, to.isV4 ? QUOTE_V4 : QUOTE_V6);
    const entry = this.#open(from, to, ICMP_HEADER + length);
    if (entry < 0) return false;
    const at = this.#at + ICMP_HEADER;
    for (let i = 0; i < length; i++) this.#target[at + i] = quote[start + i];
    this.#close(entry, type, code, rest);
    this.#stats.icmpErrorsOut++;
    return true;
  }

  /** RFC 1122 §3.2.2, RFC 4443 §2.4 (e). */
  #mayProvokeError(ip: IpHeader): boolean {
    const { src, dst } = ip;
    if (ip.fragmentOffset !== 0 || src.isUnspecified || src.isLoopback || src.isMulticast)
      return false;
    // The error leaves in the name of the destination: no host has these.
    if (dst.isMartianDestination || dst.isBroadcast || dst.isLoopback || src.sameAddress(dst))
      return false;
    const type = this.#bytes[ip.payloadStart];
    if (ip.version === 4) return ip.protocol !== Protocol.ICMP || type === IcmpType.ECHO;
    return ip.protocol !== Protocol.ICMPV6 || type === Icmpv6Type.ECHO_REQUEST;
  }

  /** An entry for a message of `length` octets, to be written at #target[#at]; -1: no room, counted. */
  #open(src: Endpoint, dst: Endpoint, length: number): number {
    if (this.#count === MAX_ICMP_QUEUE || (length > SMALL_PAGE && this.#bigPages === MAX_BIG)) {
      this.#stats.icmpQueueFull++;
      return -1;
    }
    const entry = this.#count;
    this.#page[entry] = -1;
    this.#target = this.#inline;
    this.#at = entry * INLINE;
    if (length > INLINE || length + ipHeaderLength(dst) > this.#options.mtu) {
      const isBig = length > SMALL_PAGE;
      const page = isBig ? this.#pages.allocate64K() : this.#pages.allocate4K();
      if (page < 0) {
        this.#stats.icmpNoMemory++;
        return -1;
      }
      if (isBig) this.#bigPages++;
      this.#page[entry] = page;
      this.#target = this.#bytes;
      this.#at = page;
    }
    this.#src[entry].copy(src);
    this.#dst[entry].copy(dst);
    this.#length[entry] = length;
    this.#count++;
    return entry;
  }

  #close(entry: number, type: number, code: number, rest: number): void {
    const src = this.#src[entry];
    const dst = this.#dst[entry];
    const length = this.#length[entry];
    const pseudo = dst.isV4 ? 0 : pseudoHeaderSum(src, dst, Protocol.ICMPV6, length);
    emitIcmp(this.#target, this.#at, this.#at + length, type, code, rest, pseudo);
    this.#listener.onDirty();
  }
}

/** Octets {@link copyQuote} would copy. */
function quoteLength(ip: IpHeader, limit: number): number {
  const header = ip.start >= 0 ? ip.headerLength : ipHeaderLength(ip.dst);
  return Math.min(header + ip.totalEnd - ip.payloadStart, limit);
}

/**
 * Copies what an error quotes of the packet `ip` describes to to[at …], at most `limit` octets: its IP header
 * and what follows. The header is written anew where the packet has none (reassembled) or where its options
 * would leave no room for eight octets of the upper layer. Returns the octets copied.
 */
export function copyQuote(
  bytes: Uint8Array,
  ip: IpHeader,
  to: Uint8Array,
  at: number,
  limit: number,
): number {
  let from = ip.start;
  let copied = 0;
  if (ip.start < 0 || ip.headerLength + 8 > limit) {
    const payload = ip.totalEnd - ip.payloadStart;
    copied = emitIp(to, at, ip.src, ip.dst, ip.protocol, ip.trafficClass, ip.id, payload);
    from = ip.payloadStart;
  }
  const length = Math.min(copied + ip.totalEnd - from, limit);
  for (; copied < length; copied++, from++) to[at + copied] = bytes[from];
  return length;
}

/** Type << 8 | code of each reason (RFC 792, RFC 1812 §5.2.7.1). TCP says "reset" by an RST alone. */
const REFUSE_ICMP: Readonly<Record<RefuseReason, number>> = {
  reset: 0x0303,
  "net-unreachable": 0x0300,
  "host-unreachable": 0x0301,
  prohibited: 0x030d,
  "ttl-exceeded": 0x0b00,
  "port-unreachable": 0x0303,
};

/** The same of ICMPv6 (RFC 4443 §3.1, §3.3). */
const REFUSE_ICMPV6: Readonly<Record<RefuseReason, number>> = {
  reset: 0x0104,
  "net-unreachable": 0x0100,
  "host-unreachable": 0x0103,
  prohibited: 0x0101,
  "ttl-exceeded": 0x0300,
  "port-unreachable": 0x0104,
};

/** Fits the 256 octets of header room behind an IPv6 header. */
const INLINE = 208;
/** Errors stay within 576 octets (RFC 1812 §4.3.2.3) and the minimum MTU of IPv6 (RFC 4443 §2.4 (c)). */
const QUOTE_V4: number = 576 - 20 - ICMP_HEADER;
const QUOTE_V6: number = 1280 - 40 - ICMP_HEADER;
/** Errors per second, and at once. */
const ERROR_BURST = 1000;
/** Echo replies beyond 4 KiB per flush: 1 MiB. */
const MAX_BIG = 16;
const NO_PREFIX: Uint8Array = new Uint8Array(0);
