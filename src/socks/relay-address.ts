/**
 * Where to send datagrams of an association: BND.ADDR and BND.PORT as servers really fill them in (RFC 1928 §6
 * promises an address that can be used; many give their own view of themselves).
 */

import type { Endpoint } from "../stack/wire/address.ts";

/** Which rule fired. */
export type RelayRule =
  | "as given"
  | "unspecified"
  | "no host's address"
  | "loopback of a remote server"
  | "private"
  | "no route";

/**
 * Puts the relay's address into `relay`: `bound`, or the address of `server` (as connected) with the port of
 * `bound`, when the address cannot be reached from here. `hasRoute` is asked about an address of the other family than the
 * server's. Returns the rule that decided.
 */
export function chooseRelay(
  bound: Endpoint,
  server: Endpoint,
  relay: Endpoint,
  hasRoute: (relay: Endpoint) => boolean,
): RelayRule {
  const rule = judge(bound, server, hasRoute);
  relay.copy(rule === "as given" ? bound : server);
  relay.port = bound.port;
  return rule;
}

function judge(
  bound: Endpoint,
  server: Endpoint,
  hasRoute: (relay: Endpoint) => boolean,
): RelayRule {
  if (bound.isUnspecified) return "unspecified";
  if (bound.isMartianDestination) return "no host's address";
  if (!server.isLoopback) {
    if (bound.isLoopback) return "loopback of a remote server";
    if (isPrivate(bound) && !isPrivate(server)) return "private";
  }
  return bound.isV4 === server.isV4 || hasRoute(bound) ? "as given" : "no route";
}

function isPrivate(address: Endpoint): boolean {
  return address.isPrivate || address.isLinkLocal;
}
