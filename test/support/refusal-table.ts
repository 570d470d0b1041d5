/**
 * What a program sees for every refusal: the source of docs/refusals.md and of the test that tries it.
 *
 * `connect4` and `connect6` are what connect(2) fails with on Linux; `udp4` and `udp6` what the next call on a
 * connected datagram socket does ("" when the program hears nothing).
 */

import type { Refusal } from "../../src/socks/ports.ts";
import type { RefuseReason } from "../../src/stack/ports.ts";
import { reply, trouble } from "./scripted-upstream.ts";

export interface RefusalRow {
  /** What the upstream said. */
  readonly said: string;
  readonly refusal: Refusal;
  readonly tcp: RefuseReason | "forget";
  readonly connect4: string;
  readonly connect6: string;
  readonly udp: RefuseReason | "silence";
  readonly udp4: string;
  readonly udp6: string;
}

type Seen = readonly [v4: string, v6: string];

/** errno of connect(2) per answer to the SYN. */
const CONNECT: Readonly<Record<RefusalRow["tcp"], Seen>> = {
  reset: ["ECONNREFUSED", "ECONNREFUSED"],
  "net-unreachable": ["ENETUNREACH", "ENETUNREACH"],
  "host-unreachable": ["EHOSTUNREACH", "EHOSTUNREACH"],
  prohibited: ["EHOSTUNREACH", "EACCES"],
  "ttl-exceeded": ["EHOSTUNREACH", "EHOSTUNREACH"],
  "port-unreachable": ["ECONNREFUSED", "ECONNREFUSED"],
  forget: ["ETIMEDOUT", "ETIMEDOUT"],
};

/** The same for a connected datagram socket without IP_RECVERR. */
const DATAGRAM: Readonly<Record<RefusalRow["udp"], Seen>> = {
  reset: ["ECONNREFUSED", "ECONNREFUSED"],
  "net-unreachable": ["", ""],
  "host-unreachable": ["", ""],
  prohibited: ["EHOSTUNREACH", "EACCES"],
  "ttl-exceeded": ["", ""],
  "port-unreachable": ["ECONNREFUSED", "ECONNREFUSED"],
  silence: ["", ""],
};

/** The packet of each answer, IPv4 and IPv6. */
export const PACKETS: Readonly<Record<RefuseReason | "forget" | "silence", Seen>> = {
  reset: ["RST", "RST"],
  "net-unreachable": ["ICMP 3/0", "ICMPv6 1/0"],
  "host-unreachable": ["ICMP 3/1", "ICMPv6 1/3"],
  prohibited: ["ICMP 3/13", "ICMPv6 1/1"],
  "ttl-exceeded": ["ICMP 11/0", "ICMPv6 3/0"],
  "port-unreachable": ["ICMP 3/3", "ICMPv6 1/4"],
  forget: ["nothing", "nothing"],
  silence: ["nothing", "nothing"],
};

export const REFUSALS: readonly RefusalRow[] = [
  row("01 general failure", reply(1), "reset", "port-unreachable"),
  row("02 not allowed by ruleset", reply(2), "prohibited", "prohibited"),
  row("03 network unreachable", reply(3), "net-unreachable", "port-unreachable"),
  row("04 host unreachable", reply(4), "host-unreachable", "port-unreachable"),
  row("05 connection refused", reply(5), "reset", "port-unreachable"),
  row("06 TTL expired", reply(6), "ttl-exceeded", "port-unreachable"),
  row("07 command not supported", reply(7), "reset", "port-unreachable"),
  row("08 address type not supported", reply(8), "reset", "port-unreachable"),
  row("F0–F7 (Tor) and any other", reply(0xf0), "reset", "port-unreachable"),
  row("no connection to the proxy", trouble("unreachable"), "host-unreachable", "host-unreachable"),
  row("method or password refused", trouble("auth"), "host-unreachable", "host-unreachable"),
  row(
    "not SOCKS5, or closed without a reply",
    trouble("protocol"),
    "host-unreachable",
    "port-unreachable",
  ),
  row("no answer within the dial deadline", trouble("timeout"), "forget", "silence"),
  row("our own limit (descriptors, ports)", trouble("local"), "reset", "silence"),
];

function row(
  said: string,
  refusal: Refusal,
  tcp: RefusalRow["tcp"],
  udp: RefusalRow["udp"],
): RefusalRow {
  const [connect4, connect6] = CONNECT[tcp];
  const [udp4, udp6] = DATAGRAM[udp];
  return { said, refusal, tcp, connect4, connect6, udp, udp4, udp6 };
}

/** docs/refusals.md. */
export function refusalsPage(): string {
  const cell = (packets: Seen, errors: Seen): string =>
    packets
      .map((packet, i) => (errors[i] === "" ? packet : `${packet} → ${errors[i]}`))
      .join("<br>");
  const tcp = REFUSALS.map(
    ({ said, tcp, connect4, connect6 }) =>
      `| ${said} | ${cell(PACKETS[tcp], [connect4, connect6])} |`,
  );
  const udp = REFUSALS.map(
    ({ said, udp, udp4, udp6 }) => `| ${said} | ${cell(PACKETS[udp], [udp4, udp6])} |`,
  );
  return `${[
    "# What a program sees when the proxy says no",
    "",
    "The SYN-ACK leaves only when the proxy has granted the connection. Until then a refusal is answered as a network",
    "would answer it, within the same turn; every ICMP error comes from the SYN's destination and is followed by an",
    "RST, because a socket that is locked at that moment drops ICMP and keeps the RST. First line IPv4, second IPv6.",
    "",
    "## TCP: the answer to the SYN, and errno of connect(2) on Linux",
    "",
    "| The proxy said | The program sees |",
    "|---|---|",
    ...tcp,
    "",
    "RFC 1928 names no better code for many failures: servers say 01 for a name that does not resolve, and OpenSSH closes",
    "the connection instead of a reply, which is taken for 01. shadowsocks and others say 00 before they know, and close the",
    "connection when the destination refuses. That looks like a destination which accepts and closes at once, so the program",
    "sees an end. Once three different hosts ended so within ten minutes (without an octet, less than five seconds after the",
    "00, the program still sending) a line tells that the proxy says yes before it knows, and such an end is an RST from then",
    "on → ECONNRESET. A reply of 03 to 06 speaks for the proxy: it has tried, and what was held against it is forgotten. A",
    "firewall that resets what it reads can look the same; nothing is asked of the proxy to find out.",
    "",
    "## UDP: the answer to a datagram whose association was refused, and errno on a connected socket",
    "",
    "The proxy's reply speaks of its own relay and not of the datagram's target, so all but 02 are port unreachable,",
    "the error that reaches an ordinary program. 07, 08 and a connection closed without a reply mean that the proxy",
    "has no UDP; that is remembered for five minutes. Where no errno stands, Linux keeps the error from a",
    "connected socket that did not ask for it (IP_RECVERR).",
    "",
    "| The proxy said | The program sees |",
    "|---|---|",
    ...udp,
    "",
  ].join("\n")}`;
}
