import { decode, encode, type Packet, streamEncode } from "dns-packet";
import { expect, test } from "vitest";
import { MAX_QUERIES } from "../../src/relay/dns-relay.ts";
import { buildUdp } from "../../src/testing/packet-builder.ts";
import { RelayWorld } from "../support/relay-world.ts";
import { reply, type ScriptedDirect, trouble } from "../support/scripted-upstream.ts";

const OURS = "198.18.0.3:53";
const REAL = "9.9.9.9:53";

function query(id: number, name = "example.com", extra: Partial<Packet> = {}): Buffer {
  return encode({ type: "query", id, flags: 0x100, questions: [{ type: "A", name }], ...extra });
}

/** The answer to a query as it reached the resolver. */
function answerTo(asked: Uint8Array, data = "192.0.2.1", changes: Partial<Packet> = {}): Buffer {
  const { id, questions } = decode(Buffer.from(asked));
  const name = questions![0]!.name;
  const answers = [{ type: "A" as const, name, ttl: 1, data }];
  return encode({
    type: "response",
    id: id!,
    flags: 0x180,
    questions: questions!,
    answers,
    ...changes,
  });
}

type Message = ReturnType<typeof decode> & { readonly rcode?: string };

function messages(world: RelayWorld): Message[] {
  return world.datagrams().map(({ payload }) => decode(Buffer.from(payload)));
}

/** What the resolver behind a TCP stream was sent. */
function framed(sent: readonly number[]): Uint8Array[] {
  const result: Uint8Array[] = [];
  for (let at = 0; at < sent.length; ) {
    const length = sent[at]! * 256 + sent[at + 1]!;
    result.push(Uint8Array.from(sent.slice(at + 2, at + 2 + length)));
    at += 2 + length;
  }
  return result;
}

function direct(world: RelayWorld): ScriptedDirect {
  return world.upstream.stream as ScriptedDirect;
}

/** A world whose association is open, with one query asked through it. */
function asked(port = 5000, id = 0x1234, target = OURS): RelayWorld {
  const world = new RelayWorld();
  world.udp(target, port, query(id));
  world.act(() => world.upstream.association.open());
  return world;
}

test("a query to our resolver goes to the real one with another id, and the answer comes back as ours", () => {
  const world = asked();
  const [sent] = world.upstream.association.sent;
  expect(sent!.to).toBe(REAL);
  expect(decode(Buffer.from(sent!.payload)).id).not.toBe(0x1234);
  world.act(() => world.upstream.association.deliver(REAL, answerTo(sent!.payload)));
  const [datagram] = world.datagrams();
  expect(datagram).toMatchObject({ source: "198.18.0.3", sourcePort: 53, destinationPort: 5000 });
  expect(decode(Buffer.from(datagram!.payload))).toMatchObject({
    id: 0x1234,
    answers: [{ data: "192.0.2.1" }],
  });
});

test("queries of all clients share one association, whatever their ports and resolvers", () => {
  const world = asked();
  for (let i = 0; i < 50; i++) world.udp(i % 2 === 0 ? OURS : "8.8.8.8:53", 6000 + i, query(i));
  expect(world.upstream.associations.length).toBe(1);
  const { sent } = world.upstream.association;
  expect(sent.length).toBe(51);
  expect(new Set(sent.map(({ payload }) => payload[0]! * 256 + payload[1]!)).size).toBe(51);
  expect(sent.at(-1)!.to).toBe("8.8.8.8:53");
});

test("equal ids of two clients are told apart", () => {
  const world = asked(5000, 7);
  world.udp(OURS, 5001, query(7, "example.org"));
  const { association } = world.upstream;
  world.act(() => association.deliver(REAL, answerTo(association.sent[1]!.payload, "192.0.2.2")));
  world.act(() => association.deliver(REAL, answerTo(association.sent[0]!.payload, "192.0.2.1")));
  const [first, second] = world.datagrams();
  expect(first).toMatchObject({ destinationPort: 5001 });
  expect(second).toMatchObject({ destinationPort: 5000 });
});

test.each<[string, (sent: Uint8Array) => [string, Uint8Array]]>([
  [
    "another id",
    (sent) => [REAL, answerTo(sent, "6.6.6.6", { id: (sent[0]! * 256 + sent[1]!) ^ 1 })],
  ],
  [
    "another question",
    (sent) => [REAL, answerTo(sent, "6.6.6.6", { questions: [{ type: "A", name: "evil.com" }] })],
  ],
  [
    "another type",
    (sent) => [
      REAL,
      answerTo(sent, "6.6.6.6", { questions: [{ type: "AAAA", name: "example.com" }] }),
    ],
  ],
  ["another server", (sent) => ["6.6.6.6:53", answerTo(sent)]],
  ["another port", (sent) => ["9.9.9.9:54", answerTo(sent)]],
  ["a query", (sent) => [REAL, sent]],
  ["noise", () => [REAL, new Uint8Array(40).fill(0x5a)]],
  ["nothing", () => [REAL, new Uint8Array(0)]],
])(
  "a forged answer with %s is dropped, and the true one still counts (RFC 5452 §9.1)",
  (_, forge) => {
    const world = asked();
    const { association } = world.upstream;
    const sent = association.sent[0]!.payload;
    const [from, message] = forge(sent);
    world.act(() => association.deliver(from, message));
    expect(world.datagrams()).toEqual([]);
    expect(world.relay.stats.dnsUnmatched).toBe(1);
    world.act(() => association.deliver(REAL, answerTo(sent)));
    expect(messages(world)).toMatchObject([{ id: 0x1234 }]);
  },
);

test("an answer counts once", () => {
  const world = asked();
  const { association } = world.upstream;
  const answer = answerTo(association.sent[0]!.payload);
  world.act(() => association.deliver(REAL, answer));
  world.act(() => association.deliver(REAL, answer));
  expect(world.datagrams().length).toBe(1);
  expect(world.relay.stats.dnsUnmatched).toBe(1);
});

test("at most 4,096 queries are in flight; the oldest gives way", () => {
  const world = asked(5000, 1);
  for (let i = 0; i < MAX_QUERIES; i++) world.udp(OURS, 5001, query(i));
  expect(MAX_QUERIES).toBe(4096);
  expect(world.relay.stats.dnsEvicted).toBe(1);
  const { association } = world.upstream;
  world.act(() => association.deliver(REAL, answerTo(association.sent[0]!.payload)));
  expect(world.datagrams()).toEqual([]);
  world.act(() => association.deliver(REAL, answerTo(association.sent[1]!.payload)));
  expect(world.datagrams().length).toBe(1);
});

test("a lookup without answer ends in SERVFAIL after 8 s, and a later answer is dropped", () => {
  const world = new RelayWorld({ dnsMode: "udp" });
  world.udp(OURS, 5000, query(5));
  const { association } = world.upstream;
  world.act(() => association.open());
  world.advance(7_900);
  expect(world.datagrams()).toEqual([]);
  world.advance(200);
  expect(messages(world)).toMatchObject([{ id: 5, rcode: "SERVFAIL" }]);
  world.act(() => association.deliver(REAL, answerTo(association.sent[0]!.payload)));
  expect(world.datagrams()).toEqual([]);
  expect(world.relay.stats).toMatchObject({ dnsFailed: 1, dnsUnmatched: 1 });
});

test("auto: without UDP the lookup goes over TCP at once, and later ones without asking", () => {
  const world = new RelayWorld();
  world.udp(OURS, 5000, query(5));
  world.act(() => world.upstream.association.refuse(reply(7)));
  expect(world.upstream.stream.target).toBe(REAL);
  world.act(() => world.upstream.stream.open());
  world.udp(OURS, 5001, query(6, "example.org"));
  expect(world.upstream.associations.length).toBe(1);
  expect(world.upstream.streams.length).toBe(1);
  const sent = framed(world.upstream.stream.sent);
  expect(sent.length).toBe(2);
  const answers = sent.map((message) => streamEncode(decode(answerTo(message))));
  // Out of order, glued, and split (RFC 7766 §7).
  const glued = Buffer.concat([answers[1]!, answers[0]!]);
  world.act(() => direct(world).deliver(glued.subarray(0, 1)));
  world.act(() => direct(world).deliver(glued.subarray(1, 30)));
  world.act(() => direct(world).deliver(glued.subarray(30)));
  expect(messages(world)).toMatchObject([{ id: 6 }, { id: 5 }]);
});

test("auto: an association that never answered is given up after 2 s", () => {
  const world = asked();
  world.advance(1_900);
  expect(world.upstream.streams.length).toBe(0);
  world.advance(200);
  expect(world.upstream.association.state).toBe("closed");
  world.act(() => world.upstream.stream.open());
  const [sent] = framed(world.upstream.stream.sent);
  world.act(() => direct(world).deliver(streamEncode(decode(answerTo(sent!)))));
  expect(messages(world)).toMatchObject([{ id: 0x1234 }]);
  world.udp(OURS, 5001, query(2));
  expect(world.upstream.associations.length).toBe(1);
});

test("auto: a proven association is not given up for one lost answer", () => {
  const world = asked();
  const { association } = world.upstream;
  world.act(() => association.deliver(REAL, answerTo(association.sent[0]!.payload)));
  world.datagrams();
  world.advance(10);
  world.udp(OURS, 5000, query(9));
  world.advance(9_000);
  expect(messages(world)).toMatchObject([{ id: 9, rcode: "SERVFAIL" }]);
  expect(world.upstream.streams.length).toBe(0);
  // But it has to prove itself again.
  world.udp(OURS, 5000, query(10));
  world.advance(2_100);
  expect(world.upstream.streams.length).toBe(1);
});

test("auto: when the association is lost, lookups in flight move to TCP", () => {
  const world = asked();
  world.act(() => world.upstream.association.lose());
  world.act(() => world.upstream.stream.open());
  expect(framed(world.upstream.stream.sent).length).toBe(1);
});

test("udp: refused associations fail the lookups; they do not hang", () => {
  const world = new RelayWorld({ dnsMode: "udp" });
  world.udp(OURS, 5000, query(5));
  world.act(() => world.upstream.association.refuse(reply(7)));
  world.udp(OURS, 5000, query(6));
  expect(messages(world)).toMatchObject([
    { id: 5, rcode: "SERVFAIL" },
    { id: 6, rcode: "SERVFAIL" },
  ]);
  expect(world.upstream.streams.length).toBe(0);
});

test("udp: a lost association is made again and the queries are repeated", () => {
  const world = new RelayWorld({ dnsMode: "udp" });
  world.udp(OURS, 5000, query(5));
  world.act(() => world.upstream.association.open());
  world.act(() => world.upstream.association.lose());
  world.advance(1_020);
  expect(world.upstream.associations.length).toBe(2);
  world.act(() => world.upstream.association.open());
  expect(world.upstream.association.sent.length).toBe(1);
});

test("udp: an association that went deaf is made again when a lookup without answer ends", () => {
  const world = new RelayWorld({ dnsMode: "udp" });
  world.udp(OURS, 5000, query(5));
  const deaf = world.upstream.association;
  world.act(() => deaf.open());
  world.act(() => deaf.deliver(REAL, answerTo(deaf.sent[0]!.payload)));
  world.datagrams();
  world.udp(OURS, 5000, query(6));
  world.advance(4_000);
  world.udp(OURS, 5000, query(7));
  world.advance(4_100);
  expect(messages(world)).toMatchObject([{ id: 6, rcode: "SERVFAIL" }]);
  expect(deaf.state).toBe("closed");
  expect(world.upstream.associations.length).toBe(2);
  // The younger query goes through the new one.
  const { association } = world.upstream;
  world.act(() => association.open());
  world.act(() => association.deliver(REAL, answerTo(association.sent[0]!.payload)));
  expect(messages(world)).toMatchObject([{ id: 7, rcode: "NOERROR" }]);
});

test("udp: an association that answers others is kept although one lookup stays without answer", () => {
  const world = new RelayWorld({ dnsMode: "udp" });
  world.udp(OURS, 5000, query(5), query(6));
  const { association } = world.upstream;
  world.act(() => association.open());
  world.advance(10);
  world.act(() => association.deliver(REAL, answerTo(association.sent[0]!.payload)));
  world.advance(9_000);
  expect(messages(world)).toMatchObject([{ id: 5 }, { id: 6, rcode: "SERVFAIL" }]);
  expect(association.state).toBe("open");
});

test("a query whose flow gives way in the same batch leaves with that batch", () => {
  const world = new RelayWorld({ driver: { stack: { maxUdpFlows: 1 } } });
  world.udp(OURS, 5000, query(5));
  const { association } = world.upstream;
  world.act(() => association.open());
  for (const sourcePort of [5001, 5002]) {
    const payload = query(sourcePort);
    const [source, destination] = ["10.0.0.2", "198.18.0.3"];
    world.inject(buildUdp({ source, destination, sourcePort, destinationPort: 53, payload }));
  }
  world.inject(
    buildUdp({
      source: "10.0.0.2",
      destination: "192.0.2.9",
      sourcePort: 5003,
      destinationPort: 9,
      payload: Uint8Array.of(1),
    }),
  );
  world.settle();
  expect(association.sent.length).toBe(3);
});

test("off: lookups are refused", () => {
  const world = new RelayWorld({ dnsMode: "off" });
  world.udp(OURS, 5000, query(5));
  world.udp("8.8.8.8:53", 5000, query(5));
  expect(world.errors()).toEqual(["3/3", "3/3"]);
});

function tcpWorld(): RelayWorld {
  const world = new RelayWorld({ dnsMode: "tcp" });
  world.udp(OURS, 5000, query(5));
  world.act(() => world.upstream.stream.open());
  return world;
}

test("tcp: one connection is reused, and closed when idle for 30 s", () => {
  const world = tcpWorld();
  const [sent] = framed(world.upstream.stream.sent);
  world.act(() => direct(world).deliver(streamEncode(decode(answerTo(sent!)))));
  world.advance(20_000);
  world.udp(OURS, 5000, query(6));
  expect(world.upstream.streams.length).toBe(1);
  const second = framed(world.upstream.stream.sent)[1]!;
  world.act(() => direct(world).deliver(streamEncode(decode(answerTo(second)))));
  expect(messages(world)).toMatchObject([{ id: 5 }, { id: 6 }]);
  world.advance(31_000);
  expect(world.upstream.stream.state).toBe("closed");
  expect(world.upstream.associations.length).toBe(0);
});

test("tcp: unanswered queries are repeated once when the connection closes, then fail", () => {
  const world = tcpWorld();
  world.act(() => direct(world).end());
  expect(world.upstream.streams.length).toBe(2);
  world.act(() => world.upstream.stream.open());
  expect(framed(world.upstream.stream.sent).length).toBe(1);
  world.act(() => direct(world).end());
  expect(world.upstream.streams.length).toBe(2);
  expect(messages(world)).toMatchObject([{ id: 5, rcode: "SERVFAIL" }]);
});

test("tcp: a connection that answered something excuses the one before it that did not", () => {
  const world = tcpWorld();
  world.udp(OURS, 5000, query(6));
  world.act(() => direct(world).end());
  world.act(() => world.upstream.stream.open());
  const [first] = framed(world.upstream.stream.sent);
  world.act(() => direct(world).deliver(streamEncode(decode(answerTo(first!)))));
  world.act(() => direct(world).end());
  world.act(() => world.upstream.stream.open());
  const [second] = framed(world.upstream.stream.sent);
  world.act(() => direct(world).deliver(streamEncode(decode(answerTo(second!)))));
  expect(messages(world)).toMatchObject([
    { id: 5, rcode: "NOERROR" },
    { id: 6, rcode: "NOERROR" },
  ]);
});

test("tcp: an answer from another resolver's connection is dropped", () => {
  const world = new RelayWorld({ dnsMode: "tcp" });
  world.udp("192.0.2.1:53", 5000, query(1));
  world.udp("192.0.2.2:53", 5000, query(2));
  const [one, two] = world.upstream.streams as ScriptedDirect[];
  world.act(() => one!.open());
  world.act(() => two!.open());
  world.act(() => one!.deliver(streamEncode(decode(answerTo(framed(two!.sent)[0]!)))));
  expect(world.datagrams()).toEqual([]);
  expect(world.relay.stats.dnsUnmatched).toBe(1);
});

test("tcp: an answer and the beginning of the next may arrive together", () => {
  const world = tcpWorld();
  world.udp(OURS, 5000, query(6));
  const answers = framed(world.upstream.stream.sent).map((message) =>
    streamEncode(decode(answerTo(message))),
  );
  const glued = Buffer.concat(answers);
  const cut = answers[0]!.length + 9;
  world.act(() => direct(world).deliver(glued.subarray(0, cut)));
  world.act(() => direct(world).deliver(glued.subarray(cut)));
  expect(messages(world)).toMatchObject([{ id: 5 }, { id: 6 }]);
});

test("tcp: a server that closes after each answer gets every query in the end", () => {
  const world = tcpWorld();
  for (let id = 6; id < 9; id++) world.udp(OURS, 5000, query(id));
  for (let round = 0; round < 4; round++) {
    const [sent] = framed(world.upstream.stream.sent);
    world.act(() => direct(world).deliver(streamEncode(decode(answerTo(sent!)))));
    world.act(() => direct(world).end());
    if (round < 3) world.act(() => world.upstream.stream.open());
  }
  expect(messages(world).map(({ id }) => id)).toEqual([5, 6, 7, 8]);
  expect(world.upstream.streams.length).toBe(4);
});

test("tcp: a server that closes after an answer to nobody is not dialled for ever", () => {
  const world = tcpWorld();
  const nonsense = streamEncode(decode(answerTo(query(1, "else.example"))));
  for (let round = 0; round < 10 && direct(world).state === "open"; round++) {
    world.act(() => direct(world).deliver(nonsense));
    world.act(() => direct(world).end());
    const { stream } = world.upstream;
    if (stream.state === "dialing") world.act(() => stream.open());
  }
  expect(world.upstream.streams.length).toBe(2);
  expect(messages(world)).toMatchObject([{ id: 5, rcode: "SERVFAIL" }]);
});

test.each([reply(5), trouble("unreachable"), trouble("timeout")])(
  "tcp: a refused connection fails the lookup (%#)",
  (refusal) => {
    const world = new RelayWorld({ dnsMode: "tcp" });
    world.udp(OURS, 5000, query(5));
    world.act(() => world.upstream.stream.refuse(refusal));
    expect(messages(world)).toMatchObject([{ id: 5, rcode: "SERVFAIL" }]);
  },
);

test("tcp: a connection that took queries and stays silent is given up", () => {
  const world = tcpWorld();
  world.udp(OURS, 5000, query(7));
  world.advance(8_100);
  expect(messages(world)).toMatchObject([
    { id: 5, rcode: "SERVFAIL" },
    { id: 7, rcode: "SERVFAIL" },
  ]);
  expect(world.upstream.streams.map(({ state }) => state)).toEqual(["closed"]);
  world.udp(OURS, 5000, query(6));
  expect(world.upstream.streams.length).toBe(2);
});

test("tcp: younger queries of a silent connection move to a new one", () => {
  const world = tcpWorld();
  world.advance(4_000);
  world.udp(OURS, 5000, query(7));
  world.advance(4_100);
  expect(messages(world)).toMatchObject([{ id: 5, rcode: "SERVFAIL" }]);
  expect(world.upstream.streams.length).toBe(2);
  world.act(() => world.upstream.stream.open());
  const [sent] = framed(world.upstream.stream.sent);
  world.act(() => direct(world).deliver(streamEncode(decode(answerTo(sent!)))));
  expect(messages(world)).toMatchObject([{ id: 7, rcode: "NOERROR" }]);
});

test("tcp: resolvers named by clients have connections of their own, at most eight", () => {
  const world = new RelayWorld({ dnsMode: "tcp" });
  for (let i = 1; i <= 9; i++) world.udp(`192.0.2.${i}:53`, 5000, query(i));
  const { streams } = world.upstream;
  expect(streams.length).toBe(9);
  expect(streams.filter(({ state }) => state === "closed").map(({ target }) => target)).toEqual([
    "192.0.2.1:53",
  ]);
  expect(messages(world)).toMatchObject([{ id: 1, rcode: "SERVFAIL" }]);
});

test("tcp: a partial send is finished when there is room, over both shapes", () => {
  for (const shape of ["direct", "layered"] as const) {
    const world = new RelayWorld({ dnsMode: "tcp" });
    world.upstream.shape = shape;
    world.udp(OURS, 5000, query(5));
    const { stream } = world.upstream;
    stream.room = 10;
    world.act(() => stream.open());
    expect(stream.sent.length).toBe(10);
    world.act(() => stream.allow(1000));
    const [sent] = framed(stream.sent);
    world.act(() => stream.deliver(streamEncode(decode(answerTo(sent!)))));
    expect(messages(world)).toMatchObject([{ id: 5, rcode: "NOERROR" }]);
  }
});

test("tcp: an answer larger than the client takes is truncated, larger than 512 only with EDNS", () => {
  const world = tcpWorld();
  const answers = Array.from({ length: 40 }, (_, i) => ({
    type: "A" as const,
    name: "example.com",
    ttl: 1,
    data: `192.0.2.${i}`,
  }));
  const { stream } = world.upstream;
  const big = (asked: Uint8Array): Buffer => streamEncode(decode(answerTo(asked, "", { answers })));
  world.act(() => direct(world).deliver(big(framed(stream.sent)[0]!)));
  expect(messages(world)).toMatchObject([{ id: 5, flag_tc: true, answers: [] }]);
  const opt = {
    type: "OPT" as const,
    name: ".",
    udpPayloadSize: 4096,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
  world.udp(OURS, 5000, query(6, "example.com", { additionals: [opt] }));
  world.act(() => direct(world).deliver(big(framed(stream.sent)[1]!)));
  const [whole] = messages(world);
  expect(whole).toMatchObject({ id: 6, flag_tc: false });
  expect(whole!.answers!.length).toBe(40);
});

test("datagrams to port 53 that are no queries go the way of all others; to our resolver they are dropped", () => {
  const world = new RelayWorld();
  const noise = new Uint8Array(30).fill(0xff);
  world.udp("192.0.2.7:53", 5000, noise);
  world.act(() => world.upstream.association.open());
  expect(world.upstream.association.sent).toEqual([{ to: "192.0.2.7:53", payload: noise }]);
  world.udp(OURS, 5000, noise);
  expect(world.relay.stats.dnsMalformed).toBe(1);
});

test("a flow may ask for names and talk to others", () => {
  const world = asked();
  world.udp("192.0.2.7:443", 5000, Uint8Array.of(1));
  expect(world.upstream.associations.length).toBe(2);
  const [lookups] = world.upstream.associations;
  world.act(() => lookups!.deliver(REAL, answerTo(lookups!.sent[0]!.payload)));
  expect(messages(world)).toMatchObject([{ id: 0x1234 }]);
  world.advance(60_000);
  expect(world.relay.stats.udpFlows).toBe(1);
});

test("a flow that only asks for names ends after 10 s of silence", () => {
  const world = asked();
  const { association } = world.upstream;
  world.act(() => association.deliver(REAL, answerTo(association.sent[0]!.payload)));
  world.advance(9_000);
  expect(world.relay.stats.udpFlows).toBe(1);
  world.advance(1_100);
  expect(world.relay.stats.udpFlows).toBe(0);
});

test("without a resolver behind ours a lookup fails at once", () => {
  const world = new RelayWorld({ dnsServer: null });
  world.udp(OURS, 5000, query(5));
  expect(messages(world)).toMatchObject([{ id: 5, rcode: "SERVFAIL" }]);
});

test("lookups do not wait for the dial queue", () => {
  const world = new RelayWorld({ relay: { nofile: 20_000 } });
  for (let i = 0; i < 256; i++) world.udp("192.0.2.7:9", 10_000 + i, Uint8Array.of(1));
  world.udp(OURS, 5000, query(5));
  expect(world.upstream.associations.length).toBe(257);
});

const HOST = "host.tun2socks.internal";

function askHost(hostLoopback: boolean, type: "A" | "AAAA" | "MX", target = OURS): unknown {
  const world = new RelayWorld({ hostLoopback });
  world.udp(target, 5000, query(5, HOST, { questions: [{ type, name: HOST }] }));
  expect(world.upstream.associations.length + world.upstream.streams.length).toBe(0);
  const [message] = messages(world);
  return [
    message!.rcode,
    ...message!.answers!.map((answer) => ("data" in answer ? answer.data : "")),
  ];
}

test("--host-loopback: the host's name resolves here, of whomever it is asked", () => {
  expect(askHost(true, "A")).toEqual(["NOERROR", "198.18.0.2"]);
  expect(askHost(true, "AAAA", "8.8.8.8:53")).toEqual(["NOERROR", "fd00:18::2"]);
  expect(askHost(true, "MX")).toEqual(["NOERROR"]);
});

test("without --host-loopback the host's name does not exist, and is not asked of anybody", () => {
  expect(askHost(false, "A")).toEqual(["NXDOMAIN"]);
});
