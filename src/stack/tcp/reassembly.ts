/**
 * Octets out of order: copies in pages, a list of ranges ordered by sequence number without overlap.
 *
 * What came first stays: octets that arrive again are not stored again. Bounded by the receive window and by
 * MAX_OUT_OF_ORDER ranges. Also says what SACK reports (RFC 2018 §4), octets that came twice first (RFC 2883).
 */

import type { Connection } from "./connection.ts";
import { NONE } from "./ranges.ts";
import { copyIn } from "./receive-pages.ts";
import { seqAfter, seqBefore, seqMax, seqMin } from "./seq.ts";

/** Ranges of one connection. A page can be kept by one range in it: 16 MiB in the worst case. */
export const MAX_OUT_OF_ORDER = 256;

/**
 * Stores what is new of the `length` octets at `start`, which begin at `seq`. False: not all could be stored;
 * counted.
 */
export function insert(c: Connection, seq: number, start: number, length: number): boolean {
  const { ranges } = c.context;
  remember(c, seq);
  const end = (seq + length) | 0;
  let previous: number = NONE;
  let range = c.oooHead;
  // Most segments follow the last.
  if (c.oooTail !== NONE && ((seq - endOf(c, c.oooTail)) | 0) >= 0) {
    previous = c.oooTail;
    range = NONE;
  }
  for (let at = seq; at !== end; ) {
    while (range !== NONE && ((endOf(c, range) - at) | 0) <= 0) {
      previous = range;
      range = ranges.next[range];
    }
    if (range !== NONE && ((ranges.seq[range] - at) | 0) <= 0) {
      const known = seqMin(endOf(c, range), end);
      noteDuplicate(c, at, known);
      at = known;
      continue;
    }
    const limit = range === NONE ? end : seqMin(end, ranges.seq[range]);
    const from = start + ((at - seq) | 0);
    const copy =
      c.oooCount >= MAX_OUT_OF_ORDER ? NONE : copyIn(c, previous, at, from, (limit - at) | 0);
    if (copy === NONE) {
      c.context.stats.tcpReassemblyNoMemory++;
      return false;
    }
    if (copy !== previous) {
      insertAfter(c, previous, copy);
      previous = copy;
    }
    at = endOf(c, copy);
  }
  return true;
}

/** Links `range` behind `previous`, or first when that is {@link NONE}. */
export function insertAfter(c: Connection, previous: number, range: number): void {
  const { ranges } = c.context;
  if (previous === NONE) {
    ranges.next[range] = c.oooHead;
    c.oooHead = range;
  } else {
    ranges.next[range] = ranges.next[previous];
    ranges.next[previous] = range;
  }
  if (ranges.next[range] === NONE) c.oooTail = range;
  c.oooCount++;
}

/** Moves what RCV.NXT has reached to the receive buffer. */
export function advance(c: Connection): void {
  const { context } = c;
  const { ranges } = context;
  for (let range = c.oooHead; range !== NONE; range = c.oooHead) {
    const known = (c.rcvNxt - ranges.seq[range]) | 0;
    if (known < 0) return;
    c.oooHead = ranges.next[range];
    c.oooCount--;
    if (c.oooHead === NONE) c.oooTail = NONE;
    const length = ranges.end[range] - ranges.start[range];
    if (known > 0) {
      noteDuplicate(c, ranges.seq[range], (ranges.seq[range] + Math.min(known, length)) | 0);
    }
    if (known >= length) {
      context.letGoOfPage(ranges.page[range]);
      ranges.give(range);
      continue;
    }
    ranges.seq[range] = c.rcvNxt;
    ranges.start[range] += known;
    ranges.next[range] = NONE;
    if (c.rcvTail === NONE) c.rcvHead = range;
    else ranges.next[c.rcvTail] = range;
    c.rcvTail = range;
    c.rcvNxt = (c.rcvNxt + length - known) | 0;
    c.readableOctets += length - known;
    c.hasNews = true;
  }
}

/**
 * [left, right) came twice: the next ACK says so, once (RFC 2883 §4). Of several such pieces those that touch the first
 * are reported with it.
 */
export function noteDuplicate(c: Connection, left: number, right: number): void {
  if (!c.sackOk) return;
  if (!c.hasDuplicate) {
    c.hasDuplicate = true;
    c.duplicateLeft = left;
    c.duplicateRight = right;
  } else if (!seqAfter(left, c.duplicateRight) && !seqBefore(right, c.duplicateLeft)) {
    c.duplicateLeft = seqMin(c.duplicateLeft, left);
    c.duplicateRight = seqMax(c.duplicateRight, right);
  }
}

/**
 * Writes the edges of up to `most` blocks: what came twice with the block around it (RFC 2883 §4), then the one that holds the latest arrival, then those of arrivals
 * before it, then the lowest (RFC 2018 §4). Returns their count.
 */
export function sackBlocks(c: Connection, edges: Int32Array, most: number): number {
  let count = 0;
  if (c.hasDuplicate) {
    edges[0] = c.duplicateLeft;
    edges[1] = c.duplicateRight;
    count = addBlock(c, c.duplicateLeft, edges, 1);
    // Octets that were given up for want of a page are not to be SACKed.
    if (count === 1 && seqAfter(c.duplicateRight, c.rcvNxt)) {
      c.hasDuplicate = false;
      count = 0;
    }
  }
  if (count < most) count = addBlock(c, c.oooRecent0, edges, count);
  if (count < most) count = addBlock(c, c.oooRecent1, edges, count);
  if (count < most) count = addBlock(c, c.oooRecent2, edges, count);
  for (let range = c.oooHead; range !== NONE && count < most; ) {
    const last = lastOfBlock(c, range);
    count = addEdges(c, edges, count, c.context.ranges.seq[range], endOf(c, last));
    range = c.context.ranges.next[last];
  }
  return count;
}

/** Drops everything. No handler has seen these octets. */
export function clear(c: Connection): void {
  const { ranges } = c.context;
  for (let range = c.oooHead; range !== NONE; ) {
    const next = ranges.next[range];
    c.context.letGoOfPage(ranges.page[range]);
    ranges.give(range);
    range = next;
  }
  c.oooHead = NONE;
  c.oooTail = NONE;
  c.oooCount = 0;
}

function remember(c: Connection, seq: number): void {
  if (c.oooHead === NONE) {
    c.oooRecent2 = seq;
    c.oooRecent1 = seq;
  } else {
    c.oooRecent2 = c.oooRecent1;
    c.oooRecent1 = c.oooRecent0;
  }
  c.oooRecent0 = seq;
}

/** Adds the block that holds `seq`, unless there is none or it is there already. */
function addBlock(c: Connection, seq: number, edges: Int32Array, count: number): number {
  const { ranges } = c.context;
  for (let range = c.oooHead; range !== NONE; ) {
    const left = ranges.seq[range];
    if (((left - seq) | 0) > 0) return count;
    const last = lastOfBlock(c, range);
    const right = endOf(c, last);
    if (((right - seq) | 0) > 0) return addEdges(c, edges, count, left, right);
    range = ranges.next[last];
  }
  return count;
}

function addEdges(
  c: Connection,
  edges: Int32Array,
  count: number,
  left: number,
  right: number,
): number {
  for (let i = c.hasDuplicate ? 1 : 0; i < count; i++) if (edges[2 * i] === left) return count;
  edges[2 * count] = left;
  edges[2 * count + 1] = right;
  return count + 1;
}

/** The last of the ranges that follow `range` without a hole. */
function lastOfBlock(c: Connection, range: number): number {
  const { ranges } = c.context;
  let last = range;
  for (let next = ranges.next[last]; next !== NONE; next = ranges.next[last]) {
    if (ranges.seq[next] !== endOf(c, last)) break;
    last = next;
  }
  return last;
}

/** The sequence number behind a range. */
function endOf(c: Connection, range: number): number {
  const { ranges } = c.context;
  return (ranges.seq[range] + ranges.end[range] - ranges.start[range]) | 0;
}
