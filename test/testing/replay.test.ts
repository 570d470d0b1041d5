import { describe, expect, test } from "vitest";
import type { CapturedPacket } from "../../src/pcap/captured-packet.ts";
import {
  buildIcmp,
  buildTcp,
  buildUdp,
  decodePacket,
  pattern,
  type ReplayOptions,
  type ReplayReport,
  replay,
  TcpFlag,
  type TcpOption,
  type TcpPacket,
} from "../../src/testing/index.ts";

const { SYN, ACK, FIN, RST, PSH } = TcpFlag;
const CLIENT = "10.0.0.2";
const SERVER = "93.184.216.34";
/** Both ends' ISNs as captured: close to the wrap, as far apart as can be. */
const CLIENT_ISN = 0xfffffff0;
const SERVER_ISN = 0x7ffffff0;

interface Fields {
  readonly seq?: number;
  readonly ack?: number;
  readonly flags?: number;
  readonly options?: readonly TcpOption[];
  readonly payload?: Uint8Array;
  readonly window?: number;
}

/** A capture under construction: times are milliseconds, sequence numbers relative to the ISNs. */
class Capture {
  readonly packets: CapturedPacket[] = [];
  client = CLIENT;
  server = SERVER;
  clientPort = 40000;
  clientIsn = CLIENT_ISN;

  fromClient(at: number, fields: Fields): this {
    return this.add(at, this.#tcp(fields, true));
  }

  fromServer(at: number, fields: Fields): this {
    return this.add(at, this.#tcp(fields, false));
  }

  /** `captured`: octets of the packet that are in the capture. */
  add(at: number, bytes: Uint8Array, captured: number = bytes.length): this {
    this.packets.push({
      time: 1_700_000_000_000_000_000n + BigInt(Math.round(at * 1e6)),
      linkType: 101,
      interface: 0,
      bytes: bytes.slice(0, captured),
      originalLength: bytes.length,
      truncated: captured < bytes.length,
    });
    return this;
  }

  /** SYN, SYN-ACK and ACK at 0, 20 and 40 ms. */
  open(syn: readonly TcpOption[] = [], synAck: readonly TcpOption[] = []): this {
    const stamps = synAck.some(({ kind }) => kind === "TS");
    const options: TcpOption[] = stamps ? [{ kind: "TS", value: 1040, echo: 7000 }] : [];
    return this.fromClient(0, { flags: SYN, options: syn })
      .fromServer(20, { flags: SYN | ACK, ack: 1, options: synAck })
      .fromClient(40, { seq: 1, ack: 1, options });
  }

  segment(fields: Fields, fromClient: boolean): Uint8Array {
    return this.#tcp(fields, fromClient);
  }

  #tcp(fields: Fields, fromClient: boolean): Uint8Array {
    const { seq = 0, flags = ACK } = fields;
    const own = fromClient ? this.clientIsn : SERVER_ISN;
    const other = fromClient ? SERVER_ISN : this.clientIsn;
    const ports = [this.clientPort, 443] as const;
    return buildTcp({
      source: fromClient ? this.client : this.server,
      destination: fromClient ? this.server : this.client,
      sourcePort: ports[fromClient ? 0 : 1],
      destinationPort: ports[fromClient ? 1 : 0],
      window: 65535,
      ...fields,
      flags,
      seq: (own + seq) >>> 0,
      ack: fields.ack === undefined ? 0 : (other + fields.ack) >>> 0,
    });
  }
}

interface Traced {
  readonly at: number;
  readonly direction: "<" | ">";
  readonly packet: TcpPacket;
}

/** Replays and gives the TCP packets that went in and out. */
function run(capture: Capture, options: ReplayOptions = {}): ReplayReport & { trace: Traced[] } {
  const trace: Traced[] = [];
  const report = replay(capture.packets, {
    ...options,
    trace: (at, direction, bytes) => {
      const packet = decodePacket(bytes);
      expect(packet.faults).toEqual([]);
      if (packet.kind === "tcp") trace.push({ at, direction, packet });
    },
  });
  const { stats, pages } = report.driver.stack;
  expect([stats.tcpFlows, stats.udpFlows, pages.inUse]).toEqual([0, 0, 0]);
  return { ...report, trace };
}

/** A client's segment the stack answered in its own numbers: relative to its ISN. */
function sent(trace: readonly Traced[], direction: "<" | ">"): TcpPacket[] {
  return trace.filter((entry) => entry.direction === direction).map(({ packet }) => packet);
}

function text(octets: Uint8Array | undefined): string {
  return Buffer.from(octets ?? []).toString();
}

const bytes = (words: string): Uint8Array => Uint8Array.from(Buffer.from(words));

describe("a whole conversation", () => {
  const capture = new Capture()
    .open()
    .fromClient(50, { seq: 1, ack: 1, flags: ACK | PSH, payload: bytes("request") })
    .fromServer(70, { seq: 1, ack: 8, payload: bytes("answer ") })
    .fromServer(71, { seq: 8, ack: 8, flags: ACK | FIN, payload: bytes("ends") })
    .fromClient(90, { seq: 8, ack: 13, flags: ACK | FIN })
    .fromServer(110, { seq: 13, ack: 9 });

  test("arrives at both ends octet for octet, its FINs too", () => {
    const { streams, packets } = run(capture);
    expect(packets).toBe(8);
    expect(streams).toMatchObject([
      { frame: 1, client: "10.0.0.2:40000", server: "93.184.216.34:443", verdict: "exact" },
    ]);
    const [stream] = streams;
    expect([text(stream.upstream), text(stream.downstream)]).toEqual(["request", "answer ends"]);
    expect(stream).toMatchObject({
      reasons: [],
      answer: "SYN-ACK",
      added: 0,
      closed: "closed",
      finReceived: true,
    });
  });

  test("acknowledgements count from the stack's ISN, sequence numbers stay the client's", () => {
    const { trace } = run(capture);
    const isn = sent(trace, ">")[0].seq;
    expect(isn).not.toBe(SERVER_ISN);
    const fed = sent(trace, "<");
    expect(fed.map(({ seq }) => (seq - CLIENT_ISN) >>> 0)).toEqual([0, 1, 1, 8]);
    expect(fed.slice(1).map(({ ack }) => (ack - isn) >>> 0)).toEqual([1, 1, 13]);
  });

  test("keeps the captured times: the server never speaks before it did", () => {
    const { trace } = run(capture);
    const first = (direction: "<" | ">", where: (p: TcpPacket) => boolean): number =>
      trace.find((entry) => entry.direction === direction && where(entry.packet))?.at ?? -1;
    expect(first(">", ({ flags }) => (flags & SYN) !== 0)).toBe(20);
    expect(first("<", ({ payload }) => payload.length > 0)).toBe(50);
    expect(first(">", ({ payload }) => payload.length > 0)).toBe(70);
    expect(first(">", ({ flags }) => (flags & FIN) !== 0)).toBe(71);
  });

  test("the same capture gives the same packets", () => {
    expect(run(capture).trace).toEqual(run(capture).trace);
  });

  test("packets in the wrong order are put in that of time; of the capture, where its clock was set", () => {
    const mixed = new Capture();
    mixed.packets.push(...[3, 0, 2, 1, 6, 5, 4, 7].map((i) => capture.packets[i]));
    expect(run(mixed).streams).toMatchObject([{ verdict: "exact", frame: 1 }]);
    const set = new Capture();
    set.packets.push(
      ...capture.packets.map((p, i) => ({
        ...p,
        time: (p.time ?? 0n) - (i > 0 ? 8n * 10n ** 9n : 0n),
      })),
    );
    expect(run(set).streams).toMatchObject([{ verdict: "exact", frame: 1 }]);
    const first = new Capture();
    first.packets.push(...capture.packets.map((p, i) => (i === 0 ? { ...p, time: null } : p)));
    const { streams, trace } = run(first);
    expect(streams).toMatchObject([{ verdict: "exact" }]);
    expect(trace.at(-1)?.at).toBeLessThan(2000);
    const timeless = new Capture();
    timeless.packets.push(...capture.packets.map((p) => ({ ...p, time: null })));
    expect(run(timeless).streams).toMatchObject([{ verdict: "exact" }]);
  });

  test("of a gap of a year a day passes", () => {
    const late = new Capture();
    const year = 365n * 86_400n * 10n ** 9n;
    late.packets.push(
      ...capture.packets.map((p, i) => ({ ...p, time: (p.time ?? 0n) + (i > 0 ? year : 0n) })),
    );
    const { trace } = run(late);
    expect(trace[1].at).toBe(86_400_000);
  });
});

describe("options", () => {
  const syn: TcpOption[] = [
    { kind: "mss", value: 1460 },
    { kind: "sackOK" },
    { kind: "TS", value: 1000, echo: 0 },
    { kind: "wscale", value: 7 },
  ];

  test.each<[string, TcpOption[]]>([
    [
      "mss, sackOK, wscale",
      [{ kind: "mss", value: 1340 }, { kind: "sackOK" }, { kind: "wscale", value: 2 }],
    ],
    ["mss", [{ kind: "mss", value: 1452 }]],
    ["TS", [{ kind: "TS", value: 7000, echo: 1000 }]],
    ["none", []],
  ])("the SYN-ACK offers exactly the captured: %s", (_, synAck) => {
    const { streams } = run(new Capture().open(syn, synAck));
    const shape = (options: readonly TcpOption[]): unknown[] =>
      options
        .filter(({ kind }) => kind !== "nop" && kind !== "eol")
        .map((option) => (option.kind === "TS" ? { kind: "TS" } : option))
        .sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));
    expect(shape(streams[0].offered)).toEqual(shape(synAck));
  });

  test("TSecr is what the client takes from the stack's segments (RFC 7323 §4.3)", () => {
    const capture = new Capture()
      .open(syn, [{ kind: "TS", value: 7000, echo: 1000 }])
      .fromServer(60, {
        seq: 1,
        ack: 1,
        payload: bytes("hello"),
        options: [{ kind: "TS", value: 7040, echo: 1040 }],
      })
      .fromClient(80, { seq: 1, ack: 6, options: [{ kind: "TS", value: 1080, echo: 7040 }] });
    const { trace, streams } = run(capture);
    expect(streams).toMatchObject([{ verdict: "exact" }]);
    const stamp = (p: TcpPacket): { value: number; echo: number } | undefined =>
      p.options.find((option) => option.kind === "TS");
    const [synAck, data] = sent(trace, ">").map(stamp);
    const [, ack, last] = sent(trace, "<").map(stamp);
    expect([ack?.echo, last?.echo]).toEqual([synAck?.value, data?.value]);
    expect([ack?.value, last?.value]).toEqual([1040, 1080]);
  });

  test("TSecr is of the first segment that was not acknowledged yet (RFC 7323 §4.3)", () => {
    const data = (at: number, octets: string): Fields => ({
      seq: at,
      ack: 1,
      payload: bytes(octets),
      options: [{ kind: "TS", value: 7000 + at, echo: 1040 }],
    });
    const capture = new Capture()
      .open(syn, [{ kind: "TS", value: 7000, echo: 1000 }])
      .fromServer(60, data(1, "first"))
      .fromServer(75, data(6, "second"))
      .fromClient(80, { seq: 1, ack: 12, options: [{ kind: "TS", value: 1080, echo: 7001 }] });
    const { trace } = run(capture);
    const stamp = (p: TcpPacket): { value: number; echo: number } | undefined =>
      p.options.find((option) => option.kind === "TS");
    const [, first, second] = sent(trace, ">").map(stamp);
    expect(stamp(sent(trace, "<")[2])?.echo).toBe(first?.value);
    expect(second?.value).not.toBe(first?.value);
  });

  test("edges of SACK blocks move as acknowledgements do (RFC 2018 §3)", () => {
    const capture = new Capture()
      .open(
        [{ kind: "mss", value: 1000 }, { kind: "sackOK" }],
        [{ kind: "mss", value: 1000 }, { kind: "sackOK" }],
      )
      .fromServer(60, { seq: 1, ack: 1, payload: pattern(1, 0, 1000) })
      .fromServer(60, { seq: 1001, ack: 1, payload: pattern(1, 1000, 1000) })
      .fromClient(80, {
        seq: 1,
        ack: 1,
        options: [{ kind: "sack", blocks: [[SERVER_ISN + 1001, SERVER_ISN + 2001]] }],
      })
      .fromClient(90, { seq: 1, ack: 2001 });
    const { trace, streams } = run(capture);
    const isn = sent(trace, ">")[0].seq;
    const sack = sent(trace, "<")[2].options.find((option) => option.kind === "sack");
    expect(sack?.blocks).toEqual([[(isn + 1001) >>> 0, (isn + 2001) >>> 0]]);
    expect(streams).toMatchObject([{ verdict: "exact" }]);
    expect(streams[0].downstream).toEqual(pattern(1, 0, 2000));
  });
});

describe("causality", () => {
  test("the server answers when the octets it acknowledged have arrived, however late that is", () => {
    // Of the request only the retransmission was captured, behind the answer.
    const { trace, streams } = run(
      new Capture()
        .open()
        .fromServer(70, { seq: 1, ack: 8, payload: bytes("answer") })
        .fromClient(75, { seq: 1, ack: 1, payload: bytes("request") })
        .fromClient(90, { seq: 8, ack: 7 }),
    );
    expect(streams).toMatchObject([{ verdict: "exact" }]);
    const answer = trace.findIndex(
      ({ direction, packet }) => direction === ">" && packet.payload.length > 0,
    );
    const asked = trace.findIndex(
      ({ direction, packet }) => direction === "<" && packet.payload.length > 0,
    );
    expect(asked).toBeLessThan(answer);
  });

  test("a client that acknowledges more than cwnd lets out is lent acknowledgements", () => {
    const capture = new Capture().open(
      [{ kind: "mss", value: 1460 }],
      [{ kind: "mss", value: 1460 }],
    );
    const octets = pattern(1, 0, 40 * 1460);
    for (let at = 0; at < octets.length; at += 1460) {
      capture.fromServer(60, { seq: 1 + at, ack: 1, payload: octets.subarray(at, at + 1460) });
    }
    capture.fromClient(80, { seq: 1, ack: 1 + octets.length, payload: bytes("thanks") });
    const { streams } = run(capture);
    expect(streams).toMatchObject([{ verdict: "exact" }]);
    expect(streams[0].added).toBeGreaterThan(0);
    expect(streams[0].reasons.join()).toMatch(/^\d+ acknowledgements of the client were added$/);
    expect(streams[0].downstream).toEqual(octets);
    expect(text(streams[0].upstream)).toBe("thanks");
  });

  test("a packet that waits for an hour stalls the stream, and only that", () => {
    // The captured server took octets from the SYN; ours does not, so it never answers them.
    const stuck = new Capture()
      .fromClient(0, { flags: SYN, payload: bytes("early") })
      .fromServer(20, { flags: SYN | ACK, ack: 6 })
      .fromServer(30, { seq: 1, ack: 6, payload: bytes("answer") })
      .fromClient(40, { seq: 6, ack: 7, payload: bytes("more") });
    stuck.clientPort = 40001;
    stuck
      .fromClient(100, { flags: SYN })
      .fromServer(120, { flags: SYN | ACK, ack: 1 })
      .fromClient(140, { seq: 1, ack: 1 })
      .fromClient(7_200_000, { seq: 1, ack: 1, payload: bytes("late") });
    const { streams, trace } = run(stuck);
    expect(streams).toMatchObject([{ verdict: "stalled" }, { verdict: "exact" }]);
    expect(streams[0].reasons).toContain("a packet waited too long");
    expect(text(streams[1].upstream)).toBe("late");
    // All that was left of the first was its RST.
    expect(trace.filter(({ packet }) => text(packet.payload) === "more")).toEqual([]);
  });

  test("patience may be less than an hour", () => {
    const stuck = new Capture()
      .fromClient(0, { flags: SYN, payload: bytes("early") })
      .fromServer(20, { flags: SYN | ACK, ack: 6 })
      .fromServer(30, { seq: 1, ack: 6, payload: bytes("answer") })
      .fromClient(40, { seq: 6, ack: 7 });
    const { streams, driver } = run(stuck, { patience: 1000 });
    expect(streams).toMatchObject([{ verdict: "stalled" }]);
    expect(driver.time.now()).toBeLessThan(60_000);
  });

  test("an acknowledgement of what the server never sent does not wait", () => {
    const { streams } = run(
      new Capture()
        .open()
        .fromServer(45, { seq: 1, ack: 1, flags: ACK | FIN })
        .fromClient(50, { seq: 1, ack: 900, payload: bytes("x") })
        .fromClient(60, { seq: 1, ack: 2, payload: bytes("y") }),
    );
    expect(streams).toMatchObject([{ added: 0 }]);
    expect(streams[0].verdict).toBe("different");
    expect(text(streams[0].upstream)).toBe("y");
  });
});

describe("how the captured server ends or begins otherwise", () => {
  const syn = new Capture().fromClient(0, { flags: SYN });

  test("it refused by RST: so does the stack, every time", () => {
    const capture = new Capture()
      .fromClient(0, { flags: SYN })
      .fromServer(20, { flags: RST | ACK, ack: 1 })
      .fromClient(500, { flags: SYN })
      .fromServer(520, { flags: RST | ACK, ack: 1 });
    const { streams, trace } = run(capture);
    expect(streams).toMatchObject([{ verdict: "refused", answer: "RST" }]);
    expect(sent(trace, ">").map(({ flags }) => flags)).toEqual([RST | ACK, RST | ACK]);
  });

  test.each([
    [1, "host-unreachable"],
    [3, "port-unreachable"],
    [13, "prohibited"],
  ])("it was unreachable (ICMP 3/%i): ICMP and RST", (code) => {
    const capture = new Capture().fromClient(0, { flags: SYN });
    const body = capture.segment({ flags: SYN }, true).slice(0, 28);
    capture.add(30, buildIcmp({ source: "10.9.9.9", destination: CLIENT, type: 3, code, body }));
    const codes: number[] = [];
    const { streams } = replay(capture.packets, {
      trace: (_, direction, packet) => {
        const decoded = decodePacket(packet);
        if (direction === ">" && decoded.kind === "icmp") codes.push(decoded.code);
      },
    });
    expect(streams).toMatchObject([{ verdict: "refused", answer: "ICMP" }]);
    expect(codes).toEqual([code]);
  });

  test("an ICMP error about another segment is no answer (RFC 5927 §4.1)", () => {
    const capture = new Capture().fromClient(0, { flags: SYN });
    const body = capture.segment({ seq: 5, flags: SYN }, true).slice(0, 28);
    capture.add(30, buildIcmp({ source: "10.9.9.9", destination: CLIENT, type: 3, code: 1, body }));
    expect(run(capture).streams).toMatchObject([{ verdict: "unanswered", answer: null }]);
  });

  test("it never answered: neither does the stack", () => {
    const { streams, trace } = run(syn);
    expect(streams).toMatchObject([{ verdict: "unanswered", answer: null }]);
    expect(sent(trace, ">")).toEqual([]);
  });

  test("its RST comes behind its octets", () => {
    const { streams, trace } = run(
      new Capture()
        .open()
        .fromServer(60, { seq: 1, ack: 1, payload: bytes("last words") })
        .fromServer(61, { seq: 11, ack: 1, flags: RST | ACK })
        .fromClient(80, { seq: 1, ack: 11 }),
    );
    expect(streams).toMatchObject([{ verdict: "exact", closed: null }]);
    expect(text(streams[0].downstream)).toBe("last words");
    const out = sent(trace, ">");
    expect(out[2].flags & RST).toBe(RST);
    expect((out[2].seq - out[0].seq) >>> 0).toBe(11);
  });

  test("its RST comes behind its octets also where cwnd holds them back", () => {
    const capture = new Capture().open([{ kind: "mss", value: 1000 }], []);
    for (let at = 0; at < 40_000; at += 1000) {
      capture.fromServer(60, { seq: 1 + at, ack: 1, payload: pattern(1, at, 1000) });
    }
    capture
      .fromServer(61, { seq: 40_001, flags: RST })
      .fromClient(80, { seq: 1, ack: 20_001 })
      .fromClient(81, { seq: 1, ack: 40_001 });
    const { streams } = run(capture);
    expect(streams).toMatchObject([{ verdict: "exact" }]);
    expect(streams[0].downstream).toEqual(pattern(1, 0, 40_000));
  });

  test("its RST comes behind what the client had sent by then, however late that goes", () => {
    const capture = new Capture().open([{ kind: "mss", value: 1000 }], []);
    for (let at = 0; at < 40_000; at += 1000) {
      capture.fromServer(60, { seq: 1 + at, ack: 1, payload: pattern(1, at, 1000) });
    }
    capture
      .fromClient(80, { seq: 1, ack: 40_001, payload: bytes("thanks") })
      .fromServer(81, { seq: 40_001, flags: RST });
    const { streams } = run(capture);
    expect(streams).toMatchObject([{ verdict: "exact" }]);
    expect(text(streams[0].upstream)).toBe("thanks");
  });

  test("an RST that the server speaks on behind was not its own", () => {
    const { streams } = run(
      new Capture()
        .open()
        .fromServer(50, { seq: 900, flags: RST })
        .fromServer(60, { seq: 1, ack: 1, payload: bytes("alive") })
        .fromClient(80, { seq: 1, ack: 6, payload: bytes("too") }),
    );
    expect(streams).toMatchObject([{ verdict: "exact" }]);
  });

  test("the client's RST ends the stream as it did", () => {
    const { streams } = run(
      new Capture()
        .open()
        .fromClient(50, { seq: 1, ack: 1, payload: bytes("bye") })
        .fromClient(60, { seq: 4, flags: RST }),
    );
    expect(streams).toMatchObject([{ verdict: "exact", closed: "reset" }]);
    expect(text(streams[0].upstream)).toBe("bye");
  });

  test("octets that the client sent behind the server's RST are lost, and the verdict says so", () => {
    const { streams } = run(
      new Capture()
        .open()
        .fromServer(50, { seq: 1, ack: 1, flags: RST | ACK })
        .fromClient(51, { seq: 1, ack: 1, payload: bytes("crossed") }),
    );
    expect(streams).toMatchObject([
      { verdict: "different", reasons: ["upstream got 0 of 7 octets"] },
    ]);
  });
});

describe("captures that lack something", () => {
  test("without the SYN the stack answers RST (RFC 9293 §3.10.7.1)", () => {
    const { streams } = run(
      new Capture()
        .fromClient(0, { seq: 1, ack: 1, payload: bytes("x") })
        .fromServer(20, { seq: 1, ack: 2 }),
    );
    expect(streams).toMatchObject([
      { verdict: "mid-stream", answer: "RST", client: "10.0.0.2:40000", closed: null },
    ]);
  });

  test("without the server's side its acknowledged octets are zeros", () => {
    const { streams } = run(
      new Capture()
        .fromClient(0, { flags: SYN })
        .fromClient(40, { seq: 1, ack: 1, payload: bytes("request") })
        .fromClient(90, { seq: 8, ack: 3001 })
        .fromClient(95, { seq: 8, ack: 3001, flags: ACK | FIN }),
    );
    expect(streams).toMatchObject([
      { verdict: "exact", reasons: ["3000 octets of the server are not captured"] },
    ]);
    expect(text(streams[0].upstream)).toBe("request");
    expect(streams[0].downstream).toEqual(new Uint8Array(3000));
  });

  test("without the ACK that ends the handshake the client is lent one", () => {
    const { streams } = run(
      new Capture()
        .fromClient(0, { flags: SYN })
        .fromServer(20, { flags: SYN | ACK, ack: 1 })
        .fromServer(60, { seq: 1, ack: 1, payload: bytes("220 hello") })
        .fromClient(80, { seq: 1, ack: 10, payload: bytes("EHLO") }),
    );
    expect(streams).toMatchObject([{ verdict: "exact", added: 1 }]);
    expect(text(streams[0].upstream)).toBe("EHLO");
  });

  test("segments of the server that are missing are zeros at their place", () => {
    const { streams } = run(
      new Capture()
        .open()
        .fromServer(60, { seq: 1, ack: 1, payload: bytes("ab") })
        .fromServer(61, { seq: 5, ack: 1, payload: bytes("ef") })
        .fromClient(80, { seq: 1, ack: 7 }),
    );
    expect(streams).toMatchObject([
      { verdict: "exact", reasons: ["2 octets of the server are not captured"] },
    ]);
    expect(text(streams[0].downstream)).toBe("ab\0\0ef");
  });

  test("behind a gap of the client nothing arrives; the server goes on", () => {
    const { streams } = run(
      new Capture()
        .open()
        .fromClient(50, { seq: 1, ack: 1, payload: bytes("ab") })
        .fromClient(51, { seq: 5, ack: 1, payload: bytes("ef") })
        .fromServer(60, { seq: 1, ack: 7, payload: bytes("answer") })
        .fromClient(80, { seq: 7, ack: 7 }),
    );
    expect(streams).toMatchObject([
      { verdict: "exact", reasons: ["octets of the client are missing from 2 on"] },
    ]);
    expect(text(streams[0].upstream)).toBe("ab");
    expect(text(streams[0].downstream)).toBe("answer");
  });

  test("snapped packets are filled up with zeros", () => {
    const capture = new Capture().open();
    const whole = capture.segment({ seq: 1, ack: 1, payload: bytes("headers only") }, true);
    const { streams } = run(capture.add(50, whole, 47));
    expect(streams[0].reasons).toEqual(["1 packets of the client are cut: zeros for the rest"]);
    expect(text(streams[0].upstream)).toBe("headers\0\0\0\0\0");
  });

  test("wrong checksums are put right, as a device does that computes them", () => {
    const capture = new Capture().open();
    const whole = capture.segment({ seq: 1, ack: 1, payload: bytes("offload") }, true);
    whole.fill(0xab, 10, 12);
    whole.fill(0xab, 36, 38);
    const { streams } = run(capture.add(50, whole));
    expect(streams).toMatchObject([{ verdict: "exact" }]);
  });
});

test("the same ports twice are two streams, also with the first in TIME-WAIT (RFC 9293 §3.6.1)", () => {
  const capture = new Capture()
    .open()
    .fromServer(60, { seq: 1, ack: 1, flags: ACK | FIN })
    .fromClient(70, { seq: 1, ack: 2, flags: ACK | FIN })
    .fromServer(80, { seq: 2, ack: 2 });
  capture.clientIsn = (CLIENT_ISN + 100_000) >>> 0;
  capture
    .fromClient(1000, { flags: SYN })
    .fromServer(1020, { flags: SYN | ACK, ack: 1 })
    .fromClient(1040, { seq: 1, ack: 1, payload: bytes("again") });
  const { streams } = run(capture);
  expect(streams).toMatchObject([
    { frame: 1, verdict: "exact", closed: "closed" },
    { frame: 7, verdict: "exact" },
  ]);
  expect(text(streams[1].upstream)).toBe("again");
});

test("retransmissions, keep-alives and zero-window probes change nothing", () => {
  const { streams } = run(
    new Capture()
      .fromClient(0, { flags: SYN })
      .fromClient(10, { flags: SYN })
      .fromServer(20, { flags: SYN | ACK, ack: 1 })
      .fromServer(25, { flags: SYN | ACK, ack: 1 })
      .fromClient(40, { seq: 1, ack: 1 })
      .fromClient(50, { seq: 1, ack: 1, payload: bytes("request") })
      .fromServer(60, { seq: 1, ack: 8, window: 0 })
      .fromClient(300, { seq: 8, ack: 1, payload: bytes("!") })
      .fromServer(301, { seq: 1, ack: 8, window: 0 })
      .fromServer(500, { seq: 1, ack: 8, payload: bytes("answer") })
      .fromServer(700, { seq: 1, ack: 8, payload: bytes("answer") })
      .fromClient(710, { seq: 8, ack: 7, payload: bytes("!") })
      .fromClient(711, { seq: 1, ack: 7, payload: bytes("request") })
      .fromClient(60_000, { seq: 8, ack: 7, payload: bytes("?") })
      .fromServer(90_000, { seq: 6, ack: 9, payload: bytes("?") })
      .fromClient(90_001, { seq: 9, ack: 7 }),
  );
  expect(streams).toMatchObject([{ verdict: "exact", reasons: [] }]);
  expect(text(streams[0].upstream)).toBe("request!");
  expect(text(streams[0].downstream)).toBe("answer");
});

test("a segment in fragments is fed as them, with its own checksum", () => {
  const capture = new Capture().open();
  const whole = capture.segment({ seq: 1, ack: 1, payload: pattern(0, 0, 100) }, true);
  const piece = (from: number, to: number): Uint8Array => {
    const part = Uint8Array.from([...whole.slice(0, 20), ...whole.slice(20 + from, 20 + to)]);
    const view = new DataView(part.buffer);
    view.setUint16(2, part.length);
    view.setUint16(6, (to < whole.length - 20 ? 0x2000 : 0) | (from / 8));
    return part;
  };
  capture.add(50, piece(48, 120)).add(51, piece(0, 48));
  const { streams, driver } = replay(capture.packets);
  expect(streams).toMatchObject([{ verdict: "exact" }]);
  expect(streams[0].upstream).toEqual(pattern(0, 0, 100));
  expect(driver.stack.stats.fragmentsIn).toBe(2);
});

test("a host that talked to itself gets addresses that a TUN carries", () => {
  for (const [client, server] of [
    ["127.0.0.1", "127.0.0.1"],
    ["::1", "::1"],
    [CLIENT, CLIENT],
  ]) {
    const capture = new Capture();
    capture.client = client;
    capture.server = server;
    capture.open().fromClient(50, { seq: 1, ack: 1, payload: bytes("me") });
    const { streams } = run(capture);
    expect(streams).toMatchObject([{ verdict: "exact" }]);
    expect(streams[0].client).toContain(client);
  }
});

test("segments larger than 1,500 octets are sent and fed where the captured clients had them", () => {
  const octets = pattern(1, 0, 50_000);
  const capture = new Capture()
    .open([{ kind: "mss", value: 65495 }], [{ kind: "mss", value: 65495 }])
    .fromClient(50, { seq: 1, ack: 1, payload: octets })
    .fromServer(60, { seq: 1, ack: 50_001, payload: octets })
    .fromClient(61, { seq: 50_001, ack: 50_001 });
  const { streams, driver } = run(capture);
  expect(driver.device.mtu).toBe(65535);
  expect(streams).toMatchObject([{ verdict: "exact", added: 0 }]);
});

describe("datagrams", () => {
  const ask = { source: CLIENT, destination: SERVER, sourcePort: 5000, destinationPort: 53 };
  const answer = { source: SERVER, destination: CLIENT, sourcePort: 53, destinationPort: 5000 };

  test("go up, and answers come back, at their times", () => {
    const capture = new Capture()
      .add(0, buildUdp({ ...ask, payload: pattern(0, 0, 30) }))
      .add(5, buildUdp({ ...answer, payload: pattern(1, 0, 300) }))
      .add(6, buildUdp({ ...answer, payload: pattern(1, 0, 4000) }))
      .add(9, buildUdp({ ...ask, payload: new Uint8Array(0) }));
    const { datagrams, asCaptured } = run(capture);
    expect(datagrams.upstream).toEqual({ "10.0.0.2:5000 > 93.184.216.34:53": [2, 30] });
    expect(datagrams.upstream).toEqual(datagrams.expectedUpstream);
    expect(datagrams.answers).toEqual({ "93.184.216.34:53 > 10.0.0.2:5000": [2, 4300] });
    expect(datagrams.answers).toEqual(datagrams.expectedAnswers);
    expect(asCaptured).toBe(0);
  });

  test("an ICMP error is repeated to the client", () => {
    const body = buildUdp({ ...ask, payload: bytes("x") });
    const icmp = { source: SERVER, destination: CLIENT, type: 3, code: 3, body };
    const capture = new Capture().add(0, body).add(5, buildIcmp(icmp));
    const kinds: string[] = [];
    replay(capture.packets, {
      trace: (at, direction, packet) => kinds.push(`${at}${direction}${decodePacket(packet).kind}`),
    });
    expect(kinds).toEqual(["0<udp", "5>icmp"]);
  });
});

test("what is neither is fed as it was captured, whatever it is", () => {
  const echo = { source: CLIENT, destination: SERVER, type: 8, code: 0, body: bytes("ping") };
  const cut = buildUdp({
    source: CLIENT,
    destination: SERVER,
    sourcePort: 1,
    destinationPort: 2,
    payload: bytes("abcdef"),
  });
  const capture = new Capture()
    .add(0, buildIcmp(echo))
    .add(1, Uint8Array.of(0x45, 0))
    .add(2, cut, 15)
    .add(3, Uint8Array.of(0x60));
  capture.packets.push({ ...capture.packets[0], linkType: 99 });
  const { packets, notIp, asCaptured, streams, driver } = replay(capture.packets);
  expect({ packets, notIp, asCaptured, streams }).toEqual({
    packets: 5,
    notIp: 1,
    asCaptured: 4,
    streams: [],
  });
  expect(driver.stack.stats).toMatchObject({ packetsIn: 4, icmpIn: 1, ipTruncated: 3 });
});

test("nothing to replay is no error", () => {
  expect(replay([])).toMatchObject({ packets: 0, streams: [] });
});
