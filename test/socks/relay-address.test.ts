import { expect, test } from "vitest";
import { chooseRelay } from "../../src/socks/relay-address.ts";
import { Endpoint, formatEndpoint } from "../../src/stack/wire/address.ts";
import { endpoint } from "./client-harness.ts";

test.each([
  // BND, server as connected, relay, rule
  ["203.0.113.9", "203.0.113.1", "203.0.113.9", "as given"],
  ["0.0.0.0", "203.0.113.1", "203.0.113.1", "unspecified"],
  ["0.0.0.0", "127.0.0.1", "127.0.0.1", "unspecified"],
  ["::", "2001:db8::1", "2001:db8::1", "unspecified"],
  ["::", "203.0.113.1", "203.0.113.1", "unspecified"],
  ["127.0.0.1", "203.0.113.1", "203.0.113.1", "loopback of a remote server"],
  ["127.0.0.1", "10.0.0.1", "10.0.0.1", "loopback of a remote server"],
  ["::1", "2001:db8::1", "2001:db8::1", "loopback of a remote server"],
  ["127.0.0.1", "127.0.0.1", "127.0.0.1", "as given"],
  ["10.1.2.3", "203.0.113.1", "203.0.113.1", "private"],
  ["172.31.0.1", "203.0.113.1", "203.0.113.1", "private"],
  ["192.168.1.1", "2001:db8::1", "2001:db8::1", "private"],
  ["100.64.0.1", "203.0.113.1", "203.0.113.1", "private"],
  ["169.254.1.1", "203.0.113.1", "203.0.113.1", "private"],
  ["fd00::1", "2001:db8::1", "2001:db8::1", "private"],
  ["fe80::1", "2001:db8::1", "2001:db8::1", "private"],
  ["10.1.2.3", "10.0.0.1", "10.1.2.3", "as given"],
  ["10.1.2.3", "192.168.0.1", "10.1.2.3", "as given"],
  ["255.255.255.255", "203.0.113.1", "203.0.113.1", "no host's address"],
  ["224.0.0.1", "127.0.0.1", "127.0.0.1", "no host's address"],
  ["ff02::1", "2001:db8::1", "2001:db8::1", "no host's address"],
  ["::ffff:203.0.113.9", "203.0.113.1", "203.0.113.9", "as given"],
  // This host has IPv6 but no way to 2001:db8:dead::/48.
  ["2001:db8::9", "203.0.113.1", "2001:db8::9", "as given"],
  ["2001:db8:dead::9", "203.0.113.1", "203.0.113.1", "no route"],
  ["203.0.113.9", "2001:db8::1", "203.0.113.9", "as given"],
  // A container on this host, published on loopback.
  ["172.17.0.2", "127.0.0.1", "172.17.0.2", "as given"],
])("BND %s from the server %s: datagrams go to %s (%s)", (bound, server, expected, rule) => {
  const relay = new Endpoint();
  const hasRoute = ({ w1 }: Endpoint): boolean => w1 !== 0xdead << 16;
  const [from, to] = [endpoint(bound, 4321), endpoint(server, 1080)];
  expect(chooseRelay(from, to, relay, hasRoute)).toBe(rule);
  expect(formatEndpoint(relay)).toBe(formatEndpoint(endpoint(expected, 4321)));
});
