/** SOCKS6 at the built-in server (draft-olteanu-intarea-socks-6-11), octet by octet. */

import { afterEach, describe, expect, test } from "vitest";
import { Client, closeAll, closedPort, listen, openServer } from "./server-harness.ts";

afterEach(closeAll);

const SUCCESS = [6, 0, 0, 0];

/** VER CMD options' length, port 0 ATYP, address, options. */
function request(port: number, options: readonly number[] = [], command = 1): number[] {
  return [
    ...[6, command, options.length >> 8, options.length & 255],
    ...[port >> 8, port & 255, 0, 1, 127, 0, 0, 1],
    ...options,
  ];
}

/** Authentication Data: method 2 and RFC 1929's request, padded. */
function secret(user: string, password: string): number[] {
  const data = [2, 1, user.length, ...Buffer.from(user), password.length, ...Buffer.from(password)];
  const length = (4 + data.length + 3) & ~3;
  const option = [0, 4, length >> 8, length & 255, ...data];
  return [...option, ...Array<number>(length - option.length).fill(0)];
}

async function echo(): Promise<number> {
  return listen((socket) => socket.pipe(socket));
}

test("one message, two replies, and octets flow; early data goes along (§4, §6, §7)", async () => {
  const target = await echo();
  const { port } = openServer({ socks6: true });
  const client = new Client(port);
  client.write(...request(target), 104, 105);
  expect(await client.take(4)).toEqual(SUCCESS);
  const reply = await client.take(12);
  expect(reply?.slice(0, 4)).toEqual([6, 0, 0, 0]);
  expect(reply?.slice(6)).toEqual([0, 1, 127, 0, 0, 1]);
  expect(await client.take(2)).toEqual([104, 105]);
});

test("a request may come octet by octet, with options that nobody knows", async () => {
  const target = await echo();
  const { port } = openServer({ socks6: true });
  const client = new Client(port);
  for (const octet of request(target, [0, 77, 0, 8, 1, 2, 3, 4, 0xfc, 0, 0, 4])) {
    client.write(octet);
    await new Promise((done) => setImmediate(done));
  }
  expect((await client.take(16))?.slice(0, 6)).toEqual([...SUCCESS, 6, 0]);
});

test("a name is resolved, its padding cut off", async () => {
  const target = await echo();
  const asked: string[] = [];
  const { port } = openServer(
    { socks6: true },
    {
      lookup: (name, done) => {
        asked.push(name);
        done(["127.0.0.1"]);
      },
    },
  );
  const client = new Client(port);
  const name = [7, ...Buffer.from("a.test"), 0];
  client.write(6, 1, 0, 0, target >> 8, target & 255, 0, 3, ...name);
  expect((await client.take(16))?.slice(4, 6)).toEqual([6, 0]);
  expect(asked).toEqual(["a.test"]);
});

test("what fails says so by the codes of SOCKS5, behind a successful authentication", async () => {
  const { port, server } = openServer({ socks6: true });
  for (const [message, code] of [
    [request(await closedPort()), 5],
    [request(80, [], 3), 7],
    [request(80, [], 9), 7],
  ] as const) {
    const client = new Client(port);
    client.write(...message);
    expect((await client.take(16))?.slice(0, 6)).toEqual([...SUCCESS, 6, code]);
    expect(await client.outcome()).toBe("end");
  }
  expect(server.stats.failed).toBe(3);
});

test("NOOP is granted, and is the end", async () => {
  const { port } = openServer({ socks6: true });
  const client = new Client(port);
  client.write(6, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0);
  expect(await client.take(16)).toEqual([...SUCCESS, 6, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
  expect(await client.outcome()).toBe("end");
});

describe("where there are users", () => {
  const credentials = new Map([["me", "secret"]]);

  test("credentials travel with the request, and their status with the reply (§9)", async () => {
    const target = await echo();
    const { port } = openServer({ socks6: true, credentials });
    const client = new Client(port);
    client.write(...request(target, secret("me", "secret")));
    expect(await client.take(12)).toEqual([6, 0, 0, 8, 0, 4, 0, 8, 2, 1, 0, 0]);
    expect((await client.take(12))?.slice(0, 2)).toEqual([6, 0]);
  });

  test("wrong ones are refused with a status, none without, and nothing is dialled", async () => {
    const { port, server } = openServer({ socks6: true, credentials });
    const wrong = new Client(port);
    wrong.write(...request(80, secret("me", "wrong")));
    expect(await wrong.take(12)).toEqual([6, 1, 0, 8, 0, 4, 0, 8, 2, 1, 1, 0]);
    expect(await wrong.outcome()).toBe("end");
    const none = new Client(port);
    none.write(...request(80));
    expect(await none.take(4)).toEqual([6, 1, 0, 0]);
    expect(await none.outcome()).toBe("end");
    expect(server.stats).toMatchObject({ passwordRefused: 1, methodRefused: 1, failed: 0 });
  });
});

test.each([
  ["options longer than allowed", [6, 1, 0x40, 4, 0, 80, 0, 1]],
  ["options that are no multiple of four", [6, 1, 0, 5, 0, 80, 0, 1]],
  ["an unknown address type", [6, 1, 0, 0, 0, 80, 0, 9]],
  ["options that overlap the end", request(80, [0, 1, 0, 12, 0, 0, 0, 0])],
])("%s: closed", async (_name, message) => {
  const { port, server } = openServer({ socks6: true });
  const client = new Client(port);
  client.write(...message);
  expect(await client.outcome()).toBe("end");
  expect(client.received.length).toBe(0);
  expect(server.stats.negotiationMalformed).toBe(1);
});

test("it is not spoken unless asked for", async () => {
  const { port, server } = openServer();
  const client = new Client(port);
  client.write(...request(80));
  expect(await client.outcome()).toBe("end");
  expect(server.stats.negotiationMalformed).toBe(1);
});
