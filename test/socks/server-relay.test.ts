import { createHash, randomFillSync } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { SLOT_OCTETS } from "../../src/socks/buffers.ts";
import {
  advance,
  Client,
  closeAll,
  connected,
  GREETING,
  listen,
  openDescriptors,
  openServer,
  request,
  turns,
  until,
  wakeUps,
} from "./server-harness.ts";

afterEach(closeAll);

const LARGE = 64 << 20;

function randomOctets(length: number): Buffer {
  return randomFillSync(Buffer.allocUnsafe(length));
}

function sha256(data: Buffer | readonly Buffer[]): string {
  const hash = createHash("sha256");
  for (const chunk of Array.isArray(data) ? data : [data]) hash.update(chunk);
  return hash.digest("hex");
}

/** A target whose one socket the test holds. */
async function heldTarget(): Promise<{ port: number; socket: Promise<Socket> }> {
  let found: (socket: Socket) => void;
  const socket = new Promise<Socket>((resolve) => {
    found = resolve;
  });
  const port = await listen((accepted) => {
    accepted.pause();
    found(accepted);
  });
  return { port, socket };
}

/** Writes until the kernel and the server take no more for a while; returns the octets written. */
async function fill(socket: Socket): Promise<number> {
  const chunk = Buffer.alloc(1 << 20);
  let idle = 0;
  let taken = 0;
  for (let turns = 0; turns < 100_000 && idle < 2000; turns++) {
    if (socket.writableLength < chunk.length) {
      socket.write(chunk);
      taken += chunk.length;
      idle = 0;
    }
    await new Promise((resolve) => setImmediate(resolve));
    idle++;
  }
  return taken;
}

test("64 MiB each way at the same time arrive unchanged", async () => {
  const { server, port } = openServer();
  const up = randomOctets(LARGE);
  const down = randomOctets(LARGE);
  const arrived: Buffer[] = [];
  const target = await listen((socket) => {
    socket.on("data", (chunk) => arrived.push(chunk));
    socket.end(down);
  });
  const client = await connected(port, target);
  client.socket.removeAllListeners("data");
  const received: Buffer[] = [client.received];
  client.socket.on("data", (chunk: Buffer) => received.push(chunk));
  client.socket.end(up);
  await client.outcome();
  await until(() => server.stats.activeConnections === 0);
  expect(sha256(received)).toBe(sha256(down));
  await until(() => arrived.reduce((sum, chunk) => sum + chunk.length, 0) === LARGE);
  expect(sha256(arrived)).toBe(sha256(up));
  expect(server.stats).toMatchObject({ clientOctets: LARGE, targetOctets: LARGE });
  expect(server.slots.lent).toBe(0);
});

test("a client that ended its stream still receives (half-close)", async () => {
  const { server, port } = openServer();
  const target = await listen((socket) => {
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk;
    });
    socket.on("end", () => socket.end(`got ${text}`));
  });
  const client = await connected(port, target);
  client.socket.end("question");
  expect(Buffer.from((await client.take(12)) ?? []).toString()).toBe("got question");
  expect(await client.outcome()).toBe("end");
  await until(() => server.stats.activeConnections === 0);
});

test("a target that ended its stream still receives (half-close)", async () => {
  const { server, port } = openServer();
  const arrived: Buffer[] = [];
  const target = await listen((socket) => {
    socket.end("done");
    socket.on("data", (chunk) => arrived.push(chunk));
  });
  const client = await connected(port, target);
  expect(await client.outcome()).toBe("end");
  expect(client.received.toString()).toBe("done");
  client.socket.write("more");
  await until(() => Buffer.concat(arrived).toString() === "more");
  expect(server.stats.activeConnections).toBe(1);
  client.socket.end(" and more");
  await until(() => server.stats.activeConnections === 0);
  await until(() => Buffer.concat(arrived).toString() === "more and more");
});

test("a reset by the target resets the client, after what was sent before it", async () => {
  const { server, port } = openServer();
  const target = await heldTarget();
  const client = await connected(port, target.port);
  const socket = await target.socket;
  socket.write("last words");
  await until(() => server.stats.targetOctets === 10);
  socket.resetAndDestroy();
  expect(await client.outcome()).toBe("ECONNRESET");
  expect(client.received.toString()).toBe("last words");
  expect(server.stats).toMatchObject({ resets: 1, activeConnections: 0 });
});

test("a reset by the client resets the target", async () => {
  const { server, port } = openServer();
  const target = await heldTarget();
  const client = await connected(port, target.port);
  const socket = await target.socket;
  const failed = once(socket, "error");
  socket.resume();
  client.socket.resetAndDestroy();
  expect((await failed)[0]).toMatchObject({ code: "ECONNRESET" });
  expect(server.stats).toMatchObject({ resets: 1, activeConnections: 0 });
});

test("a reset after the target's end of stream reaches the client too", async () => {
  const { server, port } = openServer();
  const target = await heldTarget();
  const client = await connected(port, target.port);
  const socket = await target.socket;
  socket.end("part");
  await until(() => client.ended);
  client.socket.write("unread");
  await until(() => server.stats.clientOctets === 6);
  socket.resetAndDestroy();
  await until(() => server.stats.activeConnections === 0);
  expect(server.stats.resets).toBe(1);
  // Node.js reads no more after the end of stream: writing shows that the connection is gone.
  await until(() => {
    client.socket.write("x");
    return client.error !== null;
  });
  expect(client.received.toString()).toBe("part");
});

test("a slow reader is reset only when it has read everything that came before the reset", async () => {
  const { server, port } = openServer();
  const target = await heldTarget();
  const client = await connected(port, target.port);
  client.socket.pause();
  const socket = await target.socket;
  const data = randomOctets(8 << 20);
  socket.write(data);
  // As much as fits is on the way; then the target dies.
  await until(() => server.slots.lent === 1);
  socket.resetAndDestroy();
  await turns(200);
  advance(1000);
  expect(server.stats.activeConnections).toBe(1);
  client.socket.resume();
  const { stats } = server;
  await until(() => stats.resets === 1 && client.received.length === stats.targetOctets);
  await until(() => {
    advance(10);
    return client.error !== null;
  });
  expect(client.error?.code).toBe("ECONNRESET");
  expect(client.received.length).toBe(server.stats.targetOctets);
  expect(client.received.equals(data.subarray(0, client.received.length))).toBe(true);
  expect(server.slots.lent).toBe(0);
});

test("a reader that stops reading is reset all the same after a while", async () => {
  const { server, port } = openServer();
  const target = await heldTarget();
  const client = await connected(port, target.port);
  client.socket.pause();
  const socket = await target.socket;
  // More than the client's receive buffer takes, less than the server's send buffer.
  const size = 250_000;
  socket.write(Buffer.alloc(size));
  await until(() => server.stats.targetOctets === size);
  expect(server.slots.lent).toBe(0);
  socket.resetAndDestroy();
  await until(() => server.stats.resets === 1);
  advance(9000);
  expect(server.stats.activeConnections).toBe(1);
  advance(1100);
  expect(server.stats.activeConnections).toBe(0);
});

test("a slow reader costs one slot, pauses the sender, and loses nothing", async () => {
  const { server, port } = openServer();
  const target = await heldTarget();
  const client = await connected(port, target.port);
  client.socket.pause();
  const written = await fill(await target.socket);
  expect(server.slots.lent).toBe(1);
  const before = server.stats.targetOctets;
  await new Promise((resolve) => setImmediate(resolve));
  expect(server.stats.targetOctets).toBe(before);
  expect(written - before).toBeGreaterThan(0);
  (await target.socket).end();
  client.socket.removeAllListeners("data");
  let received = client.received.length;
  client.socket.on("data", (chunk: Buffer) => {
    received += chunk.length;
  });
  client.socket.resume();
  await client.outcome();
  expect(received).toBe(written);
  expect(server.slots.lent).toBe(0);
});

test("both readers slow cost two slots, and both directions finish", async () => {
  const { server, port } = openServer();
  const target = await heldTarget();
  const client = await connected(port, target.port);
  client.socket.pause();
  const socket = await target.socket;
  const [down, up] = await Promise.all([fill(socket), fill(client.socket)]);
  expect(server.slots.lent).toBe(2);
  let upward = 0;
  let downward = client.received.length;
  client.socket.removeAllListeners("data");
  client.socket.on("data", (chunk: Buffer) => {
    downward += chunk.length;
  });
  socket.on("data", (chunk: Buffer) => {
    upward += chunk.length;
  });
  client.socket.end();
  socket.end();
  client.socket.resume();
  socket.resume();
  await until(() => server.stats.activeConnections === 0);
  await until(() => upward === up && downward === down);
  expect(server.slots.lent).toBe(0);
});

test("a reader that is reset while octets wait for it resets the sender", async () => {
  const { server, port } = openServer();
  const target = await heldTarget();
  const client = await connected(port, target.port);
  client.socket.pause();
  const socket = await target.socket;
  await fill(socket);
  const failed = once(socket, "error");
  client.socket.resetAndDestroy();
  await failed;
  await until(() => server.stats.activeConnections === 0);
  expect(server.slots.lent).toBe(0);
});

test("a connection whose sender died behind a paused reader causes no wake-ups", async () => {
  const { server, port } = openServer();
  const target = await heldTarget();
  const client = await connected(port, target.port);
  client.socket.pause();
  const socket = await target.socket;
  await fill(socket);
  socket.resetAndDestroy();
  await turns(200);
  const before = wakeUps();
  await turns(500);
  expect(wakeUps() - before).toBeLessThan(5);
  expect(server.slots.lent).toBe(1);
});

test("a connection that ended one way and is silent the other causes no wake-ups", async () => {
  const { server, port } = openServer();
  const target = await heldTarget();
  const client = await connected(port, target.port);
  client.socket.end();
  (await target.socket).resume();
  await turns(100);
  const before = wakeUps();
  await turns(500);
  expect(wakeUps() - before).toBeLessThan(5);
  expect(server.stats.activeConnections).toBe(1);
});

test("2,000 clients at a time are served, and leave no descriptor behind", async () => {
  const before = openDescriptors();
  const { server, port } = openServer();
  const target = await listen((socket) => socket.pipe(socket));
  const clients: Client[] = [];
  for (let i = 0; i < 2000; i++) clients.push(new Client(port));
  const payload = randomOctets(1000);
  await Promise.all(
    clients.map(async (client) => {
      client.write(...GREETING, ...request(target));
      expect((await client.take(12))?.[3]).toBe(0);
    }),
  );
  expect(server.stats.activeConnections).toBe(2000);
  await Promise.all(
    clients.map(async (client) => {
      client.socket.write(payload);
      const echoed = await client.take(payload.length);
      expect(payload.equals(Buffer.from(echoed ?? []))).toBe(true);
      client.socket.end();
      expect(await client.outcome()).toBe("end");
    }),
  );
  await until(() => server.stats.activeConnections === 0);
  expect(server.slots.lent).toBe(0);
  await closeAll();
  await until(() => openDescriptors() <= before);
});

test("slots unused for a while go back to the system", async () => {
  const { server, port } = openServer();
  const target = await heldTarget();
  const client = await connected(port, target.port);
  client.socket.pause();
  await fill(await target.socket);
  const { addon } = await import("../../src/native/binding.ts");
  const full = addon().resident();
  client.socket.resetAndDestroy();
  await until(() => server.slots.lent === 0);
  for (let i = 0; i < 3; i++) advance(5000);
  expect(full - addon().resident()).toBeGreaterThanOrEqual(SLOT_OCTETS);
});

test("silence of both ends closes a connection by resets, and octets either way put it off", async () => {
  const { server, port } = openServer({ tcpIdle: 60_000, tcpHalfClosed: 10_000 });
  const target = await heldTarget();
  const client = await connected(port, target.port);
  const socket = await target.socket;
  socket.resume();
  advance(59_000);
  client.write(1);
  await until(() => server.stats.clientOctets === 1);
  advance(59_000);
  socket.write("x");
  await client.take(1);
  advance(59_000);
  expect(server.stats.activeConnections).toBe(1);
  const failed = once(socket, "error");
  advance(1020);
  expect(server.stats).toMatchObject({ activeConnections: 0, idleEnded: 1, halfClosedEnded: 0 });
  expect(await client.outcome()).toBe("ECONNRESET");
  expect((await failed)[0]).toMatchObject({ code: "ECONNRESET" });
});

test("a connection that one side has finished ends sooner", async () => {
  const { server, port } = openServer({ tcpIdle: 60_000, tcpHalfClosed: 10_000 });
  const target = await heldTarget();
  const client = await connected(port, target.port);
  const socket = await target.socket;
  socket.on("error", () => {});
  const ended = once(socket.resume(), "end");
  advance(30_000);
  client.socket.end();
  await ended;
  advance(9000);
  socket.write("x");
  await until(() => client.received.length === 1);
  advance(9000);
  expect(server.stats.activeConnections).toBe(1);
  advance(1020);
  expect(server.stats).toMatchObject({ activeConnections: 0, idleEnded: 0, halfClosedEnded: 1 });
  expect(server.slots.lent).toBe(0);
});

test("clients that do not read, or never finish a message, keep no other waiting", async () => {
  const { server, port } = openServer();
  const flood = await listen((socket) => socket.write(Buffer.alloc(1 << 20)));
  const quick = await listen((socket) => socket.pipe(socket));
  const slow: Client[] = [];
  for (let i = 0; i < 40; i++) {
    const stalled = await connected(port, flood);
    stalled.socket.pause();
    const unfinished = new Client(port);
    unfinished.write(5);
    slow.push(stalled, unfinished);
  }
  const client = await connected(port, quick);
  for (let i = 0; i < 100; i++) {
    client.write(i);
    expect(await client.take(1)).toEqual([i]);
  }
  // None of the slow ones has moved meanwhile: the quick one did not wait for them.
  expect(server.stats.activeConnections).toBe(slow.length + 1);
});
