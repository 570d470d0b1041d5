/**
 * Every capture of the corpus through the stack: what arrives upstream is what tshark makes of the client's side, and
 * what the client gets is what it makes of the server's.
 */

import { createHash } from "node:crypto";
import { beforeAll, describe, expect, test } from "vitest";
import type { CapturedPacket } from "../../src/pcap/captured-packet.ts";
import { ipPayload } from "../../src/pcap/link-type.ts";
import { readCaptureFile } from "../../src/pcap/read-capture.ts";
import {
  buildTcp,
  decodePacket,
  type ReplayReport,
  replay,
  type StreamReport,
  type StreamVerdict,
  type TcpOption,
} from "../../src/testing/index.ts";
import {
  capturePath,
  captures,
  hasCorpus,
  NO_CORPUS,
  packetsOf,
  type TruthSide,
  truthOf,
} from "./corpus.ts";

/** A stream that does not end as it was captured, or none at all, and why. */
interface Exception {
  readonly why: string;
  /** First packets of the streams, as tshark numbers them. */
  readonly frames: readonly number[];
  /** null: there is no such stream. */
  readonly verdict: StreamVerdict | null;
  /** Octets that arrive upstream, and at the client. */
  readonly upstream: number;
  readonly downstream: number;
}

const NO_SYN = "it begins behind its SYN: the stack knows no such connection and answers RST";
const midStream = (...frames: number[]): Exception => {
  return { why: NO_SYN, frames, verdict: "mid-stream", upstream: 0, downstream: 0 };
};
const notParsed = (why: string): Exception => {
  return { why, frames: [1], verdict: null, upstream: 0, downstream: 0 };
};

const EXCEPTIONS: Readonly<Record<string, Exception>> = {
  "dns/edns-ecs-fragments.pcap": midStream(11, 13, 15, 18, 25, 26, 27, 88),
  "fragments/ip4-http-request.pcap": midStream(11),
  "ip6/tcp-bad-checksum-route0.pcap": notParsed("a route with segments left (RFC 5095)"),
  "ip6/tcp-good-checksum-hoa.pcap": notParsed(
    "a home address option we do not know (RFC 8200 §4.2)",
  ),
  "linktypes/big-endian.pcap": midStream(1),
  "linktypes/ether-pppoe-qinq.pcap": {
    why: "the client says nothing for two minutes while octets wait for its acknowledgement: it is given up",
    frames: [1],
    verdict: "exact",
    upstream: 11_352,
    downstream: 4959,
  },
  "linktypes/null-0-ip6.pcap": midStream(1),
  "linktypes/null-0.pcap": midStream(1),
  "linktypes/raw-101-mixed.pcap": midStream(66, 69),
  "linktypes/sll2-276.pcap": midStream(1),
  "pcapng/two-linktypes.pcapng": midStream(60, 62, 65, 67, 73, 74, 78, 79, 81, 86, 94, 139, 149),
  "tcp/fast-open.pcap": {
    why: "the server took the octets of the SYN (RFC 7413); we do not, and this client never repeats them",
    frames: [8],
    verdict: "stalled",
    upstream: 0,
    downstream: 0,
  },
  "tcp/no-handshake.pcap": midStream(1),
  "tcp/payload-on-syn.pcap": {
    why: "the server took the octets of the SYN; we do not, and this client never repeats them",
    frames: [1],
    verdict: "stalled",
    upstream: 0,
    downstream: 0,
  },
  "tcp/rst-inject.pcap": {
    why: "the client sends 150 octets that the RST before them makes void",
    frames: [1],
    verdict: "different",
    upstream: 25,
    downstream: 0,
  },
  "tcp/rst-with-data.pcap": midStream(1),
  "tcp/tso-ip-length-zero.pcap": notParsed("a total length of 0 (RFC 791 §3.1)"),
  "tcp/weibo-mixed.pcap": midStream(10, 12, 28, 48, 51, 52),
};

/** Packets that time puts into another order than the capture has: tshark's streams are not ours. */
const REORDERED: Readonly<Record<string, StreamVerdict[]>> = {
  "tcp/lines-out-of-order.pcapng": ["exact"],
};

/** Streams of which the server was not captured: zeros reach the client. */
const ONE_SIDED: Readonly<Record<string, number[]>> = {
  "linktypes/raw-101-mixed.pcap": [53, 72],
};

/** Streams whose server sent more at once than cwnd allows here, and how many acknowledgements they need at most. */
const LENT: Readonly<Record<string, number>> = {
  "tcp/mss-260.pcap": 10,
  "tcp/sack-syn-retransmit.pcap": 10,
  "tcp/timestamps-long.pcap": 10,
};

/** Datagrams that are not for upstream, besides those to groups and from nobody. */
const NOT_FORWARDED: Readonly<Record<string, string>> = {
  "fragments/ip4-udp-1.pcap": "overlapping fragments discard the datagram (RFC 1858)",
};

test(hasCorpus ? "every exception is one of a capture" : NO_CORPUS, () => {
  const names = [...captures(true), ...captures(false)];
  const listed = [EXCEPTIONS, REORDERED, ONE_SIDED, LENT, NOT_FORWARDED].flatMap(Object.keys);
  expect(listed.filter((name) => !names.includes(name))).toEqual(hasCorpus ? [] : listed);
});

describe.each(captures(true))("%s replayed", (name) => {
  const truth = truthOf(name);
  const exception = EXCEPTIONS[name];
  let packets: CapturedPacket[];
  let report: ReplayReport;

  beforeAll(async () => {
    packets = await packetsOf(name);
    report = replay(packets);
  });

  test("every stream carries the captured octets, both ways", () => {
    if (name in REORDERED) {
      expect(report.streams.map(({ verdict }) => verdict)).toEqual(REORDERED[name]);
      return;
    }
    const missing = exception?.verdict === null ? exception.frames.length : 0;
    expect(report.streams).toHaveLength(truth.tcp.stream_count - missing);
    for (const expected of truth.tcp.streams) {
      const frame = expected.first_frame;
      const stream = report.streams.find((one) => one.frame === frame);
      if (exception?.frames.includes(frame)) {
        expectException(stream, exception);
        continue;
      }
      expect([frame, stream?.verdict]).toEqual([frame, expect.stringMatching(USUAL)]);
      const [client, server] =
        endOf(expected.a) === stream?.client ? [expected.a, expected.b] : [expected.b, expected.a];
      expect([stream?.client, stream?.server]).toEqual([endOf(client), endOf(server)]);
      if (!expected.ok) continue;
      expect([frame, stream?.upstream.length]).toEqual([frame, client.bytes]);
      expect(sha256(stream?.upstream)).toBe(client.sha256);
      if (ONE_SIDED[name]?.includes(frame)) continue;
      expect([frame, stream?.downstream.length]).toEqual([frame, server.bytes]);
      expect(sha256(stream?.downstream)).toBe(server.sha256);
    }
    // The ground truth has the first three hundred.
    for (const { verdict } of report.streams.slice(300)) expect(verdict).toMatch(USUAL);
  });

  test("no client but the listed has to be lent an acknowledgement", () => {
    const lent = Math.max(0, ...report.streams.map(({ added }) => added));
    expect(lent).toBeLessThanOrEqual(LENT[name] ?? 0);
  });

  test("the SYN-ACKs offer the options, MSS and scale of those captured", () => {
    const offers = captured(packets);
    for (const { client, server, offered, answer } of report.streams) {
      const synAck = offers.synAcks.get(`${server} ${client}`);
      if (answer !== "SYN-ACK" || synAck === undefined) continue;
      // An option that the SYN does not have is none (RFC 7323 §2.2, §3.2, RFC 2018 §2).
      const asked = offers.syns.get(`${client} ${server}`) ?? [];
      const common = synAck.filter(
        (option) => option.kind === "mss" || asked.some(({ kind }) => kind === option.kind),
      );
      expect([client, shape(offered)]).toEqual([client, shape(common)]);
    }
  });

  test("datagrams arrive upstream and answers at the client", () => {
    const { expectedUpstream, upstream, expectedAnswers, answers } = report.datagrams;
    for (const [key, counts] of Object.entries({ ...expectedUpstream, ...expectedAnswers })) {
      expect([key, truth.udp.flows[truthKey(key)]]).toEqual([key, counts]);
    }
    const forwarded = Object.entries(expectedUpstream).filter(
      ([key]) => !isForNobody(key) && !(name in NOT_FORWARDED),
    );
    expect(upstream).toEqual(Object.fromEntries(forwarded));
    expect(answers).toEqual(expectedAnswers);
  });

  test("nothing is left", () => {
    expectNothingLeft(report);
  });
});

describe.each(captures(false))("%s replayed", (name) => {
  test("never throws, hangs or grows", async () => {
    const packets: CapturedPacket[] = [];
    try {
      for await (const packet of readCaptureFile(capturePath(name))) packets.push(packet);
    } catch {
      // The damage itself is another test's.
    }
    const report = replay(packets);
    expect(report.packets).toBe(packets.length);
    expect(report.driver.stack.pages.peak).toBeLessThanOrEqual(1 << 20);
    // Two hours of patience and the stack's own timers.
    expect(report.driver.time.now()).toBeLessThan(4 * 3_600_000);
    expectNothingLeft(report);
  });
});

const USUAL = /^(exact|refused|unanswered)$/;

function expectException(stream: StreamReport | undefined, exception: Exception): void {
  if (exception.verdict === null) {
    expect(stream).toBeUndefined();
    return;
  }
  expect(stream?.verdict).toBe(exception.verdict);
  expect(stream?.upstream.length).toBe(exception.upstream);
  expect(stream?.downstream.length).toBe(exception.downstream);
  // Of some streams the capture has the server's side alone, of others an RST.
  if (exception.verdict === "mid-stream" && stream?.answer !== null) {
    expect(stream?.answer).toBe("RST");
  }
}

function expectNothingLeft({ driver }: ReplayReport): void {
  // What left with the last flush is free at the next one, which the answer to a stray segment brings.
  driver.inject(buildTcp(STRAY));
  driver.drain();
  const { stats, pages } = driver.stack;
  expect([stats.tcpFlows, stats.udpFlows, pages.inUse, pages.held]).toEqual([0, 0, 0, 0]);
}

const STRAY = {
  source: "10.9.9.9",
  destination: "198.51.100.9",
  sourcePort: 9,
  destinationPort: 9,
  seq: 0,
  flags: 0x10,
};

/** Options of the first SYN and SYN-ACK between two ends: `from to`. */
function captured(packets: readonly CapturedPacket[]): {
  syns: Map<string, readonly TcpOption[]>;
  synAcks: Map<string, readonly TcpOption[]>;
} {
  const syns = new Map<string, readonly TcpOption[]>();
  const synAcks = new Map<string, readonly TcpOption[]>();
  for (const packet of packets) {
    const ip = ipPayload(packet);
    if (ip === null || packet.truncated || !isTcp(ip)) continue;
    const decoded = decodePacket(ip);
    if (decoded.kind !== "tcp" || (decoded.flags & 2) === 0) continue;
    const src = endOf({ addr: decoded.source, port: decoded.sourcePort });
    const dst = endOf({ addr: decoded.destination, port: decoded.destinationPort });
    const map = (decoded.flags & 16) === 0 ? syns : synAcks;
    if (!map.has(`${src} ${dst}`)) map.set(`${src} ${dst}`, decoded.options);
  }
  return { syns, synAcks };
}

/** A packet of TCP right behind the IP header, as long as it says. */
function isTcp(ip: Uint8Array): boolean {
  const isV4 = ip[0] >> 4 === 4;
  const said = isV4 ? (ip[2] << 8) | ip[3] : 40 + ((ip[4] << 8) | ip[5]);
  return ip[isV4 ? 9 : 6] === 6 && said >= 40 && said <= ip.length;
}

/** What options say, whatever their order and padding; of timestamps only that they are there. */
function shape(options: readonly TcpOption[]): string[] {
  return options
    .filter(({ kind }) => kind !== "nop" && kind !== "eol" && kind !== "raw")
    .map((option) => {
      if (option.kind === "mss") return `mss ${option.value}`;
      // RFC 7323 §2.3.
      return option.kind === "wscale" ? `wscale ${Math.min(option.value, 14)}` : option.kind;
    })
    .sort();
}

function sha256(octets: Uint8Array = new Uint8Array(0)): string | null {
  return octets.length === 0 ? null : createHash("sha256").update(octets).digest("hex");
}

function endOf({ addr, port }: Pick<TruthSide, "addr" | "port">): string {
  return addr.includes(":") ? `[${addr}]:${port}` : `${addr}:${port}`;
}

/** `1.2.3.4:5 > 6.7.8.9:10` as the ground truth writes it. */
function truthKey(key: string): string {
  return key.replace(/(^|> )([\d.]+):/g, "$1[$2]:");
}

/** To a group, to all, or from the unspecified address: nothing that a proxy can carry. */
function isForNobody(key: string): boolean {
  return /^0\.0\.0\.0|> (22[4-9]|23\d|255\.255\.255\.255)|> \[ff/.test(key);
}
