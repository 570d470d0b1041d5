/**
 * Octets in order that the relay has not consumed: a list of ranges, contiguous in sequence, up to RCV.NXT.
 *
 * While a batch is read the ranges lie in its packets, and the relay usually passes them on from there without a
 * copy. What it leaves is copied into pages at the end of the batch, before anything is acknowledged. When there is
 * no page, RCV.NXT goes back: the octets were never acknowledged, and the client sends them again.
 */

import { mayGrow } from "./budget.ts";
import type { Connection } from "./connection.ts";
import { IN_BATCH, NONE } from "./ranges.ts";
import * as reassembly from "./reassembly.ts";
import { copyIn, dropFillPage } from "./receive-pages.ts";
import { hasReceivedFin, State } from "./state.ts";

/** The largest window. */
export const MAX_RECEIVE_LIMIT: number = 4 << 20;

/** Takes [start, end) of the batch, which begin at RCV.NXT. False: no range is left; the octets are dropped. */
export function append(c: Connection, start: number, end: number): boolean {
  const { ranges } = c.context;
  const tail = c.rcvTail;
  const range = ranges.take(c.rcvNxt, start, end, IN_BATCH);
  if (range === NONE) {
    c.context.stats.tcpReceiveNoMemory++;
    return false;
  }
  if (tail === NONE) c.rcvHead = range;
  else ranges.next[tail] = range;
  c.rcvTail = range;
  c.rcvNxt = (c.rcvNxt + end - start) | 0;
  c.readableOctets += end - start;
  c.hasBatchOctets = true;
  c.hasNews = true;
  return true;
}

/** TcpConnection.readable. */
export function readable(c: Connection, rows: Int32Array): number {
  const { ranges } = c.context;
  const most = rows.length >> 1;
  let count = 0;
  for (let range = c.rcvHead; range !== NONE && count < most; range = ranges.next[range]) {
    rows[2 * count] = ranges.start[range];
    rows[2 * count + 1] = ranges.end[range] - ranges.start[range];
    count++;
  }
  return count;
}

/** TcpConnection.consume. */
export function consume(c: Connection, octets: number): void {
  if (octets > c.readableOctets) throw new Error(`consume(${octets}) of ${c.readableOctets}`);
  if (octets <= 0) return;
  const { context } = c;
  const { ranges } = context;
  let range = c.rcvHead;
  for (let left = octets; left > 0; ) {
    const length = ranges.end[range] - ranges.start[range];
    if (length > left) {
      ranges.start[range] += left;
      ranges.seq[range] = (ranges.seq[range] + left) | 0;
      break;
    }
    left -= length;
    const next = ranges.next[range];
    context.retire(range);
    range = next;
  }
  c.rcvHead = range;
  c.readableOctets -= octets;
  if (range === NONE) emptied(c);
  grow(c, octets);
  if (opensWindow(c)) {
    c.ackDue = true;
    c.markDirty();
  }
  if (c.ending !== null && c.readableOctets === 0) context.touchSoon(c);
}

/** What may be offered from RCV.NXT on, regardless of what was offered before: as much as the field can say. */
export function receiveSpace(c: Connection): number {
  return (Math.max(0, c.rcvLimit - c.readableOctets) >> c.rcvScale) << c.rcvScale;
}

/**
 * The window has grown so much that the client should hear of it without a reason of its own: by 256 KB or half
 * the limit, or from nearly nothing by what RFC 9293 §3.8.6.2.2 asks for.
 */
function opensWindow(c: Connection): boolean {
  if (c.state === State.SYN_RECEIVED || hasReceivedFin(c.state)) return false;
  const offered = (c.rcvAdv - c.rcvNxt) | 0;
  const growth = receiveSpace(c) - offered;
  if (growth >= Math.min(c.rcvLimit >> 1, WINDOW_UPDATE)) return true;
  return offered < c.rcvMss && growth >= Math.min(c.rcvLimit >> 1, c.rcvMss);
}

/** A relay that keeps up earns a larger window: doubled for every half of it that is consumed, if memory allows. */
function grow(c: Connection, octets: number): void {
  c.consumedSinceGrowth += octets;
  if (c.consumedSinceGrowth < c.rcvLimit >> 1 || c.rcvScale === 0) return;
  c.consumedSinceGrowth = 0;
  if (c.rcvLimit < MAX_RECEIVE_LIMIT && c.readableOctets < c.rcvLimit >> 2 && mayGrow(c.context)) {
    c.rcvLimit = Math.min(c.rcvLimit << 1, MAX_RECEIVE_LIMIT);
  }
}

/** Copies what still lies in the batch into pages; see the top for what happens when there are none. */
export function hold(c: Connection): void {
  if (!c.hasBatchOctets) return;
  c.hasBatchOctets = false;
  const { ranges } = c.context;
  let previous: number = NONE;
  for (let range = c.rcvHead; range !== NONE; ) {
    const next = ranges.next[range];
    if (ranges.page[range] !== IN_BATCH) {
      previous = range;
    } else {
      const seq = ranges.seq[range];
      const start = ranges.start[range];
      const length = ranges.end[range] - start;
      // The copies take the range's place; the list is whole again before anything can fail.
      if (previous === NONE) c.rcvHead = next;
      else ranges.next[previous] = next;
      ranges.give(range);
      let copied = 0;
      while (copied < length) {
        const last = copyIn(c, previous, seq + copied, start + copied, length - copied);
        if (last === NONE) {
          rollBack(c, previous, next, seq + copied);
          return;
        }
        if (last !== previous) {
          ranges.next[last] = next;
          if (previous === NONE) c.rcvHead = last;
          else ranges.next[previous] = last;
          previous = last;
        }
        copied = (ranges.seq[last] + ranges.end[last] - ranges.start[last] - seq) | 0;
      }
    }
    range = next;
  }
  c.rcvTail = previous;
}

/** Gives up everything from `seq` on: `rest` of the list, and what precedes it. */
function rollBack(c: Connection, previous: number, rest: number, seq: number): void {
  const { ranges, stats } = c.context;
  stats.tcpReceiveNoMemory++;
  c.rcvTail = previous;
  if (previous === NONE) c.rcvHead = NONE;
  else ranges.next[previous] = NONE;
  c.readableOctets -= (c.rcvNxt - seq) | 0;
  c.rcvNxt = seq | 0;
  let last: number = NONE;
  for (let range = rest; range !== NONE; ) {
    const next = ranges.next[range];
    if (ranges.page[range] === IN_BATCH) {
      ranges.give(range);
    } else {
      // Copied before, when it was out of order: it is so again.
      reassembly.insertAfter(c, last, range);
      last = range;
    }
    range = next;
  }
}

/** Drops what was not consumed. */
export function clear(c: Connection): void {
  const { context } = c;
  const { ranges } = context;
  for (let range = c.rcvHead; range !== NONE; ) {
    const next = ranges.next[range];
    context.retire(range);
    range = next;
  }
  c.rcvHead = NONE;
  c.readableOctets = 0;
  c.hasBatchOctets = false;
  c.hasNews = false;
  emptied(c);
}

function emptied(c: Connection): void {
  c.rcvTail = NONE;
  if (c.oooHead === NONE) dropFillPage(c);
}

/** Growth of the window that is worth a packet of its own. */
const WINDOW_UPDATE = 256 << 10;
