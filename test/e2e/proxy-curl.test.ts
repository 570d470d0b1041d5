/** The built-in server on loopback with curl as its client. */

import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import {
  closeAll,
  closedPort,
  openDescriptors,
  openServer,
  until,
} from "../socks/server-harness.ts";

const DOWNLOAD = 200 << 20;
const BLOCK = createHash("sha512").update("block").digest();
const servers: Server[] = [];
const running = new Set<ChildProcess>();
let web = 0;
let web6 = 0;

/** GET /N: N octets; POST: the SHA-256 of what came. */
function website(): Server {
  return createServer((request, response) => {
    if (request.method === "POST") {
      const hash = createHash("sha256");
      request.on("data", (chunk: Buffer) => hash.update(chunk));
      request.on("end", () => response.end(hash.digest("hex")));
      return;
    }
    let left = Number(request.url?.slice(1));
    const chunk = Buffer.alloc(1 << 16, BLOCK);
    response.setHeader("content-length", left);
    const more = (): void => {
      while (left > 0) {
        const part = chunk.subarray(0, Math.min(left, chunk.length));
        left -= part.length;
        if (!response.write(part)) {
          response.once("drain", more);
          return;
        }
      }
      response.end();
    };
    more();
  });
}

async function start(host: string): Promise<number> {
  const server = website();
  servers.push(server);
  server.listen(0, host);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

beforeAll(async () => {
  web = await start("127.0.0.1");
  web6 = await start("::1");
});

afterEach(async () => {
  for (const child of running) child.kill("SIGKILL");
  await closeAll();
});

afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

interface Outcome {
  readonly status: number | null;
  readonly octets: number;
  readonly sha256: string;
  readonly text: string;
  readonly errors: string;
}

async function curl(flags: readonly string[], input?: readonly Buffer[]): Promise<Outcome> {
  const child = spawn("curl", ["-sS", "--max-time", "60", "--noproxy", "", ...flags], {
    env: { PATH: process.env["PATH"] ?? "" },
  });
  running.add(child);
  const hash = createHash("sha256");
  let octets = 0;
  let text = "";
  let errors = "";
  child.stdout.on("data", (chunk: Buffer) => {
    hash.update(chunk);
    octets += chunk.length;
    if (text.length < 1000) text += chunk;
  });
  child.stderr.on("data", (chunk: Buffer) => {
    errors += chunk;
  });
  if (input !== undefined) for (const chunk of input) child.stdin.write(chunk);
  child.stdin.end();
  const [status] = (await once(child, "close")) as [number | null];
  running.delete(child);
  return { status, octets, sha256: hash.digest("hex"), text, errors };
}

function expectedHash(octets: number): string {
  const hash = createHash("sha256");
  const chunk = Buffer.alloc(1 << 16, BLOCK);
  for (let left = octets; left > 0; left -= chunk.length) {
    hash.update(left < chunk.length ? chunk.subarray(0, left) : chunk);
  }
  return hash.digest("hex");
}

test("200 MiB come down with the right hash, over IPv4, over IPv6 and by name", async () => {
  const { server, port } = openServer();
  const expected = expectedHash(DOWNLOAD);
  for (const [scheme, url] of [
    ["--socks5", `http://127.0.0.1:${web}/${DOWNLOAD}`],
    ["--socks5", `http://[::1]:${web6}/${DOWNLOAD}`],
    ["--socks5-hostname", `http://localhost:${web}/${DOWNLOAD}`],
  ] as const) {
    const outcome = await curl([scheme, `127.0.0.1:${port}`, url]);
    expect(outcome).toMatchObject({ status: 0, octets: DOWNLOAD, sha256: expected });
  }
  expect(server.stats.granted).toBe(3);
  await until(() => server.stats.activeConnections === 0);
  expect(server.slots.lent).toBe(0);
});

test("SOCKS4 and 4a come down with the right hash, and are refused where there are users", async () => {
  const { server, port } = openServer();
  const octets = 1 << 20;
  for (const [scheme, url] of [
    ["--socks4", `http://127.0.0.1:${web}/${octets}`],
    ["--socks4a", `http://localhost:${web}/${octets}`],
  ] as const) {
    const outcome = await curl([scheme, `127.0.0.1:${port}`, url]);
    expect(outcome).toMatchObject({ status: 0, octets, sha256: expectedHash(octets) });
  }
  expect(server.stats.granted).toBe(2);
  const closed = openServer({ credentials: new Map([["user", "password"]]) });
  const url = `http://127.0.0.1:${web}/10`;
  const refused = await curl(["--socks4", `127.0.0.1:${closed.port}`, url]);
  expect(refused.status).toBe(97);
  expect(refused.errors).toMatch(/\(93\)|user-?ids?/i);
});

test("an upload arrives with the right hash", async () => {
  const { port } = openServer();
  const blocks = new Array<Buffer>(800).fill(Buffer.alloc(1 << 16, BLOCK));
  const outcome = await curl(
    ["--socks5", `127.0.0.1:${port}`, "-T", "-", "-X", "POST", `http://127.0.0.1:${web}/`],
    blocks,
  );
  expect(outcome).toMatchObject({ status: 0, text: expectedHash(800 << 16) });
});

test("a server on ::1 and one on :: serve clients of their families", async () => {
  const six = openServer({ address: "::1" });
  const both = openServer({ address: "::", open: true });
  for (const proxy of [`[::1]:${six.port}`, `[::1]:${both.port}`, `127.0.0.1:${both.port}`]) {
    const outcome = await curl(["--socks5", proxy, `http://127.0.0.1:${web}/10`]);
    expect(outcome).toMatchObject({ status: 0, octets: 10 });
  }
});

test("user and password are asked for, and a wrong or missing one is refused", async () => {
  const { server, port } = openServer({ credentials: new Map([["user", "pass:word"]]) });
  const url = `http://127.0.0.1:${web}/10`;
  const proxy = ["--socks5", `127.0.0.1:${port}`];
  expect(await curl([...proxy, "--proxy-user", "user:pass:word", url])).toMatchObject({
    status: 0,
    octets: 10,
  });
  // CURLE_PROXY
  expect((await curl([...proxy, "--proxy-user", "user:wrong", url])).status).toBe(97);
  expect((await curl([...proxy, url])).status).toBe(97);
  expect(server.stats).toMatchObject({ granted: 1, passwordRefused: 1, methodRefused: 1 });
});

test("a closed port and a forbidden destination are told apart", async () => {
  const open = openServer();
  const strict = openServer({ allowPrivate: false });
  const closed = await closedPort();
  const refused = await curl(["--socks5", `127.0.0.1:${open.port}`, `http://127.0.0.1:${closed}/`]);
  expect(refused.status).toBe(97);
  expect(refused.errors).toMatch(/\(5\)|refused/i);
  const forbidden = await curl([
    "--socks5",
    `127.0.0.1:${strict.port}`,
    `http://127.0.0.1:${web}/`,
  ]);
  expect(forbidden.status).toBe(97);
  expect(forbidden.errors).toMatch(/\(2\)|not allowed/i);
});

test("a hundred curls at a time leave no descriptor behind", async () => {
  const { server, port } = openServer();
  const before = openDescriptors();
  const url = `http://127.0.0.1:${web}/100000`;
  const expected = expectedHash(100_000);
  for (let round = 0; round < 4; round++) {
    const outcomes = await Promise.all(
      Array.from({ length: 25 }, () => curl(["--socks5", `127.0.0.1:${port}`, url])),
    );
    for (const outcome of outcomes) expect(outcome).toMatchObject({ status: 0, sha256: expected });
  }
  await until(() => server.stats.activeConnections === 0 && openDescriptors() <= before);
});
