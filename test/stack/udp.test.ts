import { describe, expect, test } from "vitest";
import {
  GsoType,
  MAX_SLICES,
  PacketFlag,
  type RefuseReason,
  type StackOptions,
  type UdpFlow,
  type UdpHandler,
} from "../../src/stack/ports.ts";
import { MAX_UDP_QUEUE, UdpFlows } from "../../src/stack/udp.ts";
import { formatEndpoint } from "../../src/stack/wire/address.ts";
import { pseudoHeaderSum, sumOctets } from "../../src/stack/wire/checksum.ts";
import { IpHeader, parseIp } from "../../src/stack/wire/ip.ts";
import { printPacket } from "../../src/stack/wire/print.ts";
import {
  counting,
  endpoint,
  FULL_OFFLOAD,
  ipPacket,
  Kit,
  type SentPacket,
  udpBody,
  udpPacket,
} from "./kit.ts";

const FAMILIES = [
  {
    family: "IPv4",
    header: 20,
    client: endpoint("10.0.0.1:40000"),
    client2: endpoint("10.0.0.1:40001"),
    target: endpoint("192.0.2.1:53"),
    target2: endpoint("192.0.2.2:53"),
  },
  {
    family: "IPv6",
    header: 40,
    client: endpoint("[fd00::1]:40000"),
    client2: endpoint("[fd00::1]:40001"),
    target: endpoint("[2001:db8::1]:53"),
    target2: endpoint("[2001:db8::2]:53"),
  },
];

/** UDP around a listener that writes down what it is told. */
class Bench extends Kit {
  readonly udp: UdpFlows;
  readonly log: string[] = [];
  readonly flows: UdpFlow[] = [];
  readonly ip = new IpHeader();
  /** Where `payload` puts the next octets. */
  #next: number;

  constructor(changes: Partial<StackOptions> = {}) {
    super(changes);
    this.udp = new UdpFlows(
      this.options,
      this.memory,
      this.wheel,
      this.forward,
      this.icmp,
      this.stats,
    );
    this.#next = this.memory.pagesStart - (1 << 20);
    this.listener.onUdpOpen = (flow, target) => {
      this.flows.push(flow);
      this.log.push(`open ${formatEndpoint(flow.client)} > ${formatEndpoint(target)}`);
      return this.handler(flow.client.port);
    };
  }

  handler(name: number): UdpHandler {
    return {
      onDatagram: (target, start, end, segment) => {
        const super_ = segment > 0 ? ` segment ${segment}` : "";
        this.log.push(`${name} data ${formatEndpoint(target)} (${end - start})${super_}`);
      },
      onBatchEnd: () => this.log.push(`${name} end`),
      onClosed: () => this.log.push(`${name} closed`),
    };
  }

  input(packet: Uint8Array, flags = 0, gsoType = 0, gsoSize = 0): void {
    if (parseIp(this.bytes, 0, this.put(packet), this.ip) !== 0) throw new Error("bad packet");
    this.udp.input(this.ip, flags, gsoType, gsoSize);
  }

  /** What was told since the last call. */
  told(): string[] {
    return this.log.splice(0);
  }

  /** Puts payload into memory that lasts to the flush, `gap` octets behind the last. */
  payload(octets: Uint8Array, gap = 10): [number, number] {
    const start = this.#next + gap;
    this.bytes.set(octets, start);
    this.#next = start + octets.length;
    return [start, this.#next];
  }

  flush(): SentPacket[] {
    if (!this.udp.flush(this.sink)) throw new Error("the sink is full");
    return this.sink.take();
  }

  printed(): string[] {
    this.icmp.flush(this.sink);
    return this.flush().map(({ bytes }) => printPacket(bytes, 0, bytes.length));
  }
}

describe.each(FAMILIES)("$family", ({ header, client, client2, target, target2 }) => {
  const text = formatEndpoint;

  test("a client endpoint is one flow whatever its targets (RFC 4787 REQ-1)", () => {
    const bench = new Bench();
    bench.input(udpPacket(client, target, counting(5)));
    bench.input(udpPacket(client2, target, counting(6)));
    bench.input(udpPacket(client, target2, counting(7)));
    bench.udp.endBatch();
    expect(bench.told()).toEqual([
      `open ${text(client)} > ${text(target)}`,
      `40000 data ${text(target)} (5)`,
      `open ${text(client2)} > ${text(target)}`,
      `40001 data ${text(target)} (6)`,
      `40000 data ${text(target2)} (7)`,
      "40001 end",
      "40000 end",
    ]);
    bench.udp.endBatch();
    expect(bench.told()).toEqual([]);
    expect(bench.stats).toMatchObject({ udpFlows: 2, udpFlowsOpened: 2, udpDatagramsIn: 3 });
  });

  test("a listener that returns null drops the datagram and the flow", () => {
    const bench = new Bench();
    bench.listener.onUdpOpen = () => null;
    bench.input(udpPacket(client, target, counting(5)));
    bench.input(udpPacket(client, target, counting(5)));
    bench.udp.endBatch();
    expect(bench.stats).toMatchObject({ udpFlows: 0, udpNotAccepted: 2 });
    expect(bench.wheel.next()).toBe(-1);
  });

  test("a super-packet is handed on whole, with the size of its datagrams", () => {
    const bench = new Bench();
    const flags = PacketFlag.NEEDS_CSUM;
    bench.input(udpPacket(client, target, counting(1050)), flags, GsoType.UDP_L4, 500);
    expect(bench.told()[1]).toBe(`40000 data ${text(target)} (1050) segment 500`);
    expect(bench.stats.udpDatagramsIn).toBe(3);
    bench.input(udpPacket(client, target, counting(400)), flags, GsoType.UDP_L4, 500);
    expect(bench.told()[0]).toBe(`40000 data ${text(target)} (400)`);
  });

  test("an empty datagram is a datagram, both ways", () => {
    const bench = new Bench();
    bench.input(udpPacket(client, target, counting(0)));
    expect(bench.told()[1]).toBe(`40000 data ${text(target)} (0)`);
    bench.flows[0].send(target, ...bench.payload(counting(0)));
    expect(bench.printed()).toEqual([`udp ${text(target)} > ${text(client)} (0)`]);
  });

  test("a wrong checksum is dropped and counted, unless the device vouches for it (RFC 1122 §4.1.3.4)", () => {
    const bench = new Bench();
    const packet = udpPacket(client, target, counting(5));
    packet[packet.length - 1] ^= 1;
    bench.input(packet);
    expect(bench.told()).toEqual([]);
    expect(bench.stats.udpBadChecksum).toBe(1);
    bench.input(packet, PacketFlag.NEEDS_CSUM);
    bench.input(packet, PacketFlag.DATA_VALID);
    expect(bench.told()).toHaveLength(3);
  });

  test("checksum 0 means none in IPv4 and is refused in IPv6 (RFC 768, RFC 8200 §8.1)", () => {
    const bench = new Bench();
    const body = udpBody(client, target, counting(5)).fill(0, 6, 8);
    bench.input(ipPacket(client, target, 17, body));
    expect(bench.told()).toHaveLength(client.isV4 ? 2 : 0);
    expect(bench.stats.udpMalformed).toBe(client.isV4 ? 0 : 1);
  });

  test("ports 0 and destinations no datagram may have are dropped and counted (RFC 768, RFC 8085 §5.1)", () => {
    const bench = new Bench();
    const everyone = endpoint(client.isV4 ? "224.0.0.1:1" : "[ff02::1]:1");
    const zero = client.clone();
    zero.port = 0;
    bench.input(udpPacket(zero, target, counting(5)));
    bench.input(udpPacket(client, zero, counting(5)));
    bench.input(udpPacket(client, everyone, counting(5)));
    expect(bench.told()).toEqual([]);
    expect(bench.stats.udpMalformed).toBe(3);
  });

  test("an answer comes from where it says, with a whole checksum when the device computes none (RFC 1122 §4.1.3.4, §4.1.3.5)", () => {
    const bench = new Bench();
    bench.input(udpPacket(client, target, counting(5)));
    for (const length of [0, 1, 2, 1000]) {
      expect(bench.flows[0].send(target2, ...bench.payload(counting(length)))).toBe(true);
    }
    expect(bench.dirty).toBeGreaterThan(0);
    const packets = bench.flush();
    expect(packets).toHaveLength(4);
    for (const { bytes, csumOffset } of packets) {
      expect(csumOffset).toBe(-1);
      expect(parseIp(bytes, 0, bytes.length, bench.ip)).toBe(0);
      const length = bytes.length - header;
      const pseudo = pseudoHeaderSum(bench.ip.src, bench.ip.dst, 17, length);
      expect(sumOctets(bytes, header, bytes.length, pseudo)).toBe(0xffff);
    }
    expect(printPacket(packets[3].bytes, 0, packets[3].bytes.length)).toBe(
      `udp ${text(target2)} > ${text(client)} (1000)`,
    );
  });

  test("a checksum that comes to 0 is sent as ffff (RFC 768)", () => {
    const bench = new Bench();
    bench.input(udpPacket(client, target, counting(5)));
    const clear = udpBody(target, client, Uint8Array.of(0, 0));
    const sum = (clear[6] << 8) | clear[7];
    bench.flows[0].send(target, ...bench.payload(Uint8Array.of(sum >> 8, sum)));
    const [{ bytes }] = bench.flush();
    expect([...bytes.subarray(header + 6, header + 8)]).toEqual([0xff, 0xff]);
  });

  test("a device that completes checksums gets the pseudo-header's sum", () => {
    const bench = new Bench({ offload: FULL_OFFLOAD });
    bench.input(udpPacket(client, target, counting(5)));
    bench.flows[0].send(target, ...bench.payload(counting(9)));
    const [packet] = bench.flush();
    expect(packet).toMatchObject({ gsoType: 0, gsoSize: 0, csumStart: header, csumOffset: 6 });
    const field = (packet.bytes[header + 6] << 8) | packet.bytes[header + 7];
    expect(field).toBe(pseudoHeaderSum(target, client, 17, 17));
  });

  test("answers of equal size from one source leave as one super-packet, the last may be shorter", () => {
    const bench = new Bench({ offload: FULL_OFFLOAD });
    bench.input(udpPacket(client, target, counting(5)));
    const [flow] = bench.flows;
    for (const length of [100, 100, 60, 100, 101]) {
      flow.send(target, ...bench.payload(counting(length)));
    }
    flow.send(target2, ...bench.payload(counting(101)));
    const packets = bench.flush();
    expect(packets.map((p) => [p.bytes.length - header - 8, p.gsoType, p.gsoSize])).toEqual([
      [260, GsoType.UDP_L4, 100],
      [100, 0, 0],
      [101, 0, 0],
      [101, 0, 0],
    ]);
    expect(packets[0].slices).toBe(3);
    const { bytes } = packets[0];
    expect(bytes.subarray(header + 8)).toEqual(
      Uint8Array.of(...counting(100), ...counting(100), ...counting(60)),
    );
    // UDP length and pseudo-header are of the super-packet, as virtio_net_hdr wants them.
    expect((bytes[header + 4] << 8) | bytes[header + 5]).toBe(268);
    const field = (bytes[header + 6] << 8) | bytes[header + 7];
    expect(field).toBe(pseudoHeaderSum(target, client, 17, 268));
    expect(bench.stats.udpDatagramsOut).toBe(6);
  });

  test("a super-packet is bounded by 64 datagrams, 65,535 octets and the slices of the sink", () => {
    const bench = new Bench({ offload: FULL_OFFLOAD });
    bench.input(udpPacket(client, target, counting(5)));
    const [flow] = bench.flows;
    const sizes = () => bench.flush().map((p) => p.bytes.length - header - 8);
    for (let i = 0; i < 70; i++) flow.send(target, ...bench.payload(counting(10), 0));
    expect(sizes()).toEqual([640, 60]);
    for (let i = 0; i < 40; i++) flow.send(target, ...bench.payload(counting(10)));
    expect(sizes()).toEqual([10 * MAX_SLICES, 10 * (40 - MAX_SLICES)]);
    for (let i = 0; i < 60; i++) flow.send(target, ...bench.payload(counting(1400), 0));
    const most = Math.floor((65535 - header - 8) / 1400);
    expect(sizes()).toEqual([1400 * most, 1400 * (60 - most)]);
  });

  test("without USO of the family nothing is joined", () => {
    const offload = { ...FULL_OFFLOAD, uso4: !client.isV4, uso6: client.isV4 };
    const bench = new Bench({ offload });
    bench.input(udpPacket(client, target, counting(5)));
    for (let i = 0; i < 3; i++) bench.flows[0].send(target, ...bench.payload(counting(10)));
    expect(bench.flush().map((packet) => packet.gsoType)).toEqual([0, 0, 0]);
  });

  test("an answer above the MTU is fragmented, its checksum computed over the whole (RFC 791 §3.2, RFC 8200 §4.5)", () => {
    const bench = new Bench({ offload: FULL_OFFLOAD, mtu: 1280 });
    bench.input(udpPacket(client, target, counting(5)));
    const payload = counting(client.isV4 ? 65507 : 65527);
    expect(bench.flows[0].send(target, ...bench.payload(payload))).toBe(true);
    const packets = bench.flush();
    const body = new Uint8Array(payload.length + 8);
    for (const { bytes, csumOffset } of packets) {
      expect(bytes.length).toBeLessThanOrEqual(1280);
      expect(csumOffset).toBe(-1);
      expect(parseIp(bytes, 0, bytes.length, bench.ip)).toBe(0);
      body.set(bytes.subarray(bench.ip.payloadStart), bench.ip.fragmentOffset);
    }
    expect(bench.ip).toMatchObject({
      moreFragments: false,
      totalEnd: packets.at(-1)?.bytes.length,
    });
    expect(body).toEqual(udpBody(target, client, payload));
    expect(bench.stats.udpFragmented).toBe(1);
  });

  test("an answer longer than UDP can carry or of the other family is refused and counted", () => {
    const bench = new Bench();
    bench.input(udpPacket(client, target, counting(5)));
    const [flow] = bench.flows;
    const [start] = bench.payload(counting(0));
    const most = client.isV4 ? 65507 : 65527;
    expect(flow.send(target, start, start + most + 1)).toBe(false);
    const other = endpoint(client.isV4 ? "[2001:db8::1]:53" : "192.0.2.1:53");
    expect(flow.send(other, start, start + 1)).toBe(false);
    expect(bench.stats).toMatchObject({ udpTooLong: 1, udpWrongFamily: 1 });
    expect(bench.udp.isDirty).toBe(false);
  });

  test("a full sink is gone on with at the same datagram, in the middle of a fragmented one too", () => {
    const bench = new Bench();
    bench.input(udpPacket(client, target, counting(5)));
    const [flow] = bench.flows;
    const payload = counting(6000);
    flow.send(target, ...bench.payload(counting(1)));
    flow.send(target, ...bench.payload(payload));
    flow.send(target, ...bench.payload(counting(2)));
    bench.sink.room = 2;
    const packets: SentPacket[] = [];
    for (let round = 0; round < 10; round++) {
      const done = bench.udp.flush(bench.sink);
      packets.push(...bench.sink.take());
      if (done) break;
    }
    expect(packets).toHaveLength(7);
    const body = new Uint8Array(6008);
    for (const { bytes } of packets.slice(1, 6)) {
      parseIp(bytes, 0, bytes.length, bench.ip);
      body.set(bytes.subarray(bench.ip.payloadStart), bench.ip.fragmentOffset);
    }
    expect(body).toEqual(udpBody(target, client, payload));
  });

  test.each(["port-unreachable", "host-unreachable", "reset"] as RefuseReason[])(
    "%s is told about the last datagram to that target, quoting its head",
    (reason) => {
      const bench = new Bench();
      bench.input(udpPacket(client, target, counting(5)));
      const packet = udpPacket(client, target2, counting(300));
      bench.input(packet);
      bench.input(udpPacket(client, target, counting(6)));
      bench.flows[0].refuse(target2, reason);
      bench.icmp.flush(bench.sink);
      const [{ bytes }] = bench.sink.take();
      expect(bytes.subarray(header + 8)).toEqual(packet.subarray(0, 68));
      expect(printPacket(bytes, 0, bytes.length)).toContain(
        `(udp ${text(client)} > ${text(target2)})`,
      );
    },
  );

  test("too big is told with its MTU; a target never written to is not told about", () => {
    const bench = new Bench();
    bench.input(udpPacket(client, target, counting(5)));
    bench.flows[0].tooBig(target2, 1300);
    bench.flows[0].tooBig(target, 1300);
    expect(bench.printed()).toEqual([expect.stringContaining("too-big mtu 1300")]);
  });

  test("quotes of the last four targets are kept", () => {
    const bench = new Bench();
    const targets = [1, 2, 3, 4, 5].map((n) => {
      const each = target.clone();
      each.port = n;
      return each;
    });
    for (const each of targets) bench.input(udpPacket(client, each, counting(5)));
    for (const each of targets) bench.flows[0].refuse(each, "reset");
    const told = bench.printed().map((line) => /:(\d+)\)$/.exec(line)?.[1]);
    expect(told).toEqual(["2", "3", "4", "5"]);
  });

  test("a flow idle for its time ends; datagrams either way keep it (RFC 4787 §4.3, REQ-5, REQ-6)", () => {
    const bench = new Bench({ udpTimeout: 1000 });
    bench.input(udpPacket(client, target, counting(5)));
    bench.wheel.advance(900);
    bench.input(udpPacket(client, target, counting(5)));
    bench.wheel.advance(1800);
    bench.flows[0].send(target, ...bench.payload(counting(5)));
    bench.wheel.advance(2790);
    bench.told();
    expect(bench.stats.udpFlows).toBe(1);
    bench.wheel.advance(2800);
    expect(bench.told()).toEqual(["40000 closed"]);
    expect(bench.stats).toMatchObject({ udpFlows: 0, udpFlowsIdle: 1 });
    expect(bench.wheel.next()).toBe(-1);
    expect(bench.flows[0].send(target, 0, 1)).toBe(false);
  });

  test("setTimeout counts from now and for the future", () => {
    const bench = new Bench({ udpTimeout: 100_000 });
    bench.input(udpPacket(client, target, counting(5)));
    bench.flows[0].setTimeout(50);
    bench.wheel.advance(40);
    bench.input(udpPacket(client, target, counting(5)));
    bench.wheel.advance(80);
    expect(bench.stats.udpFlows).toBe(1);
    bench.wheel.advance(90);
    expect(bench.stats.udpFlows).toBe(0);
  });
});

const { client: CLIENT, target: TARGET } = FAMILIES[0];

test("at the bound the longest idle flow gives way and is told", () => {
  const bench = new Bench({ maxUdpFlows: 3 });
  const clients = [1, 2, 3, 4].map((port) => endpoint(`10.0.0.1:${port}`));
  for (const client of clients.slice(0, 3)) bench.input(udpPacket(client, TARGET, counting(1)));
  bench.input(udpPacket(clients[0], TARGET, counting(1)));
  bench.told();
  bench.input(udpPacket(clients[3], TARGET, counting(1)));
  expect(bench.told()).toEqual([
    "2 closed",
    "open 10.0.0.1:4 > 192.0.2.1:53",
    "4 data 192.0.2.1:53 (1)",
  ]);
  expect(bench.stats).toMatchObject({ udpFlows: 3, udpFlowsEvicted: 1 });
  // The evicted flow had datagrams in this batch; its handler hears no more.
  bench.udp.endBatch();
  expect(bench.told().sort()).toEqual(["1 end", "3 end", "4 end"]);
});

test("at the bound of the queue answers are dropped and counted, until the flush", () => {
  const bench = new Bench();
  bench.input(udpPacket(CLIENT, TARGET, counting(5)));
  const [flow] = bench.flows;
  const payload = bench.payload(counting(1));
  for (let i = 0; i < MAX_UDP_QUEUE; i++) expect(flow.send(TARGET, ...payload)).toBe(true);
  expect(flow.send(TARGET, ...payload)).toBe(false);
  expect(bench.stats.udpQueueFull).toBe(1);
  bench.sink.room = 10_000;
  expect(bench.flush()).toHaveLength(MAX_UDP_QUEUE);
  expect(flow.send(TARGET, ...payload)).toBe(true);
});

test("a handler may refuse and close its flow while it is opened or handed a datagram", () => {
  const bench = new Bench();
  bench.listener.onUdpOpen = (flow, target) => {
    flow.refuse(target, "port-unreachable");
    flow.close();
    return bench.handler(1);
  };
  bench.input(udpPacket(CLIENT, TARGET, counting(5)));
  bench.udp.endBatch();
  expect(bench.told()).toEqual([]);
  expect(bench.printed()).toHaveLength(1);

  bench.listener.onUdpOpen = (flow) => ({
    ...bench.handler(2),
    onDatagram: () => flow.close(),
  });
  bench.input(udpPacket(CLIENT, TARGET, counting(5)));
  bench.udp.endBatch();
  expect(bench.told()).toEqual([]);
  expect(bench.stats.udpFlows).toBe(0);
  expect(bench.wheel.next()).toBe(-1);
});

test("an answer queued before its flow closed still leaves", () => {
  const bench = new Bench();
  bench.input(udpPacket(CLIENT, TARGET, counting(5)));
  bench.flows[0].send(TARGET, ...bench.payload(counting(5)));
  bench.flows[0].close();
  bench.flows[0].close();
  expect(bench.flush()).toHaveLength(1);
});

test("refusals of datagrams share the limit of errors (RFC 4443 §2.4 (f))", () => {
  const bench = new Bench();
  bench.input(udpPacket(CLIENT, TARGET, counting(5)));
  for (let i = 0; i < 1100; i++) {
    bench.flows[0].refuse(TARGET, "reset");
    if (i % 200 === 0) bench.icmp.flush(bench.sink);
  }
  expect(bench.stats).toMatchObject({ icmpErrorsOut: 1000, icmpRateLimited: 100 });
});

test("a header whose options leave no room in the quote is quoted anew without them", () => {
  const bench = new Bench();
  const { client, target } = FAMILIES[1];
  const padding = [60, 0, 1, 4, 0, 0, 0, 0];
  const body = udpBody(client, target, counting(300));
  const last = [17, 0, 1, 4, 0, 0, 0, 0];
  const packet = ipPacket(
    client,
    target,
    60,
    Uint8Array.of(...padding, ...padding, ...last, ...body),
  );
  bench.input(packet);
  bench.flows[0].refuse(target, "reset");
  expect(bench.printed()).toEqual([
    "icmp6 port-unreachable 2001:db8::1 > fd00::1 (udp [fd00::1]:40000 > [2001:db8::1]:53)",
  ]);
});

test("a header that is cut or lies about its length is dropped and counted (RFC 768)", () => {
  const bench = new Bench();
  bench.input(ipPacket(CLIENT, TARGET, 17, counting(7)));
  bench.input(ipPacket(CLIENT, TARGET, 17, udpBody(CLIENT, TARGET, counting(9)).subarray(0, 16)));
  expect(bench.told()).toEqual([]);
  expect(bench.stats).toMatchObject({ udpTruncated: 1, udpBadLength: 1 });
});
