import { execFileSync } from "node:child_process";
import { closeSync, openSync, readdirSync } from "node:fs";
import { constants } from "node:os";
import { afterEach, expect, test } from "vitest";
import { TunnelError } from "../../src/errors.ts";
import { type AccessRule, parseAccessRule } from "../../src/socks/access-rules.ts";
import { SLOT_OCTETS } from "../../src/socks/buffers.ts";
import { MAX_ASKED, MAX_PER_CLIENT, MAX_WAITING } from "../../src/socks/name-resolver.ts";
import { LINGER, NEGOTIATION } from "../../src/socks/server-connection.ts";
import { ATTEMPT, CONNECTING } from "../../src/socks/server-dial.ts";
import { replyOfErrno } from "../../src/socks/server-errno.ts";
import { parseAddress } from "../../src/stack/wire/address.ts";
import {
  advance,
  Client,
  closeAll,
  closedPort,
  connected,
  deafPort,
  GREETING,
  listen,
  memory,
  openDescriptors,
  openServer,
  request,
  timers,
  turns,
  until,
  wakeUps,
} from "./server-harness.ts";

afterEach(closeAll);

const echo = (): Promise<number> => listen((socket) => socket.pipe(socket));

test("CONNECT is granted with the bound address, and octets flow both ways (RFC 1928 §6)", async () => {
  const { server, port } = openServer();
  const target = await echo();
  const client = new Client(port);
  client.write(...GREETING);
  expect(await client.take(2)).toEqual([5, 0]);
  client.write(...request(target));
  const reply = await client.take(10);
  expect(reply?.slice(0, 8)).toEqual([5, 0, 0, 1, 127, 0, 0, 1]);
  client.write(1, 2, 3);
  expect(await client.take(3)).toEqual([1, 2, 3]);
  expect(server.stats).toMatchObject({ accepted: 1, granted: 1, clientOctets: 3, targetOctets: 3 });
});

test("messages are understood octet by octet", async () => {
  const users = new Map([["user", "password"]]);
  const { port } = openServer({ credentials: users });
  const target = await echo();
  const client = new Client(port);
  const credentials = [1, 4, ...Buffer.from("user"), 8, ...Buffer.from("password")];
  const answers: number[] = [];
  for (const octet of [5, 2, 0, 2, ...credentials, ...request(target)]) {
    client.write(octet);
    await new Promise((resolve) => setImmediate(resolve));
  }
  answers.push(...((await client.take(14)) ?? []));
  expect(answers.slice(0, 8)).toEqual([5, 2, 1, 0, 5, 0, 0, 1]);
});

test("greeting, credentials, request and early data may come in one segment", async () => {
  const users = new Map([["u", "p"]]);
  const { port } = openServer({ credentials: users });
  const target = await echo();
  const client = new Client(port);
  client.write(5, 1, 2, 1, 1, 117, 1, 112, ...request(target), 7, 8, 9);
  expect((await client.take(14))?.slice(0, 6)).toEqual([5, 2, 1, 0, 5, 0]);
  expect(await client.take(3)).toEqual([7, 8, 9]);
});

test("early data longer than the server keeps is delivered whole", async () => {
  const { port } = openServer();
  const target = await echo();
  const client = new Client(port);
  const data = Buffer.alloc(300_000, "early");
  client.socket.write(Buffer.concat([Buffer.from([...GREETING, ...request(target)]), data]));
  await client.take(12);
  expect(Buffer.from((await client.take(data.length)) ?? []).equals(data)).toBe(true);
});

test("early data and its end of stream reach the target before the reply was read", async () => {
  const { port } = openServer();
  const target = await listen((socket) => {
    const chunks: Buffer[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("end", () => socket.end(Buffer.concat([...chunks, Buffer.from("!")])));
  });
  const client = new Client(port);
  client.socket.end(Buffer.from([...GREETING, ...request(target), 65]));
  expect(await client.take(14)).toEqual(expect.arrayContaining([65, 33]));
  expect(await client.outcome()).toBe("end");
});

test("a client of no version of SOCKS is closed without an answer", async () => {
  const { server, port } = openServer();
  for (const first of [3, 71, 0]) {
    const client = new Client(port);
    client.write(first, 1);
    await until(() => client.ended || client.closed);
    expect(client.received.length).toBe(0);
  }
  expect(server.stats.negotiationMalformed).toBe(3);
});

test("no acceptable method is answered with FF (RFC 1928 §3)", async () => {
  const open = openServer();
  const closed = openServer({ credentials: new Map([["u", "p"]]) });
  for (const { port, offer } of [
    { port: open.port, offer: [5, 1, 2] },
    { port: closed.port, offer: [5, 2, 0, 1] },
    { port: closed.port, offer: [5, 0] },
  ]) {
    const client = new Client(port);
    client.write(...offer);
    expect(await client.take(2)).toEqual([5, 255]);
    expect(await client.outcome()).toBe("end");
  }
  expect(closed.server.stats.methodRefused).toBe(2);
});

test("a wrong user or password is answered with a failure and a close (RFC 1929 §2)", async () => {
  const { server, port } = openServer({ credentials: new Map([["user", "right"]]) });
  for (const [user, password] of [
    ["user", "wrong"],
    ["user", "right\0"],
    ["user", "righ"],
    ["nobody", "right"],
    ["", ""],
  ] as const) {
    const client = new Client(port);
    const text = (value: string): number[] => [value.length, ...Buffer.from(value)];
    client.write(5, 1, 2, 1, ...text(user), ...text(password));
    expect(await client.take(4)).toEqual([5, 2, 1, 1]);
    expect(await client.outcome()).toBe("end");
  }
  expect(server.stats.passwordRefused).toBe(5);
});

test("unknown commands get 07, an unknown address type 08 (RFC 1928 §6)", async () => {
  const { port } = openServer();
  for (const [message, reply] of [
    [request(80, 0), 7],
    [request(80, 9), 7],
    [[5, 1, 0, 2, 0, 0], 8],
  ] as const) {
    const client = new Client(port);
    client.write(...GREETING, ...message);
    expect((await client.take(12))?.slice(2)).toEqual([5, reply, 0, 1, 0, 0, 0, 0, 0, 0]);
    expect(await client.outcome()).toBe("end");
  }
});

test("a closed port gets 05, and the reply survives what the client still sends", async () => {
  const { server, port } = openServer();
  const unused = await closedPort();
  const client = new Client(port);
  client.socket.write(Buffer.from([...GREETING, ...request(unused)]));
  client.socket.write(Buffer.alloc(60_000));
  expect((await client.take(12))?.[3]).toBe(5);
  expect(await client.outcome()).toBe("end");
  client.socket.end();
  await until(() => server.stats.activeConnections === 0);
});

test("a client that says nothing is closed after the negotiation deadline", async () => {
  const { server, port } = openServer();
  const clients = [new Client(port), new Client(port), new Client(port)];
  clients[1]?.write(5);
  clients[2]?.write(...GREETING, 5, 1, 0, 1);
  await clients[2]?.take(2);
  await until(() => server.stats.accepted === 3);
  advance(NEGOTIATION - 20);
  expect(server.stats.activeConnections).toBe(3);
  advance(40);
  expect(server.stats).toMatchObject({ activeConnections: 0, negotiationTimeouts: 3 });
});

test("a refused client that does not close is closed", async () => {
  const { server, port } = openServer();
  const client = new Client(port);
  client.write(5, 1, 2);
  expect(await client.take(2)).toEqual([5, 255]);
  expect(server.stats.activeConnections).toBe(1);
  advance(LINGER + 20);
  expect(server.stats.activeConnections).toBe(0);
});

test("a client that leaves in the middle of negotiation is forgotten, gone by FIN or by RST", async () => {
  const { server, port } = openServer();
  for (const leave of ["end", "resetAndDestroy"] as const) {
    const client = new Client(port);
    client.write(...GREETING);
    await client.take(2);
    client.socket[leave]();
    await until(() => server.stats.activeConnections === 0);
  }
  expect(server.stats.negotiationClosed).toBe(2);
});

test("names are resolved, their addresses tried in order, and the first that answers is used", async () => {
  const asked: string[] = [];
  const { port } = openServer(
    {},
    {
      lookup: (name, done) => {
        asked.push(name);
        setImmediate(done, ["127.0.0.3", "::1", "127.0.0.1"]);
      },
    },
  );
  const target = await listen((socket) => socket.end("hello"), "127.0.0.1");
  const client = new Client(port);
  const name = Buffer.from("Example.test");
  client.write(...GREETING, 5, 1, 0, 3, name.length, ...name, target >> 8, target & 255);
  expect((await client.take(12))?.[3]).toBe(0);
  expect(Buffer.from((await client.take(5)) ?? []).toString()).toBe("hello");
  expect(asked).toEqual(["Example.test"]);
});

test("the system's resolver knows localhost", async () => {
  const { port } = openServer();
  const target = await listen((socket) => socket.end("hello"), "localhost");
  const client = new Client(port);
  const name = Buffer.from("localhost");
  client.write(...GREETING, 5, 1, 0, 3, name.length, ...name, target >> 8, target & 255);
  expect((await client.take(12))?.[3]).toBe(0);
});

test("a name without address, an empty one and one that cannot be asked for get 04", async () => {
  const { server, port } = openServer({}, { lookup: (_name, done) => setImmediate(done, []) });
  for (const name of ["nowhere.test", "", "a\0b", "a b"]) {
    const client = new Client(port);
    client.write(...GREETING, 5, 1, 0, 3, name.length, ...Buffer.from(name), 0, 80);
    expect((await client.take(12))?.slice(2, 4)).toEqual([5, 4]);
  }
  expect(server.stats.failed).toBe(4);
});

test("a resolver that never answers is given up at the deadline with 04", async () => {
  const { server, port } = openServer({}, { lookup: () => {} });
  const client = new Client(port);
  client.write(...GREETING, 5, 1, 0, 3, 1, 65, 0, 80);
  await until(() => server.names.inFlight === 1);
  advance(CONNECTING + 20);
  expect((await client.take(12))?.[3]).toBe(4);
});

test("an address that does not answer gives way to the next, the last one to 04 at the deadline", async () => {
  // A listener whose queue is full drops SYNs: an address that does not answer, on loopback.
  const deaf = await deafPort();
  const { server, port } = openServer(
    {},
    { lookup: (_name, done) => setImmediate(done, ["127.0.0.1", "127.0.0.1"]) },
  );
  const client = new Client(port);
  client.write(...GREETING, 5, 1, 0, 3, 1, 65, deaf.port >> 8, deaf.port & 255);
  await until(() => server.names.inFlight === 0 && server.stats.accepted === 1);
  await client.take(2);
  advance(ATTEMPT + 20);
  expect(server.stats.failed).toBe(0);
  advance(CONNECTING);
  expect((await client.take(10))?.[1]).toBe(4);
  deaf.close();
});

test("an address that the rules refuse does not answer for one that is silent", async () => {
  const deaf = await deafPort();
  const { server, port } = openServer(
    { rules: [parseAccessRule(false, "127.0.0.2") as AccessRule] },
    { lookup: (_name, done) => setImmediate(done, ["127.0.0.2", "127.0.0.1"]) },
  );
  const client = new Client(port);
  client.write(...GREETING, 5, 1, 0, 3, 1, 65, deaf.port >> 8, deaf.port & 255);
  await client.take(2);
  await until(() => server.names.inFlight === 0);
  advance(CONNECTING + 20);
  expect((await client.take(10))?.[1]).toBe(4);
  deaf.close();
});

test("a client that gives up while its target is awaited takes the dial with it", async () => {
  const deaf = await deafPort();
  const { server, port } = openServer();
  for (const leave of ["end", "resetAndDestroy"] as const) {
    const before = openDescriptors();
    const client = new Client(port);
    client.write(...GREETING, ...request(deaf.port));
    await client.take(2);
    await until(() => openDescriptors() >= before + 3);
    client.socket[leave]();
    await until(() => server.stats.activeConnections === 0);
    client.socket.destroy();
    await until(() => openDescriptors() === before);
  }
  expect(server.stats.abandoned).toBe(2);
  deaf.close();
});

test("lookups beyond the bound are refused with 01", async () => {
  const { server } = openServer({}, { lookup: () => {} });
  const handler = { onAddresses: () => {} };
  for (let i = 0; i < MAX_WAITING + 256; i++) {
    expect(server.names.resolve(`name-${i}`, handler)).toBe(true);
  }
  expect(server.names.resolve("one-more", handler)).toBe(false);
  expect(server.names).toMatchObject({ inFlight: 256, refused: 1 });
});

test("equal names share one lookup, and waiting names follow", () => {
  const done: Array<() => void> = [];
  const { server } = openServer(
    {},
    { lookup: (_name, answer) => done.push(() => answer(["192.0.2.1"])) },
  );
  const got: number[] = [];
  for (let i = 0; i < 300; i++) {
    server.names.resolve(`name-${i >> 1}`, { onAddresses: (list) => got.push(list.length) });
  }
  expect(done.length).toBe(150);
  for (let i = 150; i < 300; i++) server.names.resolve(`name-${i}`, { onAddresses: () => {} });
  expect(done.length).toBe(256);
  for (let i = 0; i < 300; i++) done[i]?.();
  expect(got).toEqual(new Array(300).fill(1));
  expect(server.names.inFlight).toBe(0);
});

test("names that nobody answers keep only their own client waiting", () => {
  const begun: string[] = [];
  const { server } = openServer({}, { lookup: (name) => begun.push(name) });
  const ask = (name: string, client: string): void => {
    const endpoint = parseAddress(client);
    server.names.resolve(name, { onAddresses: () => {} }, endpoint);
  };
  for (let i = 0; i < 300; i++) ask(`dead-${i}`, "192.0.2.1");
  expect(begun.length).toBe(MAX_PER_CLIENT);
  ask("alive-4", "192.0.2.2");
  ask("alive-6", "2001:db8::1");
  expect(begun.slice(MAX_PER_CLIENT)).toEqual(["alive-4", "alive-6"]);
});

test("one client has three quarters of the questions, and gets back what was answered", () => {
  const begun: Array<() => void> = [];
  const { server } = openServer({}, { lookup: (_name, done) => begun.push(() => done([])) });
  const ask = (name: string, client: string): boolean =>
    server.names.resolve(name, { onAddresses: () => {} }, parseAddress(client));
  for (let i = 0; i < MAX_ASKED; i++) expect(ask(`dead-${i >> 1}`, "192.0.2.1")).toBe(true);
  expect(ask("one-more", "192.0.2.1")).toBe(false);
  expect(ask("one-more", "192.0.2.2")).toBe(true);
  begun[0]?.();
  expect(ask("two-more", "192.0.2.1")).toBe(true);
  expect(ask("two-more", "192.0.2.1")).toBe(true);
  expect(ask("two-more", "192.0.2.1")).toBe(false);
  expect(server.names.refused).toBe(2);
});

test("a name that waits for another client's turn is asked for in one's own, once for both", () => {
  const begun: Array<{ name: string; answer: () => void }> = [];
  const { server } = openServer(
    {},
    { lookup: (name, done) => begun.push({ name, answer: () => done(["192.0.2.3"]) }) },
  );
  const told: string[] = [];
  const ask = (name: string, client: string): void => {
    const handler = { onAddresses: () => told.push(`${client} ${name}`) };
    server.names.resolve(name, handler, parseAddress(client));
  };
  for (let i = 0; i < MAX_PER_CLIENT; i++) ask(`dead-${i}`, "192.0.2.1");
  ask("example.com", "192.0.2.1");
  expect(begun.length).toBe(MAX_PER_CLIENT);
  ask("example.com", "192.0.2.2");
  begun[MAX_PER_CLIENT]?.answer();
  begun[0]?.answer();
  expect(told).toEqual(["192.0.2.1 example.com", "192.0.2.2 example.com", "192.0.2.1 dead-0"]);
  expect(begun.slice(MAX_PER_CLIENT).map(({ name }) => name)).toEqual(["example.com"]);
});

test("clients take turns at the resolver", () => {
  const begun: Array<{ name: string; answer: () => void }> = [];
  const { server } = openServer(
    {},
    { lookup: (name, done) => begun.push({ name, answer: () => done([]) }) },
  );
  const handler = { onAddresses: () => {} };
  for (let i = 0; i < 256; i++) server.names.resolve(`first-${i}`, handler);
  for (const client of ["192.0.2.1", "192.0.2.2"]) {
    for (let i = 0; i < 3; i++) {
      server.names.resolve(`${client} ${i}`, handler, parseAddress(client));
    }
  }
  for (let i = 0; i < 6; i++) begun[i]?.answer();
  expect(begun.slice(256).map(({ name }) => name)).toEqual([
    "192.0.2.1 0",
    "192.0.2.2 0",
    "192.0.2.1 1",
    "192.0.2.2 1",
    "192.0.2.1 2",
    "192.0.2.2 2",
  ]);
});

test("at the bound new clients wait, and are served when another leaves", async () => {
  const { server, port } = openServer({}, { pagesEnd: memory.pagesStart + 4 * SLOT_OCTETS });
  expect(server.maxConnections).toBe(2);
  const clients = [new Client(port), new Client(port), new Client(port)];
  await until(() => server.stats.acceptFull === 1);
  for (const client of clients) client.write(...GREETING);
  expect(await clients[0]?.take(2)).toEqual([5, 0]);
  expect(await clients[1]?.take(2)).toEqual([5, 0]);
  expect(server.stats).toMatchObject({ accepted: 2, activeConnections: 2 });
  clients[0]?.socket.destroy();
  expect(await clients[2]?.take(2)).toEqual([5, 0]);
  expect(server.stats).toMatchObject({ accepted: 3, activeConnections: 2 });
});

test("a lower bound than memory sets is kept", async () => {
  const { server, port } = openServer({ maxClients: 1 });
  expect(server.maxConnections).toBe(1);
  const clients = [new Client(port), new Client(port)];
  await until(() => server.stats.acceptFull === 1);
  clients[0]?.socket.destroy();
  clients[1]?.write(...GREETING);
  expect(await clients[1]?.take(2)).toEqual([5, 0]);
});

test("without descriptors accepting pauses without spinning, and goes on when there are some", async () => {
  const { server, port } = openServer();
  // A first connection loads what Node.js itself opens for one.
  const first = new Client(port);
  first.write(...GREETING);
  await first.take(2);
  const clients = [new Client(port), new Client(port)];
  // Node.js opens their sockets in the next tick; the server accepts in the next turn.
  await new Promise<void>((resolve) => process.nextTick(resolve));
  // Every number up to the limit is taken, and closing the reserve leaves enough to start prlimit once more.
  const highest = Math.max(...readdirSync("/proc/self/fd").map(Number));
  const reserve: number[] = [];
  while ((reserve.at(-1) ?? 0) < highest + SPAWN_DESCRIPTORS) {
    reserve.push(openSync("/dev/null", "r"));
  }
  const { soft } = limitDescriptors((reserve.at(-1) ?? 0) + 1);
  try {
    await until(() => server.stats.acceptExhausted === 1);
    const before = wakeUps();
    await turns(500);
    expect(wakeUps() - before).toBeLessThan(5);
    advance(120);
    await until(() => server.stats.acceptExhausted === 2);
    // A client that leaves gives its descriptor to the next at once, and its own here to the one after that.
    first.socket.destroy();
    await until(() => server.stats.accepted === 3);
  } finally {
    for (const fd of reserve) closeSync(fd);
    limitDescriptors(soft);
  }
  for (const client of clients) {
    client.write(...GREETING);
    expect(await client.take(2)).toEqual([5, 0]);
  }
  expect(server.stats.accepted).toBe(3);
});

/** More than Node.js needs to start a process. */
const SPAWN_DESCRIPTORS = 32;

/** Sets this process's soft RLIMIT_NOFILE; returns the one before. */
function limitDescriptors(limit: number): { soft: number } {
  const pid = String(process.pid);
  const shown = execFileSync("prlimit", ["--pid", pid, "--nofile", "--noheadings", "-o", "SOFT"]);
  execFileSync("prlimit", ["--pid", pid, `--nofile=${limit}:`]);
  return { soft: Number(shown) };
}

test("closing the server closes every descriptor and timer, in whatever state its clients are", async () => {
  const before = openDescriptors();
  const deaf = await deafPort();
  const target = await echo();
  const { server, port } = openServer({}, { lookup: () => {} });
  const associate = new Client(port);
  associate.write(...GREETING, ...request(0, 3));
  await associate.take(12);
  const waiting = [
    new Client(port),
    new Client(port),
    new Client(port),
    await connected(port, target),
  ];
  waiting[0]?.write(5);
  waiting[1]?.write(...GREETING, ...request(deaf.port));
  waiting[2]?.write(...GREETING, 5, 1, 0, 3, 1, 65, 0, 80);
  await until(() => server.stats.accepted === 5 && server.names.inFlight === 1);
  server.close();
  server.close();
  deaf.close();
  expect(server.stats).toMatchObject({ activeConnections: 0, activeAssociations: 0 });
  expect(server.slots.lent).toBe(0);
  await closeAll();
  await until(() => openDescriptors() <= before);
  expect(timers.next()).toBe(-1);
});

test("listening beyond loopback without credentials needs a word", () => {
  for (const address of ["0.0.0.0", "::", "192.0.2.1"]) {
    expect(() => openServer({ address })).toThrowError(
      expect.objectContaining({
        code: "ERR_PROXY_OPEN",
        message: expect.stringContaining("--open"),
      }),
    );
  }
  openServer({ address: "0.0.0.0", open: true });
  openServer({ address: "::", credentials: new Map([["u", "p"]]) });
  openServer({ address: "127.9.9.9" });
});

test("a port in use, an address of others and a text that is none are one line each", () => {
  const { port } = openServer();
  for (const [options, text] of [
    [{ port }, "another program has the port"],
    [{ address: "192.0.2.1", open: true }, "no such address"],
    [{ address: "localhost" }, "not an IPv4 or IPv6 address"],
  ] as const) {
    try {
      openServer(options);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(TunnelError);
      expect((error as TunnelError).code).toBe("ERR_PROXY_LISTEN");
      expect((error as TunnelError).message).toContain(text);
      expect((error as TunnelError).message).not.toContain("\n");
    }
  }
});

test("errno of connect becomes the REP that says most", () => {
  const { ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT, EACCES, EPERM, EMFILE } =
    constants.errno;
  const replies = [ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT, EACCES, EPERM, EMFILE];
  expect(replies.map(replyOfErrno)).toEqual([5, 3, 4, 4, 2, 2, 1]);
  expect(replyOfErrno(constants.errno.EAFNOSUPPORT)).toBe(8);
});
