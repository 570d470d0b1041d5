/**
 * How long a datagram to a relay may be, SOCKS header included: what IP carries, and less where a path proved narrower.
 *
 * The kernel fragments what exceeds the packets of the way to the proxy, so their size is no limit as a rule. Where it
 * will not (EMSGSIZE: some tunnels, IPsec), it does not say what would fit: then it is the next lower plateau of
 * RFC 1191 §7.1, believed for ten minutes (§6.3).
 */

import type { Endpoint } from "../stack/wire/address.ts";

/** The largest UDP payload over IPv4: 65,535 − 20 − 8. */
export const MAX_DATAGRAM_V4 = 65_507;
/** The same over IPv6: the length field counts from behind the header, but not every host takes what exceeds 65,535 in all. */
export const MAX_DATAGRAM_V6: number = 65_535 - 40 - 8;

/** How long a narrow path is believed in, ms. */
export const NARROW_LIFE: number = 10 * 60_000;

/** RFC 1191 §7.1, as far down as paths of today go: 576, and 1280 where every path takes that (RFC 8200 §5). */
const PLATEAUS: readonly number[] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_280];
const LOWEST_V4 = 576;
const LOWEST_V6 = 1280;

/** Octets of the largest datagram to `relay`. */
export function maxDatagram(relay: Endpoint): number {
  return relay.isV4 ? MAX_DATAGRAM_V4 : MAX_DATAGRAM_V6;
}

/** What may fit where a datagram of `length` octets to `relay` did not. */
export function nextLower(relay: Endpoint, length: number): number {
  const headers = relay.isV4 ? 28 : 48;
  const lowest = relay.isV4 ? LOWEST_V4 : LOWEST_V6;
  const lower = PLATEAUS.find((plateau) => plateau < length + headers) ?? lowest;
  return lower - headers;
}
