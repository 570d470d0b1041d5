import { constants } from "node:os";
import { afterEach, expect, test } from "vitest";
import type { SocketEnvironment } from "../../src/socks/environment.ts";
import type { DirectStream } from "../../src/socks/ports.ts";
import { TimerWheel } from "../../src/stack/timer-wheel.ts";
import {
  closeServers,
  open,
  type Peer,
  Recorder,
  ScriptedServer,
  settle,
  until,
  wakeUps,
  within,
} from "./client-harness.ts";

const { ECONNRESET, EPIPE, ETIMEDOUT } = constants.errno;

afterEach(closeServers);

async function opened(
  options: Partial<SocketEnvironment> = {},
): Promise<{ client: Recorder; peer: Peer; stream: DirectStream }> {
  const server = await ScriptedServer.listen();
  const client = new Recorder().connect(open("direct", server.url, options));
  const peer = await server.accept();
  await peer.grant();
  await client.has("open");
  client.events.length = 0;
  return { client, peer, stream: client.stream as DirectStream };
}

/** Wake-ups of the poll while nothing should happen. */
async function spins(): Promise<number> {
  await settle(5);
  const before = wakeUps;
  await settle(50);
  return wakeUps - before;
}

test("what is glued to the reply comes first, in pieces as small as they are asked for", async () => {
  const glued = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 31) & 0xff));
  const server = await ScriptedServer.listen();
  const client = new Recorder();
  client.reading = false;
  client.connect(open("direct", server.url));
  const peer = await server.accept();
  await peer.grant(glued.toString("hex"));
  peer.socket.end();
  await client.has("readable");
  // Not read, it is told again.
  client.events.length = 0;
  await client.has("readable");
  for (let size = 1; client.read(size) > 0; size = (size % 7) + 1);
  expect(client.octets.equals(glued)).toBe(true);
  expect(client.events.at(-1)).toBe("end");
  client.stream?.close();
});

test("what is glued to the reply waits for resume, and does not spin meanwhile", async () => {
  const server = await ScriptedServer.listen();
  const client = new Recorder();
  client.whenOpen = (stream) => (stream as DirectStream).pause();
  client.connect(open("direct", server.url));
  const peer = await server.accept();
  await peer.grant("6869");
  await client.has("open");
  expect(await spins()).toBe(0);
  client.reading = true;
  within(() => (client.stream as DirectStream).resume());
  // Never from inside a method of the stream.
  expect(client.events).toEqual(["open"]);
  await until("payload", () => client.text === "hi");
  expect(await spins()).toBe(0);
  client.stream?.close();
});

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
  expect(await spins()).toBe(0);
  stream.close();
});

test("the peer's half-close is told once, and octets still go out", async () => {
  const { client, peer } = await opened();
  peer.socket.end();
  await client.has("end");
  expect(await spins()).toBe(0);
  expect(client.events.filter((event) => event === "end")).toHaveLength(1);
  expect(client.send("late")).toBe(4);
  await peer.expects("6c617465");
});

test("reset is seen as a reset", async () => {
  const { peer, stream } = await opened();
  stream.reset();
  await until("the reset at the server", () => peer.fate !== "");
  expect(peer.fate).toBe("ECONNRESET");
});

test("a paused stream is quiet; resume delivers what came", async () => {
  const { client, peer, stream } = await opened();
  stream.pause();
  peer.send("6162");
  expect(await spins()).toBe(0);
  expect(client.events).toEqual([]);
  stream.resume();
  await until("octets", () => client.text === "ab");
});

test("a handler that pauses without reading does not make the loop spin", async () => {
  const { client, peer, stream } = await opened();
  client.reading = false;
  client.onReadable = () => stream.pause();
  peer.send("6162");
  expect(await spins()).toBe(0);
  stream.close();
});

test("a reset while paused waits, and octets received before come first", async () => {
  const { client, peer, stream } = await opened();
  stream.pause();
  peer.send("6162");
  await settle();
  peer.socket.resetAndDestroy();
  expect(await spins()).toBe(0);
  expect(client.events).toEqual([]);
  stream.resume();
  await client.has(`errno ${ECONNRESET}`);
  expect(client.text).toBe("ab");
  expect(await spins()).toBe(0);
});

test("an end of stream while paused waits behind the octets", async () => {
  const { client, peer, stream } = await opened();
  stream.pause();
  peer.send("6162");
  peer.socket.end();
  expect(await spins()).toBe(0);
  stream.resume();
  await client.has("end");
  expect(client.text).toBe("ab");
});

test("a reset that send was told is not an orderly end for recv", async () => {
  const { client, peer, stream } = await opened();
  stream.pause();
  peer.send("6162");
  await settle();
  peer.socket.resetAndDestroy();
  await settle();
  expect(client.send("x")).toBe(-ECONNRESET);
  expect(client.send("x")).toBe(-EPIPE);
  expect(client.read()).toBe(2);
  expect(client.read()).toBe(-ECONNRESET);
  expect(client.read()).toBe(-ECONNRESET);
});

test("an end of stream stays one although the server then resets what comes late", async () => {
  const { client, peer, stream } = await opened();
  stream.pause();
  peer.send("6162");
  peer.socket.end();
  await settle();
  peer.socket.resetAndDestroy();
  await settle();
  expect(client.send("x")).toBe(-EPIPE);
  expect(client.read()).toBe(2);
  expect(client.read()).toBe(0);
});

test("a reset after the peer's end of stream is told", async () => {
  const { client, peer } = await opened();
  peer.socket.end();
  await client.has("end");
  client.events.length = 0;
  peer.socket.resetAndDestroy();
  await client.has("readable");
  expect(await spins()).toBe(0);
});

test("a send that falls short is followed by onWritable when there is room, and only then", async () => {
  const { client, peer } = await opened();
  const octets = new Uint8Array(1 << 20).fill(0x55);
  peer.socket.pause();
  let total = 0;
  for (let sent = octets.length; sent === octets.length; ) {
    sent = client.sendOctets(octets);
    if (sent > 0) total += sent;
  }
  expect(await spins()).toBe(0);
  expect(client.events).toEqual([]);
  peer.socket.resume();
  await client.has("writable");
  await until("all octets at the server", () => peer.received.length === total);
  expect(client.events).toEqual(["writable"]);
  expect(await spins()).toBe(0);
});

test("a sender that waits hears of a reset even while reading is paused", async () => {
  const { client, peer, stream } = await opened();
  const octets = new Uint8Array(1 << 20);
  stream.pause();
  peer.socket.pause();
  for (let sent = octets.length; sent === octets.length; ) sent = client.sendOctets(octets);
  peer.socket.resetAndDestroy();
  await client.has("writable");
  expect(client.sendOctets(octets)).toBe(-ECONNRESET);
  expect(await spins()).toBe(0);
});

test("close is orderly: what was sent arrives, then the end", async () => {
  const { client, peer, stream } = await opened();
  client.send("last");
  stream.close();
  stream.close();
  await peer.expects("6c617374");
  expect(await peer.gone()).toBe("ended");
});

test("a closed stream is told nothing any more", async () => {
  const { client, peer, stream } = await opened();
  stream.close();
  peer.send("6162");
  await settle();
  expect(client.events).toEqual([]);
});

test("a peer that keeps its window closed is no dead one, though the kernel alone takes it for one", async () => {
  // Two connections alike, but the wheel of one stands still: nobody looks after it. A second is half a minute here.
  const userTimeout = 1000;
  const wheel = new TimerWheel();
  const watched = await opened({ userTimeout, timers: wheel });
  const left = await opened({ userTimeout, timers: new TimerWheel() });
  const chunk = "x".repeat(60_000);
  const [octets] = [watched, left].map(({ client, peer }) => {
    peer.socket.pause();
    let total = 0;
    for (let taken = client.send(chunk); taken > 0; taken = client.send(chunk)) total += taken;
    return total;
  });
  const fate = `errno ${ETIMEDOUT}`;
  while (!left.client.events.includes(fate)) {
    within(() => wheel.advance(wheel.now() + 1));
    await settle(1);
  }
  expect(watched.client.events).toEqual([]);
  watched.peer.socket.resume();
  await until("all of it at the peer", () => watched.peer.received.length === octets);
  watched.stream.close();
  expect(wheel.next()).toBe(-1);
});
