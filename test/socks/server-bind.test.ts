/** BIND of the built-in server, SOCKS5 and SOCKS4, over real loopback sockets. */

import { connect, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { MAX_SHARE } from "../../src/socks/server.ts";
import { BIND_WAIT, MAX_BINDS } from "../../src/socks/server-bind.ts";
import { parseAddress } from "../../src/stack/wire/address.ts";
import {
  advance,
  Client,
  closeAll,
  GREETING,
  openDescriptors,
  openServer,
  request,
  until,
} from "./server-harness.ts";

const peers: Socket[] = [];

afterEach(async () => {
  for (const peer of peers.splice(0)) peer.destroy();
  await closeAll();
});

/** A BIND that expects an IPv4 peer; zeros: anyone. */
const bind = (...peer: number[]): number[] => [
  5,
  2,
  0,
  1,
  ...(peer.length > 0 ? peer : ANYONE),
  0,
  0,
];
const ANYONE: readonly number[] = [0, 0, 0, 0];

/** A client whose BIND got its first reply. */
async function bound(
  proxy: number,
  message: readonly number[] = bind(),
): Promise<{ client: Client; port: number; reply: number[] }> {
  const client = new Client(proxy);
  client.write(...GREETING, ...message);
  const reply = ((await client.take(12)) ?? []).slice(2);
  return { client, reply, port: ((reply[8] ?? 0) << 8) | (reply[9] ?? 0) };
}

/** Connects to a waiting BIND. */
class Peer {
  readonly socket: Socket;
  text = "";
  error: NodeJS.ErrnoException | null = null;
  ended = false;

  constructor(port: number, host = "127.0.0.1", localAddress?: string) {
    this.socket = connect({ port, host, ...(localAddress === undefined ? {} : { localAddress }) });
    peers.push(this.socket);
    this.socket.on("data", (chunk) => {
      this.text += chunk;
    });
    this.socket.on("end", () => {
      this.ended = true;
    });
    this.socket.on("error", (error) => {
      this.error = error;
    });
  }
}

test("the first reply tells where to connect, the second who did; then octets flow (RFC 1928 §6)", async () => {
  const { server, port } = openServer();
  const { client, reply, port: listening } = await bound(port);
  expect(reply.slice(0, 8)).toEqual([5, 0, 0, 1, 127, 0, 0, 1]);
  expect(server.stats).toMatchObject({ activeBinds: 1, granted: 0 });
  const peer = new Peer(listening);
  peer.socket.write("220 hello");
  const second = await client.take(10);
  const { localPort = 0 } = peer.socket;
  expect(second).toEqual([5, 0, 0, 1, 127, 0, 0, 1, localPort >> 8, localPort & 255]);
  expect(Buffer.from((await client.take(9)) ?? []).toString()).toBe("220 hello");
  client.socket.end("bye");
  await until(() => peer.text === "bye" && peer.ended);
  peer.socket.end();
  expect(await client.outcome()).toBe("end");
  await until(() => server.stats.activeConnections === 0);
  expect(server.stats).toMatchObject({ activeBinds: 0, granted: 1 });
});

test("only one connection is accepted", async () => {
  const { port } = openServer();
  const { client, port: listening } = await bound(port);
  new Peer(listening);
  expect((await client.take(10))?.[1]).toBe(0);
  const late = new Peer(listening);
  await until(() => late.error !== null);
  expect(late.error?.code).toBe("ECONNREFUSED");
});

test("SOCKS4 has BIND too, with both replies", async () => {
  const { port } = openServer();
  const client = new Client(port);
  client.write(4, 2, 0, 21, 127, 0, 0, 1, 0);
  const first = (await client.take(8)) ?? [];
  expect(first.slice(0, 2)).toEqual([0, 90]);
  expect(first.slice(4)).toEqual([127, 0, 0, 1]);
  const peer = new Peer(((first[2] ?? 0) << 8) | (first[3] ?? 0));
  const second = (await client.take(8)) ?? [];
  const { localPort = 0 } = peer.socket;
  expect(second).toEqual([0, 90, localPort >> 8, localPort & 255, 127, 0, 0, 1]);
});

test("another than the expected peer is reset and counted, and the wait goes on", async () => {
  const { server, port } = openServer();
  const { client, port: listening } = await bound(port, bind(127, 0, 0, 1));
  const stranger = new Peer(listening, "127.0.0.1", "127.0.0.2");
  await until(() => stranger.error !== null || stranger.socket.destroyed);
  expect(server.stats).toMatchObject({ bindForeign: 1, activeBinds: 1 });
  new Peer(listening);
  expect((await client.take(10))?.[1]).toBe(0);
});

test("a peer expected by name may come from any of its addresses, and a name without one gets 04", async () => {
  const names: Record<string, readonly string[]> = { "peer.test": ["127.0.0.3", "127.0.0.2"] };
  const { port } = openServer(
    {},
    { lookup: (name, done) => setImmediate(done, names[name] ?? []) },
  );
  const named = (name: string): number[] => [5, 2, 0, 3, name.length, ...Buffer.from(name), 0, 0];
  const { client, port: listening } = await bound(port, named("peer.test"));
  new Peer(listening, "127.0.0.1", "127.0.0.2");
  expect((await client.take(10))?.slice(1, 8)).toEqual([0, 0, 1, 127, 0, 0, 2]);
  expect((await bound(port, named("nowhere.test"))).reply[1]).toBe(4);
  expect((await bound(port, named(""))).reply[1]).toBe(4);
});

test("it listens where the expected peer finds this host, or where it was told to", async () => {
  const { port } = openServer();
  const client = new Client(port);
  const loopback6 = [...new Array<number>(15).fill(0), 1];
  client.write(...GREETING, 5, 2, 0, 4, ...loopback6, 0, 0);
  const reply = (await client.take(24)) ?? [];
  expect(reply.slice(2, 22)).toEqual([5, 0, 0, 4, ...loopback6]);
  new Peer(((reply[22] ?? 0) << 8) | (reply[23] ?? 0), "::1");
  expect((await client.take(22))?.slice(0, 20)).toEqual([5, 0, 0, 4, ...loopback6]);

  const told = openServer({ bindAddress: parseAddress("127.0.0.9")! });
  const other = await bound(told.port, bind(127, 0, 0, 1));
  expect(other.reply.slice(4, 8)).toEqual([127, 0, 0, 9]);
  new Peer(other.port, "127.0.0.9", "127.0.0.1");
  expect((await other.client.take(10))?.[1]).toBe(0);
});

test("an address that is not of this host is refused", async () => {
  const { port } = openServer({ bindAddress: parseAddress("192.0.2.1")! });
  expect((await bound(port)).reply[1]).toBe(1);
});

test("the access rules hold for the expected peer, but programs of this host may reach a client on it", async () => {
  const { server, port } = openServer({ allowPrivate: false });
  expect((await bound(port, bind(169, 254, 169, 254))).reply[1]).toBe(2);
  expect(server.stats.notAllowed).toBe(1);
  const { client, port: listening } = await bound(port, bind(127, 0, 0, 1));
  new Peer(listening);
  expect((await client.take(10))?.[1]).toBe(0);
});

test("what the client sends before its peer comes is delivered to it", async () => {
  const { port } = openServer();
  const { client, port: listening } = await bound(port);
  client.socket.end("early");
  const peer = new Peer(listening);
  await until(() => peer.text === "early" && peer.ended);
});

test("a BIND that nobody connects to is answered with 04 after two minutes, in SOCKS4 with 91", async () => {
  const { server, port } = openServer();
  const { client } = await bound(port);
  const four = new Client(port);
  four.write(4, 2, 0, 0, 0, 0, 0, 0, 0);
  await four.take(8);
  advance(BIND_WAIT - 20);
  expect(server.stats).toMatchObject({ activeBinds: 2, bindTimeouts: 0 });
  advance(40);
  expect((await client.take(10))?.slice(0, 2)).toEqual([5, 4]);
  expect((await four.take(8))?.slice(0, 2)).toEqual([0, 91]);
  expect(await client.outcome()).toBe("end");
  expect(server.stats).toMatchObject({ activeBinds: 0, bindTimeouts: 2 });
});

test("a client that leaves takes its listening socket with it", async () => {
  const { server, port } = openServer();
  for (const leave of ["end", "resetAndDestroy"] as const) {
    const { client, port: listening } = await bound(port);
    client.socket[leave]();
    await until(() => server.stats.activeConnections === 0);
    expect(server.stats.activeBinds).toBe(0);
    const late = new Peer(listening);
    await until(() => late.error !== null);
  }
  expect(server.stats.abandoned).toBe(2);
});

test("one client has its share of BINDs and associations, and gets it back", async () => {
  const { server, port } = openServer({ maxPerClient: 2 * MAX_SHARE });
  const all = await Promise.all(Array.from({ length: MAX_SHARE }, () => bound(port)));
  expect(all.every(({ reply }) => reply[1] === 0)).toBe(true);
  expect((await bound(port)).reply[1]).toBe(1);
  const associate = request(0, 3).fill(0, 4);
  expect((await bound(port, associate)).reply[1]).toBe(1);
  const other = new Client(port, "127.0.0.1", "127.0.0.2");
  other.write(...GREETING, ...associate);
  expect((await other.take(12))?.[3]).toBe(0);
  // One by being connected to, one by leaving.
  new Peer(all[0]?.port as number);
  await until(() => server.stats.activeBinds === MAX_SHARE - 1);
  all[1]?.client.socket.destroy();
  await until(() => server.stats.activeBinds === MAX_SHARE - 2);
  expect((await bound(port, associate)).reply[1]).toBe(0);
  expect((await bound(port)).reply[1]).toBe(0);
  expect((await bound(port)).reply[1]).toBe(1);
  expect(server.stats).toMatchObject({ bindsFull: 2, associationsFull: 1 });
});

test("BINDs beyond the bound are refused with 01, and closing the server closes the others", async () => {
  const before = openDescriptors();
  const { server, port } = openServer();
  const all = await Promise.all(Array.from({ length: MAX_BINDS }, () => bound(port)));
  expect(all.every(({ reply }) => reply[1] === 0)).toBe(true);
  expect((await bound(port)).reply[1]).toBe(1);
  expect(server.stats).toMatchObject({ activeBinds: MAX_BINDS, bindsFull: 1 });
  server.close();
  expect(server.stats.activeBinds).toBe(0);
  await closeAll();
  await until(() => openDescriptors() <= before);
});
