/**
 * Explicit congestion notification (RFC 3168): what was agreed, what is echoed, what an echo does.
 *
 * Only octets that leave for the first time are ECT(0): no acknowledgement, retransmission or probe (RFC 3168 §6.1.4
 * to §6.1.6). The AccECN SYN has both bits set as well and is taken as classic ECN (RFC 9768 §3.1.2).
 */

import { CWR, ECE, type TcpSegment } from "../wire/tcp.ts";
import type { Connection } from "./connection.ts";
import { Recovery } from "./flight.ts";
import { seqAfter } from "./seq.ts";

/** Codepoints of the ECN field (RFC 3168 §5). */
export const Ecn = { NOT_ECT: 0, ECT_1: 1, ECT_0: 2, CE: 3 } as const;

/** An ECN-setup SYN (RFC 3168 §6.1.1). */
export function isOffered(s: TcpSegment): boolean {
  return (s.flags & (ECE | CWR)) === (ECE | CWR);
}

/** An octet of the client came marked: every ACK says so until the client answers with CWR (RFC 3168 §6.1.3). */
export function dataArrived(c: Connection, s: TcpSegment): void {
  if (s.flags & CWR) c.ecnEcho = false;
  if (s.ecn !== Ecn.CE) return;
  c.context.stats.tcpCongestionMarks++;
  if (!c.ecnEcho) c.ackNow = true;
  c.ecnEcho = true;
}

/** An acceptable ACK, before it moves SND.UNA: ECE halves as a loss does, once per window (RFC 3168 §6.1.2). */
export function acknowledged(c: Connection, s: TcpSegment): void {
  // Something above the last octet of that window, and CWR with it, has to have arrived.
  if (c.isReduced && !c.cwrDue && seqAfter(s.ack, c.reducedUntil)) c.isReduced = false;
  if (!(s.flags & ECE) || c.flight === 0 || c.congestion === null) return;
  // An echo is no guess: the recovery that answers it, or precedes it, is not to be taken back.
  c.isUndoable = false;
  if (!c.isReduced && c.recovery === Recovery.NONE) {
    c.isReduced = true;
    c.reducedUntil = c.sndNxt;
    c.cwrDue = true;
    c.congestion.lost(c.cwndLimited ? c.congestion.cwnd : c.flight, c.sndMss);
    c.context.stats.tcpCongestionEchoes++;
  }
  // No growth by an ACK that says ECE.
  c.cwndLimited = false;
}

/** The window shrank, by an echo or a loss, and no new octet has told the client so far. */
export function owesCwr(c: Connection): boolean {
  return c.ecnOk && (c.cwrDue || c.cwrRecover !== c.recover);
}

/** A segment with CWR left. */
export function cwrSent(c: Connection): void {
  c.cwrDue = false;
  c.cwrRecover = c.recover;
}
