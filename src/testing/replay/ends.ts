/**
 * The two ends of what is replayed: keys for maps, and addresses that a TUN carries.
 */

import { Endpoint } from "../../stack/wire/address.ts";

/** The same for equal endpoints only. */
export function endpointKey(e: Endpoint): string {
  return `${e.w0},${e.w1},${e.w2},${e.w3}:${e.port}`;
}

/**
 * The ends a capture's packets get in a replay: those captured, or, where a host talked to itself, addresses of the
 * networks for tests (RFC 2544 appendix C.2.2, RFC 5180 §8), since no TUN carries the captured ones.
 */
export function tunEnds(client: Endpoint, server: Endpoint): [Endpoint, Endpoint] {
  const isForTun = !server.isLoopback && !client.isLoopback && !server.sameAddress(client);
  return isForTun ? [client, server] : [testAddress(client, 1), testAddress(server, 2)];
}

function testAddress(captured: Endpoint, host: number): Endpoint {
  const address = new Endpoint();
  return captured.isV4
    ? address.set(0, 0, 0xffff, 0xc6120000 | host, captured.port)
    : address.set(0x20010002, 0, 0, host, captured.port);
}
