/** SOCKS5 and HTTP CONNECT behind TLS: a real TLS server on loopback, scripted by the test. */

import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer, type Server, type TLSSocket, type TlsOptions } from "node:tls";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { addon } from "../../src/native/binding.ts";
import { OwnSockets } from "../../src/socks/own-sockets.ts";
import { AUTHORITY, CLIENT, EXPIRED, SERVER, SERVER_PIN } from "../support/certificates.ts";
import {
  closeServers,
  descriptors,
  endpoint,
  open,
  Peer,
  pass,
  Recorder,
  ScriptedServer,
  SHAPES,
  settle,
  until,
  within,
} from "./client-harness.ts";

const directory = mkdtempSync(join(tmpdir(), "tls-transport-"));
const file = (name: string, text = ""): string => {
  const path = join(directory, name);
  if (text !== "") writeFileSync(path, text);
  return path;
};
const ca = file("ca.pem", AUTHORITY);

afterAll(() => rmSync(directory, { recursive: true }));
afterEach(closeServers);
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

const servers: TlsServer[] = [];

class TlsServer {
  readonly #server: Server;
  readonly peers: Peer[] = [];
  readonly sockets: TLSSocket[] = [];
  /** Below them, and below what never became TLS. */
  readonly #carriers: Socket[] = [];

  private constructor(options: TlsOptions) {
    this.#server = createServer({ ...SERVER, allowHalfOpen: true, ...options }, (socket) => {
      this.sockets.push(socket);
      this.peers.push(new Peer(socket));
    });
    this.#server.on("connection", (carrier: Socket) => this.#carriers.push(carrier));
    this.#server.on("tlsClientError", () => {});
  }

  static async listen(options: TlsOptions = {}): Promise<TlsServer> {
    const server = new TlsServer(options);
    server.#server.listen(0, "127.0.0.1");
    await once(server.#server, "listening");
    servers.push(server);
    return server;
  }

  url(query: string, scheme = "socks5s", host = "127.0.0.1"): string {
    const { port } = this.#server.address() as { port: number };
    return `${scheme}://${host}:${port}?${query}`;
  }

  async accept(): Promise<Peer> {
    await until("a TLS connection at the server", () => this.peers.length > 0);
    return this.peers.shift() as Peer;
  }

  async close(): Promise<void> {
    for (const socket of this.#carriers) socket.destroy();
    await new Promise((done) => this.#server.close(done));
  }
}

describe.each(SHAPES)("where plain streams are %s", (shape) => {
  test("a proxy of a known authority and name is spoken to", async () => {
    const server = await TlsServer.listen();
    const client = new Recorder().connect(open(shape, server.url(`ca=${ca}`)));
    const peer = await server.accept();
    await peer.grant("676c756564");
    await client.has("bytes");
    expect(client.text).toBe("glued");
    client.send("up");
    await peer.expects("7570");
    peer.send("646f776e");
    await until("octets", () => client.text === "glueddown");
    client.stream?.close();
    await peer.gone();
  });

  test("each direction ends by itself", async () => {
    const server = await TlsServer.listen();
    const client = new Recorder().connect(open(shape, server.url(`ca=${ca}`)));
    const peer = await server.accept();
    await peer.grant();
    await client.has("open");
    client.send("all");
    client.stream?.shutdown();
    await peer.expects("616c6c");
    await until("the end at the server", () => peer.ended);
    peer.send("6d6f7265");
    await until("octets after the half-close", () => client.text === "more");
    peer.socket.end();
    await client.has("end");
    client.stream?.close();
  });

  test("reset is seen as a reset, and a reset is told", async () => {
    const server = await TlsServer.listen();
    const upstream = open(shape, server.url(`ca=${ca}`));
    const first = new Recorder().connect(upstream);
    const peer = await server.accept();
    await peer.grant();
    await first.has("open");
    first.stream?.reset();
    await until("the reset at the server", () => peer.fate !== "");
    expect(peer.fate).toBe("ECONNRESET");
    const second = new Recorder().connect(upstream);
    const other = await server.accept();
    await other.grant();
    await second.has("open");
    other.socket.resetAndDestroy?.call(
      (other.socket as TLSSocket & { _parent: Peer["socket"] })._parent,
    );
    await until("the end of the stream", () => second.events.some((e) => /^(errno|end)/.test(e)));
    second.stream?.close();
  });

  test("many octets pass whole and in order in both directions", async () => {
    const server = await TlsServer.listen();
    const client = new Recorder().connect(open(shape, server.url(`ca=${ca}`)));
    const peer = await server.accept();
    await peer.grant();
    await client.has("open");
    peer.socket.on("data", (chunk: Buffer) => peer.socket.write(chunk));
    const sent = Buffer.alloc(1_000_000, "0123456789abcdefg");
    let at = 0;
    await until("all echoed", () => {
      const taken = at < sent.length ? client.sendOctets(sent.subarray(at)) : 0;
      if (taken > 0) at += taken;
      return client.octets.length === sent.length;
    });
    expect(client.octets.equals(sent)).toBe(true);
    client.stream?.close();
  });

  test("HTTP CONNECT over TLS", async () => {
    const server = await TlsServer.listen();
    const client = new Recorder().connect(open(shape, server.url(`ca=${ca}`, "https")));
    const peer = await server.accept();
    await until("the request", () => peer.received.toString("latin1").endsWith("\r\n\r\n"));
    peer.socket.write("HTTP/1.1 403 no\r\n\r\n");
    expect(await client.refused()).toMatch(/^reply 2: .*forbidden \(403\)/);
  });

  test.each([
    ["the name of the URL", "", "localhost", "localhost"],
    ["the name of sni", "&sni=proxy.example", "127.0.0.1", "proxy.example"],
    ["none for an address (RFC 6066 §3)", "", "127.0.0.1", false],
  ])("SNI is %s, and no ALPN is offered", async (_what, query, host, name) => {
    const server = await TlsServer.listen({ ALPNProtocols: ["http/1.1"] });
    const lookup = (_name: string, done: (found: readonly string[]) => void): void =>
      void setImmediate(() => done(["127.0.0.1"]));
    const upstream = open(shape, server.url(`ca=${ca}${query}`, "socks5s", host), { lookup });
    await upstream.resolve();
    const client = new Recorder().connect(upstream);
    const peer = await server.accept();
    await peer.grant();
    await client.has("open");
    const [socket] = server.sockets;
    expect([
      (socket as TLSSocket & { servername: string | false }).servername,
      socket?.alpnProtocol,
    ]).toEqual([name, false]);
    client.stream?.close();
  });

  test.each([
    ["", {}, /^protocol 0: .*of no known authority; give --proxy-ca FILE, or --proxy-pin/],
    [`ca=${ca}&sni=other.example`, {}, /^protocol 0: .*not for other\.example/],
    [`ca=${ca}`, EXPIRED, /^protocol 0: .*has expired/],
    [
      `pin=sha256/${"A".repeat(43)}=`,
      {},
      /^protocol 0: .*not the one that is pinned but sha256\/\S{44};/,
    ],
    [`ca=${ca}&pin=sha256/${"A".repeat(43)}=`, {}, /^protocol 0: .*not the one that is pinned/],
    [`ca=${ca}&pin=${SERVER_PIN}&sni=other.example`, {}, /^protocol 0: .*not for other/],
  ])(
    "who does not prove to be the proxy hears nothing of us: %#",
    async (query, options, reason) => {
      const before = descriptors();
      const server = await TlsServer.listen(options);
      const client = new Recorder().connect(open(shape, server.url(query)));
      expect(await client.refused()).toMatch(reason);
      expect(client.refusal?.error.message).not.toMatch(/\n/);
      await settle();
      for (const peer of server.peers) expect(peer.received.length).toBe(0);
      await server.close();
      await until("no descriptor left", () => descriptors() <= before);
    },
  );

  test.each([`pin=${SERVER_PIN}`, `pin=${SERVER_PIN.replace("/", "//")}&sni=other.example`])(
    "a pin alone takes the place of authority and name: %s",
    async (query) => {
      const server = await TlsServer.listen();
      const client = new Recorder().connect(open(shape, server.url(query)));
      await (await server.accept()).grant();
      await client.has("open");
      client.stream?.close();
    },
  );

  test("a certificate of ours is shown, and its lack is told", async () => {
    const server = await TlsServer.listen({
      ca: AUTHORITY,
      requestCert: true,
      rejectUnauthorized: true,
    });
    const cert = file("client.pem", CLIENT.cert);
    const key = file("client.key", CLIENT.key);
    const client = new Recorder().connect(
      open(shape, server.url(`ca=${ca}&cert=${cert}&key=${key}`)),
    );
    await (await server.accept()).grant();
    await client.has("open");
    client.stream?.close();
    const without = new Recorder().connect(open(shape, server.url(`ca=${ca}`)));
    expect(await without.refused()).toMatch(
      /^protocol 0: .*wants a certificate of ours; give --proxy-cert/,
    );
  });

  test.each([
    [
      Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n").toString("hex"),
      /^protocol 0: .*does not answer in TLS; check the port/,
    ],
    ["05ff", /^protocol 0: .*(does not answer in TLS|closed the connection instead of TLS)/],
    ["", /^protocol 0: .*closed the connection instead of TLS/],
  ])("a server without TLS is told from one: %s", async (answer, reason) => {
    const server = await ScriptedServer.listen();
    const client = new Recorder().connect(open(shape, `socks5s://127.0.0.1:${server.port}`));
    const peer = await server.accept();
    await until("the first octets of TLS", () => peer.received.length > 0);
    peer.socket.end(Buffer.from(answer, "hex"));
    expect(await client.refused()).toMatch(reason);
  });

  test("nobody there is unreachable, by each of its addresses", async () => {
    const server = await ScriptedServer.listen();
    const { port } = server;
    await server.close();
    const lookup = (_name: string, done: (found: readonly string[]) => void): void =>
      void setImmediate(() => done(["127.0.0.1", "127.0.0.2"]));
    const before = descriptors();
    const upstream = open(shape, `socks5s://proxy.example:${port}`, { lookup });
    await upstream.resolve();
    const client = new Recorder().connect(upstream);
    pass(0);
    expect(await client.refused()).toMatch(/^unreachable 0: .*connection refused/);
    await until("no descriptor left", () => descriptors() <= before);
  });

  test.each([
    ["ca", "ca=/does/not/exist", /^cannot read \/does\/not\/exist: ENOENT/],
    [
      "ca",
      () => `ca=${file("bad.pem", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n")}`,
      /^cannot use .*bad\.pem for TLS/,
    ],
    [
      "key",
      () => `cert=${file("c.pem", CLIENT.cert)}&key=${file("k.pem", SERVER.key)}`,
      /^cannot use .*c\.pem, .*k\.pem for TLS/,
    ],
  ])("a file that cannot be used is told at the start: %s", (_what, query, reason) => {
    const text = typeof query === "string" ? query : query();
    expect(() => open(shape, `socks5s://127.0.0.1?${text}`)).toThrow(reason);
  });
});

describe("with the addon", () => {
  test("a connection that is being made is one of our own sockets, and none once it is open", async () => {
    const server = await TlsServer.listen();
    const ownSockets = new OwnSockets(addon());
    const client = new Recorder().connect(
      open("direct", server.url(`ca=${ca}`), { ownSockets, sources: [endpoint("127.0.0.9", 0)] }),
    );
    const peer = await server.accept();
    expect(peer.socket.remoteAddress).toBe("127.0.0.9");
    const from = endpoint("127.0.0.9", peer.socket.remotePort as number);
    const to = endpoint("127.0.0.1", peer.socket.localPort as number);
    await peer.grant();
    await client.has("open");
    expect(ownSockets.hasConnection(from, to)).toBe(false);
    client.stream?.close();
  });

  test("connections leave from every source in turn, those of associations from where their datagrams do", async () => {
    const server = await TlsServer.listen();
    const sources = ["127.0.0.8", "127.0.0.9"].map((text) => endpoint(text, 0));
    const upstream = open("direct", server.url(`ca=${ca}`), { sources });
    const from: (string | undefined)[] = [];
    const accept = async (): Promise<void> => {
      from.push((await server.accept()).socket.remoteAddress);
    };
    const handler = { onOpen() {}, onRefused() {}, onDatagram() {}, onLost() {} };
    for (let i = 0; i < 2; i++) {
      const client = new Recorder().connect(upstream);
      await accept();
      const association = within(() => upstream.associate(handler));
      await accept();
      association.close();
      client.stream?.close();
    }
    expect(from).toEqual(["127.0.0.8", "127.0.0.8", "127.0.0.9", "127.0.0.8"]);
  });
});
