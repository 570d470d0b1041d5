/** BIND after BIND at a scripted proxy, and what connects there brought to a server of ours: loopback, virtual time. */

import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Listener, type ListenerOptions } from "../../src/listen/listener.ts";
import { createLog } from "../../src/log.ts";
import type { Refusal } from "../../src/socks/ports.ts";
import { pattern } from "../../src/testing/pattern.ts";
import {
  closeServers,
  destination,
  endpoint,
  open,
  type Peer,
  pass,
  ScriptedServer,
  settle,
  timers,
  until,
  within,
} from "../socks/client-harness.ts";

const BIND_ANY = "05020001000000000000";
/** 203.0.113.7:4711, and 198.51.100.9:20. */
const LISTENS = "05000001cb0071071267";
const CONNECTED = "05000001c63364090014";

let proxy: ScriptedServer;
let server: Server;
let clients: Socket[];
let printed: string[];
let logged: string[];
let listeners: Listener[];
let closers: Array<() => void>;

beforeEach(async () => {
  proxy = await ScriptedServer.listen();
  clients = [];
  printed = [];
  logged = [];
  listeners = [];
  closers = [];
  server = createServer({ allowHalfOpen: true }, (socket) => clients.push(socket.pause()));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});

afterEach(async () => {
  for (const listener of listeners) within(() => listener.close());
  for (const close of closers) close();
  for (const client of clients) client.destroy();
  server.close();
  await closeServers();
});

interface Run {
  readonly listener: Listener;
  /** How it ended; undefined so far. */
  ended: Refusal | null | undefined;
}

function run(options: Partial<ListenerOptions> = {}, url = proxy.url): Run {
  const upstream = open("layered", url, { pipeline: "off" });
  closers.push(() => upstream.close());
  const to = endpoint("127.0.0.1", (server.address() as AddressInfo).port);
  const turn = { enter: () => {}, leave: () => {} };
  const log = createLog("info", (line) => logged.push(line.trimEnd()));
  const listener = new Listener(
    upstream,
    { to, peer: null, once: false, ...options },
    { timers, turn, log, print: (address) => printed.push(address) },
  );
  listeners.push(listener);
  const state: Run = { listener, ended: undefined };
  void listener.run().then((end) => {
    state.ended = end;
  });
  return state;
}

/** The proxy grants BIND: it listens. */
async function granted(reply = LISTENS, request = BIND_ANY): Promise<Peer> {
  const peer = await proxy.accept();
  await peer.expects("050100");
  peer.send("0500");
  await peer.expects(request);
  const before = printed.length;
  peer.send(reply);
  await until("the address is printed", () => printed.length > before);
  return peer;
}

/** Somebody connects at the proxy; our server's end of it. */
async function accepted(peer: Peer, reply = CONNECTED): Promise<Socket> {
  const before = clients.length;
  peer.send(reply);
  await until("a connection at our server", () => clients.length > before);
  return clients.at(-1) as Socket;
}

/** Everything that comes until the end. */
async function all(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk)).resume();
  await once(socket, "end");
  return Buffer.concat(chunks);
}

test("the first reply is printed, the second brings a connection (RFC 1928 §4)", async () => {
  run();
  const peer = await granted();
  expect(printed).toEqual(["203.0.113.7:4711"]);
  expect(clients).toEqual([]);
  await accepted(peer);
  expect(logged[0]).toMatch(/^tun2socks: 198\.51\.100\.9:20 connected: relayed to 127\.0\.0\.1:/);
});

test("an address that the proxy leaves out is the proxy's own", async () => {
  run();
  await granted("05000001000000001267");
  expect(printed).toEqual(["127.0.0.1:4711"]);
});

test("a proxy that gives names is taken at its word, empty ones aside", async () => {
  run();
  const peer = await granted(`05000003${"0b"}${Buffer.from("ftp.example").toString("hex")}1267`);
  await accepted(peer, `05000003${"01"}610014`);
  expect(logged[0]).toMatch(/^tun2socks: a:20 connected/);
  await granted("05000003001267");
  expect(printed).toEqual(["ftp.example:4711", "127.0.0.1:4711"]);
});

test("a name that the proxy gives is one line, and steers no terminal", async () => {
  run();
  const name = Buffer.from("a\n\x1b[2Jb").toString("hex");
  const peer = await granted(`0500000307${name}1267`);
  await accepted(peer, `0500000307${name}0014`);
  expect(printed[0]).toBe("a [2Jb:4711");
  expect(logged[0]).toMatch(/^tun2socks: a \[2Jb:20 connected/);
});

test("who is expected is told to the proxy", async () => {
  run({ peer: destination("198.51.100.9", 0) });
  await granted(LISTENS, "05020001c63364090000");
});

test("the second reply may come octet by octet, and with the first octets of the stream", async () => {
  run();
  const peer = await granted();
  await peer.trickle(CONNECTED.slice(0, -2));
  const socket = await accepted(
    peer,
    `${CONNECTED.slice(-2)}${Buffer.from("hello").toString("hex")}`,
  );
  peer.socket.end();
  expect((await all(socket)).toString()).toBe("hello");
});

test("octets pass both ways unchanged, and each direction ends by itself", async () => {
  const state = run({ once: true });
  const peer = await granted();
  const socket = await accepted(peer);
  const down = Buffer.from(pattern(1, 0, 3_000_000));
  const up = Buffer.from(pattern(0, 0, 3_000_000));
  const received = all(socket);
  peer.socket.end(down);
  expect((await received).equals(down)).toBe(true);
  socket.end(up);
  await until("the end at the proxy", () => peer.ended);
  expect(peer.received.equals(up)).toBe(true);
  await until("it ends", () => state.ended !== undefined);
  expect(state.ended).toBe(null);
  expect(proxy.count).toBe(1);
});

test("the next BIND is asked for while the connection lasts", async () => {
  const { listener } = run();
  const first = await accepted(await granted());
  const second = await accepted(await granted());
  expect([first.destroyed, second.destroyed]).toEqual([false, false]);
  expect(listener.accepted).toBe(2);
});

test("as many connections as are allowed, and nobody is listened for until one ends", async () => {
  run({ maxConnections: 2 });
  const peer = await granted();
  const socket = await accepted(peer);
  await accepted(await granted());
  await settle();
  expect(proxy.count).toBe(2);
  socket.end();
  peer.socket.end();
  await granted();
  expect(proxy.count).toBe(3);
});

test("a BIND that is refused at the start ends it", async () => {
  const state = run();
  const peer = await proxy.accept();
  await peer.expects("050100");
  peer.send("0500");
  await peer.expects(BIND_ANY);
  peer.send("05070001000000000000");
  await until("it ends", () => state.ended !== undefined);
  expect(state.ended).toMatchObject({ kind: "reply", reply: 7 });
  expect(state.ended?.error.message).toContain("it refused: command not supported (07)");
});

test.each([
  ["ends", (peer: Peer) => peer.socket.end(), "it stopped listening before anybody connected"],
  ["refuses", (peer: Peer) => peer.send("0501"), "it stopped listening: general failure (01)"],
  ["talks nonsense", (peer: Peer) => peer.send("48"), "its second reply is none (first octet 72)"],
  [
    "gives no address",
    (peer: Peer) => peer.send("05000009"),
    "its second reply has an unknown address type (9)",
  ],
])(
  "a proxy that %s instead of a second reply is asked again after a second",
  async (_name, act, why) => {
    run();
    act(await granted());
    await until("a line", () => logged.length > 0);
    expect(logged[0]).toContain(`${why}; trying again in 1 s`);
    await settle();
    expect(proxy.count).toBe(1);
    pass(1000);
    await granted();
    expect(printed.length).toBe(2);
  },
);

test("a server of ours that is not there: the peer sees a reset, a line tells, and it listens on", async () => {
  server.close();
  await once(server, "close");
  const spare = createServer().listen(0, "127.0.0.1");
  await once(spare, "listening");
  const { port } = spare.address() as AddressInfo;
  spare.close();
  await once(spare, "close");
  const to = endpoint("127.0.0.1", port);
  const upstream = open("layered", proxy.url, { pipeline: "off" });
  const log = createLog("warn", (line) => logged.push(line.trimEnd()));
  const environment = { timers, turn: { enter() {}, leave() {} }, log };
  const listener = new Listener(
    upstream,
    { to, peer: null, once: false },
    { ...environment, print: (address) => printed.push(address) },
  );
  listeners.push(listener);
  void listener.run();
  const peer = await granted();
  peer.send(CONNECTED);
  expect(await peer.gone()).toBe("ECONNRESET");
  expect(logged).toEqual([
    `tun2socks: cannot connect to 127.0.0.1:${port}: ECONNREFUSED; is its server running?`,
  ]);
  await granted();
});

test("a connection that breaks on one side is reset on the other", async () => {
  run();
  const peer = await granted();
  const socket = await accepted(peer);
  const error = once(socket.resume(), "error");
  peer.socket.resetAndDestroy();
  expect((await error)[0]).toMatchObject({ code: "ECONNRESET" });
  const other = await granted();
  (await accepted(other)).resetAndDestroy();
  expect(await other.gone()).toBe("ECONNRESET");
});

test("close ends what is open and what is waited for", async () => {
  const { listener } = run();
  const peer = await granted();
  const socket = await accepted(peer);
  const waiting = await granted();
  const error = once(socket.resume(), "error");
  within(() => listener.close());
  expect([await peer.gone(), await waiting.gone()]).toEqual(["ECONNRESET", "ECONNRESET"]);
  expect((await error)[0]).toMatchObject({ code: "ECONNRESET" });
});

test.each([
  ["005a0014c6336409", "198.51.100.9:20"],
  ["045a0014c6336409", "198.51.100.9:20"],
])(
  "SOCKS4's second reply %s brings a connection too, in any split, and what follows it is payload",
  async (second, from) => {
    run({}, proxy.url.replace("socks5", "socks4"));
    const peer = await proxy.accept();
    await peer.expects("040200000000000000");
    peer.send("005a1267cb007107");
    await until("the address is printed", () => printed.length > 0);
    expect(printed).toEqual(["203.0.113.7:4711"]);
    await peer.trickle(second.slice(0, -2));
    peer.send(`${second.slice(-2)}6869`);
    await until("a connection at our server", () => clients.length > 0);
    peer.socket.end();
    expect((await all(clients[0] as Socket)).toString()).toBe("hi");
    expect(logged.join("\n")).toContain(`${from} connected`);
  },
);

test.each([
  ["005b", /it stopped listening \(91\)/],
  ["05", /its second reply is none \(first octet 5\)/],
])("SOCKS4's second reply %s is a refusal, which is tried again", async (second, says) => {
  run({}, proxy.url.replace("socks5", "socks4"));
  const peer = await proxy.accept();
  await peer.expects("040200000000000000");
  peer.send("005a1267cb007107");
  await until("the address is printed", () => printed.length > 0);
  peer.send(second);
  await until("a line", () => logged.length > 0);
  expect(logged.join("\n")).toMatch(says);
  expect(clients).toEqual([]);
});
