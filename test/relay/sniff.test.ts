/** Flows that are accepted before their upstream is known (`--sniff`). */

import { expect, test } from "vitest";
import { SNIFF_TIME } from "../../src/relay/sniffed-flow.ts";
import { RelayWorld, type RelayWorldOptions } from "../support/relay-world.ts";
import { reply, trouble } from "../support/scripted-upstream.ts";

const TARGET = "192.0.2.1:80";
const REQUEST = Buffer.from("GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n");

function world(options: RelayWorldOptions & { readonly byName?: boolean } = {}): RelayWorld {
  const { byName = false, ...others } = options;
  return new RelayWorld({
    rules: ["domain=example.com -> proxy other"],
    ...others,
    relay: { sniff: { ports: [80, 443], byName }, ...others.relay },
  });
}

/** A client that has sent `octets`. */
function send(to: RelayWorld, octets: Uint8Array, target = TARGET) {
  const peer = to.tcp(target, 40000);
  peer.syn();
  if (peer.state !== "open") throw new Error(`the client is ${peer.state}`);
  peer.send(octets);
  return peer;
}

test("a flow goes where the rule for its name says, and its first octets with it", () => {
  const relays = world();
  const peer = send(relays, REQUEST);
  expect(relays.other.stream.target).toBe(TARGET);
  expect(relays.other.stream.sent).toEqual([]);
  relays.act(() => relays.other.stream.open());
  expect(Buffer.from(relays.other.stream.sentBytes)).toEqual(REQUEST);
  peer.send(Uint8Array.of(1, 2));
  relays.act(() =>
    (relays.other.stream as { deliver?(o: Uint8Array): void }).deliver?.(Uint8Array.of(3)),
  );
  expect(relays.other.stream.sent.length).toBe(REQUEST.length + 2);
  expect(peer.received).toEqual(Uint8Array.of(3));
  expect(relays.relay.stats).toMatchObject({ sniffed: 1, sniffedNames: 1, sniffedRefused: 0 });
  expect(relays.upstream.streams).toEqual([]);
});

test("it goes to the name itself where the proxy resolves names", () => {
  const relays = world({ byName: true, rules: ["domain=other.example -> drop"] });
  send(relays, REQUEST);
  expect(relays.upstream.stream.target).toBe("www.example.com:80");
});

test("with a name it still has its address: conditions of both may hold", () => {
  const relays = world({
    rules: [
      "cidr=10.0.0.0/8,domain=example.com -> drop",
      "cidr=192.0.2.0/24,domain=example.com -> proxy other",
    ],
  });
  send(relays, REQUEST);
  expect(relays.other.streams.length).toBe(1);
});

test("a request in pieces is awaited, octet by octet", () => {
  const relays = world();
  const peer = send(relays, REQUEST.subarray(0, 1));
  for (let at = 1; at < REQUEST.length; at++) peer.send(REQUEST.subarray(at, at + 1));
  expect(relays.upstream.streams).toEqual([]);
  relays.act(() => relays.other.stream.open());
  expect(Buffer.from(relays.other.stream.sentBytes)).toEqual(REQUEST);
});

test("a client that tells nothing goes on by its address: other octets, silence, or its end", () => {
  for (const [octets, wait, ends] of [
    ["SSH-2.0-x\r\n", 0, false],
    ["", SNIFF_TIME, false],
    ["GET / HT", SNIFF_TIME, false],
    ["GET / HT", 0, true],
  ] as const) {
    const relays = world();
    const peer = send(relays, Buffer.from(octets));
    expect(relays.upstream.streams.length).toBe(wait > 0 || ends ? 0 : 1);
    if (wait > 0) relays.advance(wait);
    if (ends) peer.fin();
    expect(relays.upstream.stream.target).toBe(TARGET);
    relays.act(() => relays.upstream.stream.open());
    expect(Buffer.from(relays.upstream.stream.sentBytes).toString()).toBe(octets);
    expect(relays.upstream.stream.shut).toBe(ends);
    expect(relays.relay.stats.sniffedNames).toBe(0);
  }
});

test("a refusal after it was accepted is a reset, whatever the proxy said, and counted", () => {
  for (const refusal of [reply(5), reply(2), trouble("timeout"), trouble("unreachable")]) {
    const relays = world();
    const peer = send(relays, REQUEST);
    relays.act(() => relays.other.stream.refuse(refusal));
    expect(peer.state).toBe("reset");
    expect(relays.errors()).toEqual([]);
    expect(relays.relay.stats).toMatchObject({ sniffed: 1, sniffedRefused: 1, tcpFlows: 0 });
  }
});

test("reject and drop by name are resets too", () => {
  for (const action of ["reject", "reject icmp", "drop"]) {
    const relays = world({ rules: [`domain=example.com -> ${action}`] });
    expect(send(relays, REQUEST).state).toBe("reset");
    expect(relays.upstream.streams).toEqual([]);
    expect(relays.relay.stats.rulesRejected + relays.relay.stats.rulesDropped).toBe(1);
  }
});

test("nothing is accepted first where no name could matter: other ports, rules that decide before", () => {
  const relays = world({
    rules: ["cidr=10.0.0.0/8 -> drop", "domain=example.com,port=80 -> proxy other"],
  });
  for (const [target, port] of [
    ["192.0.2.1:8080", 40001],
    ["10.0.0.1:80", 40002],
    ["192.0.2.1:443", 40003],
  ] as const) {
    const peer = relays.tcp(target, port);
    peer.syn();
    expect(peer.state).toBe("syn-sent");
  }
  expect(relays.relay.stats).toMatchObject({ sniffed: 0, rulesDropped: 1 });
  expect(relays.upstream.streams.length).toBe(2);
});

test("a client that goes before it told a name, and a relay that closes, leave nothing behind", () => {
  const relays = world();
  const peer = relays.tcp(TARGET, 40000);
  peer.syn();
  peer.rst();
  relays.advance(SNIFF_TIME);
  expect(relays.upstream.streams).toEqual([]);
  const other = relays.tcp(TARGET, 40001);
  other.syn();
  relays.act(() => relays.relay.close());
  expect(other.state).toBe("reset");
  relays.advance(SNIFF_TIME);
  expect(relays.upstream.streams).toEqual([]);
  expect(relays.driver.stack.stats.tcpFlows).toBe(0);
});

test("a client that goes while the upstream is dialled cancels the dial", () => {
  const relays = world();
  const peer = send(relays, REQUEST);
  peer.rst();
  expect(relays.other.stream.state).not.toBe("dialing");
  expect(relays.relay.stats).toMatchObject({ tcpCancelled: 1, tcpFlows: 0 });
});
