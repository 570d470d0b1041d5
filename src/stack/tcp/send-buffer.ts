/**
 * Octets committed and not yet acknowledged: a list of ranges, each a page of its own, contiguous in sequence.
 *
 * The upstream socket fills pages in place, segments are slices of them, and an acknowledgement frees them. A flow
 * begins with 4 KiB pages; after two offers that were filled completely it is busy and gets 64 KiB pages, in
 * sums that make whole super-segments. Without unacknowledged octets there is no page.
 */

import { BIG_PAGE, SMALL_PAGE } from "../page-pool.ts";
import { MAX_SLICES, type PacketSink } from "../ports.ts";
import { addSums, sumOctets, swapSum } from "../wire/checksum.ts";
import { mayGrow, sendShare } from "./budget.ts";
import type { Connection } from "./connection.ts";
import { NONE } from "./ranges.ts";

/** Ranges of one offer: a tail and eight pages. */
export const MAX_OFFERED = 9;

/** TcpConnection.space, for a connection that takes octets. */
export function space(c: Connection, rows: Int32Array): number {
  const { context } = c;
  giveBackOffer(c, 0);
  const room = sendRoom(c);
  if (room < MIN_ROOM) {
    c.wantsWritable = true;
    return 0;
  }
  const { ranges } = context;
  const most = Math.min(rows.length >> 1, MAX_OFFERED);
  const tailRoom = roomInTail(c);
  const isBusy = c.fullOffers >= 2;
  const small = tailRoom >= SMALL_PAGE / 2 ? tailRoom : SMALL_PAGE;
  const want = isBusy ? wholeSegments(c, room) : Math.min(small, room);
  let count = 0;
  let offered = 0;
  if (tailRoom > 0) {
    offered = Math.min(tailRoom, want);
    rows[0] = ranges.end[c.sndTail];
    rows[1] = offered;
    context.offeredTail = offered;
    count = 1;
  }
  while (offered < want && count < most) {
    const range = newPage(c, isBusy);
    if (range === NONE) break;
    const octets = Math.min(ranges.end[range] - ranges.start[range], want - offered);
    rows[2 * count] = ranges.start[range];
    rows[2 * count + 1] = octets;
    ranges.end[range] = ranges.start[range];
    context.offered[context.offeredCount++] = range;
    offered += octets;
    count++;
  }
  context.offeredOctets = offered;
  if (count === 0) {
    c.wantsWritable = true;
    context.starve(c);
  }
  return count;
}

/** TcpConnection.commit. True: there are new octets. */
export function commit(c: Connection, octets: number): boolean {
  const { context } = c;
  const { ranges } = context;
  if (octets > context.offeredOctets) {
    throw new Error(`commit(${octets}) of ${context.offeredOctets} offered`);
  }
  const wasEmpty = c.sndHead === NONE;
  const isFull = octets === context.offeredOctets;
  let left = octets - Math.min(octets, context.offeredTail);
  if (left < octets) ranges.end[c.sndTail] += octets - left;
  let used = 0;
  for (; left > 0; used++) {
    const range = context.offered[used];
    const length = Math.min(left, context.pages.sizeOf(ranges.page[range]));
    ranges.seq[range] = (c.sndEnd + octets - left) | 0;
    ranges.end[range] = ranges.start[range] + length;
    link(c, range);
    left -= length;
  }
  giveBackOffer(c, used);
  if (octets === 0) return false;
  c.sndEnd = (c.sndEnd + octets) | 0;
  if (isFull) c.fullOffers++;
  else if (wasEmpty && octets < SMALL_PAGE) c.fullOffers = 0;
  return true;
}

/** TcpConnection.write: copies. Returns the octets taken. */
export function write(c: Connection, bytes: Uint8Array, start: number, end: number): number {
  const { context } = c;
  const { ranges } = context;
  giveBackOffer(c, 0);
  const wanted = end - start;
  const limit = start + Math.min(wanted, sendRoom(c));
  let at = start;
  while (at < limit) {
    let range = c.sndTail;
    let room = roomInTail(c);
    if (room === 0) {
      range = newPage(c, limit - at >= BIG_WRITE);
      if (range === NONE) {
        context.starve(c);
        break;
      }
      room = ranges.end[range] - ranges.start[range];
      ranges.end[range] = ranges.start[range];
      ranges.seq[range] = c.sndEnd;
      link(c, range);
    }
    const octets = Math.min(room, limit - at);
    copy(bytes, at, context.bytes, ranges.end[range], octets);
    ranges.end[range] += octets;
    c.sndEnd = (c.sndEnd + octets) | 0;
    at += octets;
  }
  if (at < end) c.wantsWritable = true;
  return at - start;
}

/** Room for so many octets (never a sliver) that a relay that was refused should be told. */
export function hasRoomAgain(c: Connection): boolean {
  return sendRoom(c) >= Math.max(sendLimit(c) >> 3, MIN_ROOM);
}

/** Octets committed and not sent. */
export function unsent(c: Connection): number {
  return Math.max(0, (c.sndEnd - c.sndNxt) | 0);
}

/** Frees what lies before `una`. */
export function acknowledge(c: Connection, una: number): void {
  const { context } = c;
  const { ranges } = context;
  for (let range = c.sndHead; range !== NONE; ) {
    const length = ranges.end[range] - ranges.start[range];
    const known = (una - ranges.seq[range]) | 0;
    if (known < length) {
      if (known > 0) {
        ranges.seq[range] = una;
        ranges.start[range] += known;
      }
      c.sndHead = range;
      return;
    }
    const next = ranges.next[range];
    if (c.sndCursor === range) c.sndCursor = NONE;
    context.pages.free(ranges.page[range]);
    ranges.give(range);
    range = next;
  }
  c.sndHead = NONE;
  c.sndTail = NONE;
}

/** Attaches the `length` octets at `seq` to the packet. At most {@link MAX_SLICES} slices: see `sendable`. */
export function attach(c: Connection, seq: number, length: number, sink: PacketSink): void {
  const { ranges } = c.context;
  let range = find(c, seq);
  let skipped = (seq - ranges.seq[range]) | 0;
  for (let left = length; left > 0; range = ranges.next[range]) {
    const start = ranges.start[range] + skipped;
    const octets = Math.min(ranges.end[range] - start, left);
    sink.attach(start, start + octets);
    c.sndCursor = range;
    left -= octets;
    skipped = 0;
  }
}

/** Adds the `length` octets at `seq` to a one's complement sum; an even number of octets is before them. */
export function sum(c: Connection, seq: number, length: number, initial: number): number {
  const { ranges, bytes } = c.context;
  let range = find(c, seq);
  let skipped = (seq - ranges.seq[range]) | 0;
  let total = initial;
  for (let left = length; left > 0; range = ranges.next[range]) {
    const start = ranges.start[range] + skipped;
    const octets = Math.min(ranges.end[range] - start, left);
    const piece = sumOctets(bytes, start, start + octets);
    total = addSums(total, (length - left) & 1 ? swapSum(piece) : piece);
    left -= octets;
    skipped = 0;
  }
  return total;
}

/** Drops everything. */
export function clear(c: Connection): void {
  const { context } = c;
  const { ranges } = context;
  for (let range = c.sndHead; range !== NONE; ) {
    const next = ranges.next[range];
    context.pages.free(ranges.page[range]);
    ranges.give(range);
    range = next;
  }
  c.sndHead = NONE;
  c.sndTail = NONE;
  c.sndCursor = NONE;
}

/** The most octets of a segment: what one packet can carry, in whole segments. */
export function largestPayload(c: Connection, headers: number, mss: number): number {
  const { context } = c;
  if (!(c.isV4 ? context.tso4 : context.tso6)) return mss;
  const segments = Math.floor((MAX_PACKET - headers) / mss);
  return Math.max(segments, 1) * mss;
}

/** Twice the congestion window, so that the relay reads one while the other is in flight; see budget.ts. */
function sendLimit(c: Connection): number {
  const { context } = c;
  if (!mayGrow(context)) return sendShare(context);
  const cwnd = c.congestion === null ? 0 : c.congestion.cwnd;
  return Math.min(Math.max(2 * cwnd, MIN_SEND_LIMIT), MAX_SEND_LIMIT);
}

function sendRoom(c: Connection): number {
  const used = (c.sndEnd - c.sndUna) | 0;
  return Math.max(0, sendLimit(c) - used);
}

function roomInTail(c: Connection): number {
  const { ranges, pages } = c.context;
  const tail = c.sndTail;
  if (tail === NONE) return 0;
  return ranges.page[tail] + pages.sizeOf(ranges.page[tail]) - ranges.end[tail];
}

/** As much as there is room for, cut so that with what waits unsent it makes whole super-segments. */
function wholeSegments(c: Connection, room: number): number {
  const cap = Math.min(room, MAX_OFFER);
  if (c.sndMss === 0) return cap;
  const whole = largestPayload(c, HEADERS, c.sndMss);
  const head = whole - (unsent(c) % whole);
  return cap < head ? cap : head + Math.floor((cap - head) / whole) * whole;
}

/** A range over a whole new page, not linked; {@link NONE}: no memory. */
function newPage(c: Connection, big: boolean): number {
  const { pages, ranges } = c.context;
  let page = big ? pages.allocate64K() : NONE;
  if (page === NONE) page = pages.allocate4K();
  if (page === NONE) return NONE;
  const range = ranges.take(0, page, page + pages.sizeOf(page), page);
  if (range === NONE) pages.free(page);
  return range;
}

function link(c: Connection, range: number): void {
  if (c.sndTail === NONE) c.sndHead = range;
  else c.context.ranges.next[c.sndTail] = range;
  c.sndTail = range;
}

/** Frees the offered pages from the `used`th on. */
function giveBackOffer(c: Connection, used: number): void {
  const { context } = c;
  const { ranges } = context;
  for (let i = used; i < context.offeredCount; i++) {
    const range = context.offered[i];
    context.pages.free(ranges.page[range]);
    ranges.give(range);
  }
  context.offeredCount = 0;
  context.offeredTail = 0;
  context.offeredOctets = 0;
}

/** The range that holds `seq`, which is in the buffer. */
function find(c: Connection, seq: number): number {
  const { ranges } = c.context;
  let range = c.sndCursor;
  if (range === NONE || ((seq - ranges.seq[range]) | 0) < 0) range = c.sndHead;
  while (((seq - ranges.seq[range]) | 0) >= ranges.end[range] - ranges.start[range]) {
    range = ranges.next[range];
  }
  return range;
}

/** Between two arrays; `set` needs a view, which costs more than a short loop. */
function copy(from: Uint8Array, start: number, to: Uint8Array, at: number, octets: number): void {
  if (octets >= 64) {
    to.set(from.subarray(start, start + octets), at);
    return;
  }
  for (let i = 0; i < octets; i++) to[at + i] = from[start + i];
}

/** Below it `space` waits for acknowledgements rather than asking for slivers. */
const MIN_ROOM = 4096;
const MIN_SEND_LIMIT = 65536;
const MAX_SEND_LIMIT: number = 4 << 20;
/** The most octets of one offer. */
const MAX_OFFER: number = 4 * BIG_PAGE;
/** What remains of a copy from this size on gets a 64 KiB page. */
const BIG_WRITE: number = 4 * SMALL_PAGE;
const MAX_PACKET = 65535;
/** IPv6 and TCP with timestamps: the estimate of an offer. A segment with SACK blocks may be shorter. */
const HEADERS: number = 40 + 20 + 12;
/** A super-segment of 64 KiB spans at most 17 full 4 KiB pages. */
const SLICES_PER_SEGMENT = 18;
if (SLICES_PER_SEGMENT > MAX_SLICES) throw new Error("a super-segment needs more slices");
