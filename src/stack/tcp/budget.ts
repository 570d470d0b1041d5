/**
 * How much the connections of a stack may hold together, and what one of them may hold when others hold much.
 *
 * The budget B bounds pages: what is held in them is octets received in order that the upstream has not taken, octets
 * out of order, octets sent and not acknowledged, and fragments. Pages, not octets, because pages are what costs
 * memory: a page of 4 KiB counts whole when one octet is in it, so the octets held are never more than B.
 *
 *     always       a flow's first window is min(64 KiB, B / (4 × flows)), at least two segments
 *     above B/2    windows stop growing, and a send buffer takes no more than a first window (8 KiB at least)
 *     above 3B/4   a new flow's first window is two segments
 *     at B         there is no page: upstreams are not read (`starved`), octets that were not acknowledged are dropped
 *                  and counted; the client sends them again
 *
 * What was acknowledged or SACKed lies in pages already and is never dropped; a right edge that was offered stays.
 */

import { IPV4_HEADER, IPV6_HEADER } from "../wire/ip.ts";
import { TCP_HEADER } from "../wire/tcp.ts";
import type { Connection } from "./connection.ts";
import type { TcpContext } from "./context.ts";

/** Octets; the memory's page region bounds it too. */
export const DEFAULT_BUDGET: number = 256 << 20;

/** The window of a SYN-ACK is not scaled (RFC 7323 §2.2). */
export const MAX_FIRST_WINDOW = 65535;

/** Buffers may grow. */
export function mayGrow(context: TcpContext): boolean {
  return context.pages.inUse < context.pages.limit / 2;
}

/** The window of a flow that has shown nothing yet. */
export function firstWindow(c: Connection): number {
  const { pages, mtu } = c.context;
  const segment = mtu - (c.target.isV4 ? IPV4_HEADER : IPV6_HEADER) - TCP_HEADER;
  // The field of the windows that follow has to say it, whatever the scale of a profile.
  const least = Math.max(2 * segment, 2 << c.rcvScale);
  if (pages.inUse > 0.75 * pages.limit) return least;
  return Math.max(Math.min(share(c.context), MAX_FIRST_WINDOW), least);
}

/** What a send buffer may hold when buffers may not grow. */
export function sendShare(context: TcpContext): number {
  return Math.max(Math.min(share(context), MAX_FIRST_WINDOW), MIN_SEND_SHARE);
}

/** A quarter of the budget, divided among the flows that may hold something. */
function share(context: TcpContext): number {
  const { pages, table, timeWait } = context;
  return Math.floor(pages.limit / (4 * Math.max(1, table.size - timeWait.size)));
}

/** Two pages, so that one can be filled while the other is on its way. */
const MIN_SEND_SHARE = 8192;
