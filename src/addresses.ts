/**
 * The addresses that are ours. 198.18.0.0/15 is set aside for benchmarks (RFC 2544), fd00:18::/64 is a unique
 * local prefix (RFC 4193); the first sixteen of each are reserved here and never sent to a proxy.
 */

import { type Endpoint, parseAddress } from "./stack/wire/address.ts";

/** What the kernel's side of the device is called. */
export const CLIENT_IPV4 = "198.18.0.1";
export const CLIENT_IPV4_PREFIX = 15;
export const CLIENT_IPV6 = "fd00:18::1";
export const CLIENT_IPV6_PREFIX = 64;

/** The host's own loopback, under --host-loopback. */
export const HOST_LOOPBACK_IPV4 = "198.18.0.2";
export const HOST_LOOPBACK_IPV6 = "fd00:18::2";
export const HOST_LOOPBACK_NAME = "host.tun2socks.internal";

/** Our resolver. */
export const RESOLVER_IPV4 = "198.18.0.3";
export const RESOLVER_IPV6 = "fd00:18::3";

/** Reserved: 198.18.0.0–198.18.0.15 and fd00:18::–fd00:18::f. */
export const RESERVED: readonly string[] = ["198.18.0.0/28", "fd00:18::/124"];

/** What stands for names under --dns fake: the rest of both ranges, as far as there is an IPv4 address for each. */
export const FAKE_RANGES: { readonly ipv4: string; readonly ipv6: string; readonly reserved: 16 } =
  {
    ipv4: `198.18.0.0/${CLIENT_IPV4_PREFIX}`,
    ipv6: `fd00:18::/${CLIENT_IPV6_PREFIX}`,
    reserved: 16,
  };

/** An address as an endpoint with port 0. The text must be one of the constants above. */
export function endpointOf(text: string): Endpoint {
  const address = parseAddress(text);
  if (address === null) throw new Error(`not an address: ${text}`);
  return address;
}
