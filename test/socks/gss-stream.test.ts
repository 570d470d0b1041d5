import { createSocket, type RemoteInfo } from "node:dgram";
import { once } from "node:events";
import { constants } from "node:os";
import { afterEach, describe, expect, test } from "vitest";
import { offerMethod } from "../../src/probe/method-check.ts";
import { GssMessage, gssMessage } from "../../src/socks/gss-frames.ts";
import { Method } from "../../src/socks/message.ts";
import type { AssociationHandler, LayeredStream, Refusal } from "../../src/socks/ports.ts";
import { parseProxyUrl } from "../../src/socks/proxy-url.ts";
import { SocksUpstream } from "../../src/socks/upstream.ts";
import { type Endpoint, formatEndpoint } from "../../src/stack/wire/address.ts";
import {
  type GssScript,
  ONE_ROUND,
  ScriptedProvider,
  ScriptedSeal,
} from "../support/scripted-gss.ts";
import {
  CONNECT,
  closeServers,
  descriptors,
  destination,
  environment,
  GRANT,
  memory,
  type Peer,
  pass,
  Recorder,
  ScriptedServer,
  settle,
  until,
  within,
} from "./client-harness.ts";

afterEach(closeServers);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** The proxy's end of a connection with GSSAPI. */
class GssPeer {
  readonly peer: Peer;
  readonly #seal = new ScriptedSeal();
  /** What our client's next message is: both seals count. */
  readonly #mirror = new ScriptedSeal();

  constructor(peer: Peer) {
    this.peer = peer;
  }

  /** Method, one round of tokens, the level: integrity. */
  async negotiate(glued = ""): Promise<void> {
    const { peer } = this;
    await peer.expects("050101");
    peer.send("0501");
    await peer.expects(hex(gssMessage(GssMessage.TOKEN, Buffer.from("hello"))));
    peer.send(hex(gssMessage(GssMessage.TOKEN, Buffer.from("welcome"))));
    await peer.expects(
      hex(gssMessage(GssMessage.LEVEL, this.#mirror.wrap(Uint8Array.of(1), false))),
    );
    peer.send(hex(gssMessage(GssMessage.LEVEL, this.#seal.wrap(Uint8Array.of(1), false))) + glued);
  }

  /** As `peer.expects`, of a message's content. */
  async expects(content: string): Promise<void> {
    const token = this.#mirror.wrap(Buffer.from(content, "hex"), false);
    await this.peer.expects(hex(gssMessage(GssMessage.DATA, token)));
  }

  message(content: string): string {
    return hex(gssMessage(GssMessage.DATA, this.#seal.wrap(Buffer.from(content, "hex"), false)));
  }

  send(content: string): void {
    this.peer.send(this.message(content));
  }

  /** The datagram that our client sends with `content`. */
  theirs(content: string): string {
    const token = this.#mirror.wrap(Buffer.from(content, "hex"), false);
    return hex(gssMessage(GssMessage.DATA, token));
  }
}

describe.each(["the addon's sockets", "those of Node.js"])("over %s", (which) => {
  const withAddon = which === "the addon's sockets";

  function upstreamOf(
    port: number,
    script: GssScript = ONE_ROUND,
  ): { upstream: SocksUpstream; provider: ScriptedProvider } {
    const provider = new ScriptedProvider(script);
    const parts = environment(withAddon ? {} : { addon: null, poller: null });
    const url = parseProxyUrl(`socks5://alice@127.0.0.1:${port}?gssapi=integrity`);
    return { upstream: new SocksUpstream(url, parts, { gss: provider }), provider };
  }

  async function dialled(script?: GssScript): Promise<{
    client: Recorder;
    gss: GssPeer;
    peer: Peer;
    provider: ScriptedProvider;
  }> {
    const server = await ScriptedServer.listen();
    const { upstream, provider } = upstreamOf(server.port, script);
    const client = new Recorder().connect(upstream);
    const peer = await server.accept();
    return { client, peer, gss: new GssPeer(peer), provider };
  }

  async function opened(): Promise<Awaited<ReturnType<typeof dialled>>> {
    const all = await dialled();
    await all.gss.negotiate();
    await all.gss.expects(CONNECT);
    all.gss.send(GRANT);
    await all.client.has("open");
    all.client.events.length = 0;
    return all;
  }

  test("request, reply and octets are wrapped; the library knows whom it asks and for whom", async () => {
    const { client, gss, provider } = await opened();
    expect(provider.contexts[0]?.target).toEqual({
      service: "rcmd",
      host: "127.0.0.1",
      principal: "alice",
      isOrdered: true,
    });
    expect(client.send("ping")).toBe(4);
    await gss.expects("70696e67");
    gss.send("706f6e67");
    await until("pong", () => client.text === "pong");
    client.stream?.close();
    expect(await gss.peer.gone()).toMatch(/ended|closed/);
    await until("the context's end", () => provider.contexts[0]?.isClosed === true);
  });

  test("reply and first octets in one message are told apart", async () => {
    const { client, gss } = await dialled();
    await gss.negotiate();
    await gss.expects(CONNECT);
    gss.send(`${GRANT}6869`);
    await until("hi", () => client.text === "hi");
    expect(client.events[0]).toBe("open");
  });

  test("a refusal inside a message is the reply's own", async () => {
    const { client, gss } = await dialled();
    await gss.negotiate();
    await gss.expects(CONNECT);
    gss.send("0505000100000000" + "0000");
    expect(await client.refused()).toMatch(/^reply 5: .*connection refused/);
    expect(await gss.peer.gone()).toMatch(/ended|closed/);
  });

  test("an abort and a library that fails are refusals of the authentication, and leave nothing open", async () => {
    const before = descriptors();
    const { client, peer, provider } = await dialled();
    await peer.expects("050101");
    peer.send("050101ff");
    expect(await client.refused()).toMatch(
      /^auth 0: proxy socks5:\/\/127.0.0.1:\d+: it refused us/,
    );
    expect(client.events).toEqual(["refused"]);
    expect(provider.contexts[0]?.isClosed).toBe(true);
    const failing = await dialled({ ...ONE_ROUND, answers: [null], failure: "No credentials" });
    await failing.peer.expects("050101");
    failing.peer.send("0501");
    expect(await failing.client.refused()).toMatch(/^auth 0: .*GSSAPI failed: No credentials; /);
    expect(await failing.peer.gone()).toMatch(/ended|closed/);
    await closeServers();
    await settle();
    expect(descriptors()).toBe(before);
  });

  test("a server that closes in the middle of it is told", async () => {
    const { client, peer } = await dialled();
    await peer.expects("050101");
    peer.send("0501");
    peer.socket.end();
    expect(await client.refused()).toMatch(/^auth 0: .*instead of a GSSAPI token/);
  });

  test("a library and a server that never answer end at the deadline", async () => {
    for (const script of [{ ...ONE_ROUND, waits: true }, ONE_ROUND]) {
      const { client, peer, provider } = await dialled(script);
      await peer.expects("050101");
      peer.send("0501");
      await settle();
      pass(30_000);
      expect(await client.refused()).toMatch(/^timeout 0/);
      expect(provider.contexts[0]?.isClosed).toBe(true);
      expect(await peer.gone()).toMatch(/ended|closed|ECONNRESET/);
    }
  });

  test("both half-closes pass, and what was sent before arrives", async () => {
    const { client, gss } = await opened();
    client.send("all");
    (client.stream as LayeredStream).shutdown();
    await gss.expects("616c6c");
    await until("the end at the server", () => gss.peer.ended);
    gss.send("6d6f7265");
    gss.peer.socket.end();
    await client.has("end");
    expect(client.text).toBe("more");
  });

  test("a false message ends the stream as a reset; nothing of it is delivered", async () => {
    const { client, gss } = await opened();
    gss.peer.send(`${gss.message("6f6e65")}01030004deadbeef`);
    await client.has(`errno ${constants.errno.EIO}`);
    expect(client.text).toBe("one");
    expect(client.send("x")).toBeLessThan(0);
  });

  test("a stream that is closed in the middle of a message is a reset, not an end", async () => {
    const { client, gss } = await opened();
    gss.peer.send(gss.message("6f6e65").slice(0, -2));
    gss.peer.socket.end();
    await client.has(`errno ${constants.errno.EIO}`);
    expect(client.events).not.toContain("end");
  });

  test("a reset goes out and comes in as one", async () => {
    const first = await opened();
    first.client.stream?.reset();
    await until("the reset at the server", () => first.peer.fate !== "");
    expect(first.peer.fate).toBe("ECONNRESET");
    const second = await opened();
    second.peer.socket.resetAndDestroy();
    await second.client.has(`errno ${constants.errno.ECONNRESET}`);
  });

  test("a paused stream stops the server, and loses nothing", async () => {
    const { client, gss } = await opened();
    (client.stream as LayeredStream).pause();
    const block = "61".repeat(30_000);
    let written = true;
    let total = 0;
    for (let i = 0; i < 1000 && written; i++) {
      written = gss.peer.socket.write(Buffer.from(gss.message(block), "hex"));
      total += 30_000;
      await settle(5);
    }
    expect(written).toBe(false);
    expect(client.octets.length).toBeLessThan(total);
    (client.stream as LayeredStream).resume();
    await until("all octets", () => client.octets.length === total);
  });

  test("an association's datagrams are messages; false ones are counted (RFC 1961 §5)", async () => {
    const relay = createSocket("udp4");
    relay.bind(0, "127.0.0.1");
    await once(relay, "listening");
    const got: string[] = [];
    let client: RemoteInfo | null = null;
    relay.on("message", (message, from) => {
      got.push(message.toString("hex"));
      client = from;
    });
    const server = await ScriptedServer.listen();
    const { upstream, provider } = upstreamOf(server.port);
    const events: string[] = [];
    const handler: AssociationHandler = {
      onOpen: () => events.push("open"),
      onRefused: ({ error }: Refusal) => events.push(error.message),
      onDatagram: (from: Endpoint, start: number, end: number) => {
        const text = Buffer.from(memory.bytes.subarray(start, end)).toString();
        events.push(`${formatEndpoint(from)} ${text}`);
      },
      onLost: () => events.push("lost"),
    };
    const association = within(() => upstream.associate(handler));
    try {
      const peer = await server.accept();
      const gss = new GssPeer(peer);
      await gss.negotiate();
      expect(provider.contexts[0]?.target?.isOrdered).toBe(false);
      await gss.expects("05030001000000000000");
      const port = relay.address().port.toString(16).padStart(4, "0");
      gss.send(`050000017f000001${port}`);
      await until("open", () => events.length > 0);
      expect(events).toEqual(["open"]);
      const sent = within(() => {
        const at = memory.datagrams.take(4);
        memory.bytes.set(Buffer.from("ping"), at);
        const taken = association.send(destination("192.0.2.9", 53), at, at + 4, 0);
        association.flush();
        return taken;
      });
      expect(sent).toBe(true);
      await until("a datagram at the relay", () => got.length > 0);
      expect(got).toEqual([gss.theirs("00000001c0000209003570696e67")]);
      const answer = (text: string): void => {
        const { port, address } = client as unknown as RemoteInfo;
        relay.send(Buffer.from(text, "hex"), port, address);
      };
      const pong = gss.message("00000001c00002090035706f6e67");
      answer("00000001c00002090035706f6e67");
      answer(pong.slice(0, -2));
      answer(pong);
      answer(pong);
      await until("the datagrams", () => upstream.counters.malformed === 3);
      expect(events).toEqual(["open", "192.0.2.9:53 pong"]);
      peer.socket.destroy();
    } finally {
      association.close();
      relay.close();
    }
  });
});

test("methods can be offered below GSSAPI, where they are chosen", async () => {
  const server = await ScriptedServer.listen();
  const url = parseProxyUrl(`socks5://127.0.0.1:${server.port}?gssapi=integrity`);
  const parts = environment({ addon: null, poller: null });
  const upstream = new SocksUpstream(url, parts, { gss: new ScriptedProvider(ONE_ROUND) });
  const { endpoint } = destination("127.0.0.1", server.port);
  const answer = offerMethod(upstream.carrier, endpoint, Method.NONE, 5000);
  const peer = await server.accept();
  await peer.expects("050100");
  peer.send("0500");
  expect(await answer).toBe("accepted");
});
