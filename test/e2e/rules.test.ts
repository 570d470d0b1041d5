/** Rules and a configuration file: flows of one program that leave by three ways. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CLI, fixture, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
const CLIENT_IPV4 = "10.77.0.1";
let world: World;

beforeAll(async () => {
  world = new World();
  for (const port of [8081, 8082, 8083]) {
    world.start(world.server, [node, fixture("where-from.js"), "serve", SERVER_IPV4, `${port}`]);
  }
  const proxy = [node, CLI, "proxy", "--allow-private", "--listen"];
  world.start(world.server, [...proxy, `${SERVER_IPV4}:1080`, "--open"]);
  const users = join(world.directory, "users");
  writeFileSync(users, "name:pass:word\n");
  world.start(world.client, [...proxy, "127.0.0.1:1081", "--user-file", users]);
  for (const port of [8081, 8082, 8083, 1080]) await world.bound(world.server, port);
  await world.bound(world.client, 1081);
});

afterAll(() => world.close());

test("TCP and UDP leave through the proxy, another one, or directly, as the file says", async () => {
  const config = join(world.directory, "tunnel.yaml");
  writeFileSync(
    config,
    `proxy: socks5://${SERVER_IPV4}:1080
upstreams:
  other: { url: "socks5://127.0.0.1:1081", auth-file: users }
rules:
  - port=8082 -> proxy other
`,
  );
  const argv = [node, fixture("where-from.js"), "ask", SERVER_IPV4, "8081", "8082", "8083"];
  const { status, stdout, stderr } = await world.exec(
    ["--config", config, "--rule", "port=8083 -> direct"],
    argv,
  );
  expect(stderr).toBe("");
  expect(stdout.trimEnd().split("\n")).toEqual([
    // The proxy is on the server itself.
    `tcp 8081 ${SERVER_IPV4}`,
    `udp 8081 ${SERVER_IPV4}`,
    `tcp 8082 ${CLIENT_IPV4}`,
    `udp 8082 ${CLIENT_IPV4}`,
    `tcp 8083 ${CLIENT_IPV4}`,
    `udp 8083 ${CLIENT_IPV4}`,
  ]);
  expect(status).toBe(0);
});

test("a flow to an address goes by the name that it tells, where that is listened to", async () => {
  const argv = [node, fixture("where-from.js"), "ask", SERVER_IPV4, "8081", "8082"];
  const env = { ...process.env, HTTP_HOST: "www.example.com" };
  const rule = "domain=example.com -> direct";
  const flags = ["-p", `socks5://${SERVER_IPV4}:1080`, "--sniff=8081", "--rule", rule];
  const { status, stdout, stderr } = await world.exec(flags, argv, { env });
  expect(stderr).toBe("");
  expect(stdout.split("\n").filter((line) => line.startsWith("tcp"))).toEqual([
    `tcp 8081 ${CLIENT_IPV4}`,
    `tcp 8082 ${SERVER_IPV4}`,
  ]);
  expect(status).toBe(0);
});
