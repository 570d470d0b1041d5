import { createSocket, type RemoteInfo, Socket } from "node:dgram";
import { once } from "node:events";
import { constants } from "node:os";
import { afterEach, describe, expect, test, vi } from "vitest";
import { type Addon, addon, DGRAM_TX_ROW } from "../../src/native/binding.ts";
import { MAX_QUEUED } from "../../src/socks/datagram-socket.ts";
import type { SocketEnvironment } from "../../src/socks/environment.ts";
import type {
  Association,
  AssociationHandler,
  Destination,
  Refusal,
} from "../../src/socks/ports.ts";
import type { SocksUpstream } from "../../src/socks/upstream.ts";
import { type Endpoint, formatEndpoint } from "../../src/stack/wire/address.ts";
import { SegmentingSocket } from "../support/segmenting-socket.ts";
import {
  closeServers,
  descriptors,
  destination,
  endpoint,
  logged,
  memory,
  open,
  type Peer,
  pass,
  ScriptedServer,
  SHAPES,
  type Shape,
  settle,
  timers,
  until,
  within,
} from "./client-harness.ts";

/** The proxy's relay: a UDP socket that writes down what comes. */
class Relay {
  readonly socket: Socket;
  readonly received: string[] = [];
  client: RemoteInfo | null = null;

  constructor(family: "udp4" | "udp6") {
    this.socket = createSocket(family);
    this.socket.on("message", (message, from) => {
      this.received.push(message.toString("hex"));
      this.client = from;
    });
  }

  static async bind(host = "127.0.0.1"): Promise<Relay> {
    const relay = new Relay(host.includes(":") ? "udp6" : "udp4");
    relay.socket.bind(0, host);
    await once(relay.socket, "listening");
    relays.push(relay);
    return relay;
  }

  /** The port as four hex digits. */
  get port(): string {
    return this.socket.address().port.toString(16).padStart(4, "0");
  }

  send(hex: string): void {
    const { port, address } = this.client as RemoteInfo;
    this.socket.send(Buffer.from(hex, "hex"), port, address);
  }
}

const relays: Relay[] = [];
const associations: Association[] = [];

afterEach(async () => {
  vi.restoreAllMocks();
  for (const association of associations.splice(0)) association.close();
  for (const relay of relays.splice(0)) relay.socket.close();
  await closeServers();
});

class Recorder implements AssociationHandler {
  readonly events: string[] = [];
  refusal: Refusal | null = null;
  onOpen(): void {
    this.events.push("open");
  }
  onRefused(refusal: Refusal): void {
    this.events.push("refused");
    this.refusal = refusal;
  }
  onDatagram(from: Endpoint, start: number, end: number): void {
    const text = Buffer.from(memory.bytes.subarray(start, end)).toString("latin1");
    this.events.push(`${formatEndpoint(from)} ${text}`);
  }
  onLost(): void {
    this.events.push("lost");
  }
  async has(event: string): Promise<void> {
    await until(`${event} (so far: ${this.events})`, () => this.events.includes(event));
  }
  async refused(): Promise<string> {
    await until(`refused (so far: ${this.events})`, () => this.refusal !== null);
    return `${this.refusal?.kind} ${this.refusal?.reply}: ${this.refusal?.error.message}`;
  }
}

const ASSOCIATE = "05030001000000000000";
const LOOPBACK = "050000017f000001";

interface Opening {
  readonly upstream: SocksUpstream;
  readonly association: Association;
  readonly handler: Recorder;
  readonly peer: Peer;
}

/** Associates up to the request. */
async function requested(upstream: SocksUpstream, server: ScriptedServer): Promise<Opening> {
  const handler = new Recorder();
  const association = within(() => upstream.associate(handler));
  expect(handler.events).toEqual([]);
  associations.push(association);
  const peer = await server.accept();
  await peer.expects("050100");
  peer.send("0500");
  return { upstream, association, handler, peer };
}

/** Associates up to the reply `reply`. */
async function answered(
  shape: Shape,
  reply: string,
  lookup?: (name: string, done: (addresses: readonly string[]) => void) => void,
  options: Partial<SocketEnvironment> = {},
): Promise<Opening> {
  const server = await ScriptedServer.listen();
  const upstream = open(shape, server.url, { ...options, ...(lookup && { lookup }) });
  const opening = await requested(upstream, server);
  await opening.peer.expects(ASSOCIATE);
  opening.peer.send(reply);
  return opening;
}

async function opened(
  shape: Shape,
  options: Partial<SocketEnvironment> = {},
): Promise<Opening & { relay: Relay }> {
  const relay = await Relay.bind();
  const opening = await answered(shape, `${LOOPBACK}${relay.port}`, undefined, options);
  await opening.handler.has("open");
  return { ...opening, relay };
}

/** A system on whose way to the relay no datagram longer than `most` octets fits. */
function narrowWay(shape: Shape, most: number): Partial<SocketEnvironment> {
  const { EMSGSIZE } = constants.errno;
  if (shape === "direct") {
    const native = addon();
    const sendBatch: Addon["sendBatch"] = (fd, rows, count) => {
      const fits = (row: number): boolean =>
        (rows[row * DGRAM_TX_ROW + 1] as number) + (rows[row * DGRAM_TX_ROW + 3] as number) <= most;
      let ready = 0;
      while (ready < count && fits(ready)) ready++;
      return ready === 0 ? -EMSGSIZE : native.sendBatch(fd, rows, ready);
    };
    return { addon: { ...native, sendBatch } };
  }
  const real = Socket.prototype.send as (...args: unknown[]) => void;
  vi.spyOn(Socket.prototype, "send").mockImplementation(function (
    this: Socket,
    ...args: unknown[]
  ) {
    const [message, , , done] = args as [Uint8Array[], number, string, (error: Error) => void];
    const fits = !Array.isArray(message) || Buffer.concat(message).length <= most;
    if (fits) return real.apply(this, args);
    setImmediate(() => done(Object.assign(new Error("too long"), { errno: -EMSGSIZE })));
  });
  return {};
}

/** Sends text within one turn. */
function send(association: Association, to: Destination, text: string, segment = 0): boolean {
  return within(() => {
    const taken = queue(association, to, text, segment);
    association.flush();
    return taken;
  });
}

function queue(association: Association, to: Destination, text: string, segment = 0): boolean {
  memory.bytes.set(Buffer.from(text, "latin1"), memory.pagesStart);
  return association.send(to, memory.pagesStart, memory.pagesStart + text.length, segment);
}

const HEADER = "00000001c00002010050";

describe.each(SHAPES)("association, %s shape", (shape) => {
  test("datagrams go to the relay and come from it (RFC 1928 §7)", async () => {
    const { association, handler, relay, upstream } = await opened(shape);
    expect(send(association, destination(), "hi")).toBe(true);
    await until("a datagram at the relay", () => relay.received.length > 0);
    expect(relay.received).toEqual([`${HEADER}6869`]);
    relay.send("0000000420010db8000000000000000000000001003561");
    await handler.has("[2001:db8::1]:53 a");
    expect(upstream.counters).toMatchObject({ sent: 1, received: 1 });
  });

  test("over IPv6 the request carries :: and the relay may be IPv6", async () => {
    const server = await ScriptedServer.listen("::1");
    const relay = await Relay.bind("::1");
    const upstream = open(shape, `socks5://[::1]:${server.port}`);
    const { association, handler, peer } = await requested(upstream, server);
    await peer.expects(`05030004${"00".repeat(18)}`);
    peer.send(`05000004${"00".repeat(15)}01${relay.port}`);
    await handler.has("open");
    send(association, { name: "a.b", endpoint: endpoint("0.0.0.0", 53) }, "x");
    await until("a datagram at the relay", () => relay.received.length > 0);
    expect(relay.received).toEqual(["0000000303612e62003578"]);
    relay.send(`${HEADER}79`);
    await handler.has("192.0.2.1:80 y");
  });

  test.each([
    ["0.0.0.0", (port: string) => `0500000100000000${port}`, "unspecified"],
    ["an empty name", (port: string) => `0500000300${port}`, "unspecified"],
    ["127.0.0.1", (port: string) => `${LOOPBACK}${port}`, "as given"],
  ])("BND %s reaches the relay", async (_, reply, rule) => {
    const relay = await Relay.bind();
    const { association, handler } = await answered(shape, reply(relay.port));
    await handler.has("open");
    expect(logged.at(-1)).toContain(`, ${rule})`);
    send(association, destination(), "hi");
    await until("a datagram at the relay", () => relay.received.length > 0);
  });

  test("BND as a name is looked up, the control connection's family first", async () => {
    const relay = await Relay.bind();
    const reply = `0500000303612e62${relay.port}`;
    const names: string[] = [];
    const { association, handler } = await answered(shape, reply, (name, done) => {
      names.push(name);
      setImmediate(() => done(["2001:db8::1", "127.0.0.1"]));
    });
    await handler.has("open");
    expect(names).toEqual(["a.b"]);
    send(association, destination(), "hi");
    await until("a datagram at the relay", () => relay.received.length > 0);
  });

  test("a control connection that closes while BND's name is looked up does no harm", async () => {
    const relay = await Relay.bind();
    let found: (addresses: readonly string[]) => void = () => {};
    const reply = `0500000303612e62${relay.port}`;
    const { association, handler, peer } = await answered(shape, reply, (_name, done) => {
      found = done;
      peer.socket.end();
    });
    await until("the client's end", () => peer.fate !== "");
    found(["127.0.0.1"]);
    await handler.has("open");
    send(association, destination(), "hi");
    await until("a datagram at the relay", () => relay.received.length > 0);
    pass(60_100);
    expect(handler.events).toEqual(["open", "lost"]);
  });

  test("BND as a name that does not resolve, or not in time, is refused", async () => {
    const reply = "0500000303612e620050";
    const none = await answered(shape, reply, (_name, done) => setImmediate(() => done([])));
    expect(await none.handler.refused()).toMatch(/^protocol 0: .*does not resolve/);
    let lookedUp = false;
    const never = await answered(shape, reply, () => {
      lookedUp = true;
    });
    await until("the look-up", () => lookedUp);
    pass(30_000);
    expect(await never.handler.refused()).toMatch(/^timeout 0/);
    expect(timers.next()).toBe(-1);
  });

  test("an address list that shrinks during a dial does not change which server was reached", async () => {
    const server = await ScriptedServer.listen();
    const answers = [["127.0.0.2", "127.0.0.1"], ["127.0.0.1"]];
    const upstream = open(shape, `socks5://proxy.test:${server.port}`, {
      lookup: (_name, done) => setImmediate(() => done(answers.shift() ?? [])),
    });
    await upstream.resolve();
    const relay = await Relay.bind();
    const { handler, peer, association } = await requested(upstream, server);
    await upstream.resolve();
    await peer.expects(ASSOCIATE);
    peer.send(`0500000100000000${relay.port}`);
    await handler.has("open");
    send(association, destination(), "hello");
    await until("a datagram", () => relay.received.length > 0);
    upstream.close();
  });

  test("port 0 is refused with advice", async () => {
    const { handler } = await answered(shape, `${LOOPBACK}0000`);
    expect(await handler.refused()).toMatch(/^reply 7: .*port 0 .*enable UDP/);
    expect(handler.events).toEqual(["refused"]);
  });

  test.each([
    ["0507", /^reply 7: .*command not supported/],
    ["05080001000000000000", /^reply 8: /],
  ])("reply %s is refused", async (reply, expected) => {
    const { handler } = await answered(shape, reply);
    expect(await handler.refused()).toMatch(expected);
  });

  test("a server that closes instead of a reply has no UDP (OpenSSH)", async () => {
    const server = await ScriptedServer.listen();
    const { handler, peer } = await requested(open(shape, server.url), server);
    await peer.expects(ASSOCIATE);
    peer.socket.end();
    expect(await handler.refused()).toMatch(/^reply 7: .*does it do UDP/);
  });

  test("segments leave as datagrams of their own, the last one shorter", async () => {
    const { association, relay } = await opened(shape);
    expect(send(association, destination(), "aabbc", 2)).toBe(true);
    await until("datagrams at the relay", () => relay.received.length === 3);
    expect(relay.received).toEqual([`${HEADER}6161`, `${HEADER}6262`, `${HEADER}63`]);
  });

  test("an empty datagram is a datagram", async () => {
    const { association, relay } = await opened(shape);
    send(association, destination(), "", 0);
    await until("a datagram at the relay", () => relay.received.length === 1);
    expect(relay.received).toEqual([HEADER]);
  });

  test("the queue takes 64 datagrams until flush, then as many again", async () => {
    const { association, relay } = await opened(shape);
    within(() => {
      for (let i = 0; i < MAX_QUEUED - 1; i++) {
        expect(queue(association, destination(), "x")).toBe(true);
      }
      expect(queue(association, destination(), "yz", 1)).toBe(false);
      expect(queue(association, destination(), "x")).toBe(true);
      expect(queue(association, destination(), "x")).toBe(false);
      association.flush();
      expect(queue(association, destination(), "x")).toBe(true);
      association.flush();
    });
    await until("datagrams at the relay", () => relay.received.length === MAX_QUEUED + 1);
  });

  test("more segments than the queue holds leave in several goes", async () => {
    const { association, relay } = await opened(shape);
    expect(send(association, destination(), "0123456789".repeat(15), 1)).toBe(true);
    await until("datagrams at the relay", () => relay.received.length === 150);
  });

  test("a datagram too big with its header is not taken", async () => {
    const { association, relay, upstream } = await opened(shape);
    expect(send(association, destination(), "x".repeat(65_507 - 9))).toBe(false);
    expect(upstream.counters.tooBig).toBe(1);
    expect(send(association, destination(), "x".repeat(65_507 - 10))).toBe(true);
    await until("a datagram at the relay", () => relay.received.length === 1);
    expect(relay.received[0]?.length).toBe(2 * 65_507);
  });

  test("over IPv6 the largest datagram is 20 octets shorter, and its header 12 longer", async () => {
    const server = await ScriptedServer.listen("::1");
    const relay = await Relay.bind("::1");
    const upstream = open(shape, `socks5://[::1]:${server.port}`);
    const { association, handler, peer } = await requested(upstream, server);
    await peer.expects(`05030004${"00".repeat(18)}`);
    peer.send(`05000004${"00".repeat(15)}01${relay.port}`);
    await handler.has("open");
    const to = destination("2001:db8::1");
    expect(association.maxPayload(to)).toBe(65_487 - 22);
    expect(association.maxPayload(destination())).toBe(65_487 - 10);
    expect(association.maxPayload({ ...to, name: "a.é" })).toBe(65_487 - 7 - 4);
    expect(send(association, to, "x".repeat(65_487 - 21))).toBe(false);
    expect(send(association, to, "x".repeat(65_487 - 22))).toBe(true);
    await until("a datagram at the relay", () => relay.received.length === 1);
  });

  test("where the way takes no more than its packets, datagrams shrink to what may fit (RFC 1191 §7.1, §6.3)", async () => {
    const way = narrowWay(shape, 1000);
    const { association, handler, relay, upstream } = await opened(shape, way);
    const to = destination();
    const plateaus = [
      65_507,
      32_000 - 28,
      17_914 - 28,
      8_166 - 28,
      4_352 - 28,
      2_002 - 28,
      1_492 - 28,
    ];
    for (const most of [...plateaus, 1_280 - 28]) {
      expect(association.maxPayload(to)).toBe(most - 10);
      expect(send(association, to, "x".repeat(most - 10))).toBe(true);
      await until("the error", () => association.maxPayload(to) < most - 10);
    }
    expect(association.maxPayload(to)).toBe(576 - 28 - 10);
    expect(send(association, to, "x".repeat(576 - 28 - 10))).toBe(true);
    await until("a datagram at the relay", () => relay.received.length === 1);
    expect(upstream.counters).toMatchObject({ sendTooBig: 8, sent: 1, sendErrors: 0 });
    pass(10 * 60_000);
    expect(association.maxPayload(to)).toBe(65_507 - 10);
    expect(handler.events).toEqual(["open"]);
  });

  test("a relay that answers from the address of the control connection is heard", async () => {
    const relay = await Relay.bind("127.0.0.2");
    const opening = await answered(shape, `050000017f000002${relay.port}`);
    await opening.handler.has("open");
    send(opening.association, destination(), "hi");
    await until("a datagram at the relay", () => relay.client !== null);
    const other = await Relay.bind("127.0.0.1");
    other.client = relay.client;
    other.send(`${HEADER}79`);
    await opening.handler.has("192.0.2.1:80 y");
  });

  test("from any port of the relay's address, from no other address", async () => {
    const { association, handler, relay, upstream } = await opened(shape);
    send(association, destination(), "hi");
    await until("a datagram at the relay", () => relay.client !== null);
    const stranger = await Relay.bind("127.0.0.2");
    const sibling = await Relay.bind();
    stranger.client = relay.client;
    sibling.client = relay.client;
    stranger.send(`${HEADER}78`);
    sibling.send(`${HEADER}79`);
    await handler.has("192.0.2.1:80 y");
    await until("the stranger", () => upstream.counters.foreign === 1);
    expect(handler.events).toEqual(["open", "192.0.2.1:80 y"]);
  });

  test("what cannot be used is dropped and counted by reason", async () => {
    const { association, handler, relay, upstream } = await opened(shape);
    send(association, destination(), "hi");
    await until("a datagram at the relay", () => relay.client !== null);
    for (const bad of ["", "00", "000000", "00000001c000020100", "00000009c0000201005061"]) {
      relay.send(bad);
    }
    relay.send("00000201c0000201005061");
    relay.send("00008301c0000201005061");
    relay.send("0000000303612e62005061");
    relay.send(`${HEADER}7a`);
    await handler.has("192.0.2.1:80 z");
    expect(upstream.counters).toMatchObject({ malformed: 5, named: 1, received: 1 });
    expect(upstream.fragments).toMatchObject({ received: 2, strays: 2 });
    expect(handler.events).toEqual(["open", "192.0.2.1:80 z"]);
  });

  test("fragments are handed on as the datagram they make, or not at all (RFC 1928 §7)", async () => {
    const { association, handler, relay, upstream } = await opened(shape);
    send(association, destination(), "hi");
    await until("a datagram at the relay", () => relay.client !== null);
    for (const fragment of ["01", "02", "83"]) relay.send(`0000${fragment}01c0000201005061`);
    await handler.has("192.0.2.1:80 aaa");
    relay.send("00000101c0000201005062");
    relay.send(`${HEADER}7a`);
    relay.send("00008201c0000201005062");
    relay.send("00000101c0000201005063");
    await until("all fragments", () => upstream.fragments.received === 6);
    expect(handler.events).toEqual(["open", "192.0.2.1:80 aaa", "192.0.2.1:80 z"]);
    expect(upstream.fragments).toMatchObject({ reassembled: 1, interrupted: 1, strays: 1 });
    association.close();
    expect(timers.next()).toBe(-1);
  });

  test("an answer from the name that was sent to last counts, as from no address (RFC 1928 §7)", async () => {
    const { association, handler, relay, upstream } = await opened(shape);
    send(association, { name: "A.b", endpoint: destination().endpoint }, "hi");
    await until("a datagram at the relay", () => relay.received.length === 1);
    expect(relay.received).toEqual(["0000000303412e6200506869"]);
    relay.send("0000000303612e4200507a");
    await handler.has("[::]:80 z");
    for (const other of ["0000000303612e63005061", "0000000302612e005061", "0000000300005061"]) {
      relay.send(other);
    }
    relay.send(`${HEADER}79`);
    await handler.has("192.0.2.1:80 y");
    expect(handler.events).toEqual(["open", "[::]:80 z", "192.0.2.1:80 y"]);
    expect(upstream.counters).toMatchObject({ named: 3, received: 2 });
  });

  test("the end of the control connection ends the association", async () => {
    const { handler, peer } = await opened(shape);
    pass(1000);
    peer.send("00");
    await settle();
    peer.socket.end();
    await handler.has("lost");
    await peer.gone();
    expect(handler.events).toEqual(["open", "lost"]);
  });

  test("so does its reset", async () => {
    const { handler, peer } = await opened(shape);
    pass(1000);
    peer.socket.resetAndDestroy();
    await handler.has("lost");
  });

  test("a control connection closed at once does not: UDP goes on while answers arrive", async () => {
    const { association, handler, peer, relay } = await opened(shape);
    peer.socket.end();
    await until("the client's end", () => peer.fate !== "");
    for (let i = 0; i < 3; i++) {
      pass(50_000);
      send(association, destination(), "q");
      await until("a question", () => relay.received.length === i + 1);
      relay.send(`${HEADER}6${i}`);
      const answer = String.fromCharCode(0x60 + i);
      await handler.has(`192.0.2.1:80 ${answer}`);
    }
    pass(59_900);
    expect(handler.events).not.toContain("lost");
    send(association, destination(), "unanswered");
    pass(200);
    expect(handler.events.at(-1)).toBe("lost");
    expect(timers.next()).toBe(-1);
  });

  test("close before the reply cancels, close later is silent, both at most once", async () => {
    const before = descriptors();
    const server = await ScriptedServer.listen();
    const early = await requested(open(shape, server.url), server);
    await early.peer.expects(ASSOCIATE);
    early.association.close();
    early.association.close();
    await early.peer.gone();
    const late = await opened(shape);
    late.association.close();
    late.association.close();
    await late.peer.gone();
    expect(early.handler.events).toEqual([]);
    expect(late.handler.events).toEqual(["open"]);
    for (const relay of relays.splice(0)) relay.socket.close();
    await closeServers();
    await until("descriptors", () => descriptors() <= before);
    expect(timers.next()).toBe(-1);
  });

  test("an open association's control connection ends by a reset, which leaves no TIME-WAIT (RFC 9293 §3.6.1)", async () => {
    const { association, peer } = await opened(shape);
    association.close();
    expect(await peer.gone()).toBe("ECONNRESET");
  });

  test("a server that is gone refuses the association as unreachable", async () => {
    const server = await ScriptedServer.listen();
    const { url } = server;
    await closeServers();
    const handler = new Recorder();
    associations.push(within(() => open(shape, url).associate(handler)));
    expect(await handler.refused()).toMatch(/^unreachable 0/);
  });
});

test("without room in the turn's memory datagrams wait in the socket (direct)", async () => {
  const { association, handler, relay, upstream } = await opened("direct");
  send(association, destination(), "hi");
  await until("a datagram at the relay", () => relay.client !== null);
  memory.datagrams.next = memory.datagrams.end;
  relay.send(`${HEADER}61`);
  await handler.has("192.0.2.1:80 a");
  expect(upstream.counters.noMemory).toBe(0);
});

test("a burst arrives whole and in order, although handlers use the turn's memory too (direct)", async () => {
  const { association, handler, relay } = await opened("direct");
  const take = handler.onDatagram.bind(handler);
  handler.onDatagram = (from, start, end) => {
    take(from, start, end);
    const at = memory.datagrams.take(2000);
    if (at >= 0) memory.bytes.fill(0xee, at, at + 2000);
  };
  send(association, destination(), "hi");
  await until("a datagram at the relay", () => relay.client !== null);
  const expected = ["open"];
  for (let i = 0; i < 100; i++) {
    const text = String(i).repeat(100);
    relay.send(HEADER + Buffer.from(text).toString("hex"));
    expected.push(`192.0.2.1:80 ${text}`);
  }
  await until("the burst", () => handler.events.length === expected.length);
  expect(handler.events).toEqual(expected);
});

test("what the kernel has joined is delivered datagram by datagram (direct, UDP_GRO)", async () => {
  const { association, handler, relay, upstream } = await opened("direct");
  send(association, destination(), "hi");
  await until("a datagram at the relay", () => relay.client !== null);
  const socket = new SegmentingSocket(memory);
  const texts = Array.from({ length: 200 }, (_, i) => `datagram ${i}`.padEnd(1400, "."));
  texts.push("the last is shorter");
  const messages = texts.map((text) =>
    Buffer.from(HEADER + Buffer.from(text).toString("hex"), "hex"),
  );
  socket.send(messages, relay.client?.port as number);
  await handler.has("192.0.2.1:80 the last is shorter");
  socket.close();
  expect(handler.events.slice(1)).toEqual(texts.map((text) => `192.0.2.1:80 ${text}`));
  expect(upstream.counters).toMatchObject({ received: 201, malformed: 0, truncated: 0 });
});

test("an association closed by the first of what the kernel has joined hears no more (direct)", async () => {
  const { association, handler, relay } = await opened("direct");
  send(association, destination(), "hi");
  await until("a datagram at the relay", () => relay.client !== null);
  const take = handler.onDatagram.bind(handler);
  handler.onDatagram = (from, start, end) => {
    take(from, start, end);
    association.close();
  };
  const socket = new SegmentingSocket(memory);
  const message = Buffer.from(`${HEADER}61`, "hex");
  socket.send([message, message, message], relay.client?.port as number);
  await handler.has("192.0.2.1:80 a");
  await settle();
  socket.close();
  expect(handler.events).toEqual(["open", "192.0.2.1:80 a"]);
});

test("BND of a family that this host has no route for: the relay is at the proxy's address (direct)", async () => {
  const relay = await Relay.bind("127.0.0.2");
  const native = addon();
  const { ENETUNREACH } = constants.errno;
  const without = { ...native, udpConnect: () => -ENETUNREACH };
  const server = await ScriptedServer.listen("127.0.0.2");
  const upstream = open("direct", `socks5://127.0.0.2:${server.port}`, { addon: without });
  const { handler, peer } = await requested(upstream, server);
  await peer.expects(ASSOCIATE);
  peer.send(`0500000420010db8${"00".repeat(11)}09${relay.port}`);
  await handler.has("open");
  expect(logged.at(-1)).toMatch(/: 127\.0\.0\.2:\d+ \(BND \[2001:db8::9\]:\d+, no route\)/);
});
