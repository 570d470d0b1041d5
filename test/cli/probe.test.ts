/** `tun2socks probe`: the card, its JSON, and how it ends, against servers on loopback. */

import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import dnsPacket from "dns-packet";
import { afterEach, beforeEach, expect, test } from "vitest";
import { main } from "../../src/cli/main.ts";
import type { ProbeCard } from "../../src/probe/card.ts";
import { closeAll, openServer } from "../socks/server-harness.ts";
import { SERVER, SERVER_PIN } from "../support/certificates.ts";
import { forgetOutput, stderr, stdout } from "../support/command-output.ts";
import { type ProxyScript, ScriptedProxy } from "../support/scripted-proxy.ts";

const proxies: ScriptedProxy[] = [];
const servers: Array<Server | UdpSocket> = [];
/** A port where somebody listens, and one where nobody does. */
let target = 0;
let closed = 0;
/** Sends datagrams back. */
let echo = "";

beforeEach(async () => {
  target = await listen();
  closed = await listen();
  servers.pop()?.close();
  echo = await udp((message) => message);
});

afterEach(async () => {
  for (const server of servers.splice(0)) server.close();
  for (const proxy of proxies.splice(0)) await proxy.close();
  await closeAll();
});

async function listen(): Promise<number> {
  const server = createServer((socket) => socket.on("error", () => {}).resume());
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

/** A server for datagrams; `answer` null: no answer. */
async function udp(answer: (message: Buffer) => Uint8Array | null): Promise<string> {
  const socket = createSocket("udp4");
  servers.push(socket);
  socket.on("message", (message, { port, address }) => {
    const reply = answer(message);
    if (reply !== null) socket.send(reply, port, address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return `127.0.0.1:${socket.address().port}`;
}

async function scripted(script: ProxyScript = {}): Promise<ScriptedProxy> {
  const proxy = await ScriptedProxy.start(script);
  proxies.push(proxy);
  return proxy;
}

/** For what is never answered. */
const SHORT = ["--timeout", "300ms"];

/** Probes `url` with targets on loopback. */
function probe(url: string, ...flags: readonly string[]): Promise<number> {
  return main([
    ...["probe", url, "--target", `127.0.0.1:${target}`, "--closed", `127.0.0.1:${closed}`],
    ...["--udp-target", echo, "--timeout", "5s", ...flags],
  ]);
}

async function card(url: string, ...flags: readonly string[]): Promise<ProbeCard> {
  await probe(url, ...flags, "--json");
  return JSON.parse(stdout) as ProbeCard;
}

test("the built-in server's card, as a person reads it", async () => {
  const { port } = openServer();
  const status = await probe(
    `socks5://127.0.0.1:${port}`,
    ...["--target", `localhost:${target}`, "--count", "20"],
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  const text = stdout
    .replace(/\b\d+(\.\d)? ms/g, "N ms")
    .replace(/[\d.]+ times/g, "N times")
    .replaceAll(`:${port}`, ":PROXY")
    .replaceAll(`:${target}`, ":TARGET")
    .replaceAll(`:${closed}`, ":CLOSED")
    .replaceAll(echo, "ECHO")
    .replace(/BND 127\.0\.0\.1:\d+/g, "BND 127.0.0.1:N");
  expect(text).toMatch(
    /^UDP {11}yes, N ms \(BND 127\.0\.0\.1:N\); 20 of 20 answered by ECHO, N ms$/m,
  );
  expect(text.split("\n").filter((line) => !/^(UDP|BIND|CONNECT IPv6)/.test(line))).toEqual([
    "proxy         socks5://127.0.0.1:PROXY",
    "reachable     127.0.0.1:PROXY, N ms",
    "methods       none accepted, user and password refused, GSSAPI refused",
    "handshake     2 round trips; N ms before the request, N times the connection's",
    "CONNECT IPv4  127.0.0.1:TARGET: yes, N ms (BND 127.0.0.1:N)",
    "CONNECT name  localhost:TARGET: yes, N ms (BND 127.0.0.1:N)",
    "honest        yes: 127.0.0.1:CLOSED: it refused: connection refused (05)",
    "pipelining    yes",
    "",
  ]);
});

test("the same as JSON, with what was not found out as null", async () => {
  const { port } = openServer({ credentials: new Map([["me", "secret"]]) });
  const resolver = await udp((message) => {
    const { id, questions } = dnsPacket.decode(message);
    if ((id as number) % 2 === 1) return null;
    return dnsPacket.encode({ type: "response", id: id as number, questions: questions ?? [] });
  });
  const found = await card(
    `socks5://me:secret@127.0.0.1:${port}`,
    "--dns-server",
    resolver,
    ...SHORT,
  );
  expect(found).toMatchObject({
    proxy: `socks5://127.0.0.1:${port}`,
    reachable: { address: `127.0.0.1:${port}`, ms: expect.any(Number) },
    tls: null,
    methods: { none: "refused", password: "accepted", gssapi: "refused" },
    handshake: { roundTrips: 3, ms: expect.any(Number), rtts: expect.any(Number) },
    connect: { ipv4: { granted: true, reply: null, why: null }, ipv6: null, name: null },
    honesty: { verdict: "honest", target: `127.0.0.1:${closed}` },
    pipelining: { taken: true, why: null },
    udp: { granted: true, peer: resolver, sent: 10, answered: 5, answerMs: expect.any(Number) },
    error: null,
  });
  expect(stdout + stderr).not.toContain("secret");
});

test("a proxy that grants where nobody listens lies, and is usable", async () => {
  const proxy = await scripted();
  expect(await probe(proxy.url)).toBe(0);
  expect(stdout).toContain(
    `honest        no, it says yes before it knows: it granted 127.0.0.1:${closed}, where nobody listens\n`,
  );
});

test.each([
  ["a reply that speaks of the destination", 4, "honest"],
  ["the catch-all", 1, "honest"],
  ["its own rules", 2, "unknown"],
  ["no reply, as OpenSSH does it", null, "honest"],
  ["silence", undefined, "honest"],
])("a closed port answered by %s", async (_name, reply, verdict) => {
  const proxy = await scripted({
    reply: (_command, asked) => (asked.endsWith(`:${closed}`) ? reply : 0),
  });
  const flags = reply === undefined ? SHORT : [];
  expect((await card(proxy.url, ...flags)).honesty).toMatchObject({ verdict });
});

test("who ends the connection without a word about a closed port tells nothing", async () => {
  const proxy = createServer((socket) => {
    socket
      .on("error", () => {})
      .on("data", (request) => {
        if (request.includes(`:${closed} `)) socket.end();
        else socket.write("HTTP/1.1 200 OK\r\n\r\n");
      });
  });
  servers.push(proxy);
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const { port } = proxy.address() as AddressInfo;
  expect((await card(`http://127.0.0.1:${port}`)).honesty).toMatchObject({
    verdict: "unknown",
    why: expect.stringContaining("it closed the connection instead of a reply"),
  });
});

test("what commands are answered is told by each", async () => {
  const proxy = await scripted();
  const found = await card(proxy.url);
  expect(found.bind).toMatchObject({ granted: true, bound: "127.0.0.7:4711" });
  expect(found.udp).toMatchObject({ granted: false, reply: 7, sent: 0, answered: 0 });
  expect(found.udp?.why).toBe("it refused: command not supported (07)");
  expect(proxy.requests).toContain("2 0.0.0.0:0");
});

test("who takes each recv for one message does not pipeline", async () => {
  const proxy = await scripted({ messageByMessage: true });
  expect((await card(proxy.url, ...SHORT)).pipelining).toMatchObject({ taken: false });
});

test("of what is not SOCKS5 the questions that it has no words for are left out", async () => {
  const { port } = openServer({ socks6: true });
  for (const scheme of ["socks4a", "socks6"]) {
    forgetOutput();
    expect(await card(`${scheme}://127.0.0.1:${port}`)).toMatchObject({
      methods: null,
      handshake: { roundTrips: 1 },
      connect: { ipv4: { granted: true } },
      honesty: { verdict: "honest" },
      pipelining: null,
      udp: null,
      bind: null,
      error: null,
    });
  }
});

test("a proxy behind TLS shows its certificate", async () => {
  const { port } = openServer();
  const front = createTlsServer(SERVER, (socket) => {
    const back = connect(port, "127.0.0.1");
    socket.on("error", () => back.destroy()).pipe(back);
    back.on("error", () => socket.destroy()).pipe(socket);
  });
  servers.push(front);
  front.listen(0, "127.0.0.1");
  await once(front, "listening");
  const at = (front.address() as AddressInfo).port;
  const found = await card(`socks5s://127.0.0.1:${at}?pin=${encodeURIComponent(SERVER_PIN)}`);
  expect(found).toMatchObject({
    error: null,
    methods: { none: "accepted" },
    tls: { protocol: "TLSv1.3", subject: "CN=server", issuer: "CN=test authority" },
  });
  expect(found.tls?.fingerprint).toMatch(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
});

test("a proxy at a Unix socket has a card too", async () => {
  const directory = mkdtempSync(join(tmpdir(), "probe-"));
  try {
    const path = join(directory, "socks");
    const { port } = openServer();
    const front = createServer((socket) => {
      const back = connect(port, "127.0.0.1");
      socket.on("error", () => back.destroy()).pipe(back);
      back.on("error", () => socket.destroy()).pipe(socket);
    });
    servers.push(front);
    front.listen(path);
    await once(front, "listening");
    expect(await card(`socks5+unix://${path}`)).toMatchObject({
      error: null,
      reachable: { address: path },
      methods: { none: "accepted" },
      connect: { ipv4: { granted: true } },
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a proxy that hangs ends the probe with what was found", async () => {
  const proxy = await scripted({ mute: true });
  expect(await probe(proxy.url.replace("//", "//me:secret@"), ...SHORT)).toBe(69);
  expect(stdout).toMatch(/^reachable {5}127\.0\.0\.1:\d+, [\d.]+ ms$/m);
  expect(stdout).toMatch(
    /^methods {7}none no answer, user and password no answer, GSSAPI no answer$/m,
  );
  expect(stderr).toMatch(/^tun2socks: [^\n]+ no answer [^\n]+ \(ERR_PROXY_TIMEOUT\)\n$/);
  expect(stdout + stderr).not.toContain("secret");
});

test("nobody there: not reachable, and the error says why", async () => {
  expect(await probe(`socks5://127.0.0.1:${closed}`, "--json")).toBe(69);
  expect(JSON.parse(stdout)).toMatchObject({
    reachable: null,
    methods: null,
    error: { code: "ERR_PROXY_UNREACHABLE" },
  });
  expect(stderr).toMatch(/connection refused; [^\n]+ \(ERR_PROXY_UNREACHABLE\)\n$/);
});

test("a wrong password ends it after the methods", async () => {
  const { port } = openServer({ credentials: new Map([["me", "right"]]) });
  expect(await probe(`socks5://me:wrong@127.0.0.1:${port}`)).toBe(69);
  expect(stdout).toContain("user and password accepted");
  expect(stderr).toMatch(/\(ERR_PROXY_AUTH\)\n$/);
});

test("a proxy that grants no CONNECT is of no use", async () => {
  const proxy = await scripted({ reply: () => 2 });
  expect(await probe(proxy.url)).toBe(69);
  expect(stderr).toContain(
    `it granted no CONNECT (127.0.0.1:${target}: it refused: not allowed by the ruleset (02)) (ERR_PROXY_REFUSED)`,
  );
});

test.each([
  ["probe", "no proxy given; write tun2socks probe URL (ERR_USAGE)"],
  ["probe 127.0.0.1 --target nowhere", 'cannot use --target: "nowhere" is no host with a port;'],
  ["probe 127.0.0.1 --target a:0", 'cannot use --target: "0" is not a number in range;'],
  ["probe direct", "direct is no proxy; write tun2socks probe socks5://host:port (ERR_USAGE)"],
  ["probe gopher://127.0.0.1", "cannot use the proxy URL: the scheme gopher is not supported;"],
])("%s: one line, status 2", async (line, message) => {
  expect(await main(line.split(" "))).toBe(2);
  expect(stdout).toBe("");
  expect(stderr.startsWith(`tun2socks: ${message}`), stderr).toBe(true);
  expect(stderr.match(/\n/g)?.length).toBe(1);
});
