import { constants } from "node:os";
import { afterEach, expect, test } from "vitest";
import { MAX_UNSENT } from "../../src/socks/layered-stream.ts";
import type { LayeredStream } from "../../src/socks/ports.ts";
import {
  closeServers,
  open,
  type Peer,
  Recorder,
  ScriptedServer,
  settle,
  until,
} from "./client-harness.ts";

const { ECONNRESET, EAGAIN } = constants.errno;

afterEach(closeServers);

async function opened(): Promise<{ client: Recorder; peer: Peer; stream: LayeredStream }> {
  const server = await ScriptedServer.listen();
  const client = new Recorder().connect(open("layered", server.url));
  const peer = await server.accept();
  await peer.grant();
  await client.has("open");
  client.events.length = 0;
  return { client, peer, stream: client.stream as LayeredStream };
}

test("shutdown is a half-close: the other direction lives on", async () => {
  const { client, peer, stream } = await opened();
  client.send("all");
  stream.shutdown();
  await peer.expects("616c6c");
  await until("the end at the server", () => peer.ended);
  peer.send("6d6f7265");
  await until("octets after the half-close", () => client.text === "more");
  peer.socket.end();
  await client.has("end");
});

test("the peer's half-close is told, and octets still go out", async () => {
  const { client, peer } = await opened();
  peer.socket.end();
  await client.has("end");
  expect(client.send("late")).toBe(4);
  await peer.expects("6c617465");
});

test("send copies: the memory may change at once", async () => {
  const { client, peer } = await opened();
  const octets = Buffer.from("abc");
  client.sendOctets(octets);
  octets.fill(0);
  await peer.expects("616263");
});

test("send takes no more than the bound, and onWritable follows", async () => {
  const { client, peer } = await opened();
  peer.socket.pause();
  const octets = new Uint8Array(1 << 20).fill(0x55);
  let total = 0;
  let sent = 0;
  for (let i = 0; i < 1000; i++) {
    sent = client.sendOctets(octets);
    if (sent < 0) break;
    expect(sent).toBeLessThanOrEqual(MAX_UNSENT);
    total += sent;
    await settle(1);
  }
  expect(sent).toBe(-EAGAIN);
  await settle();
  client.events.length = 0;
  peer.socket.resume();
  await client.has("writable");
  await until("all octets at the server", () => peer.received.length === total);
  expect(client.events).toEqual(["writable"]);
});

test("a paused stream is quiet; resume delivers what came", async () => {
  const { client, peer, stream } = await opened();
  stream.pause();
  peer.send("6162");
  await settle();
  expect(client.text).toBe("");
  stream.resume();
  await until("octets", () => client.text === "ab");
});

test("a reset by the server is told with its errno, once, as the last event", async () => {
  const { client, peer } = await opened();
  peer.socket.resetAndDestroy();
  await client.has(`errno ${ECONNRESET}`);
  await settle();
  expect(client.events).toEqual([`errno ${ECONNRESET}`]);
  expect(client.send("x")).toBeLessThan(0);
});

test("reset is seen as a reset", async () => {
  const { peer, stream } = await opened();
  stream.reset();
  await until("the reset at the server", () => peer.fate !== "");
  expect(peer.fate).toBe("ECONNRESET");
});

test("close lets what was sent arrive, then ends", async () => {
  const { client, peer, stream } = await opened();
  peer.socket.pause();
  const octets = new Uint8Array(MAX_UNSENT).fill(0x33);
  let total = 0;
  for (let sent = 1; sent > 0; ) {
    sent = client.sendOctets(octets);
    if (sent > 0) total += sent;
    await settle(1);
  }
  stream.close();
  stream.close();
  peer.socket.resume();
  await until("all octets at the server", () => peer.received.length === total);
  expect(await peer.gone()).toBe("ended");
});
