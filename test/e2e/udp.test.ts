/** Datagrams through real devices and sockets: super-packets both ways, floods, and a new source port per query. */

import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { RESOLVER_IPV4 } from "../../src/addresses.ts";
import { CLI, fixture, ip, type Running, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
const TARGET = "203.0.113.1";
const ECHO = "7";
const SEGMENTS = "8";
let world: World;
let product: Running;

beforeAll(async () => {
  world = new World();
  const { client, server } = world;
  ip("-n", server, "addr", "add", `${TARGET}/32`, "dev", "lo");
  world.start(server, [node, fixture("udp-echo.js"), ECHO, TARGET]);
  world.start(server, [node, fixture("udp-segments.js"), "echo", TARGET, SEGMENTS]);
  world.start(server, [node, fixture("name-server.js"), TARGET, "53"]);
  const listen = ["--listen", `${SERVER_IPV4}:1080`, "--open", "--allow-private"];
  world.start(server, [node, CLI, "proxy", ...listen]);
  await world.bound(server, 1080);
  for (const port of [7, 8, 53]) await world.bound(server, port, "u");
  const proxy = ["-p", `socks5://${SERVER_IPV4}:1080`];
  const dns = ["--dns", "udp", "--dns-server", TARGET];
  product = world.start(client, [node, CLI, "run", "-d", "tun0", ...proxy, ...dns]);
  await product.says("serving tun0");
  ip("-n", client, "route", "add", "203.0.113.0/24", "dev", "tun0");
});

afterAll(() => world.close());

async function run(name: string, ...args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await world.run(world.client, [node, fixture(name), ...args]);
  return stdout.trim() || stderr;
}

/** Anonymous and shared pages of the product, KiB. */
function resident(): number {
  const status = readFileSync(`/proc/${product.child.pid}/status`, "utf8");
  const field = (name: string): number =>
    Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]);
  return field("RssAnon") + field("RssShmem");
}

// 2,000 octets are longer than the packets of the way: the kernel cuts none of them for us.
test.each([200, 1400, 2000])(
  "datagrams of %d octets, 40 to a system call, arrive equal and in order both ways (virtio-net UDP_L4)",
  async (size) => {
    const answer = await run("udp-segments.js", "check", TARGET, SEGMENTS, `${size}`, "25");
    const [, equal, messages] = /^(\d+) equal, (\d+) messages$/.exec(answer) ?? [];
    expect(Number(equal), answer).toBe(1000);
    // Super-packets leave the device, too, unless the datagrams are fragmented.
    if (size < 1500) expect(Number(messages)).toBeLessThan(500);
  },
);

test("3,000 queries from new ports are all answered, three times what the proxy takes associations", async () => {
  expect(await run("udp-ports.js", TARGET, ECHO, "3000")).toBe("3000 answered");
});

test("3,000 lookups from new ports are all answered", async () => {
  expect(await run("udp-ports.js", RESOLVER_IPV4, "53", "3000", "dns")).toBe("3000 answered");
});

test.each([200, 1400])(
  "a flood of datagrams of %d octets takes bounded memory, and afterwards there are answers",
  async (size) => {
    const before = resident();
    const answer = await run("udp-segments.js", "flood", TARGET, SEGMENTS, `${size}`, "200000");
    expect(answer).toBe("still there");
    // The arena of a turn and what it sends: 10 MiB and 64 KiB per batch; the rest is V8's.
    expect(resident() - before).toBeLessThan(64 * 1024);
  },
);
