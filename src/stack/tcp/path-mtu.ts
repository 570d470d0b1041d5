/**
 * The path to the client is narrower than the device (RFC 1191, RFC 8201): a flow's segments become shorter.
 *
 * An ICMP error is believed only if it quotes octets in flight (RFC 5927 §4.1), and never so far that segments become
 * small change (RFC 5927 §7.1). What was in flight is sent again, which is no congestion (RFC 1191 §6.4).
 */

import type { IcmpMessage } from "../wire/icmp.ts";
import { IPV4_HEADER, IPV6_HEADER } from "../wire/ip.ts";
import { TCP_HEADER, TIMESTAMPS_LENGTH } from "../wire/tcp.ts";
import type { Connection } from "./connection.ts";
import * as recovery from "./recovery.ts";

/** Takes "too big" about a segment of ours. False: not believed, or nothing new. */
export function tooBig(c: Connection, message: IcmpMessage): boolean {
  const offset = (message.quotedSeq - c.sndUna) | 0;
  if (offset < 0 || offset >= c.flight || c.congestion === null || c.isProbing) return false;
  const isV4 = c.target.isV4;
  // 0 comes from routers older than RFC 1191, whose §5 lets us assume the minimum.
  const mtu = Math.max(message.mtu, isV4 ? MIN_MTU_V4 : MIN_MTU_V6);
  const headers = (isV4 ? IPV4_HEADER : IPV6_HEADER) + TCP_HEADER;
  const mss = mtu - headers - (c.timestamps ? TIMESTAMPS_LENGTH : 0);
  if (mss >= c.sndMss) return false;
  c.sndMss = mss;
  const owesCwr = c.cwrRecover !== c.recover;
  recovery.onTooBig(c);
  if (!owesCwr) c.cwrRecover = c.recover;
  c.context.stats.tcpPathMtuLowered++;
  c.markDirty();
  return true;
}

/** RFC 1191 would go down to 68; no path of today does, and an attacker likes small segments. */
const MIN_MTU_V4 = 576;
/** RFC 8201 §4, RFC 8200 §5. */
const MIN_MTU_V6 = 1280;
