/**
 * Where to send datagrams of an association: BND.ADDR and BND.PORT as servers really fill them in (RFC 1928 §6
 * promises an address that can be used; many give their own view of themselves).
 */

import type { Endpoint } from "../stack/wire/address.ts";

/** Which rule fired. */
export type RelayRule = "as given" | "unspecified" | "loopback of a remote server" | "private";

/**
 * Puts the relay's address into `relay`: `bound`, or the address of `server` (as connected) with the port of
 * `bound`, when the address cannot be reached from here. Returns the rule that decided.
 */
export function chooseRelay(bound: Endpoint, server: Endpoint, relay: Endpoint): RelayRule {
  const rule = judge(bound, server);
  relay.copy(rule === "as given" ? bound : server);
  relay.port = bound.port;
  return rule;
}

function judge(bound: Endpoint, server: Endpoint): RelayRule {
  if (bound.isUnspecified) return "unspecified";
  if (server.isLoopback) return "as given";
  if (bound.isLoopback) return "loopback of a remote server";
  return isPrivate(bound) && !isPrivate(server) ? "private" : "as given";
}

function isPrivate(address: Endpoint): boolean {
  return address.isPrivate || address.isLinkLocal;
}
