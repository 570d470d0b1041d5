/**
 * Where received octets are copied to: each connection fills one page after another, whatever the order.
 *
 * A page is held by the ranges that lie in it and, while it is being filled, by its connection; the last holder
 * frees it.
 */

import { SMALL_PAGE } from "../page-pool.ts";
import type { Connection } from "./connection.ts";
import { NONE } from "./ranges.ts";

/**
 * Copies up to `length` octets at `start` into the fill page. The copy extends `previous` when it follows it
 * there, or becomes a range of its own, not linked. Returns that range; {@link NONE}: no memory.
 */
export function copyIn(
  c: Connection,
  previous: number,
  seq: number,
  start: number,
  length: number,
): number {
  const { context } = c;
  const { ranges, pages } = context;
  let room = c.fillPage === NONE ? 0 : c.fillPage + pages.sizeOf(c.fillPage) - c.fillNext;
  if (room === 0) {
    dropFillPage(c);
    const isBig = c.oooCount < MOST_BIG && (length >= BIG_COPY || c.oooCount >= MANY_RANGES);
    let page = isBig ? pages.allocate64K() : NONE;
    if (page === NONE) page = pages.allocate4K();
    if (page === NONE) return NONE;
    context.holdPage(page);
    c.fillPage = page;
    c.fillNext = page;
    room = pages.sizeOf(page);
  }
  const octets = Math.min(room, length);
  const at = c.fillNext;
  let range = previous;
  if (
    previous !== NONE &&
    ranges.page[previous] === c.fillPage &&
    ranges.end[previous] === at &&
    ((ranges.seq[previous] + at - ranges.start[previous]) | 0) === (seq | 0)
  ) {
    ranges.end[previous] = at + octets;
  } else {
    range = ranges.take(seq, at, at + octets, c.fillPage);
    if (range === NONE) return NONE;
    context.holdPage(c.fillPage);
  }
  context.bytes.copyWithin(at, start, start + octets);
  c.fillNext = at + octets;
  return range;
}

/** Starts the next copy in a fresh page. Ranges in the old one keep it. */
export function dropFillPage(c: Connection): void {
  if (c.fillPage === NONE) return;
  c.context.letGoOfPage(c.fillPage);
  c.fillPage = NONE;
}

/** Copies from this size on get a 64 KiB page. */
const BIG_COPY: number = 4 * SMALL_PAGE;
/**
 * With so many ranges out of order the pages are large whatever the segments are: a window of 4 MiB behind one hole
 * would be 1,024 small pages, a range each.
 */
const MANY_RANGES = 16;
/** With so many the pages are small again, for each range may come to keep one of its own. */
const MOST_BIG = 256;
