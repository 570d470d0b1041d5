/**
 * The scoreboard (RFC 6675 §3): what the client has received beyond SND.UNA, as SACK told.
 *
 * An ordered list of ranges without overlap; `seq` and `end` of a range are its edges. Bounded: a client that
 * reports more holes than MAX_BLOCKS is believed no further.
 */

import type { Connection } from "./connection.ts";
import { NONE } from "./ranges.ts";
import { seqAfter, seqBefore, seqMax, seqMin } from "./seq.ts";

/** Ranges of one scoreboard. */
export const MAX_BLOCKS = 256;

/**
 * Notes that [left, right) arrived. Blocks that cannot be true are ignored (RFC 2883 reports duplicates at or
 * below SND.UNA). Returns the octets that are news.
 */
export function update(c: Connection, left: number, right: number): number {
  if (!seqAfter(right, left) || seqAfter(right, c.sndNxt) || seqBefore(left, c.sndUna)) return 0;
  if (left === c.sndUna) return 0;
  const { ranges } = c.context;
  let previous: number = NONE;
  let range = c.sackHead;
  while (range !== NONE && seqBefore(ranges.end[range], left)) {
    previous = range;
    range = ranges.next[range];
  }
  if (range === NONE || seqBefore(right, ranges.seq[range])) {
    return insert(c, previous, left, right);
  }
  // It touches `range`, and may swallow those behind it.
  const before = c.sackedOctets;
  c.sackedOctets -= (ranges.end[range] - ranges.seq[range]) | 0;
  ranges.seq[range] = seqMin(ranges.seq[range], left);
  ranges.end[range] = seqMax(ranges.end[range], right);
  for (let next = ranges.next[range]; next !== NONE; next = ranges.next[range]) {
    if (seqAfter(ranges.seq[next], ranges.end[range])) break;
    ranges.end[range] = seqMax(ranges.end[range], ranges.end[next]);
    c.sackedOctets -= (ranges.end[next] - ranges.seq[next]) | 0;
    ranges.next[range] = ranges.next[next];
    ranges.give(next);
    c.sackCount--;
  }
  c.sackedOctets += (ranges.end[range] - ranges.seq[range]) | 0;
  return c.sackedOctets - before;
}

/** Forgets what lies before SND.UNA. */
export function advance(c: Connection): void {
  const { ranges } = c.context;
  for (let range = c.sackHead; range !== NONE; range = c.sackHead) {
    const known = (c.sndUna - ranges.seq[range]) | 0;
    if (known <= 0) return;
    const length = (ranges.end[range] - ranges.seq[range]) | 0;
    if (known < length) {
      ranges.seq[range] = c.sndUna;
      c.sackedOctets -= known;
      return;
    }
    c.sackedOctets -= length;
    c.sackHead = ranges.next[range];
    c.sackCount--;
    ranges.give(range);
  }
}

/**
 * Where loss ends (RFC 6675 §4 IsLost): every octet before it that is not SACKed has three SACKed ranges or more
 * than two segments of SACKed octets above it. SND.UNA: nothing is lost.
 */
export function lostEnd(c: Connection): number {
  const { ranges } = c.context;
  // From below: what is above range n is the total less what lies before it.
  let above = c.sackedOctets;
  let blocks = c.sackCount;
  let end = c.sndUna;
  for (let range = c.sackHead; range !== NONE; range = ranges.next[range]) {
    if (blocks < DUPLICATES && above <= (DUPLICATES - 1) * c.sndMss) break;
    end = ranges.seq[range];
    above -= (ranges.end[range] - ranges.seq[range]) | 0;
    blocks--;
  }
  return end;
}

/** The first octet at or after `from` that is not SACKed. */
export function skip(c: Connection, from: number): number {
  const { ranges } = c.context;
  for (let range = c.sackHead; range !== NONE; range = ranges.next[range]) {
    if (seqBefore(from, ranges.seq[range])) return from;
    if (seqBefore(from, ranges.end[range])) return ranges.end[range];
  }
  return from;
}

/** Where the hole that holds `from` ends, at most `limit`. */
export function holeEnd(c: Connection, from: number, limit: number): number {
  const { ranges } = c.context;
  for (let range = c.sackHead; range !== NONE; range = ranges.next[range]) {
    if (seqAfter(ranges.seq[range], from)) return seqMin(ranges.seq[range], limit);
  }
  return limit;
}

/** Octets of [from, to) that are not SACKed. */
export function holes(c: Connection, from: number, to: number): number {
  let octets = (to - from) | 0;
  if (octets <= 0) return 0;
  const { ranges } = c.context;
  for (let range = c.sackHead; range !== NONE; range = ranges.next[range]) {
    const left = seqMax(ranges.seq[range], from);
    const right = seqMin(ranges.end[range], to);
    if (seqBefore(left, right)) octets -= (right - left) | 0;
  }
  return octets;
}

export function clear(c: Connection): void {
  const { ranges } = c.context;
  for (let range = c.sackHead; range !== NONE; ) {
    const next = ranges.next[range];
    ranges.give(range);
    range = next;
  }
  c.sackHead = NONE;
  c.sackCount = 0;
  c.sackedOctets = 0;
}

function insert(c: Connection, previous: number, left: number, right: number): number {
  const { ranges } = c.context;
  if (c.sackCount === MAX_BLOCKS) return 0;
  const range = ranges.take(left, 0, right, NONE);
  if (range === NONE) return 0;
  if (previous === NONE) {
    ranges.next[range] = c.sackHead;
    c.sackHead = range;
  } else {
    ranges.next[range] = ranges.next[previous];
    ranges.next[previous] = range;
  }
  c.sackCount++;
  c.sackedOctets += (right - left) | 0;
  return (right - left) | 0;
}

/** DupThresh (RFC 6675 §2). */
export const DUPLICATES = 3;
