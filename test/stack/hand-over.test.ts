/** Packets of one flow on several queues: what each stack does with what is not its own. */

import fc from "fast-check";
import { expect, test } from "vitest";
import type { TcpConnection } from "../../src/stack/ports.ts";
import {
  buildIcmp,
  buildIp,
  buildTcp,
  buildUdp,
  decodePacket,
  type LinkOptions,
  LossyLink,
  type PairOptions,
  pattern,
  ReferenceClient,
  seededRandom,
  splitSuperSegment,
  TcpFlag,
  type TcpPacket,
  Upstream,
} from "../../src/testing/index.ts";
import { Queues, type QueuesOptions } from "../support/queues.ts";

const { SYN, ACK, RST, FIN } = TcpFlag;
const ENDS = { source: "10.0.0.2", destination: "198.51.100.1" } as const;

interface Opened {
  readonly queue: number;
  readonly connection: TcpConnection;
  octets: string;
  closed: string | null;
}

/** Stacks that accept every connection (`pending`: none) and read it into `opened`, and keep datagrams. */
function world(options: QueuesOptions & { pending?: boolean } = {}) {
  const opened: Opened[] = [];
  const datagrams: string[] = [];
  const udpFlows: number[] = [];
  const queues: Queues = new Queues(
    (queue) => ({
      onTcpOpen: (connection) => {
        const flow: Opened = { queue, connection, octets: "", closed: null };
        opened.push(flow);
        if (options.pending !== true) connection.accept();
        const rows = new Int32Array(64);
        return {
          onReadable: () => {
            const { bytes } = queues.drivers[queue]!.memory;
            for (let count = connection.readable(rows); count > 0; ) {
              for (let row = 0; row < 2 * count; row += 2) {
                const view = bytes.subarray(rows[row]!, rows[row]! + rows[row + 1]!);
                flow.octets += Buffer.from(view).toString("latin1");
              }
              connection.consume(connection.readableOctets);
              count = connection.readable(rows);
            }
          },
          onFin: () => connection.shutdown(),
          onWritable: () => {},
          onClosed: (reason) => {
            flow.closed = reason;
          },
        };
      },
      onUdpOpen: (flow) => {
        udpFlows.push(queue);
        return {
          onDatagram: (target, start, end) => {
            const { bytes } = queues.drivers[queue]!.memory;
            const text = Buffer.from(bytes.subarray(start, Math.min(end, start + 8)));
            datagrams.push(`${queue} ${flow.client.port}>${target.port} ${text} ${end - start}`);
          },
          onBatchEnd: () => {},
          onClosed: () => {},
        };
      },
    }),
    options,
  );
  return { queues, opened, datagrams, udpFlows };
}

function tcp(
  flags: number,
  seq: number,
  more: { port?: number; ack?: number; text?: string } = {},
) {
  return buildTcp({
    ...ENDS,
    sourcePort: more.port ?? 40000,
    destinationPort: 443,
    flags,
    seq,
    ack: more.ack ?? 0,
    payload: Buffer.from(more.text ?? ""),
  });
}

/** What `queue` sent since the last call. */
function sent(queues: Queues, queue: number): TcpPacket[] {
  return queues.drivers[queue]!.take().map(({ bytes }) => decodePacket(bytes) as TcpPacket);
}

/** Opens port 40000 at `queue`; the number to acknowledge. */
function open(queues: Queues, queue: number, port = 40000): number {
  queues.inject(queue, tcp(SYN, 99, { port }));
  const synAck = sent(queues, queue).find(({ flags }) => flags === (SYN | ACK));
  return (synAck!.seq + 1) >>> 0;
}

test("octets that come to another queue than their SYN reach the flow", () => {
  const { queues, opened } = world();
  const ack = open(queues, 0);
  queues.inject(1, tcp(ACK, 100, { ack }));
  queues.inject(1, tcp(ACK, 100, { ack, text: "hello " }));
  queues.inject(0, tcp(ACK, 106, { ack, text: "world" }));
  expect(opened).toMatchObject([{ queue: 0, octets: "hello world" }]);
  expect(sent(queues, 1)).toEqual([]);
  expect(queues.drivers[1]!.stack.stats).toMatchObject({ handedOver: 2, tcpStray: 0 });
});

test("a SYN that is sent again to another queue while its open is pending opens nothing twice", () => {
  const { queues, opened } = world({ pending: true });
  queues.inject(0, tcp(SYN, 99));
  queues.inject(1, tcp(SYN, 99));
  expect(opened.length).toBe(1);
  expect(queues.drivers[0]!.stack.stats.tcpDuplicateSyns).toBe(1);
});

test("a RST at another queue ends the flow, and one of no flow is nobody's", () => {
  const { queues, opened } = world();
  const ack = open(queues, 0);
  queues.inject(1, tcp(ACK, 100, { ack }));
  queues.inject(1, tcp(RST, 100));
  expect(opened[0]!.closed).toBe("reset");
  queues.inject(1, tcp(RST, 100));
  expect(queues.drivers[1]!.stack.stats).toMatchObject({ handedOver: 2, tcpStrayResets: 1 });
});

test("a segment of no flow is answered by a reset where it comes", () => {
  const { queues } = world();
  queues.inject(1, tcp(ACK, 100, { ack: 5 }));
  expect(sent(queues, 1)).toMatchObject([{ flags: RST, seq: 5 }]);
  expect(queues.sum("handedOver")).toBe(0);
});

test("a flow that has ended can begin anew at any queue, and is then there", () => {
  const { queues, opened } = world();
  for (const queue of [0, 1, 0]) {
    const ack = open(queues, queue);
    queues.inject(1 - queue, tcp(ACK, 100, { ack, text: "x" }));
    queues.inject(1 - queue, tcp(RST, 101));
  }
  expect(opened).toMatchObject([0, 1, 0].map((queue) => ({ queue, octets: "x", closed: "reset" })));
});

test("a SYN at another queue that follows TIME-WAIT goes to the stack that knows the old flow", () => {
  const { queues, opened } = world();
  const ack = open(queues, 0);
  queues.inject(0, tcp(ACK, 100, { ack }));
  opened[0]!.connection.shutdown();
  queues.drivers[0]!.turn();
  queues.inject(0, tcp(ACK | FIN, 100, { ack: ack + 1 }));
  expect(opened[0]!.closed).toBe("closed");
  sent(queues, 0);
  queues.inject(1, tcp(SYN, 100_000));
  expect(opened.map(({ queue }) => queue)).toEqual([0, 0]);
  expect(sent(queues, 0)).toMatchObject([{ flags: SYN | ACK, ack: 100_001 }]);
});

test("datagrams of one source on both queues are of one flow, wherever they go to", () => {
  const { queues, datagrams, udpFlows } = world();
  const udp = (sourcePort: number, destinationPort: number, text: string): Uint8Array =>
    buildUdp({ ...ENDS, sourcePort, destinationPort, payload: Buffer.from(text) });
  queues.inject(1, udp(5000, 53, "a"));
  queues.inject(0, udp(5000, 53, "b"), udp(5000, 99, "c"));
  queues.inject(0, udp(5001, 53, "d"));
  queues.inject(1, udp(5001, 53, "e"));
  expect(udpFlows).toEqual([1, 0]);
  expect(datagrams).toEqual([
    "1 5000>53 a 1",
    "1 5000>53 b 1",
    "1 5000>99 c 1",
    "0 5001>53 d 1",
    "0 5001>53 e 1",
  ]);
  expect(queues.sum("udpDatagramsIn")).toBe(5);
  // An idle flow is nobody's: the next datagram begins one where it comes.
  queues.advance(300_001);
  queues.inject(0, udp(5000, 53, "f"));
  expect(udpFlows).toEqual([1, 0, 0]);
});

/** Fragments of a datagram from port 5000. */
function fragments(id: number, v6: boolean, size = 3000): Uint8Array[] {
  const payload = Buffer.alloc(size, "x");
  const source = v6 ? "fd00::2" : "10.0.0.2";
  const destination = v6 ? "2001:db8::1" : "198.51.100.1";
  const whole = buildUdp({ source, destination, sourcePort: 5000, destinationPort: 9, payload });
  const header = v6 ? 40 : 20;
  const body = whole.subarray(header);
  const parts: Uint8Array[] = [];
  for (let at = 0; at < body.length; at += 1024) {
    const part = body.subarray(at, at + 1024);
    const isLast = at + 1024 >= body.length;
    if (v6) {
      const field = at | (isLast ? 0 : 1);
      const head = [17, 0, field >> 8, field & 255, 0, 0, id >> 8, id & 255];
      parts.push(buildIp({ source, destination }, 44, Uint8Array.of(...head, ...part)));
    } else {
      const packet = buildIp({ source, destination, id }, 17, part);
      const view = new DataView(packet.buffer);
      view.setUint16(6, (at >> 3) | (isLast ? 0 : 0x2000));
      view.setUint16(10, 0);
      let sum = 0;
      for (let word = 0; word < 20; word += 2) sum += view.getUint16(word);
      sum = (sum & 0xffff) + (sum >> 16);
      view.setUint16(10, 0xffff - ((sum & 0xffff) + (sum >> 16)));
      parts.push(packet);
    }
  }
  return parts;
}

test.each([false, true])(
  "fragments that are split over queues make a datagram of its flow (IPv6: %s)",
  (v6) => {
    const { queues, datagrams, udpFlows } = world();
    // Their flow is at queue 0; who puts a datagram together is a matter of its identification.
    for (let id = 1; id <= 8; id++) {
      const parts = fragments(id, v6);
      for (const [i, part] of parts.entries()) queues.inject((i + id) % 2, part);
    }
    expect(udpFlows.length).toBe(1);
    expect(datagrams).toEqual(Array(8).fill(`${udpFlows[0]} 5000>9 xxxxxxxx 3000`));
    const reassembled = queues.drivers.map(({ stack }) => stack.stats.fragmentsReassembled);
    expect(Math.min(...reassembled)).toBeGreaterThan(0);
    expect(queues.drivers.map(({ stack }) => stack.pages.inUse)).toEqual([0, 0]);
  },
);

test("a reassembled datagram of the largest size is handed over whole", () => {
  const { queues, datagrams } = world();
  for (let id = 1; id <= 4; id++) queues.inject(id % 2, ...fragments(id, false, 65_507));
  expect(datagrams.every((line) => line.endsWith("65507"))).toBe(true);
  expect(datagrams.length).toBe(4);
});

test("an ICMP error at another queue ends the open that it is about", () => {
  const { queues, opened } = world({ pending: true });
  const syn = tcp(SYN, 99);
  queues.inject(0, syn);
  queues.inject(1, buildIcmp({ ...ENDS, type: 3, code: 1, body: syn.subarray(0, 28) }));
  expect(opened[0]!.closed).toBe("refused-by-client");
  expect(queues.drivers[1]!.stack.stats).toMatchObject({ handedOver: 1, tcpIcmpIgnored: 0 });
});

test("an ICMP error about a segment of ours finds its flow at another queue; about none it is only counted", () => {
  const { queues } = world();
  const quote = (port: number): Uint8Array =>
    buildTcp({
      source: ENDS.destination,
      destination: ENDS.source,
      sourcePort: 443,
      destinationPort: port,
      flags: ACK,
      seq: 5,
    }).subarray(0, 28);
  open(queues, 0);
  queues.inject(1, buildIcmp({ ...ENDS, type: 3, code: 1, body: quote(40000) }));
  queues.inject(1, buildIcmp({ ...ENDS, type: 3, code: 1, body: quote(40001) }));
  expect(queues.drivers.map(({ stack }) => stack.stats.tcpIcmpIgnored)).toEqual([1, 1]);
  expect(queues.sum("handedOver")).toBe(1);
});

test("echo is answered at whatever queue it comes to", () => {
  const { queues } = world({ stack: { icmp: "reply" } });
  for (const queue of [0, 1]) {
    queues.inject(queue, buildIcmp({ ...ENDS, type: 8, code: 0, rest: 7, body: Uint8Array.of(1) }));
    expect(sent(queues, queue)).toMatchObject([{ kind: "icmp", type: 0, rest: 7 }]);
  }
});

test("a full ring drops packets, counted, and the flow goes on with what it gets again", () => {
  const { queues, opened } = world({ shared: { ringOctets: 4096 } });
  const ack = open(queues, 0);
  const text = "y".repeat(1000);
  const at = (i: number): Uint8Array => tcp(ACK, 100 + 1000 * i, { ack, text });
  queues.inject(1, at(0), at(1), at(2), at(3), at(4));
  expect(queues.drivers[1]!.stack.stats).toMatchObject({ handedOver: 3, handOverFull: 2 });
  expect(opened[0]!.octets.length).toBe(3000);
  queues.inject(1, at(3), at(4));
  expect(opened[0]!.octets).toBe("y".repeat(5000));
});

test("a worker is woken once for all that it is handed in a batch", () => {
  const { queues } = world();
  const ack = open(queues, 0);
  queues.inject(1, ...[0, 1, 2, 3].map((i) => tcp(ACK, 100 + i, { ack, text: "z" })));
  expect(queues.pings).toBe(1);
});

test("with a full directory a flow is where its hash says, from whatever queue it comes", () => {
  // One bucket of eight.
  const { queues, opened } = world({ shared: { buckets: 1 } });
  const ports = Array.from({ length: 40 }, (_, i) => 40_000 + i);
  for (const port of ports) queues.inject(0, tcp(SYN, 99, { port }));
  const synAcks = [...sent(queues, 0), ...sent(queues, 1)];
  expect(opened.length).toBe(40);
  // Eight are where they came; of the others some are elsewhere.
  expect(new Set(opened.map(({ queue }) => queue))).toEqual(new Set([0, 1]));
  expect(queues.neighbours.reduce((sum, { directory }) => sum + directory.unlisted, 0)).toBe(32);
  const send = (flags: number, seq: number, text: string): void => {
    for (const [i, port] of ports.entries()) {
      const { seq: iss } = synAcks.find(({ destinationPort }) => destinationPort === port)!;
      queues.inject(i % 2, tcp(flags, seq, { port, ack: (iss + 1) >>> 0, text }));
    }
  };
  send(ACK, 100, "first");
  send(ACK, 105, "second");
  expect(opened.map(({ octets }) => octets)).toEqual(Array(40).fill("firstsecond"));
  expect(queues.sum("tcpStray")).toBe(0);
  // When all have ended the directory is as at the start: a flow is where it comes again.
  send(RST, 111, "");
  for (const port of ports.slice(0, 8)) queues.inject(1, tcp(SYN, 99, { port }));
  expect(opened.slice(40).map(({ queue }) => queue)).toEqual(Array(8).fill(1));
});

test("a flow that found the directory full is not opened twice when there is room again", () => {
  const { queues, opened } = world({ pending: true, shared: { buckets: 1 } });
  const ports = Array.from({ length: 16 }, (_, i) => 40_000 + i);
  for (const port of ports) queues.inject(0, tcp(SYN, 99, { port }));
  for (const port of ports.slice(0, 8)) queues.inject(0, tcp(RST, 100, { port }));
  for (const port of ports.slice(8)) queues.inject(1, tcp(SYN, 99, { port }));
  expect(opened.length).toBe(16);
  expect(queues.sum("tcpDuplicateSyns")).toBe(8);
});

test("limits are of all stacks together: each has its share", () => {
  const { queues } = world({
    pending: true,
    stack: { maxPending: 64, maxPendingPerSource: 10, memoryBudget: 8 << 20 },
  });
  for (let port = 1; port <= 20; port++) queues.inject(0, tcp(SYN, 99, { port }));
  expect(queues.drivers[0]!.stack.stats.tcpPendingEvicted).toBe(15);
  expect(queues.drivers.map(({ stack }) => stack.pages.limit)).toEqual([4 << 20, 4 << 20]);
});

interface Scenario extends Omit<PairOptions, "offload"> {
  readonly queueSeed: number;
  readonly queues: number;
  /** How often the kernel changes its mind. */
  readonly moves: number;
}

/** A client and an upstream with a stack for each queue between them; every packet comes to a queue by chance. */
function drive(scenario: Scenario): void {
  const { seed, link = {}, queueSeed, moves } = scenario;
  const random = seededRandom(seed);
  const choose = seededRandom(queueSeed);
  const upstream = new Upstream(scenario);
  const queues: Queues = new Queues(
    (queue) => ({ onTcpOpen: (c) => upstream.open(c, queues.drivers[queue]!) }),
    { queues: scenario.queues },
  );
  const { drivers } = queues;
  const time = drivers[0]!.time;
  const toStack = new LossyLink(link, random);
  const toClient = new LossyLink(link, random);
  const client = new ReferenceClient(
    {
      address: ENDS.source,
      port: 40_000,
      target: ENDS.destination,
      targetPort: 443,
      iss: Math.floor(random() * 4294967296),
      mss: 1460,
      wscale: 7,
      sack: true,
      timestamps: seed % 2 === 0,
      buffer: 262_144,
      readRate: Number.POSITIVE_INFINITY,
      closesLast: false,
      gsoSegments: 1,
    },
    pattern(0, 0, scenario.clientOctets ?? 0),
    (bytes, meta) => toStack.send(bytes, meta, time.now()),
  );
  for (const { device } of drivers) {
    device.receiver = (packet) => {
      for (const bytes of splitSuperSegment(packet)) toClient.send(bytes, {}, time.now());
    };
  }
  let queue = 0;
  client.open(0);
  for (;;) {
    const deadlines = [
      toStack.next(),
      toClient.next(),
      client.deadline(),
      upstream.deadline(),
      ...drivers.map((driver) => driver.time.next()),
    ].filter((at) => at >= 0);
    if (deadlines.length === 0) break;
    const next = Math.max(time.now(), Math.min(...deadlines));
    if (next > 600_000) throw new Error("not idle after ten minutes");
    for (const driver of drivers) driver.runTo(next);
    for (let p = toStack.receive(next); p !== undefined; p = toStack.receive(next)) {
      if (choose() < moves) queue = Math.floor(choose() * drivers.length);
      queues.inject(queue, p.bytes);
    }
    if (client.deadline() >= 0 && client.deadline() <= next) client.expire(next);
    for (let p = toClient.receive(next); p !== undefined; p = toClient.receive(next)) {
      client.receive(p.bytes, next);
    }
    upstream.expire(next);
    for (const driver of drivers) driver.turn();
  }
  expect(client.finished).toBe(true);
  expect(Buffer.compare(client.received, pattern(1, 0, scenario.upstreamOctets ?? 0))).toBe(0);
  expect(upstream.received).toBe(scenario.clientOctets);
  expect(upstream.closed).toBe("closed");
  expect(drivers.map(({ stack }) => stack.pages.inUse)).toEqual(drivers.map(() => 0));
  expect(drivers.map(({ stack }) => stack.stats.tcpFlows)).toEqual(drivers.map(() => 0));
  expect(queues.sum("handOverFull")).toBe(0);
}

const links: fc.Arbitrary<LinkOptions> = fc.record({
  loss: fc.constantFrom(0, 0, 0.02, 0.1),
  duplicate: fc.constantFrom(0, 0.1),
  reorder: fc.constantFrom(0, 0, 0.2),
  jitter: fc.constantFrom(0, 3),
});

test("whatever queue each packet comes to, both streams arrive exactly and nothing remains", () => {
  fc.assert(
    fc.property(
      fc.record({
        seed: fc.nat(),
        queueSeed: fc.nat(),
        queues: fc.integer({ min: 2, max: 4 }),
        moves: fc.constantFrom(0.01, 0.2, 1),
        link: links,
        clientOctets: fc.nat(40_000),
        upstreamOctets: fc.nat(40_000),
        dialTime: fc.constantFrom(0, 5, 2500),
      }),
      drive,
    ),
    { numRuns: 100 },
  );
}, 60_000);
