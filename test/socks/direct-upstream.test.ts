/** Straight out, and nowhere at all: real sockets on loopback, virtual time. */

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { afterEach, describe, expect, test } from "vitest";
import { addon } from "../../src/native/binding.ts";
import type { Lookup } from "../../src/socks/name-resolver.ts";
import { MAX_WAITING } from "../../src/socks/named-association.ts";
import { openUpstream } from "../../src/socks/open-upstream.ts";
import { OwnSockets } from "../../src/socks/own-sockets.ts";
import type {
  Association,
  AssociationHandler,
  Destination,
  ProxyUpstream,
  Refusal,
} from "../../src/socks/ports.ts";
import { parseProxyUrl } from "../../src/socks/proxy-url.ts";
import type { Endpoint } from "../../src/stack/wire/address.ts";
import {
  closeServers,
  descriptors,
  destination,
  endpoint,
  environment,
  memory,
  pass,
  Recorder,
  ScriptedServer,
  settle,
  until,
  within,
} from "./client-harness.ts";

afterEach(closeServers);

function direct(options: Parameters<typeof environment>[0] = {}, lookup?: Lookup): ProxyUpstream {
  return openUpstream(
    parseProxyUrl("direct"),
    environment(options),
    lookup === undefined ? {} : { lookup },
  );
}

/** Names whose lookup ends when the test says so. */
class Names {
  readonly asked: string[] = [];
  readonly #waiting: ((addresses: readonly string[]) => void)[] = [];
  readonly lookup: Lookup = (name, done) => {
    this.asked.push(name);
    this.#waiting.push(done);
  };
  answer(...addresses: string[]): void {
    for (const done of this.#waiting.splice(0)) done(addresses);
  }
}

class Datagrams implements AssociationHandler {
  refusal: Refusal | null = null;
  isOpen = false;
  readonly got: string[] = [];
  onOpen(): void {
    this.isOpen = true;
  }
  onRefused(refusal: Refusal): void {
    this.refusal = refusal;
  }
  onDatagram(_from: Endpoint, start: number, end: number): void {
    this.got.push(Buffer.from(memory.bytes.subarray(start, end)).toString());
  }
  onLost(): void {}
}

function send(association: Association, to: Destination, ...texts: string[]): void {
  within(() => {
    for (const text of texts) {
      const at = memory.datagrams.take(text.length);
      memory.bytes.set(Buffer.from(text), at);
      association.send(to, at, at + text.length, 0);
    }
    association.flush();
  });
}

describe("direct streams", () => {
  test("go to the address itself", async () => {
    const server = await ScriptedServer.listen();
    const client = new Recorder().connect(direct(), destination("127.0.0.1", server.port));
    const peer = await server.accept();
    await client.has("open");
    client.send("up");
    await peer.expects("7570");
    peer.send("6f6b");
    await until("octets", () => client.text === "ok");
    client.stream?.close();
  });

  test("are refused as the destination refuses", async () => {
    const server = await ScriptedServer.listen();
    const { port } = server;
    await server.close();
    const client = new Recorder().connect(direct(), destination("127.0.0.1", port));
    pass(0);
    expect(await client.refused()).toMatch(/^reply 5: cannot reach the destination: ECONNREFUSED/);
  });

  test("go to a name's addresses in turn, until one answers", async () => {
    const server = await ScriptedServer.listen("127.0.0.2");
    const names = new Names();
    const to = { name: "a.example", endpoint: endpoint("0.0.0.0", server.port) };
    const client = new Recorder().connect(direct({}, names.lookup), to);
    expect(names.asked).toEqual(["a.example"]);
    names.answer("127.0.0.1", "127.0.0.2");
    pass(0);
    const peer = await server.accept();
    await client.has("open");
    client.stream?.pause();
    client.stream?.resume();
    peer.send("6f6b");
    await until("octets", () => client.text === "ok");
    expect(client.send("up")).toBe(2);
    client.stream?.shutdown();
    await peer.expects("7570");
    client.stream?.close();
  });

  test("to a name without an address are refused, and nobody hears of one that was closed", async () => {
    const names = new Names();
    const upstream = direct({}, names.lookup);
    const to = { name: "a.example", endpoint: endpoint("0.0.0.0", 80) };
    const client = new Recorder().connect(upstream, to);
    const closed = new Recorder().connect(upstream, to);
    closed.stream?.close();
    names.answer();
    expect(await client.refused()).toMatch(/^reply 4: proxy direct: the name does not resolve/);
    expect(closed.events).toEqual([]);
  });

  test("are among our own sockets while they connect, and leave from --source", async () => {
    const server = await ScriptedServer.listen();
    const ownSockets = new OwnSockets(addon());
    const upstream = direct({ ownSockets, sources: [endpoint("127.0.0.9", 0)] });
    const to = destination("127.0.0.1", server.port);
    const client = new Recorder();
    client.stream = within(() => upstream.connect(to, client));
    const peer = await server.accept();
    expect(peer.socket.remoteAddress).toBe("127.0.0.9");
    await client.has("open");
    const from = endpoint("127.0.0.9", peer.socket.remotePort as number);
    expect(ownSockets.hasConnection(from, to.endpoint)).toBe(false);
    client.stream.close();
  });

  test("need the addon", () => {
    expect(() => direct({ addon: null, poller: null })).toThrow(/cannot go out directly/);
  });
});

describe("direct datagrams", () => {
  test("go to the address itself, and answers come from it; the socket is one of our own", async () => {
    const server = createSocket("udp4");
    server.bind(0, "127.0.0.1");
    await once(server, "listening");
    let from = 0;
    server.on("message", (message, { port }) => {
      from = port;
      server.send(`echo ${message}`, port, "127.0.0.1");
    });
    const before = descriptors();
    const ownSockets = new OwnSockets(addon());
    const handler = new Datagrams();
    const association = within(() => direct({ ownSockets }).associate(handler));
    pass(0);
    expect(handler.isOpen).toBe(true);
    send(association, destination("127.0.0.1", server.address().port), "one", "two");
    await until("both echoes", () => handler.got.length === 2);
    expect(handler.got).toEqual(["echo one", "echo two"]);
    expect(ownSockets.hasDatagrams(endpoint("127.0.0.1", from))).toBe(true);
    association.close();
    expect(ownSockets.hasDatagrams(endpoint("127.0.0.1", from))).toBe(false);
    expect(descriptors()).toBe(before);
    server.close();
  });

  test("to a name wait until it is known, as many as the bound", async () => {
    const server = createSocket("udp4");
    server.bind(0, "127.0.0.1");
    await once(server, "listening");
    const got: string[] = [];
    server.on("message", (message) => got.push(message.toString()));
    const names = new Names();
    const association = within(() => direct({}, names.lookup).associate(new Datagrams()));
    pass(0);
    const to = { name: "a.example", endpoint: endpoint("0.0.0.0", server.address().port) };
    const texts = Array.from({ length: MAX_WAITING + 3 }, (_, i) => `n${i}`);
    send(association, to, ...texts);
    await settle();
    expect([names.asked, got]).toEqual([["a.example"], []]);
    names.answer("127.0.0.1");
    await until("those that waited", () => got.length >= MAX_WAITING);
    send(association, to, "later");
    await until("the one behind", () => got.includes("later"));
    expect(got).toEqual([...texts.slice(0, MAX_WAITING), "later"]);
    expect(names.asked).toEqual(["a.example"]);
    association.close();
    server.close();
  });

  test("to a name without an address are lost; the next one asks again", async () => {
    const server = createSocket("udp4");
    server.bind(0, "127.0.0.1");
    await once(server, "listening");
    const got: string[] = [];
    server.on("message", (message) => got.push(message.toString()));
    const names = new Names();
    const handler = new Datagrams();
    const association = within(() => direct({}, names.lookup).associate(handler));
    pass(0);
    const to = { name: "a.example", endpoint: endpoint("0.0.0.0", server.address().port) };
    send(association, to, "lost");
    names.answer();
    await settle();
    expect([handler.refusal, got]).toEqual([null, []]);
    send(association, to, "found");
    expect(names.asked).toEqual(["a.example", "a.example"]);
    names.answer("127.0.0.1");
    await until("the one behind", () => got.length > 0);
    expect(got).toEqual(["found"]);
    association.close();
    server.close();
  });
});

test("reject refuses every stream and every association, from the next turn on", async () => {
  const upstream = openUpstream(parseProxyUrl("reject"), environment());
  expect([upstream.label, await upstream.probe()]).toEqual(["reject", null]);
  const client = new Recorder().connect(upstream);
  const handler = new Datagrams();
  within(() => upstream.associate(handler));
  const closed = new Recorder().connect(upstream);
  closed.stream?.close();
  pass(0);
  expect(await client.refused()).toMatch(/^reply 5: /);
  expect(handler.refusal).toMatchObject({ kind: "reply", reply: 5 });
  expect(closed.events).toEqual([]);
});
