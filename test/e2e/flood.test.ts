/** A flood of SYNs from random sources through a real device, and an honest client behind it. */

import { spawnSync } from "node:child_process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CLI, fixture, ip, type Running, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
const TARGET = "203.0.113.1";
/** Behind the proxy, and nobody is there: a connection to it hangs. */
const NOBODY = "203.0.113.66";
let world: World;
let product: Running;

beforeAll(async () => {
  world = new World();
  ip("-n", world.server, "addr", "add", `${TARGET}/32`, "dev", "lo");
  ip("-n", world.server, "route", "add", `${NOBODY}/32`, "dev", "s0");
  world.start(world.server, [node, fixture("web.js"), "8080", TARGET]);
  world.start(world.server, [
    node,
    CLI,
    "proxy",
    "--listen",
    `${SERVER_IPV4}:1080`,
    "--open",
    "--allow-private",
  ]);
  await world.bound(world.server, 8080);
  await world.bound(world.server, 1080);
  product = world.start(world.client, [
    node,
    CLI,
    "run",
    "-d",
    "tun0",
    "-p",
    `socks5://${SERVER_IPV4}:1080`,
  ]);
  await product.says("serving tun0");
  ip("-n", world.client, "route", "add", "203.0.113.0/24", "dev", "tun0");
  const forward = ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"];
  expect((await world.run(world.client, forward)).status).toBe(0);
});

afterAll(() => world.close());

/** Connections of the product to the proxy. */
function connections(): number {
  const { stdout } = spawnSync(
    "ip",
    ["netns", "exec", world.server, "ss", "-Htn", "state", "established", "sport", "=", ":1080"],
    { encoding: "utf8" },
  );
  return stdout.split("\n").filter((line) => line !== "").length;
}

test.each([
  ["that the proxy grants", TARGET],
  ["that hang at the proxy", NOBODY],
])(
  "20,000 SYNs %s: a client opens within 2 s, and the proxy has 2,304 connections at most",
  async (_, target) => {
    const flood = world.start(world.client, [
      node,
      fixture("syn-flood.js"),
      target,
      "8080",
      "20000",
    ]);
    await flood.says("sent");
    // The best of three: a machine that is busy elsewhere takes its time.
    const times: number[] = [];
    let open = 0;
    while (times.length < 3 && Math.min(...times) >= 2000) {
      const connect = [node, fixture("connect.js"), TARGET, "8080"];
      const { stdout } = await world.run(world.client, connect);
      open = Math.max(open, connections());
      const [code, milliseconds] = stdout.trim().split(" ");
      expect(code).toBe("connected");
      times.push(Number(milliseconds));
    }
    expect(Math.min(...times)).toBeLessThan(2000);
    // 256 dials, and 1,024 unanswered SYN-ACKs with as many opens on top that may still be granted.
    expect(open).toBeLessThanOrEqual(256 + 2 * 1024);
    expect(open).toBeGreaterThan(100);
    flood.child.kill("SIGTERM");
    await flood.ended;
  },
);
