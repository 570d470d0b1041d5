/**
 * Reassembly of IPv4 (RFC 791, RFC 815) and IPv6 (RFC 8200 §4.5) fragments, bounded in space and time.
 *
 * A datagram in progress owns one 64 KiB page, into which fragments are copied at their offset, and a map of
 * its 8-octet units. Overlapping fragments discard the datagram and whatever of it still comes (RFC 5722, for
 * IPv4 too: RFC 1858); exact duplicates are tolerated, as RFC 8200 permits. The number of datagrams bounds the
 * octets; the oldest gives way. Atomic fragments (RFC 6946) never come here: `IpHeader.isFragment` is false.
 */

import type { Icmp } from "./icmp.ts";
import { BIG_PAGE, type PagePool } from "./page-pool.ts";
import type { StackMemory } from "./ports.ts";
import type { StackStats } from "./stats.ts";
import { Timer, type TimerHandler, type Timers } from "./timer-wheel.ts";
import { Endpoint } from "./wire/address.ts";
import { IcmpType, Icmpv6Type } from "./wire/icmp.ts";
import { holdsUpperLayer, IPV4_HEADER, IpHeader, MAX_PACKET, parseExtensions } from "./wire/ip.ts";

/** Default of `maxFragmentOctets`: 64 datagrams. */
export const MAX_FRAGMENT_OCTETS: number = 64 * BIG_PAGE;
/** Datagrams delivered in one batch; a batch has 64 packets. */
export const MAX_DELIVERED = 64;

export class Reassembler implements TimerHandler {
  readonly #bytes: Uint8Array;
  readonly #pages: PagePool;
  readonly #timers: Timers;
  readonly #icmp: Icmp;
  readonly #stats: StackStats;
  readonly #timer: Timer = new Timer(this);
  readonly #slots: Slot[] = [];
  readonly #delivered: Int32Array = new Int32Array(MAX_DELIVERED);
  #deliveredCount = 0;
  readonly #quoted: IpHeader = new IpHeader();

  /** `maxOctets` counts 64 KiB per datagram in progress; at least one is allowed. */
  constructor(
    memory: StackMemory,
    pages: PagePool,
    timers: Timers,
    icmp: Icmp,
    stats: StackStats,
    maxOctets: number = MAX_FRAGMENT_OCTETS,
  ) {
    this.#bytes = memory.bytes;
    this.#pages = pages;
    this.#timers = timers;
    this.#icmp = icmp;
    this.#stats = stats;
    const slots = Math.max(1, Math.floor(maxOctets / BIG_PAGE));
    for (let i = 0; i < slots; i++) this.#slots.push(new Slot());
  }

  /**
   * Takes the fragment `ip` describes. True: its datagram is whole and `ip` describes that now: `start` is -1,
   * [payloadStart, totalEnd) lies in a page valid until `endBatch`, `protocol` is the upper layer, `isFragment`
   * is false. No device has verified its checksum: treat its packet flags as 0.
   */
  input(ip: IpHeader): boolean {
    const stats = this.#stats;
    stats.fragmentsIn++;
    if (!this.#isWellFormed(ip)) {
      stats.fragmentsMalformed++;
      return false;
    }
    const slot = this.#find(ip) ?? this.#open(ip);
    if (slot === null) return false;
    if (slot.isDiscarded) {
      stats.fragmentsOfDiscarded++;
      return false;
    }
    const offset = ip.fragmentOffset;
    const end = offset + ip.totalEnd - ip.payloadStart;
    // What is behind the last fragment, and a second last fragment elsewhere, contradict it.
    const contradicts = ip.moreFragments
      ? slot.total >= 0 && end >= slot.total
      : slot.total >= 0
        ? end !== slot.total
        : end < slot.highest;
    if (contradicts) {
      this.#discard(slot);
      return false;
    }
    const first = offset >> 3;
    const last = (end + 7) >> 3;
    if (!slot.isHole(first, last)) {
      if (this.#isDuplicate(slot, ip, first, last)) stats.fragmentsDuplicate++;
      else this.#discard(slot);
      return false;
    }
    this.#bytes.copyWithin(slot.page + offset, ip.payloadStart, ip.totalEnd);
    slot.add(ip, first, last, end);
    return slot.received === slot.total && this.#deliver(slot, ip);
  }

  /** Frees the pages of the datagrams delivered in this batch. */
  endBatch(): void {
    for (let i = 0; i < this.#deliveredCount; i++) this.#pages.free(this.#delivered[i]);
    this.#deliveredCount = 0;
  }

  onTimer(): void {
    const now = this.#timers.now();
    let earliest = Number.POSITIVE_INFINITY;
    for (const slot of this.#slots) {
      if (!slot.isOpen) continue;
      if (slot.deadline > now) {
        earliest = Math.min(earliest, slot.deadline);
        continue;
      }
      if (!slot.isDiscarded) {
        this.#stats.fragmentsTimeout++;
        if (slot.firstLength > 0) this.#tellTimeExceeded(slot);
      }
      this.#close(slot);
    }
    if (earliest < Number.POSITIVE_INFINITY) this.#timers.set(this.#timer, earliest);
  }

  /** Errors are answered as RFC 8200 §4.5 says; IPv4 has none for them. */
  #isWellFormed(ip: IpHeader): boolean {
    const length = ip.totalEnd - ip.payloadStart;
    if (length === 0) return false;
    const isV6 = ip.version === 6;
    if (ip.moreFragments && (length & 7) !== 0) {
      if (isV6) this.#icmp.error(Icmpv6Type.PARAMETER_PROBLEM, 0, PAYLOAD_LENGTH_FIELD, ip);
      return false;
    }
    if (ip.fragmentOffset + length > (isV6 ? MAX_PACKET : MAX_PACKET - IPV4_HEADER)) {
      const pointer = ip.headerLength - FRAGMENT_OFFSET_FROM_END;
      if (isV6) this.#icmp.error(Icmpv6Type.PARAMETER_PROBLEM, 0, pointer, ip);
      return false;
    }
    if (isV6 && ip.fragmentOffset === 0 && !holdsUpperLayer(this.#bytes, ip)) {
      this.#icmp.error(Icmpv6Type.PARAMETER_PROBLEM, INCOMPLETE_HEADER_CHAIN, 0, ip);
      return false;
    }
    return true;
  }

  #find(ip: IpHeader): Slot | null {
    for (const slot of this.#slots) {
      if (slot.isOpen && slot.id === ip.id && slot.isOf(ip)) return slot;
    }
    return null;
  }

  /** A slot for a new datagram, if need be the oldest one's; null: no page is left. */
  #open(ip: IpHeader): Slot | null {
    let chosen = this.#slots[0];
    for (const slot of this.#slots) {
      if (!slot.isOpen) {
        chosen = slot;
        break;
      }
      if (slot.openedAt < chosen.openedAt) chosen = slot;
    }
    if (chosen.isOpen) {
      this.#stats.fragmentsEvicted++;
      this.#close(chosen);
    }
    const page = this.#pages.allocate64K();
    if (page < 0) {
      this.#stats.fragmentsNoMemory++;
      return null;
    }
    const now = this.#timers.now();
    const deadline = now + (ip.version === 4 ? TIMEOUT_V4 : TIMEOUT_V6);
    chosen.open(ip, page, now, deadline);
    if (this.#timer.deadline < 0 || deadline < this.#timer.deadline) {
      this.#timers.set(this.#timer, deadline);
    }
    return chosen;
  }

  /** The same range of the same datagram with the same octets. */
  #isDuplicate(slot: Slot, ip: IpHeader, first: number, last: number): boolean {
    if (!slot.isOneFragment(first, last)) return false;
    const bytes = this.#bytes;
    const at = slot.page + ip.fragmentOffset - ip.payloadStart;
    for (let i = ip.payloadStart; i < ip.totalEnd; i++) {
      if (bytes[at + i] !== bytes[i]) return false;
    }
    return true;
  }

  /** RFC 5722 §3: the datagram is lost, those of its fragments that still come included. */
  #discard(slot: Slot): void {
    this.#stats.fragmentsOverlap++;
    slot.isDiscarded = true;
    this.#pages.free(slot.page);
    slot.page = -1;
  }

  #deliver(slot: Slot, ip: IpHeader): boolean {
    const page = slot.page;
    slot.describe(ip, slot.total);
    if (this.#deliveredCount === MAX_DELIVERED) {
      this.#stats.fragmentsNoMemory++;
      this.#close(slot);
      return false;
    }
    slot.page = -1;
    this.#close(slot);
    this.#delivered[this.#deliveredCount++] = page;
    if (ip.version === 6 && parseExtensions(this.#bytes, ip, ip.protocol, page) !== 0) {
      this.#stats.ipBadExtension++;
      return false;
    }
    this.#stats.fragmentsReassembled++;
    return true;
  }

  #tellTimeExceeded(slot: Slot): void {
    const ip = this.#quoted;
    slot.describe(ip, slot.firstLength);
    const type = ip.version === 4 ? IcmpType.TIME_EXCEEDED : Icmpv6Type.TIME_EXCEEDED;
    this.#icmp.error(type, REASSEMBLY_TIME_EXCEEDED, 0, ip);
  }

  #close(slot: Slot): void {
    if (slot.page >= 0) this.#pages.free(slot.page);
    slot.page = -1;
    slot.isOpen = false;
  }
}

/** One datagram in progress. */
class Slot {
  isOpen = false;
  /** Fragments overlapped: the slot only remembers to drop the rest. */
  isDiscarded = false;
  version = 0;
  id = 0;
  readonly src: Endpoint = new Endpoint();
  readonly dst: Endpoint = new Endpoint();
  /** IPv4: part of the key. IPv6: of the first fragment, which alone says it (RFC 8200 §4.5). */
  protocol = 0;
  ttl = 0;
  trafficClass = 0;
  page = -1;
  openedAt = 0;
  deadline = 0;
  /** Octets there. Equal to `total` only without holes, as nothing overlaps. */
  received = 0;
  /** Known by the last fragment; -1 before. */
  total = -1;
  /** The largest end of a fragment. */
  highest = 0;
  /** Octets of the first fragment; 0: it has not come. */
  firstLength = 0;
  /** Per unit of eight octets: HOLE, FIRST of a fragment, or REST. Made at first use. */
  #units: Uint8Array | null = null;

  open(ip: IpHeader, page: number, now: number, deadline: number): void {
    this.isOpen = true;
    this.isDiscarded = false;
    this.version = ip.version;
    this.id = ip.id;
    this.src.copy(ip.src);
    this.dst.copy(ip.dst);
    this.protocol = ip.protocol;
    this.ttl = ip.ttl;
    this.trafficClass = ip.trafficClass;
    this.page = page;
    this.openedAt = now;
    this.deadline = deadline;
    this.received = 0;
    this.total = -1;
    this.highest = 0;
    this.firstLength = 0;
    if (this.#units === null) this.#units = new Uint8Array(UNITS);
    else this.#units.fill(HOLE);
  }

  isOf(ip: IpHeader): boolean {
    return (
      this.version === ip.version &&
      (ip.version === 6 || this.protocol === ip.protocol) &&
      this.src.sameAddress(ip.src) &&
      this.dst.sameAddress(ip.dst)
    );
  }

  isHole(first: number, last: number): boolean {
    const units = this.#units as Uint8Array;
    for (let unit = first; unit < last; unit++) if (units[unit] !== HOLE) return false;
    return true;
  }

  /** True when the units are those of exactly one fragment. */
  isOneFragment(first: number, last: number): boolean {
    const units = this.#units as Uint8Array;
    if (units[first] !== FIRST || (last < UNITS && units[last] === REST)) return false;
    for (let unit = first + 1; unit < last; unit++) if (units[unit] !== REST) return false;
    return true;
  }

  add(ip: IpHeader, first: number, last: number, end: number): void {
    const units = this.#units as Uint8Array;
    units[first] = FIRST;
    units.fill(REST, first + 1, last);
    this.received += end - ip.fragmentOffset;
    if (end > this.highest) this.highest = end;
    if (!ip.moreFragments) this.total = end;
    // RFC 3168 §5.3: congestion experienced by one fragment is that of the datagram.
    const ecn = (ip.trafficClass & 3) === 3 ? 3 : this.trafficClass & 3;
    if (first === 0) {
      this.firstLength = end;
      this.protocol = ip.protocol;
      this.ttl = ip.ttl;
      this.trafficClass = ip.trafficClass;
    }
    if (ecn === 3) this.trafficClass |= 3;
  }

  /** Makes `ip` describe the first `length` octets as a whole packet. */
  describe(ip: IpHeader, length: number): void {
    ip.version = this.version;
    ip.start = -1;
    ip.payloadStart = this.page;
    ip.totalEnd = this.page + length;
    ip.protocol = this.protocol;
    ip.ttl = this.ttl;
    ip.trafficClass = this.trafficClass;
    ip.id = this.id;
    ip.fragmentOffset = 0;
    ip.moreFragments = false;
    ip.src.copy(this.src);
    ip.dst.copy(this.dst);
  }
}

/**
 * RFC 1122 §3.3.2 asks for 60 to 120 s. The sender is on this machine, and a 16-bit identification comes round
 * in seconds at its speed (RFC 4963): 30 s, like Linux (net.ipv4.ipfrag_time).
 */
const TIMEOUT_V4 = 30_000;
/** RFC 8200 §4.5. */
const TIMEOUT_V6 = 60_000;
/** Code of time exceeded, in both families. */
const REASSEMBLY_TIME_EXCEEDED = 1;
/** Code of parameter problem (RFC 7112 §5). */
const INCOMPLETE_HEADER_CHAIN = 3;
/** Offset of the payload length in an IPv6 header. */
const PAYLOAD_LENGTH_FIELD = 4;
/** The fragment header ends the header: its offset field lies six octets before the data. */
const FRAGMENT_OFFSET_FROM_END = 6;
const UNITS = 8192;
const HOLE = 0;
const FIRST = 1;
const REST = 2;
