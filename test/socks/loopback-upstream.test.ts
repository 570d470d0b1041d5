/** Real sockets on loopback: the host's side of `--host-loopback`. */

import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type MemoryLayout, mapMemory } from "../../src/memory.ts";
import { addon } from "../../src/native/binding.ts";
import { Poller } from "../../src/native/poller.ts";
import { LoopbackUpstream } from "../../src/socks/loopback-upstream.ts";
import type {
  AssociationHandler,
  DirectStream,
  Refusal,
  StreamHandler,
} from "../../src/socks/ports.ts";
import { TimerWheel } from "../../src/stack/timer-wheel.ts";
import { formatEndpoint } from "../../src/stack/wire/address.ts";
import { pattern } from "../../src/testing/pattern.ts";
import { endpoint } from "../support/scripted-upstream.ts";

const EAGAIN = 11;
const timers = new TimerWheel();
const poller = new Poller(addon());
/** Wake-ups of the poll. */
let wakeUps = 0;
let memory: MemoryLayout;
let upstream: LoopbackUpstream;

beforeAll(() => {
  memory = mapMemory(addon());
  upstream = new LoopbackUpstream(addon(), { poller, memory, timers });
  poller.start(
    () => wakeUps++,
    () => memory.datagrams.clear(),
  );
});

const closers: Array<() => void> = [];

afterEach(() => {
  for (const close of closers.splice(0)) close();
});

afterAll(() => poller.stop());

/** A handler whose events can be waited for, one at a time. */
class Events implements StreamHandler, AssociationHandler {
  #seen: string[] = [];
  #wake: () => void = () => {};
  stream: DirectStream | null = null;
  refusal: Refusal | null = null;
  received: Buffer = Buffer.alloc(0);
  /** recv is called as the relay would. */
  reads = true;

  /** Waits for an event that starts with `text`. */
  async until(text: string): Promise<string> {
    for (;;) {
      const at = this.#seen.findIndex((event) => event.startsWith(text));
      if (at >= 0) return this.#seen.splice(0, at + 1).at(-1)!;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #tell(event: string): void {
    this.#seen.push(event);
    this.#wake();
  }

  onOpen(): void {
    this.#tell("open");
  }

  onRefused(refusal: Refusal): void {
    this.refusal = refusal;
    this.#tell("refused");
  }

  onReadable(): void {
    const stream = this.stream as DirectStream;
    const got = stream.recv(Int32Array.of(memory.scratchStart, 65_536), 1);
    if (got > 0) {
      const { scratchStart } = memory;
      const octets = memory.bytes.slice(scratchStart, scratchStart + got);
      this.received = Buffer.concat([this.received, octets]);
      this.#tell("data");
    } else if (got !== -EAGAIN) {
      stream.pause();
      this.#tell(got === 0 ? "end" : `error ${-got}`);
    }
  }

  onWritable(): void {
    this.#tell("writable");
  }

  onBytes(): void {}
  onEnd(): void {}
  onReset(): void {}

  onDatagram(from: { readonly port: number }, start: number, end: number): void {
    const text = Buffer.from(memory.bytes.slice(start, end)).toString();
    this.#tell(`datagram ${formatEndpoint(from as never)} ${text}`);
  }

  onLost(): void {}
}

/** A server on loopback and the first socket it accepts. */
async function listen(host: string): Promise<{ port: number; accepted: Promise<Socket> }> {
  const server: Server = createServer({ allowHalfOpen: true });
  closers.push(() => server.close());
  const accepted = once(server, "connection").then(([socket]) => {
    closers.push(() => socket.destroy());
    return socket as Socket;
  });
  server.listen(0, host);
  await once(server, "listening");
  return { port: (server.address() as AddressInfo).port, accepted };
}

function connect(target: string): Events {
  const events = new Events();
  events.stream = upstream.connect(
    { name: null, endpoint: endpoint(target) },
    events,
  ) as DirectStream;
  closers.push(() => events.stream?.close());
  return events;
}

function put(octets: Uint8Array): Int32Array {
  memory.bytes.set(octets, memory.scratchStart);
  return Int32Array.of(memory.scratchStart, octets.length);
}

test.each(["127.0.0.1", "::1"])("octets and ends pass both ways (%s)", async (host) => {
  const { port, accepted } = await listen(host);
  const events = connect(host === "::1" ? `[::1]:${port}` : `127.0.0.1:${port}`);
  await events.until("open");
  const peer = await accepted;
  const stream = events.stream as DirectStream;
  expect(stream.send(put(Buffer.from("hello")), 1)).toBe(5);
  expect(String((await once(peer, "data"))[0])).toBe("hello");
  stream.shutdown();
  await once(peer, "end");
  peer.end("answer");
  await events.until("end");
  expect(events.received.toString()).toBe("answer");
});

test("a closed port is reply 05", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  const events = connect(`127.0.0.1:${port}`);
  timers.advance(timers.now());
  await events.until("refused");
  expect(events.refusal).toMatchObject({ kind: "reply", reply: 5 });
  expect(events.refusal?.error.message).toBe("cannot reach the host's loopback: ECONNREFUSED");
});

test("a full socket takes less than offered and says when there is room again", async () => {
  const { port, accepted } = await listen("127.0.0.1");
  const events = connect(`127.0.0.1:${port}`);
  await events.until("open");
  const peer = await accepted;
  const stream = events.stream as DirectStream;
  const rows = put(pattern(0, 0, 65_536));
  let sent = 0;
  for (let got = 0; got >= 0 && sent < 64 << 20; sent += Math.max(got, 0))
    got = stream.send(rows, 1);
  expect(sent).toBeLessThan(64 << 20);
  peer.resume();
  await events.until("writable");
  expect(stream.send(rows, 1)).toBeGreaterThan(0);
});

test("a paused stream whose peer resets tells so after resume, data first", async () => {
  const { port, accepted } = await listen("127.0.0.1");
  const events = connect(`127.0.0.1:${port}`);
  await events.until("open");
  const peer = await accepted;
  const stream = events.stream as DirectStream;
  stream.pause();
  await new Promise<void>((resolve) => peer.write("last words", () => resolve()));
  peer.resetAndDestroy();
  await once(peer, "close");
  // The reset is there; only resume may bring it, and the poll does not spin on it meanwhile.
  const before = wakeUps;
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(wakeUps - before).toBeLessThan(3);
  expect(events.received.length).toBe(0);
  stream.resume();
  expect(await events.until("error")).toBe("error 104");
  expect(events.received.toString()).toBe("last words");
});

test("reset reaches the peer as a reset", async () => {
  const { port, accepted } = await listen("127.0.0.1");
  const events = connect(`127.0.0.1:${port}`);
  await events.until("open");
  const peer = await accepted;
  peer.resume();
  (events.stream as DirectStream).reset();
  const [error] = await once(peer, "error");
  expect(error.code).toBe("ECONNRESET");
});

test.each(["127.0.0.1", "::1"])("datagrams pass both ways, cut as asked (%s)", async (host) => {
  const socket: UdpSocket = createSocket(host === "::1" ? "udp6" : "udp4");
  closers.push(() => socket.close());
  socket.bind(0, host);
  await once(socket, "listening");
  const target =
    host === "::1" ? `[::1]:${socket.address().port}` : `127.0.0.1:${socket.address().port}`;
  socket.on("message", (message, from) => socket.send(`re ${message}`, from.port, from.address));
  const events = new Events();
  const association = upstream.associate(events);
  closers.push(() => association.close());
  timers.advance(timers.now());
  await events.until("open");
  const [at, length] = put(Buffer.from("abcde"));
  expect(association.send({ name: null, endpoint: endpoint(target) }, at!, at! + length!, 2)).toBe(
    true,
  );
  association.flush();
  const seen = [
    await events.until("datagram"),
    await events.until("datagram"),
    await events.until("datagram"),
  ];
  expect(seen.sort()).toEqual(["ab", "cd", "e"].map((text) => `datagram ${target} re ${text}`));
});

test("a super-datagram of more segments than one system call takes is sent whole", async () => {
  const socket: UdpSocket = createSocket("udp4");
  closers.push(() => socket.close());
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  const seen: string[] = [];
  const all = new Promise<void>((resolve) => {
    socket.on("message", (message) => {
      if (seen.push(String(message)) === 128) resolve();
    });
  });
  const events = new Events();
  const association = upstream.associate(events);
  closers.push(() => association.close());
  timers.advance(timers.now());
  await events.until("open");
  const text = Array.from({ length: 128 }, (_, i) => String(i).padStart(3, "0"));
  const [at, length] = put(Buffer.from(text.join("")));
  const to = { name: null, endpoint: endpoint(`127.0.0.1:${socket.address().port}`) };
  expect(association.send(to, at!, at! + length!, 3)).toBe(true);
  association.flush();
  await all;
  expect(seen).toEqual(text);
});
