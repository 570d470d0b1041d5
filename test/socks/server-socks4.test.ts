/** SOCKS4 and 4a on the built-in server, over real loopback sockets. */

import { afterEach, expect, test } from "vitest";
import { MAX_TEXT } from "../../src/socks/message.ts";
import { NEGOTIATION } from "../../src/socks/server-connection.ts";
import {
  advance,
  Client,
  closeAll,
  closedPort,
  listen,
  openServer,
  turns,
  until,
} from "./server-harness.ts";

afterEach(closeAll);

/** A SOCKS4 request; with `name` it is one of 4a. */
function request4(
  port: number,
  { command = 1, address = [127, 0, 0, 1], user = "", name = null as string | null } = {},
): number[] {
  const end = name === null ? [] : [...Buffer.from(name), 0];
  const to = name === null ? address : [0, 0, 0, 7];
  return [4, command, port >> 8, port & 255, ...to, ...Buffer.from(user), 0, ...end];
}

const echo = (): Promise<number> => listen((socket) => socket.pipe(socket));

test("CONNECT of SOCKS4 is granted with 90 and the bound address, whatever USERID says", async () => {
  const { server, port } = openServer();
  const target = await echo();
  for (const user of ["", "root", "u".repeat(MAX_TEXT)]) {
    const client = new Client(port);
    client.write(...request4(target, { user }), 7, 8);
    const reply = await client.take(8);
    expect(reply?.slice(0, 2)).toEqual([0, 90]);
    expect(reply?.slice(4)).toEqual([127, 0, 0, 1]);
    expect(await client.take(2)).toEqual([7, 8]);
  }
  expect(server.stats.granted).toBe(3);
});

test("a request of SOCKS4a has its name resolved, and is understood octet by octet", async () => {
  const asked: string[] = [];
  const { port } = openServer(
    {},
    {
      lookup: (name, done) => {
        asked.push(name);
        setImmediate(done, ["127.0.0.1"]);
      },
    },
  );
  const target = await echo();
  const client = new Client(port);
  for (const octet of request4(target, { user: "me", name: "Example.test" })) {
    client.write(octet);
    await turns(1);
  }
  expect((await client.take(8))?.slice(0, 2)).toEqual([0, 90]);
  expect(asked).toEqual(["Example.test"]);
});

test("SOCKS4 and SOCKS5 clients share the port", async () => {
  const { port } = openServer();
  const target = await echo();
  const four = new Client(port);
  const five = new Client(port);
  four.write(...request4(target));
  five.write(5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, target >> 8, target & 255);
  expect((await four.take(8))?.slice(0, 2)).toEqual([0, 90]);
  expect((await five.take(12))?.slice(0, 4)).toEqual([5, 0, 5, 0]);
});

test("every failure of SOCKS4 is 91, followed by a close", async () => {
  const { server, port } = openServer({}, { lookup: (_name, done) => setImmediate(done, []) });
  const strict = openServer({ allowPrivate: false });
  const closed = await closedPort();
  for (const [proxy, message] of [
    [port, request4(closed)],
    [port, request4(80, { name: "nowhere.test" })],
    [port, request4(80, { name: "" })],
    [port, request4(80, { command: 3 })],
    [port, request4(80, { command: 9 })],
    [strict.port, request4(80)],
  ] as const) {
    const client = new Client(proxy);
    client.write(...message);
    expect(await client.take(8)).toEqual([0, 91, 0, 0, 0, 0, 0, 0]);
    expect(await client.outcome()).toBe("end");
  }
  expect(server.stats.failed).toBe(5);
  expect(strict.server.stats.notAllowed).toBe(1);
});

test("where there are users SOCKS4 is refused with 93: it cannot prove who it is", async () => {
  const { server, port } = openServer({ credentials: new Map([["user", "password"]]) });
  const target = await echo();
  const client = new Client(port);
  client.write(...request4(target, { user: "user" }));
  expect((await client.take(8))?.slice(0, 2)).toEqual([0, 93]);
  expect(await client.outcome()).toBe("end");
  expect(server.stats).toMatchObject({ methodRefused: 1, granted: 0 });
});

test("a USERID or name that does not end is closed at its bound, or at the deadline", async () => {
  const { server, port } = openServer();
  for (const message of [
    request4(80, { user: "u".repeat(MAX_TEXT + 1) }),
    request4(80, { name: "n".repeat(MAX_TEXT + 1) }),
  ]) {
    const client = new Client(port);
    client.write(...message.slice(0, -1));
    await until(() => client.ended || client.closed);
    expect(client.received.length).toBe(0);
  }
  expect(server.stats.negotiationMalformed).toBe(2);
  const waiting = new Client(port);
  waiting.write(...request4(80, { user: "u".repeat(MAX_TEXT) }).slice(0, -1));
  await until(() => server.stats.accepted === 3);
  await turns(50);
  expect(server.stats.activeConnections).toBe(1);
  advance(NEGOTIATION + 20);
  expect(server.stats).toMatchObject({ activeConnections: 0, negotiationTimeouts: 1 });
});

test("a target of IPv6, found by name, is told as zeros: SOCKS4 has no room for it", async () => {
  const { port } = openServer({}, { lookup: (_name, done) => setImmediate(done, ["::1"]) });
  const target = await listen((socket) => socket.end("six"), "::1");
  const client = new Client(port);
  client.write(...request4(target, { name: "six.test" }));
  const reply = await client.take(8);
  expect(reply?.slice(0, 2)).toEqual([0, 90]);
  expect(reply?.slice(4)).toEqual([0, 0, 0, 0]);
  expect(Buffer.from((await client.take(3)) ?? []).toString()).toBe("six");
});
