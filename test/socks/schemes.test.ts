/** Proxies that are not SOCKS5, by the octets on the wire: real sockets on loopback, virtual time. */

import { afterEach, describe, expect, test } from "vitest";
import type { AssociationHandler, Refusal } from "../../src/socks/ports.ts";
import {
  closeServers,
  descriptors,
  destination,
  endpoint,
  open,
  pass,
  Recorder,
  ScriptedServer,
  SHAPES,
  settle,
  within,
} from "./client-harness.ts";

afterEach(closeServers);

const hex = (text: string): string => Buffer.from(text, "latin1").toString("hex");
const HTTP_REQUEST = hex("CONNECT 192.0.2.1:80 HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n");

class Associating implements AssociationHandler {
  refusal: Refusal | null = null;
  onOpen(): void {}
  onRefused(refusal: Refusal): void {
    this.refusal = refusal;
  }
  onDatagram(): void {}
  onLost(): void {}
}

describe.each(SHAPES)("%s streams", (shape) => {
  test.each([
    ["socks4://me@", "04010050c00002016d6500", "005a000000000000"],
    ["socks4a://", "04010050c000020100", "005a000000000000"],
    ["http://", HTTP_REQUEST, hex("HTTP/1.1 200 OK\r\n\r\n")],
  ])("%s opens, and what came with the reply is delivered", async (scheme, request, reply) => {
    const server = await ScriptedServer.listen();
    const client = new Recorder().connect(open(shape, `${scheme}127.0.0.1:${server.port}`));
    const peer = await server.accept();
    await peer.expects(request);
    await peer.trickle(reply.slice(0, -2));
    peer.send(`${reply.slice(-2)}676c756564`);
    await client.has("open");
    await client.has(shape === "direct" ? "readable" : "bytes");
    expect(client.text).toBe("glued");
    client.send("up");
    await peer.expects("7570");
    client.stream?.close();
  });

  test("a name travels by SOCKS4a and by HTTP", async () => {
    const server = await ScriptedServer.listen();
    const to = { name: "a.example", endpoint: endpoint("0.0.0.0", 443) };
    const clients = ["socks4a", "http"].map((scheme) =>
      new Recorder().connect(open(shape, `${scheme}://127.0.0.1:${server.port}`), to),
    );
    await (await server.accept()).expects(`040101bb0000000100${hex("a.example")}00`);
    await (await server.accept()).expects(hex("CONNECT a.example:443 HTTP/1.1\r\n"));
    for (const client of clients) client.stream?.close();
  });

  test("SOCKS4 refuses what has no IPv4 address, and the connection is closed", async () => {
    const server = await ScriptedServer.listen();
    const url = `socks4://127.0.0.1:${server.port}`;
    const client = new Recorder().connect(open(shape, url), destination("2001:db8::1"));
    expect(await client.refused()).toMatch(/^reply 8: .*SOCKS4 has no IPv6/);
    const peer = await server.accept();
    await peer.gone();
    expect(peer.received.length).toBe(0);
  });

  test("one message is one write, whatever --pipeline says", async () => {
    const server = await ScriptedServer.listen();
    const upstream = open(shape, `http://127.0.0.1:${server.port}`, { pipeline: "on" });
    for (let i = 0; i < 6; i++) {
      const client = new Recorder().connect(upstream);
      const peer = await server.accept();
      await peer.expects(HTTP_REQUEST);
      peer.send(hex("HTTP/1.1 200 OK\r\n\r\n"));
      await client.has("open");
      client.stream?.close();
    }
    expect(upstream.pipelining).toMatchObject({ trials: 0, redone: 0 });
  });

  test.each(["socks4", "socks4a", "http"])(
    "%s has no UDP: an association is refused at once, without a connection",
    async (scheme) => {
      const server = await ScriptedServer.listen();
      const upstream = open(shape, `${scheme}://127.0.0.1:${server.port}`);
      const before = descriptors();
      const handler = new Associating();
      const association = within(() => upstream.associate(handler));
      expect(handler.refusal).toBe(null);
      expect(association.send(destination(), 0, 0, 0)).toBe(false);
      pass(0);
      expect(handler.refusal).toMatchObject({ kind: "reply", reply: 7 });
      const closed = new Associating();
      within(() => upstream.associate(closed)).close();
      pass(1);
      expect(closed.refusal).toBe(null);
      await settle();
      expect([server.count, descriptors()]).toEqual([0, before]);
    },
  );

  test.each(["socks4", "http"])("a probe of %s asks whether it can be reached", async (scheme) => {
    const server = await ScriptedServer.listen();
    const url = `${scheme}://127.0.0.1:${server.port}`;
    expect(await open(shape, url).probe()).toBe(null);
    await (await server.accept()).gone();
    await server.close();
    expect(await open(shape, url).probe()).toMatchObject({ kind: "unreachable" });
  });

  test("a proxy that does not answer is given up in time", async () => {
    const server = await ScriptedServer.listen();
    const client = new Recorder().connect(open(shape, `http://127.0.0.1:${server.port}`));
    await (await server.accept()).expects(HTTP_REQUEST);
    pass(31_000);
    expect(await client.refused()).toMatch(/^timeout 0: .*no answer to the request in time/);
    expect(client.refusal?.isProxySilent).toBe(false);
  });
});
