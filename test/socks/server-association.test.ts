import { createSocket, type Socket as Datagrams } from "node:dgram";
import { once } from "node:events";
import { afterEach, expect, test } from "vitest";
import { addon } from "../../src/native/binding.ts";
import { parseAccessRule } from "../../src/socks/access-rules.ts";
import { UDP_IDLE } from "../../src/socks/server-association.ts";
import { MAX_ASSOCIATIONS } from "../../src/socks/server-connection.ts";
import { REASSEMBLY_TIME } from "../../src/socks/udp-reassembly.ts";
import type { Endpoint } from "../../src/stack/wire/address.ts";
import { SegmentingSocket } from "../support/segmenting-socket.ts";
import {
  advance,
  Client,
  closeAll,
  GREETING,
  memory,
  openDescriptors,
  openServer,
  request,
  until,
} from "./server-harness.ts";

const open: Datagrams[] = [];

afterEach(async () => {
  for (const socket of open.splice(0)) socket.close();
  await closeAll();
});

/** A bound UDP socket and what it received. */
class Port {
  readonly socket: Datagrams;
  readonly received: Array<{ data: Buffer; from: string }> = [];

  constructor(family: 4 | 6 = 4) {
    this.socket = createSocket(family === 4 ? "udp4" : "udp6");
    open.push(this.socket);
    this.socket.on("message", (data, { address, port }) => {
      this.received.push({ data, from: `${address} ${port}` });
    });
  }

  async bind(address = "127.0.0.1"): Promise<this> {
    this.socket.bind(0, address);
    await once(this.socket, "listening");
    return this;
  }

  get port(): number {
    return this.socket.address().port;
  }

  send(data: Uint8Array, port: number, address = "127.0.0.1"): void {
    this.socket.send(data, port, address);
  }
}

/** An echo that appends one octet. */
async function echo(address = "127.0.0.1"): Promise<Port> {
  const port = await new Port(address.includes(":") ? 6 : 4).bind(address);
  port.socket.on("message", (data, from) => {
    port.socket.send(Buffer.concat([data, Buffer.from("!")]), from.port, from.address);
  });
  return port;
}

/** Header and data for 127.0.0.1:`port`. */
function datagram(port: number, data: string, fragment = 0): Buffer {
  return Buffer.from([
    0,
    0,
    fragment,
    1,
    127,
    0,
    0,
    1,
    port >> 8,
    port & 255,
    ...Buffer.from(data),
  ]);
}

function named(name: string, port: number, data: string): Buffer {
  const octets = Buffer.from(name);
  return Buffer.from([
    ...[0, 0, 0, 3, octets.length],
    ...octets,
    port >> 8,
    port & 255,
    ...Buffer.from(data),
  ]);
}

async function associate(
  proxy: number,
  message: readonly number[] = request(0, 3).fill(0, 4),
): Promise<{ control: Client; relay: number; reply: number[] }> {
  const control = new Client(proxy);
  control.write(...GREETING, ...message);
  const reply = (await control.take(12)) ?? [];
  return { control, reply, relay: ((reply[10] ?? 0) << 8) | (reply[11] ?? 0) };
}

test("a datagram goes out and its answer comes back under its true source (RFC 1928 §7)", async () => {
  const { server, port } = openServer();
  const target = await echo();
  const client = await new Port().bind();
  const { relay, reply } = await associate(port);
  expect(reply.slice(0, 10)).toEqual([5, 0, 5, 0, 0, 1, 127, 0, 0, 1]);
  client.send(datagram(target.port, "ping"), relay);
  await until(() => client.received.length === 1);
  expect(client.received[0]?.data).toEqual(datagram(target.port, "ping!"));
  expect(client.received[0]?.from).toBe(`127.0.0.1 ${relay}`);
  expect(server.stats).toMatchObject({ datagramsOut: 1, datagramsIn: 1, activeAssociations: 1 });
});

test("IPv6 works on both sides, and one association serves both families", async () => {
  const { port } = openServer({ address: "::1" });
  const target6 = await echo("::1");
  const target4 = await echo();
  const client = await new Port(6).bind("::1");
  const control = new Client(port, "::1");
  control.write(...GREETING, 5, 3, 0, 4, ...new Array<number>(18).fill(0));
  const reply = (await control.take(24)) ?? [];
  expect(reply.slice(0, 6)).toEqual([5, 0, 5, 0, 0, 4]);
  expect(reply.slice(6, 22)).toEqual([...new Array<number>(15).fill(0), 1]);
  const relay = ((reply[22] ?? 0) << 8) | (reply[23] ?? 0);
  const loopback = [...new Array<number>(15).fill(0), 1];
  const head6 = [0, 0, 0, 4, ...loopback, target6.port >> 8, target6.port & 255];
  client.send(Buffer.from([...head6, 65]), relay, "::1");
  await until(() => client.received.length === 1);
  expect([...(client.received[0]?.data ?? [])]).toEqual([...head6, 65, 33]);
  client.send(datagram(target4.port, "four"), relay, "::1");
  await until(() => client.received.length === 2);
  expect(client.received[1]?.data).toEqual(datagram(target4.port, "four!"));
});

test("datagrams from another address or another port are dropped and counted", async () => {
  const { server, port } = openServer();
  const target = await echo();
  const client = await new Port().bind();
  const foreigner = await new Port().bind("127.0.0.2");
  const neighbour = await new Port().bind();
  const { relay } = await associate(port);
  foreigner.send(datagram(target.port, "foreign"), relay);
  await until(() => server.stats.datagramForeign === 1);
  client.send(datagram(target.port, "mine"), relay);
  await until(() => client.received.length === 1);
  neighbour.send(datagram(target.port, "next door"), relay);
  await until(() => server.stats.datagramForeign === 2);
  expect(target.received.map(({ data }) => data.toString())).toEqual(["mine"]);
});

test("a port named in the request is the only one, unless the address is somebody else's", async () => {
  const { server, port } = openServer();
  const target = await echo();
  const client = await new Port().bind();
  const other = await new Port().bind();
  const zeros = [5, 3, 0, 1, 0, 0, 0, 0, client.port >> 8, client.port & 255];
  for (const message of [request(client.port, 3), zeros]) {
    const { relay } = await associate(port, message);
    const before = server.stats.datagramForeign;
    other.send(datagram(target.port, "other"), relay);
    await until(() => server.stats.datagramForeign === before + 1);
    client.send(datagram(target.port, "mine"), relay);
    await until(() => client.received.length > 0);
    client.received.length = 0;
  }
  const behindNat = [5, 3, 0, 1, 192, 168, 7, 7, 0, 9];
  const { relay } = await associate(port, behindNat);
  other.send(datagram(target.port, "learned"), relay);
  await until(() => other.received.length === 1);
});

test("malformed headers and port 0 are dropped and counted", async () => {
  const { server, port } = openServer();
  const target = await echo();
  const client = await new Port().bind();
  const { relay } = await associate(port);
  for (const data of [
    datagram(0, "x"),
    Buffer.from([]),
    Buffer.from([0, 0, 0]),
    Buffer.from([0, 0, 0, 9, 1, 2, 3, 4, 5, 6]),
    datagram(target.port, "").subarray(0, 9),
    Buffer.from([0, 0, 0, 3, 200, 65]),
  ]) {
    client.send(data, relay);
  }
  await until(() => server.stats.datagramMalformed === 6);
  client.send(datagram(target.port, ""), relay);
  await until(() => client.received.length === 1);
  expect(target.received.map(({ data }) => data.toString())).toEqual([""]);
});

test("fragments become one datagram, and none is passed on as it is (RFC 1928 §7)", async () => {
  const { server, port } = openServer();
  const target = await echo();
  const client = await new Port().bind();
  const { relay } = await associate(port);
  const last = 0x80;
  const long = "z".repeat(20_000);
  for (const [fragment, data] of [
    [0, "alone"],
    [1, "one "],
    [2, "two "],
    [3 | last, "three"],
    // A place is skipped, one never began, one is cut off by a datagram that stands alone.
    [1, "x"],
    [3 | last, "x"],
    [2 | last, "x"],
    [1, "x"],
    [0, "alone again"],
    [2 | last, "x"],
    [1, long],
    [2, long],
    [3 | last, long],
  ] as const) {
    client.send(datagram(target.port, data, fragment), relay);
  }
  await until(() => client.received.length === 4);
  expect(client.received.map(({ data }) => data.subarray(10).toString())).toEqual([
    "alone!",
    "one two three!",
    "alone again!",
    `${long}${long}${long}!`,
  ]);
  expect(target.received.length).toBe(4);
  expect(server.fragments.counters).toMatchObject({
    received: 11,
    reassembled: 2,
    outOfOrder: 1,
    strays: 3,
    interrupted: 1,
  });
  expect(server.stats).toMatchObject({ datagramsOut: 4, datagramsIn: 4 });
});

test("fragments wait five seconds for the rest, and go with their association", async () => {
  const { server, port } = openServer();
  const target = await echo();
  const client = await new Port().bind();
  const { control, relay } = await associate(port);
  client.send(datagram(target.port, "one", 1), relay);
  await until(() => server.fragments.counters.received === 1);
  advance(REASSEMBLY_TIME - 20);
  expect(server.fragments.octets).toBeGreaterThan(0);
  advance(40);
  expect(server.fragments.octets).toBe(0);
  expect(server.fragments.counters.timedOut).toBe(1);
  client.send(datagram(target.port, "one", 1), relay);
  await until(() => server.fragments.octets > 0);
  control.socket.destroy();
  await until(() => server.stats.activeAssociations === 0);
  expect(server.fragments.octets).toBe(0);
});

test("a fragmented datagram to a name, and one that the rules refuse", async () => {
  const { server, port } = openServer(
    { rules: [parseAccessRule(false, "all:9")!] },
    { lookup: (_name, done) => setImmediate(done, ["127.0.0.1"]) },
  );
  const target = await echo();
  const client = await new Port().bind();
  const { relay } = await associate(port);
  const [first, second] = [
    named("echo.test", target.port, "he"),
    named("echo.test", target.port, "llo"),
  ];
  first[2] = 1;
  second[2] = 0x82;
  client.send(first, relay);
  client.send(second, relay);
  await until(() => client.received.length === 1);
  expect(client.received[0]?.data).toEqual(datagram(target.port, "hello!"));
  client.send(datagram(9, "x", 1), relay);
  client.send(datagram(9, "x", 0x82), relay);
  await until(() => server.stats.datagramNotAllowed === 1);
});

test("destinations that the rules refuse are dropped and counted", async () => {
  const { server, port } = openServer({ allowPrivate: false });
  const target = await echo();
  const client = await new Port().bind();
  const { relay } = await associate(port);
  client.send(datagram(target.port, "x"), relay);
  client.send(Buffer.from([0, 0, 0, 1, 255, 255, 255, 255, 0, 9, 65]), relay);
  client.send(Buffer.from([0, 0, 0, 1, 169, 254, 169, 254, 0, 80, 65]), relay);
  await until(() => server.stats.datagramNotAllowed === 3);
  expect(target.received).toEqual([]);
});

test("a destination by name waits for its address, and later ones do not", async () => {
  let answer: (addresses: readonly string[]) => void = () => {};
  let asked = 0;
  const { server, port } = openServer(
    {},
    {
      lookup: (_name, done) => {
        asked++;
        answer = done;
      },
    },
  );
  const target = await echo();
  const client = await new Port().bind();
  const { relay } = await associate(port);
  for (let i = 0; i < 20; i++) client.send(named("echo.test", target.port, `${i}`), relay);
  await until(() => server.stats.datagramUnresolved === 4);
  answer(["127.0.0.1"]);
  await until(() => client.received.length === 16);
  expect(client.received[0]?.data).toEqual(datagram(target.port, "0!"));
  client.send(named("echo.test", target.port, "more"), relay);
  await until(() => client.received.length === 17);
  expect(asked).toBe(1);
  client.send(named("nowhere.test", target.port, "x"), relay);
  await until(() => asked === 2);
  answer([]);
  expect(server.stats.datagramUnresolved).toBe(5);
});

test("a batch of datagrams, large ones included, is passed on whole and in order", async () => {
  const { server, port } = openServer();
  const target = await echo();
  const client = await new Port().bind();
  const { relay } = await associate(port);
  client.send(datagram(target.port, "first"), relay);
  await until(() => client.received.length === 1);
  // Within the receive buffers of the test's own sockets (net.core.rmem_default).
  const sizes = Array.from({ length: 60 }, (_, i) => 1 + ((i * 997) % 1200));
  for (const size of sizes) client.send(datagram(target.port, "a".repeat(size)), relay);
  await until(() => client.received.length === 61);
  client.send(datagram(target.port, "b".repeat(65_000)), relay);
  await until(() => client.received.length === 62);
  expect(client.received.slice(1).map(({ data }) => data.length)).toEqual(
    [...sizes, 65_000].map((size) => 10 + size + 1),
  );
  expect(server.stats).toMatchObject({ datagramsOut: 62, datagramsIn: 62, datagramUnsent: 0 });
});

test("what the kernel has joined goes on whole and in order, both ways (UDP_GRO, UDP_SEGMENT)", async () => {
  const { server, port } = openServer();
  const client = new SegmentingSocket(memory);
  const target = new SegmentingSocket(memory);
  const { relay } = await associate(port);
  const texts = Array.from({ length: 150 }, (_, i) => `datagram ${i}`.padEnd(1000, "."));
  texts.push("the last is shorter");
  const at = new Int32Array(5);
  addon().localAddress(target.fd, at);
  const targetPort = at[4] as number;

  client.send(
    texts.map((text) => datagram(targetPort, text)),
    relay,
  );
  const came: Array<{ data: Buffer; port: number }> = [];
  await until(() => came.push(...target.take()) === texts.length);
  expect(came.map(({ data }) => data.toString())).toEqual(texts);

  target.send(
    came.map(({ data }) => data),
    came[0]?.port as number,
  );
  const back: Array<{ data: Buffer; port: number }> = [];
  await until(() => back.push(...client.take()) === texts.length);
  expect(back.map(({ data }) => data)).toEqual(texts.map((text) => datagram(targetPort, text)));
  expect(new Set(back.map((each) => each.port))).toEqual(new Set([relay]));
  expect(server.stats).toMatchObject({ datagramsOut: 151, datagramsIn: 151, datagramUnsent: 0 });
  client.close();
  target.close();
});

test("without room in the turn's arena the scratch serves", async () => {
  const { port } = openServer();
  const target = await echo();
  const client = await new Port().bind();
  const { relay } = await associate(port);
  const { datagrams } = memory;
  for (let i = 0; i < 10; i++) client.send(datagram(target.port, `${i}`), relay);
  await until(() => {
    datagrams.next = datagrams.end;
    return client.received.length === 10;
  });
  datagrams.clear();
  expect(client.received[9]?.data).toEqual(datagram(target.port, "9!"));
});

test("a datagram too large to pass on is dropped, the ones behind it are not", async () => {
  const { server, port } = openServer();
  const target = await echo();
  const client = await new Port().bind();
  const { relay } = await associate(port);
  client.send(datagram(target.port, "first"), relay);
  await until(() => client.received.length === 1);
  // 65,507 octets are the most over IPv4; the header of the answer makes it more.
  client.send(datagram(target.port, "c".repeat(65_497)), relay);
  client.send(datagram(target.port, "last"), relay);
  await until(() => client.received.length === 2);
  expect(client.received[1]?.data).toEqual(datagram(target.port, "last!"));
  expect(server.stats.datagramUnsent).toBe(1);
});

test("a translating server answers under the address that was asked for", async () => {
  const translate = (destination: Endpoint): void => {
    destination.set(0, 0, 0xffff, 0x7f000001, destination.port);
  };
  const { port } = openServer({ translate });
  const target = await echo();
  const client = await new Port().bind();
  const { relay } = await associate(port);
  const asked = Buffer.from([0, 0, 0, 1, 192, 0, 2, 1, target.port >> 8, target.port & 255]);
  client.send(Buffer.concat([asked, Buffer.from("x")]), relay);
  await until(() => client.received.length === 1);
  expect(client.received[0]?.data).toEqual(Buffer.concat([asked, Buffer.from("x!")]));
});

test("the association ends with its control connection, and its sockets with it", async () => {
  const { server, port } = openServer();
  const before = openDescriptors();
  const { control } = await associate(port);
  expect(openDescriptors()).toBe(before + 4);
  control.socket.end();
  await until(() => server.stats.activeAssociations === 0);
  control.socket.destroy();
  await until(() => openDescriptors() === before);
});

test("an idle association ends, a busy one does not", async () => {
  const { server, port } = openServer();
  const target = await echo();
  const client = await new Port().bind();
  const { relay } = await associate(port);
  const idle = await associate(port);
  advance(UDP_IDLE - 1000);
  client.send(datagram(target.port, "x"), relay);
  await until(() => client.received.length === 1);
  advance(2000);
  expect(server.stats.activeAssociations).toBe(1);
  expect(await idle.control.outcome()).toBe("end");
  advance(UDP_IDLE);
  expect(server.stats.activeAssociations).toBe(0);
  const hasty = openServer({ udpIdle: 1000 });
  await associate(hasty.port);
  advance(1020);
  expect(hasty.server.stats.activeAssociations).toBe(0);
});

test("associations beyond the bound are refused with 01", async () => {
  const { server, port } = openServer();
  const all = await Promise.all(Array.from({ length: MAX_ASSOCIATIONS }, () => associate(port)));
  expect(all.every(({ reply }) => reply[3] === 0)).toBe(true);
  const { reply } = await associate(port);
  expect(reply[3]).toBe(1);
  expect(server.stats).toMatchObject({
    activeAssociations: MAX_ASSOCIATIONS,
    associationsFull: 1,
  });
});
