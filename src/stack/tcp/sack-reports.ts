/**
 * What the next ACKs have to tell a client that speaks SACK: octets that came out of order (RFC 2018 §4) or twice (RFC 2883 §4).
 *
 * An ACK has room for three or four blocks, and a batch on a path that reorders has more news than that. What no ACK
 * tells, the client takes for lost and sends again. So where not all blocks fit, each place at which a batch brought
 * something is owed an ACK that begins with it, as if it had come alone; segments that follow each other are one place.
 * Behind the new place an ACK repeats those before it, for ACKs get lost.
 *
 * A ring for each connection that ever needs one. MAX_DUE bounds the ACKs of a batch: the oldest report gives way, counted.
 */

import type { Connection } from "./connection.ts";
import { seqAfter, seqBefore, seqMax, seqMin } from "./seq.ts";

export class SackReports {
  readonly left: Int32Array = new Int32Array(SIZE);
  readonly right: Int32Array = new Int32Array(SIZE);
  /** Not 0: came twice. */
  readonly isDuplicate: Uint8Array = new Uint8Array(SIZE);
  newest = 0;
  /** Reports that were ever made, as far as the ring holds them. */
  count = 0;

  /** Where the report is before which `age` others are newer. */
  at(age: number): number {
    return (this.newest - age) & (SIZE - 1);
  }
}

/** [left, right) came out of order or, `isDuplicate`, twice: an ACK has to say so, once for what touches in a batch. */
export function report(c: Connection, left: number, right: number, isDuplicate: boolean): void {
  c.sackReports ??= new SackReports();
  const reports = c.sackReports;
  for (let age = 0; age < c.sackReportsDue; age++) {
    const at = reports.at(age);
    if ((reports.isDuplicate[at] !== 0) !== isDuplicate) continue;
    if (seqAfter(left, reports.right[at]) || seqBefore(right, reports.left[at])) continue;
    reports.left[at] = seqMin(reports.left[at], left);
    reports.right[at] = seqMax(reports.right[at], right);
    return;
  }
  reports.newest = reports.at(-1);
  reports.left[reports.newest] = left;
  reports.right[reports.newest] = right;
  reports.isDuplicate[reports.newest] = isDuplicate ? 1 : 0;
  if (reports.count < SIZE) reports.count++;
  if (c.sackReportsDue < MAX_DUE) c.sackReportsDue++;
  else c.context.stats.tcpSackReportsForgotten++;
}

/** The oldest report that is due has left; `isAll`: in an ACK with every block there is. */
export function told(c: Connection, isAll: boolean): void {
  c.sackReportsDue--;
  passOver(c, isAll);
}

/** Octets out of order that are acknowledged by now, or `areTold`, need no ACK. */
export function passOver(c: Connection, areTold: boolean): void {
  const { sackReports: reports } = c;
  if (reports === null) return;
  while (c.sackReportsDue > 0) {
    const at = reports.at(c.sackReportsDue - 1);
    if (reports.isDuplicate[at] !== 0) return;
    if (!areTold && seqAfter(reports.right[at], c.rcvNxt)) return;
    c.sackReportsDue--;
  }
}

/** A power of two. */
const SIZE = 64;
/** ACKs of one batch; as many places before the oldest of them stay known as an ACK has room for. */
export const MAX_DUE: number = SIZE - 4;
