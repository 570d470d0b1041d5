/** Lookups over TCP at our resolver under `--dns fake` (RFC 7766). */

import { decode, encode, streamEncode } from "dns-packet";
import { expect, test } from "vitest";
import { addressOf, fakeWorld, OURS, query } from "../support/lookups.ts";
import type { RelayWorld, TcpPeer } from "../support/relay-world.ts";
import { reply, type ScriptedDirect } from "../support/scripted-upstream.ts";

function connect(world: RelayWorld, port = 40000): TcpPeer {
  const peer = world.tcp(OURS, port);
  peer.syn();
  expect(peer.state).toBe("open");
  return peer;
}

function framed(...messages: readonly Uint8Array[]): Buffer {
  return Buffer.concat(messages.map((message) => streamEncode(decode(Buffer.from(message)))));
}

/** The messages in what a peer received. */
function answers(octets: Uint8Array): ReturnType<typeof decode>[] {
  const result: ReturnType<typeof decode>[] = [];
  for (let at = 0; at < octets.length; ) {
    const length = octets[at]! * 256 + octets[at + 1]!;
    result.push(decode(Buffer.from(octets.subarray(at + 2, at + 2 + length))));
    at += 2 + length;
  }
  return result;
}

test("a client over TCP hears the same as over UDP, and no proxy is asked", () => {
  const world = fakeWorld();
  const peer = connect(world);
  peer.send(framed(query("www.example", "A"), query("www.example", "AAAA")));
  const data = answers(peer.received).map((message) => message.answers);
  expect(data).toMatchObject([
    [{ data: addressOf(world, "www.example", "A") }],
    [{ data: addressOf(world, "www.example", "AAAA") }],
  ]);
  expect(world.upstream.streams.length + world.upstream.associations.length).toBe(0);
});

test("queries may come in any split (RFC 7766 §8)", () => {
  const world = fakeWorld();
  const peer = connect(world);
  const octets = framed(query("a.example", "A"), query("b.example", "A"));
  for (const octet of octets) peer.send(Uint8Array.of(octet));
  expect(answers(peer.received).map(({ questions }) => questions![0]!.name)).toEqual([
    "a.example",
    "b.example",
  ]);
});

test("an answer that is too long for a datagram comes whole", () => {
  const world = fakeWorld();
  const peer = connect(world);
  const name = `${"a".repeat(63)}.${"b".repeat(63)}.${"c".repeat(63)}.${"d".repeat(61)}`;
  peer.send(framed(query(name, "A")));
  const [message] = answers(peer.received);
  expect(message).toMatchObject({ flag_tc: false, answers: [{ name }] });
});

test("what is forwarded for a client over TCP goes over TCP, so that it comes back whole (RFC 7766 §5)", () => {
  const world = fakeWorld();
  const peer = connect(world);
  peer.send(framed(query("example.com", "TXT"), query("www.example", "A")));
  // The second one does not wait for the first.
  expect(answers(peer.received).length).toBe(1);
  expect(world.upstream.associations.length).toBe(0);
  const stream = world.upstream.stream as ScriptedDirect;
  expect(stream.target).toBe("9.9.9.9:53");
  world.act(() => stream.open());
  const asked = decode(Buffer.from(stream.sentBytes.subarray(2)));
  const data = [Buffer.alloc(255, "x"), Buffer.alloc(255, "y"), Buffer.alloc(255, "z")];
  const questions = asked.questions!;
  const records = [{ type: "TXT" as const, name: questions[0]!.name, ttl: 1, data }];
  const answer = { type: "response" as const, id: asked.id!, questions, answers: records };
  world.act(() => stream.deliver(streamEncode(answer)));
  const [, second] = answers(peer.received);
  expect(second).toMatchObject({ id: 77, answers: [{ data }] });
});

test("a lookup whose way fails is answered by SERVFAIL, over TCP too", () => {
  const world = fakeWorld();
  const peer = connect(world);
  peer.send(framed(query("example.com", "TXT")));
  world.act(() => world.upstream.stream.refuse(reply(5)));
  expect(answers(peer.received)).toMatchObject([{ rcode: "SERVFAIL" }]);
});

test("a client that has finished gets its answers, then the end", () => {
  const world = fakeWorld();
  const peer = connect(world);
  peer.send(framed(query("example.com", "TXT")));
  peer.fin();
  expect(peer.finReceived).toBe(false);
  world.act(() => world.upstream.stream.refuse(reply(5)));
  expect(answers(peer.received).length).toBe(1);
  expect(peer.finReceived).toBe(true);
});

test("an idle connection ends after 30 s (RFC 7766 §6.2.3)", () => {
  const world = fakeWorld();
  const peer = connect(world);
  world.advance(20_000);
  peer.send(framed(query("www.example", "A")));
  world.advance(29_000);
  expect(peer.finReceived).toBe(false);
  world.advance(1_100);
  expect(peer.finReceived).toBe(true);
});

test.each([
  ["an answer", framed(encode({ type: "response", id: 1, questions: [{ type: "A", name: "a" }] }))],
  ["a length that no query has", Uint8Array.of(0xff, 0xff)],
  ["an empty message", Uint8Array.of(0, 0)],
  ["noise", Uint8Array.of(0, 16, ...new Uint8Array(16).fill(0x5a))],
])("a client that sends %s is reset, and that is counted", (_what, octets) => {
  const world = fakeWorld();
  const peer = connect(world);
  peer.send(octets);
  expect(peer.state).toBe("reset");
  expect(world.relay.stats.dnsMalformed).toBe(1);
});

test("a client that does not read its answers is not listened to, and hears the rest later", () => {
  const world = fakeWorld();
  const peer = world.tcp(OURS, 40000);
  peer.window = 100;
  peer.acknowledges = false;
  peer.syn();
  const count = 3000;
  for (let i = 0; i < count; i += 20) {
    const messages = Array.from({ length: 20 }, (_, j) => query(`n${i + j}.example`, "A"));
    peer.send(framed(...messages));
  }
  const answered = world.relay.stats.dnsFaked;
  expect(answered).toBeLessThan(count);
  peer.window = 65535;
  peer.acknowledges = true;
  peer.ack();
  world.advance(5_000);
  expect(answers(peer.received).length).toBe(count);
});

test("the relay's end resets them; other modes hand the stream to the resolver behind the proxy", () => {
  const world = fakeWorld();
  const peer = connect(world);
  world.act(() => world.relay.close());
  expect(peer.state).toBe("reset");
  const other = fakeWorld({ dnsMode: "auto" });
  other.tcp(OURS, 40000).syn();
  expect(other.upstream.stream.target).toBe("9.9.9.9:53");
});
