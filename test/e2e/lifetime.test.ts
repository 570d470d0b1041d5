/** What is left when things end badly: nothing. And what an ordinary user may do. */

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { CLI, fixture, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
let world: World;
/** A machine may have TUN devices of its own. */
let devicesBefore: string;

beforeAll(async () => {
  devicesBefore = tunDevices();
  world = new World();
  world.start(world.server, [node, fixture("web.js"), "8080", SERVER_IPV4]);
  await world.bound(world.server, 8080);
});

afterAll(() => world.close());

/** Processes whose command line has `word`, and the network namespaces of all processes. */
function snapshot(word: string): { processes: string[]; namespaces: Set<string> } {
  const processes: string[] = [];
  const namespaces = new Set<string>();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(word)) processes.push(pid);
      namespaces.add(readlinkSync(`/proc/${pid}/ns/net`));
    } catch {
      // It ended while we looked.
    }
  }
  return { processes, namespaces };
}

test("kill -9 of ours ends every process inside, and the namespace, within a second", async () => {
  const before = snapshot("31.4159");
  expect(before.processes).toEqual([]);
  const running = world.start(world.client, [
    node,
    CLI,
    "exec",
    "--dns",
    "off",
    "--",
    "bash",
    "-c",
    "sleep 31.4159 & setsid sleep 31.4159 & echo up; wait",
  ]);
  await running.says("up");
  // The shell goes on before those it has begun are what they become.
  await vi.waitFor(() => {
    expect(snapshot("sleep\x0031.4159").processes.length).toBeGreaterThanOrEqual(2);
  }, 5000);
  const during = snapshot("sleep\x0031.4159");
  expect(during.namespaces.size).toBeGreaterThan(before.namespaces.size);
  running.child.kill("SIGKILL");
  const deadline = performance.now() + 1000;
  let after = snapshot("31.4159");
  while (
    (after.processes.length > 0 || after.namespaces.size > before.namespaces.size) &&
    performance.now() < deadline
  ) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    after = snapshot("31.4159");
  }
  expect(after.processes).toEqual([]);
  expect([...after.namespaces].filter((namespace) => !before.namespaces.has(namespace))).toEqual(
    [],
  );
});

test("SIGTERM to ours reaches the command, and its answer is our status", async () => {
  const running = world.start(world.client, [
    node,
    CLI,
    "exec",
    "--dns",
    "off",
    "--",
    "bash",
    "-c",
    "trap 'exit 42' TERM; echo up; while :; do sleep 0.05; done",
  ]);
  await running.says("up");
  running.child.kill("SIGTERM");
  expect(await running.ended).toMatchObject({ status: 42 });
});

test("an ordinary user without capabilities runs a program through the tunnel", async () => {
  // A copy that uid 65534 can read, and a device node open to users, as distributions have it.
  const home = join(world.directory, "home");
  mkdirSync(home);
  chmodSync(world.directory, 0o755);
  const root = fileURLToPath(new URL("../..", import.meta.url));
  for (const name of ["bin", "dist", "build", "package.json", "node_modules"]) {
    cpSync(join(root, name), join(home, name), { recursive: true });
  }
  cpSync(fixture("connect.js"), join(home, "connect.js"));
  chownSync(home, 65534, 65534);
  const { status, stdout, stderr } = await world.run(world.client, [
    "unshare",
    "--mount",
    "sh",
    "-c",
    `set -e
     mknod ${home}/tun c 10 200; chmod 0666 ${home}/tun; mount --bind ${home}/tun /dev/net/tun
     exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs \
       ${node} ${home}/bin/tun2socks.js exec --dns off -- \
       sh -c 'id -u; grep CapEff /proc/self/status; ${node} ${home}/connect.js ${SERVER_IPV4} 8080'`,
  ]);
  expect({ status, stderr }).toMatchObject({ status: 0 });
  expect(stdout).toMatch(/^65534\nCapEff:\t0000000000000000\nconnected /);
});

test("no device of ours is left on the machine", () => {
  expect(tunDevices()).toBe(devicesBefore);
});

function tunDevices(): string {
  return spawnSync("ip", ["-br", "link", "show", "type", "tun"], { encoding: "utf8" }).stdout;
}
