/** Where connections leave from: against a kernel that the test plays, then on loopback. */

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { constants } from "node:os";
import { afterEach, describe, expect, test } from "vitest";
import type { Addon } from "../../src/native/binding.ts";
import { EXHAUSTED, MAX_EXHAUSTED, SourceAddresses } from "../../src/socks/source-addresses.ts";
import { TimerWheel } from "../../src/stack/timer-wheel.ts";
import { type Endpoint, formatAddress } from "../../src/stack/wire/address.ts";
import {
  closeServers,
  descriptors,
  destination,
  endpoint,
  memory,
  open,
  pass,
  Recorder,
  ScriptedServer,
  until,
  within,
} from "./client-harness.ts";

const { EADDRNOTAVAIL, ECONNREFUSED } = constants.errno;

afterEach(closeServers);

const [A, B, C6] = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map((text) => endpoint(text, 0)) as [
  Endpoint,
  Endpoint,
  Endpoint,
];
const NOT_HERE = endpoint("203.0.113.9", 0);
const PEER = words(endpoint("198.51.100.1", 1080));
const PEER6 = words(endpoint("2001:db8::9", 1080));

function words({ w0, w1, w2, w3, port }: Endpoint): Int32Array {
  return Int32Array.of(w0, w1, w2, w3, port);
}

/** A kernel that writes down the source of each connect, and has no port left for some. */
class Kernel {
  readonly asked: string[] = [];
  readonly without = new Set<string>();
  result = 7;

  udpOpen(bind: Int32Array | null): number {
    return bind !== null && text(bind) === "203.0.113.9" ? -EADDRNOTAVAIL : 3;
  }

  udpConnect(): number {
    return 0;
  }

  /** An address that no interface of this machine has. */
  localAddress(_fd: number, row: Int32Array): number {
    row.set(words(NOT_HERE));
    return 0;
  }

  close(): void {}

  tcpConnect(_peer: Int32Array, _mark: number, _device: string, _limit: number, source: unknown) {
    const from = source === null ? "any" : text(source as Int32Array);
    this.asked.push(from);
    return this.without.has(from) ? -EADDRNOTAVAIL : this.result;
  }
}

function text(row: Int32Array): string {
  const [w0, w1, w2, w3] = row as unknown as [number, number, number, number];
  return formatAddress(endpoint("::", 0).set(w0, w1, w2, w3, 0));
}

function sourcesOf(sources: readonly Endpoint[]) {
  const kernel = new Kernel();
  const timers = new TimerWheel();
  const addon = kernel as unknown as Addon;
  const addresses = new SourceAddresses({ addon, timers, mark: 0, device: "", sources });
  return { kernel, timers, addresses };
}

describe("which address", () => {
  test("those that are given take turns, of the family of the peer", () => {
    const { kernel, addresses } = sourcesOf([A, C6, B]);
    for (let i = 0; i < 4; i++) expect(addresses.connect(PEER, 0, 0, false)).toBe(7);
    addresses.connect(PEER6, 0, 0, false);
    expect(kernel.asked).toEqual([
      "192.0.2.1",
      "192.0.2.2",
      "192.0.2.1",
      "192.0.2.2",
      "2001:db8::1",
    ]);
  });

  test("without one of the family it is the kernel's choice", () => {
    const { kernel, addresses } = sourcesOf([C6]);
    addresses.connect(PEER, 0, 0, false);
    expect(kernel.asked).toEqual(["any"]);
  });

  test("one without ports is passed over, and not asked again for a moment", () => {
    const { kernel, timers, addresses } = sourcesOf([A, B]);
    kernel.without.add("192.0.2.1");
    for (let i = 0; i < 3; i++) expect(addresses.connect(PEER, 0, 0, false)).toBe(7);
    expect(kernel.asked).toEqual(["192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2"]);
    expect(addresses.exhaustions).toBe(1);
    kernel.without.clear();
    timers.advance(EXHAUSTED);
    kernel.asked.length = 0;
    for (let i = 0; i < 2; i++) addresses.connect(PEER, 0, 0, false);
    expect(new Set(kernel.asked)).toEqual(new Set(["192.0.2.1", "192.0.2.2"]));
  });

  test("when none has a port it is said without asking; towards another peer they are asked", () => {
    const { kernel, addresses } = sourcesOf([A, B]);
    kernel.without.add("192.0.2.1").add("192.0.2.2");
    for (let i = 0; i < 5; i++) expect(addresses.connect(PEER, 0, 0, false)).toBe(-EADDRNOTAVAIL);
    expect(kernel.asked.length).toBe(2);
    addresses.connect(words(endpoint("198.51.100.2", 1080)), 0, 0, false);
    expect(kernel.asked.length).toBe(4);
  });

  test("the kernel's choice without others of its interface is refused the same way", () => {
    const { kernel, addresses } = sourcesOf([]);
    kernel.without.add("any");
    for (let i = 0; i < 5; i++) expect(addresses.connect(PEER, 0, 0, false)).toBe(-EADDRNOTAVAIL);
    expect(kernel.asked).toEqual(["any"]);
  });

  test("so many pairs of address and peer are remembered, the oldest goes", () => {
    const { kernel, addresses } = sourcesOf([A]);
    kernel.without.add("192.0.2.1");
    const peer = (i: number) => words(endpoint("198.51.100.1", 1 + i));
    for (let i = 0; i <= MAX_EXHAUSTED; i++) addresses.connect(peer(i), 0, 0, false);
    expect(kernel.asked.length).toBe(MAX_EXHAUSTED + 1);
    addresses.connect(peer(MAX_EXHAUSTED), 0, 0, false);
    expect(kernel.asked.length).toBe(MAX_EXHAUSTED + 1);
    addresses.connect(peer(0), 0, 0, false);
    expect(kernel.asked.length).toBe(MAX_EXHAUSTED + 2);
  });

  test("any other failure is no reason to try the next", () => {
    const { kernel, addresses } = sourcesOf([A, B]);
    kernel.result = -ECONNREFUSED;
    expect(addresses.connect(PEER, 0, 0, false)).toBe(-ECONNREFUSED);
    expect(kernel.asked.length).toBe(1);
  });

  test("an association leaves from the first one only", () => {
    const { kernel, addresses } = sourcesOf([A, B]);
    for (let i = 0; i < 3; i++) addresses.connect(PEER, 0, 0, true);
    expect(kernel.asked).toEqual(["192.0.2.1", "192.0.2.1", "192.0.2.1"]);
  });

  test("one that this host does not have is refused at the start", () => {
    expect(() => sourcesOf([A, NOT_HERE])).toThrow(
      /^cannot send from 203\.0\.113\.9: this host has no such address; choose/,
    );
  });
});

test("streams leave from the sources in turn, and say so to the proxy", async () => {
  const server = await ScriptedServer.listen();
  const sources = ["127.0.0.2", "127.0.0.3"].map((address) => endpoint(address, 0));
  const upstream = open("direct", server.url, { sources });
  const seen: Array<string | undefined> = [];
  for (let i = 0; i < 3; i++) {
    const client = new Recorder().connect(upstream);
    const peer = await server.accept();
    seen.push(peer.socket.remoteAddress);
    await peer.grant();
    await client.has("open");
    client.stream?.close();
  }
  expect(seen).toEqual(["127.0.0.2", "127.0.0.3", "127.0.0.2"]);
});

test("an association's datagrams leave from where its control connection does", async () => {
  const relay = createSocket("udp4");
  relay.bind(0, "127.0.0.1");
  await once(relay, "listening");
  const server = await ScriptedServer.listen();
  const sources = ["127.0.0.2", "127.0.0.3"].map((address) => endpoint(address, 0));
  const upstream = open("direct", server.url, { sources });
  for (let i = 0; i < 2; i++) {
    let isOpen = false;
    const onOpen = () => {
      isOpen = true;
    };
    const handler = { onOpen, onRefused() {}, onDatagram() {}, onLost() {} };
    const association = upstream.associate(handler);
    const peer = await server.accept();
    expect(peer.socket.remoteAddress).toBe("127.0.0.2");
    await peer.expects("050100");
    peer.send("0500");
    await peer.expects("05030001000000000000");
    peer.send(`050000017f000001${relay.address().port.toString(16).padStart(4, "0")}`);
    await until("the association", () => isOpen);
    const received = once(relay, "message");
    within(() => {
      association.send(destination(), memory.pagesStart, memory.pagesStart + 4, 0);
      association.flush();
    });
    expect((await received)[1]).toMatchObject({ address: "127.0.0.2" });
    association.close();
  }
  relay.close();
});

test("sources need the addon", () => {
  const sources = [endpoint("127.0.0.2", 0)];
  expect(() => open("layered", "socks5://127.0.0.1", { sources })).toThrow(/no addon; .*--source/);
});

test("streams leave 256 descriptors to others, or half where there are few; an association may have one", async () => {
  const server = await ScriptedServer.listen();
  const before = descriptors();
  const upstream = open("direct", server.url, { nofile: 2 });
  const client = new Recorder().connect(upstream);
  pass(0);
  expect(await client.refused()).toMatch(/^local 0: .*too many open files; raise .*ulimit -n/);
  expect(upstream.exhaustions).toEqual({ ports: 0, descriptors: 1 });
  const association = upstream.associate({
    onOpen() {},
    onRefused() {},
    onDatagram() {},
    onLost() {},
  });
  await (await server.accept()).expects("050100");
  association.close();
  expect(server.count).toBe(1);
  const roomy = new Recorder().connect(open("direct", server.url, { nofile: 256 + 1000 }));
  await (await server.accept()).expects("050100");
  roomy.stream?.close();
  await closeServers();
  await until("descriptors", () => descriptors() <= before);
});
