/** Packets that IP refuses: each is counted once, by its reason, and answered only where an RFC says so. */

import { expect, test } from "vitest";
import type { StackStats } from "../../src/stack/stats.ts";
import {
  buildIp,
  buildTcp,
  checksum,
  decodePacket,
  StackDriver,
  type StackDriverOptions,
} from "../../src/testing/index.ts";

const V4 = { source: "10.0.0.2", destination: "198.51.100.1" } as const;
const V6 = { source: "fd00::2", destination: "2001:db8::1" } as const;
const SYN4 = buildTcp({ ...V4, sourcePort: 1, destinationPort: 2, seq: 0, flags: 2 });
const SYN6 = buildTcp({ ...V6, sourcePort: 1, destinationPort: 2, seq: 0, flags: 2 });
const ROUTING = 43;

/** A copy of `packet` with octets changed at `at`; its IPv4 header checksum stays right. */
function changed(packet: Uint8Array, at: number, ...octets: number[]): Uint8Array {
  const copy = packet.slice();
  copy.set(octets, at);
  if (packet[0]! >> 4 === 4) {
    const view = new DataView(copy.buffer);
    view.setUint16(10, 0);
    view.setUint16(10, checksum(copy.subarray(0, 20)));
  }
  return copy;
}

/** `packet` with its IPv4 header lengthened by four octets of options. */
function withOptions(...options: number[]): Uint8Array {
  const copy = new Uint8Array(SYN4.length + 4);
  copy.set(SYN4.subarray(0, 20));
  copy.set(options, 20);
  copy.set(SYN4.subarray(20), 24);
  copy[0] = 0x46;
  const view = new DataView(copy.buffer);
  view.setUint16(2, copy.length);
  view.setUint16(10, 0);
  view.setUint16(10, checksum(copy.subarray(0, 24)));
  return copy;
}

function extension(type: number, ...octets: number[]): Uint8Array {
  return buildIp(V6, type, Uint8Array.of(...octets, ...SYN6.subarray(40)));
}

const REASONS: readonly (readonly [string, keyof StackStats, Uint8Array])[] = [
  ["less than a header", "ipTruncated", SYN4.slice(0, 12)],
  ["less than it says", "ipTruncated", SYN6.slice(0, 50)],
  ["of IP version 5", "ipBadVersion", changed(SYN6, 0, 0x50)],
  ["whose header ends before itself", "ipBadHeaderLength", changed(SYN4, 0, 0x44)],
  ["with a wrong header checksum", "ipBadChecksum", SYN4.with(10, SYN4[10]! ^ 1)],
  ["with a source route (RFC 7126 §4.3)", "ipBadOptions", withOptions(131, 3, 4, 0)],
  ["with an option that is cut off", "ipBadOptions", withOptions(7, 40, 0, 0)],
  ["whose extension header is cut off", "ipBadExtension", changed(SYN6, 6, 60).with(41, 200)],
  ["from multicast (RFC 1122 §3.2.1.3)", "ipBadSource", changed(SYN4, 12, 224, 0, 0, 1)],
  [
    "to a v4-mapped address (RFC 4038 §4.2)",
    "ipBadDestination",
    changed(SYN6, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1),
  ],
  ["to 127.0.0.0/8", "ipMartian", changed(SYN4, 16, 127, 0, 0, 1)],
  ["of TCP to a group (RFC 9293 §3.9.2.3)", "ipMartian", changed(SYN4, 16, 224, 0, 0, 1)],
  ["from itself to itself", "ipLand", changed(SYN4, 12, 198, 51, 100, 1)],
];

test.each(REASONS)(
  "a packet %s is dropped without an answer, counted once: %s",
  (_, reason, packet) => {
    const driver = new StackDriver({});
    driver.inject(packet);
    expect(counted(driver)).toEqual({ packetsIn: 1, [reason]: 1 });
    expect(driver.take()).toEqual([]);
  },
);

const ROUTE = extension(ROUTING, 6, 0, 0, 1, 0, 0, 0, 0);

test("a route with hops left is answered with a parameter problem (RFC 8200 §4.4, RFC 4443 §3.4)", () => {
  const driver = new StackDriver({});
  driver.inject(ROUTE);
  expect(driver.stack.stats.ipParameterProblem).toBe(1);
  const [answer] = driver.take();
  expect(decodePacket(answer!.bytes)).toMatchObject({ kind: "icmp", type: 4, code: 0, rest: 42 });
});

test("IPv6 is not served below its minimum MTU (RFC 8200 §5)", () => {
  const options: StackDriverOptions = { mtu: 1279 };
  const driver = new StackDriver({}, options);
  driver.inject(SYN6);
  expect(counted(driver)).toEqual({ packetsIn: 1, ipNotServed: 1 });
  driver.inject(SYN4);
  expect(driver.stack.stats.tcpOpens).toBe(1);
});

test("a protocol nobody speaks is told so (RFC 1122 §3.2.2.1, RFC 8200 §4)", () => {
  const driver = new StackDriver({});
  driver.inject(buildIp(V4, 132, new Uint8Array(12)), buildIp(V6, 132, new Uint8Array(12)));
  expect(driver.stack.stats.ipUnknownProtocol).toBe(2);
  const answers = driver.take().map(({ bytes }) => decodePacket(bytes));
  expect(answers).toMatchObject([
    { kind: "icmp", version: 4, type: 3, code: 2, rest: 0 },
    { kind: "icmp", version: 6, type: 4, code: 1, rest: 6 },
  ]);
});

/** The counters that are not zero. */
function counted(driver: StackDriver): Record<string, number> {
  const entries = Object.entries(driver.stack.stats) as [string, number][];
  return Object.fromEntries(entries.filter(([, value]) => value !== 0));
}
