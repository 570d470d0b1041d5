/**
 * Octets out of order: copies in pages, a list of ranges ordered by sequence number without overlap.
 *
 * What came first stays: octets that arrive again are not stored again. Bounded by the receive window and by
 * MAX_OUT_OF_ORDER ranges. Also writes the blocks of an ACK (RFC 2018 §4, RFC 2883) by what sack-reports.ts remembers.
 */

import type { Connection } from "./connection.ts";
import { NONE } from "./ranges.ts";
import { copyIn } from "./receive-pages.ts";
import { report } from "./sack-reports.ts";
import { seqAfter, seqMin } from "./seq.ts";

/**
 * Ranges of one connection. Where a path reorders much, each segment is one: 2,048 of 1,448 octets are 3 MB of the window.
 * A page can be kept by one range in it: 24 MiB in the worst case (receive-pages.ts).
 */
export const MAX_OUT_OF_ORDER = 2048;

/**
 * Stores what is new of the `length` octets at `start`, which begin at `seq`. False: not all could be stored;
 * counted.
 */
export function insert(c: Connection, seq: number, start: number, length: number): boolean {
  const { ranges } = c.context;
  const end = (seq + length) | 0;
  let previous: number = NONE;
  let range = c.oooHead;
  let isReported = false;
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
      // One report for a segment: the block around it has the rest.
      if (!isReported) noteDuplicate(c, at, known);
      isReported = true;
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
  if (c.sackOk && !isReported) report(c, seq, end, false);
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

/** [left, right) came twice: an ACK says so, once (RFC 2883 §4). */
export function noteDuplicate(c: Connection, left: number, right: number): void {
  if (c.sackOk) report(c, left, right, true);
}

/**
 * Writes the edges of up to `most` blocks: of the oldest report that is due what came twice (RFC 2883 §4) and the block
 * around it, then those of arrivals before, then the lowest (RFC 2018 §4). Returns their count.
 */
export function sackBlocks(c: Connection, edges: Int32Array, most: number): number {
  const { sackReports: reports } = c;
  let age = Math.max(0, c.sackReportsDue - 1);
  let first = 0;
  let count = 0;
  if (reports !== null && c.sackReportsDue > 0 && reports.isDuplicate[reports.at(age)] !== 0) {
    const at = reports.at(age++);
    edges[0] = reports.left[at];
    edges[1] = reports.right[at];
    count = addBlock(c, edges[0], edges, 1, 1);
    // Octets that were given up for want of a page are not to be SACKed.
    if (count === 1 && seqAfter(edges[1], c.rcvNxt)) count = 0;
    else first = 1;
  }
  if (c.oooCount === 0) return count;
  if (reports !== null) {
    for (; age < reports.count && count < most; age++) {
      count = addBlock(c, reports.left[reports.at(age)], edges, first, count);
    }
  }
  for (let range = c.oooHead; range !== NONE && count < most; ) {
    const last = lastOfBlock(c, range);
    count = addEdges(edges, first, count, c.context.ranges.seq[range], endOf(c, last));
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

/** Adds the block that holds `seq`, unless there is none or it is one of the blocks from `first` on already. */
function addBlock(
  c: Connection,
  seq: number,
  edges: Int32Array,
  first: number,
  count: number,
): number {
  const { ranges } = c.context;
  for (let range = c.oooHead; range !== NONE; ) {
    const left = ranges.seq[range];
    if (((left - seq) | 0) > 0) return count;
    const last = lastOfBlock(c, range);
    const right = endOf(c, last);
    if (((right - seq) | 0) > 0) return addEdges(edges, first, count, left, right);
    range = ranges.next[last];
  }
  return count;
}

function addEdges(
  edges: Int32Array,
  first: number,
  count: number,
  left: number,
  right: number,
): number {
  for (let i = first; i < count; i++) if (edges[2 * i] === left) return count;
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
