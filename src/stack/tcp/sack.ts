/**
 * What the SACK option of an ACK says (RFC 2018, RFC 2883): octets that arrived beyond SND.UNA, and octets that
 * arrived twice.
 */

import type { TcpSegment } from "../wire/tcp.ts";
import type { Connection } from "./connection.ts";
import * as flight from "./flight.ts";
import * as rack from "./rack.ts";
import { NONE } from "./ranges.ts";
import { seqAfter, seqBefore, seqMax, seqMin } from "./seq.ts";

/** Takes all blocks of a segment. Returns the octets that are news. */
export function take(c: Connection, s: TcpSegment): number {
  const { sackEdges: edges, sackCount: count } = s;
  let news = 0;
  let first = 0;
  if (count > 0 && isDuplicate(s)) {
    takeDuplicate(c, edges[0], edges[1]);
    first = 1;
  }
  for (let i = first; i < count; i++) news += update(c, edges[2 * i], edges[2 * i + 1]);
  return news;
}

/** RFC 2883 §4: the first block lies before the acknowledgement number, or inside the second. */
function isDuplicate(s: TcpSegment): boolean {
  const { sackEdges: edges } = s;
  if (!seqAfter(edges[1], edges[0])) return false;
  if (seqBefore(edges[0], s.ack)) return !seqAfter(edges[1], s.ack);
  return s.sackCount > 1 && !seqBefore(edges[0], edges[2]) && !seqAfter(edges[1], edges[3]);
}

/** [left, right) arrived twice. Ignored unless it is of the last window. */
function takeDuplicate(c: Connection, left: number, right: number): void {
  if (seqAfter(right, c.sndNxt) || ((c.sndUna - left) | 0) > c.maxSndWnd) return;
  c.context.stats.tcpDuplicatesReported++;
  c.context.ack.takeDuplicate(right);
  // RFC 3708 §3: what was sent again and arrived twice was sent again in vain; a loss probe is not of the recovery.
  if (!c.isUndoable || !seqAfter(right, c.undoFrom) || seqAfter(right, c.recover)) return;
  c.repeatedOctets = Math.max(0, c.repeatedOctets - ((right - left) | 0));
}

/** Notes that [left, right) arrived. Blocks that cannot be true are ignored. */
export function update(c: Connection, left: number, right: number): number {
  if (!seqAfter(right, left) || seqAfter(right, c.sndNxt) || !seqAfter(left, c.sndUna)) return 0;
  const { ranges } = c.context;
  let news = 0;
  let run = c.runHead;
  while (run !== NONE && !seqAfter(ranges.end[run], left)) run = ranges.next[run];
  for (; run !== NONE && seqBefore(ranges.seq[run], right); run = ranges.next[run]) {
    if (ranges.page[run] & flight.Run.SACKED) continue;
    const from = seqMax(ranges.seq[run], left);
    const to = seqMin(ranges.end[run], right);
    if (from !== ranges.seq[run]) {
      if (!flight.split(c, run, from, flight.SPARE_RUNS)) break;
      run = ranges.next[run];
    }
    if (to !== ranges.end[run] && !flight.split(c, run, to, flight.SPARE_RUNS)) break;
    rack.delivered(c, run, to, true);
    flight.mark(c, run, flight.Run.SACKED);
    news += (to - from) | 0;
  }
  if (news > 0) flight.join(c);
  return news;
}
