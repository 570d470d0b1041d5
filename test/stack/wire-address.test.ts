import { expect, test } from "vitest";
import {
  cidrContains,
  formatAddress,
  formatEndpoint,
  parseAddress,
  parseCidr,
} from "../../src/stack/wire/address.ts";
import { endpoint } from "./kit.ts";

test.each([
  ["10.0.0.1", "10.0.0.1"],
  ["255.255.255.255", "255.255.255.255"],
  ["::", "::"],
  ["::1", "::1"],
  ["1::", "1::"],
  ["2001:DB8:0:0:8:800:200C:417A", "2001:db8::8:800:200c:417a"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["::ffff:1.2.3.4", "1.2.3.4"],
  ["::ffff:102:304", "1.2.3.4"],
  ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
  ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
])("%s is printed as %s (RFC 5952 §4, §4.2)", (text, canonical) => {
  const address = parseAddress(text);
  expect(address && formatAddress(address)).toBe(canonical);
});

test.each([
  "",
  "1.2.3",
  "1.2.3.4.5",
  "01.2.3.4",
  "256.1.1.1",
  "1.2.3.4 ",
  "1..3.4",
  ":",
  ":::",
  "1:2",
  "1::2::3",
  "1:2:3:4:5:6:7:8:9",
  "1:2:3:4:5:6:7:8::",
  ":1:2:3:4:5:6:7",
  "12345::",
  "g::",
  "fe80::1%eth0",
  "::1.2.3.4:5",
  "1.2.3.4::",
  "::ffff:1.2.3",
])("%j is no address", (text) => {
  expect(parseAddress(text)).toBeNull();
});

test("endpoints of IPv6 are bracketed (RFC 5952 §6)", () => {
  expect(formatEndpoint(endpoint("10.0.0.1:80"))).toBe("10.0.0.1:80");
  expect(formatEndpoint(endpoint("[::1]:80"))).toBe("[::1]:80");
});

test.each([
  ["10.0.0.0/8", "10.255.0.1", "11.0.0.1"],
  ["10.1.2.3", "10.1.2.3", "10.1.2.2"],
  ["0.0.0.0/0", "255.1.1.1", "::1"],
  ["::/0", "fd00::1", "10.0.0.1"],
  ["fd00:18::/124", "fd00:18::f", "fd00:18::10"],
  ["198.18.0.0/28", "198.18.0.15", "198.18.0.16"],
  ["2001:db8::/33", "2001:db8:7fff::", "2001:db8:8000::"],
])("%s contains %s and not %s", (text, inside, outside) => {
  const cidr = parseCidr(text);
  if (cidr === null) throw new Error("not parsed");
  expect(cidrContains(cidr, endpoint(inside))).toBe(true);
  expect(cidrContains(cidr, endpoint(outside))).toBe(false);
});

test.each(["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/08", "/8", "1.2.3.4/8/8"])(
  "%s is no prefix",
  (text) => {
    expect(parseCidr(text)).toBeNull();
  },
);

const PREDICATES = [
  "isUnspecified",
  "isLoopback",
  "isMulticast",
  "isBroadcast",
  "isLinkLocal",
  "isPrivate",
  "isMartianDestination",
] as const;

test.each([
  ["0.0.0.0", "isUnspecified isMartianDestination"],
  ["0.1.2.3", "isUnspecified isMartianDestination"],
  ["::", "isUnspecified isMartianDestination"],
  ["127.255.0.1", "isLoopback"],
  ["::1", "isLoopback"],
  ["::2", ""],
  ["224.0.0.1", "isMulticast isMartianDestination"],
  ["239.255.255.255", "isMulticast isMartianDestination"],
  ["ff02::1", "isMulticast isMartianDestination"],
  ["255.255.255.255", "isBroadcast isMartianDestination"],
  ["240.0.0.1", "isMartianDestination"],
  ["169.254.169.254", "isLinkLocal"],
  ["169.255.0.1", ""],
  ["fe80::1", "isLinkLocal"],
  ["febf::1", "isLinkLocal"],
  ["fec0::1", ""],
  ["10.0.0.1", "isPrivate"],
  ["172.16.0.1", "isPrivate"],
  ["172.31.255.255", "isPrivate"],
  ["172.32.0.0", ""],
  ["192.168.0.1", "isPrivate"],
  ["192.169.0.1", ""],
  ["100.64.0.1", "isPrivate"],
  ["100.127.255.255", "isPrivate"],
  ["100.128.0.0", ""],
  ["fc00::1", "isPrivate"],
  ["fdff::1", "isPrivate"],
  ["fe00::1", ""],
  ["8.8.8.8", ""],
  ["2001:db8::1", ""],
])("%s is: %s", (text, claims) => {
  const address = endpoint(text);
  expect(PREDICATES.filter((name) => address[name]).join(" ")).toBe(claims);
});
