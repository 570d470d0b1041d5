import { beforeAll, describe, expect, test } from "vitest";
import { TunnelError } from "../../src/errors.ts";
import type { CapturedPacket } from "../../src/pcap/captured-packet.ts";
import { readCaptureFile } from "../../src/pcap/read-capture.ts";
import { capturePath, captures, hasCorpus, NO_CORPUS, packetsOf, truthOf } from "./corpus.ts";
import { Dissection, refusals } from "./dissection.ts";

/** What tshark counts and we do not: packets that the stack refuses on purpose, and why. */
interface Difference {
  readonly why: string;
  readonly refused?: Record<string, number>;
  /** Packets that tshark finds more. */
  readonly l4?: Record<string, number>;
  readonly flows?: readonly string[];
  /** Segments with a flag that tshark finds more. */
  readonly flags?: Record<string, number>;
  readonly streams?: number;
  readonly reassembled?: number;
}

const DIFFERENCES: Readonly<Record<string, Difference>> = {
  "fragments/ip4-udp-1.pcap": {
    why: "overlapping fragments discard the datagram (RFC 1858)",
    reassembled: 1,
    flows: ["[164.1.123.163]:123 > [164.1.123.61]:137"],
  },
  "fragments/ip6-overlap-1.pcap": {
    why: "overlapping fragments discard the datagram (RFC 5722 §4)",
    reassembled: 1,
  },
  "ip6/ext-headers-99.pcap": {
    why: "at most eight extension headers (RFC 8504 §5.3)",
    refused: { BAD_EXTENSION: 1 },
    l4: { udp: 1 },
    flows: ["[2001:db8::1]:12345 > [2001:db8::2]:54321"],
  },
  "ip6/jumbogram.pcap": {
    why: "no TUN carries jumbograms (RFC 2675)",
    refused: { BAD_EXTENSION: 1 },
    l4: { icmp6: 1 },
  },
  "ip6/options-ah.pcapng": {
    why: "a route with segments left (RFC 5095); behind the authentication header (51) we do not look",
    refused: { PARAMETER_PROBLEM: 3 },
    l4: { "51": -1, "89": 2, icmp6: 1, udp: 1 },
    flows: ["[2200::244:212:3fff:feae:22f7]:5645 > [2200::240:2:0:0:4]:5642"],
  },
  "ip6/routing-header.pcap": {
    why: "routes with segments left (RFC 5095)",
    refused: { PARAMETER_PROBLEM: 4 },
    l4: { icmp6: 2, udp: 2 },
    flows: [
      "[2200::244:212:3fff:feae:22f7]:5645 > [2200::211:2:0:0:2]:5642",
      "[2200::244:212:3fff:feae:22f7]:5645 > [2200::240:2:0:0:4]:5642",
    ],
  },
  "ip6/tcp-bad-checksum-route0.pcap": {
    why: "a route with segments left (RFC 5095)",
    refused: { PARAMETER_PROBLEM: 1 },
    l4: { tcp: 1 },
    streams: 1,
  },
  "ip6/tcp-good-checksum-hoa.pcap": {
    why: "a home address option we do not know (RFC 8200 §4.2)",
    refused: { PARAMETER_PROBLEM: 1 },
    l4: { tcp: 1 },
    streams: 1,
  },
  "linktypes/big-endian.pcap": {
    why: "sources from 224.0.0.0/4 up (RFC 1122 §3.2.1.3)",
    refused: { BAD_SOURCE: 3 },
    l4: { igmp: 3 },
  },
  "tcp/accecn-handshake.pcap": {
    why: "behind an AccECN handshake tshark reads CWR and ECE as a counter (draft-ietf-tcpm-accurate-ecn)",
    flags: { cwr: -1, ece: -3 },
  },
  "tcp/tso-ip-length-zero.pcap": {
    why: "a total length of 0 (RFC 791 §3.1)",
    refused: { BAD_HEADER_LENGTH: 1 },
    l4: { tcp: 1 },
    streams: 1,
  },
};

/** Packets that are shorter than their IP header says, though the capture does not call them snapped. */
const SHORTER_THAN_SAID: Readonly<Record<string, number>> = {
  "linktypes/ether-pppoe-qinq.pcap": 7,
  "tcp/reassembly.pcap": 5,
};

/** Packets before the damage, as libpcap has them. Every other file of malformed/ is whole: its packets are what is malformed. */
const DAMAGED: Readonly<Record<string, number>> = {
  "malformed/file-linktype-reserved.pcap": 0,
  "malformed/file-version.pcap": 0,
  "malformed/fuzz-b.pcap": 2,
  "malformed/fuzz-ng-unbounded.pcapng": 0,
  "malformed/fuzz-truncated-file.pcap": 1,
};

test(hasCorpus ? "the captures with ground truth are there" : NO_CORPUS, () => {
  if (!hasCorpus) console.warn(NO_CORPUS);
  expect(captures(true).length > 90 && captures(false).length > 20).toBe(hasCorpus);
});

describe.each(captures(true))("%s as tshark sees it", (name) => {
  const truth = truthOf(name);
  const difference: Difference = DIFFERENCES[name] ?? { why: "" };
  let packets: CapturedPacket[];
  let dissection: Dissection;

  beforeAll(async () => {
    packets = await packetsOf(name);
    dissection = dissect(packets);
  });

  test("packets by IP version and protocol, fragments and snapped packets", () => {
    const { total, ip4, ip6, other, snapped, fragments, refused, l4 } = dissection;
    const counts = truth.packets;
    expect({ total, ip4, ip6, other, snapped, fragments }).toEqual({
      total: counts.total,
      ip4: counts.ip4,
      ip6: counts.ip6,
      other: counts.other,
      snapped: counts.snapped ?? 0,
      fragments: counts.ip_fragments ?? 0,
    });
    expect(refused).toEqual(difference.refused ?? {});
    expect(l4).toEqual(minus(counts.l4, difference.l4 ?? {}));
  });

  test("UDP flows after reassembly", () => {
    const flows = { ...truth.udp.flows };
    for (const flow of difference.flows ?? []) delete flows[flow];
    expect(dissection.flows).toEqual(flows);
    expect(dissection.reassembled).toBe(truth.reassembled.count - (difference.reassembled ?? 0));
  });

  test("TCP streams and their octets", () => {
    const { byFirstFrame } = dissection.streams;
    const missing = difference.streams ?? 0;
    expect(byFirstFrame.size).toBe(truth.tcp.stream_count - missing);
    for (const expected of truth.tcp.streams.slice(missing)) {
      const stream = byFirstFrame.get(expected.first_frame);
      expect(stream?.packets).toBe(expected.packets);
      if (!expected.ok) continue;
      for (const { addr, port, bytes, sha256 } of [expected.a, expected.b]) {
        const side = stream?.sides.get(`[${addr}]:${port}`);
        expect([side?.octets.length, side?.sha256]).toEqual([bytes, sha256]);
      }
    }
  });

  test("flags and options of TCP segments", () => {
    const { tcpFlags, tcpOptions, mss, wscale } = dissection;
    const { flags = {}, options = {}, ...values } = truth.tcp;
    // Of a segment that the parser refuses nothing is counted.
    if (difference.l4?.["tcp"] !== undefined) return;
    const { fast_open: _, ...known } = options;
    expect({ flags: tcpFlags, options: tcpOptions }).toEqual({
      flags: minus(flags, difference.flags ?? {}),
      options: known,
    });
    expect(mss).toEqual(values.mss ?? {});
    expect(wscale).toEqual(cappedShifts(values.wscale ?? {}));
  });

  test("as captured, the parser refuses snapped packets, bad header checksums and nothing else", () => {
    const { TRUNCATED = 0, BAD_CHECKSUM = 0, ...others } = refusals(packets);
    expect(BAD_CHECKSUM).toBeLessThanOrEqual(truth.checksums.ip?.bad ?? 0);
    const snapped = truth.packets.snapped ?? 0;
    expect(TRUNCATED).toBeLessThanOrEqual(snapped + (SHORTER_THAN_SAID[name] ?? 0));
    for (const reason of Object.keys(others)) {
      expect(difference.refused).toHaveProperty(reason);
    }
  });
});

describe.each(captures(false))("%s", (name) => {
  test("gives its packets and at most the documented error, and no parser throws", async () => {
    const packets: CapturedPacket[] = [];
    let error: unknown = null;
    try {
      for await (const packet of readCaptureFile(capturePath(name))) packets.push(packet);
    } catch (caught) {
      error = caught;
    }
    const dissection = dissect(packets);
    expect(dissection.total).toBe(packets.length);
    if (name in DAMAGED) {
      expect(error).toBeInstanceOf(TunnelError);
      expect(error).toMatchObject({ code: "ERR_CAPTURE" });
      expect(String(error)).toMatch(/ at octet \d+;/);
      expect(packets).toHaveLength(DAMAGED[name]);
    } else {
      expect(error).toBeNull();
    }
  });
});

function dissect(packets: readonly CapturedPacket[]): Dissection {
  const dissection = new Dissection();
  for (const packet of packets) dissection.add(packet);
  return dissection;
}

/** A shift above 14 counts as 14 (RFC 7323 §2.3). */
function cappedShifts(counts: Record<string, number>): Record<string, number> {
  const capped: Record<string, number> = {};
  for (const [shift, number] of Object.entries(counts)) {
    const key = String(Math.min(Number(shift), 14));
    capped[key] = (capped[key] ?? 0) + number;
  }
  return capped;
}

/** `counts` less `fewer`; what becomes 0 is left out. */
function minus(
  counts: Record<string, number>,
  fewer: Record<string, number>,
): Record<string, number> {
  const left: Record<string, number> = { ...counts };
  for (const [key, number] of Object.entries(fewer)) {
    left[key] = (left[key] ?? 0) - number;
    if (left[key] === 0) delete left[key];
  }
  return left;
}
