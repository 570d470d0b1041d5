/** SOCKS5 behind a Unix socket: a server scripted by the test. */

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, expect, test } from "vitest";
import type { AssociationHandler } from "../../src/socks/ports.ts";
import type { Endpoint } from "../../src/stack/wire/address.ts";
import {
  descriptors,
  destination,
  memory,
  open,
  Peer,
  Recorder,
  SHAPES,
  until,
  within,
} from "./client-harness.ts";

const directory = mkdtempSync(join(tmpdir(), "unix-transport-"));
const path = join(directory, "socks");

afterAll(() => rmSync(directory, { recursive: true }));

let server: Server | null = null;
const peers: Peer[] = [];

afterEach(async () => {
  for (const peer of peers.splice(0)) peer.socket.destroy();
  if (server !== null) await new Promise((done) => server?.close(done));
  server = null;
});

async function listen(): Promise<void> {
  server = createServer({ allowHalfOpen: true }, (socket: Socket) => peers.push(new Peer(socket)));
  server.listen(path);
  await once(server, "listening");
}

async function accept(): Promise<Peer> {
  await until("a connection", () => peers.length > 0);
  return peers[0] as Peer;
}

class Associating implements AssociationHandler {
  state = "";
  got = "";
  onOpen(): void {
    this.state = "open";
  }
  onRefused(): void {
    this.state = "refused";
  }
  onDatagram(_from: Endpoint, start: number, end: number): void {
    this.got = Buffer.from(memory.bytes.subarray(start, end)).toString();
  }
  onLost(): void {
    this.state = "lost";
  }
}

test.each(SHAPES)("where plain streams are %s it is spoken to as over TCP", async (shape) => {
  await listen();
  const before = descriptors();
  const client = new Recorder().connect(open(shape, `socks5+unix://${path}`));
  const peer = await accept();
  await peer.grant("676c756564");
  await client.has("bytes");
  expect(client.text).toBe("glued");
  client.send("all");
  client.stream?.shutdown();
  await peer.expects("616c6c");
  await until("the end at the server", () => peer.ended);
  peer.send("6d6f7265");
  await until("octets after the half-close", () => client.text === "gluedmore");
  client.stream?.reset();
  peer.socket.destroy();
  await until("no descriptor left", () => descriptors() <= before);
});

test("a socket that is missing, of nobody, or no socket is unreachable", async () => {
  const missing = new Recorder().connect(open("direct", "socks5+unix:///does/not/exist"));
  expect(await missing.refused()).toMatch(
    /^unreachable 0: proxy socks5\+unix:\/\/\/does\/not\/exist: there is no such socket/,
  );
  const file = join(directory, "file");
  writeFileSync(file, "");
  const none = new Recorder().connect(open("direct", `socks5+unix://${file}`));
  expect(await none.refused()).toMatch(/^unreachable 0: .*(no socket|connection refused)/);
});

test("a probe tells of it, and credentials travel", async () => {
  await listen();
  const probe = open("direct", `socks5h+unix://me:pw@${path}`).probe();
  const peer = await accept();
  await peer.expects("050102");
  peer.send("0502");
  await peer.expects("01026d65027077");
  peer.send("0100");
  expect(await probe).toBe(null);
});

test("a relay without an address of its own is on this host: that is where the socket is", async () => {
  await listen();
  const relay = createSocket("udp4");
  relay.bind(0, "127.0.0.1");
  await once(relay, "listening");
  const { port } = relay.address();
  const handler = new Associating();
  const upstream = open("direct", `socks5+unix://${path}`);
  const association = within(() => upstream.associate(handler));
  const peer = await accept();
  await peer.expects("050100");
  peer.send("0500");
  await peer.expects("05030001000000000000");
  peer.send(`0500000100000000${port.toString(16).padStart(4, "0")}`);
  await until("the association", () => handler.state === "open");
  relay.once("message", (message, { port: from }) => relay.send(message, from, "127.0.0.1"));
  within(() => {
    const at = memory.datagrams.take(4);
    memory.bytes.set(Buffer.from("ping"), at);
    association.send(destination(), at, at + 4, 0);
    association.flush();
  });
  await until("the echo", () => handler.got === "ping");
  association.close();
  relay.close();
});
