/** `tun2socks run`: a TUN device in a namespace, routes set by hand, the built-in server as proxy. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lacks } from "../support/requirements.ts";
import { CLI, fixture, ip, type Running, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
/** An address behind the proxy that the client machine reaches through the TUN only. */
const TARGET = "203.0.113.1";
let world: World;

beforeAll(async () => {
  world = new World();
  ip("-n", world.server, "addr", "add", `${TARGET}/32`, "dev", "lo");
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
});

afterAll(() => world.close());

async function serve(name: string, ...flags: string[]): Promise<Running> {
  const running = world.start(world.client, [
    node,
    CLI,
    "run",
    "-d",
    name,
    "-p",
    `socks5://${SERVER_IPV4}:1080`,
    ...flags,
  ]);
  await running.says(`serving ${name}`);
  return running;
}

async function stop(running: Running): Promise<void> {
  running.child.kill("SIGTERM");
  expect(await running.ended).toMatchObject({ status: 0 });
}

describe("a device that was missing", () => {
  test("is created with our addresses, serves, and is gone after SIGTERM within a second", async () => {
    const running = await serve("tun7");
    const shown = ip("-n", world.client, "-o", "addr", "show", "dev", "tun7");
    expect(shown).toContain("198.18.0.1/15");
    expect(shown).toContain("fd00:18::1/64");
    const link = ip("-n", world.client, "link", "show", "dev", "tun7");
    expect(link).toContain("mtu 1500");
    expect(link).toContain("UP");
    ip("-n", world.client, "route", "add", `${TARGET}/32`, "dev", "tun7");
    const { stdout } = await world.run(world.client, [
      node,
      fixture("downloads.js"),
      TARGET,
      "8080",
      "1",
      "1000000",
    ]);
    expect(stdout.trim()).toBe("1 right");
    const stopping = performance.now();
    await stop(running);
    expect(performance.now() - stopping).toBeLessThan(1000);
    expect(() => ip("-n", world.client, "link", "show", "dev", "tun7")).toThrow();
  });
});

test("is created by root of a user namespace, as a rootless container has it", async () => {
  const running = world.start(world.client, [
    ...["unshare", "--user", "--map-root-user", "--net", node, CLI],
    ...["run", "-d", "tun6", "-p", `socks5://${SERVER_IPV4}:1080`],
  ]);
  await running.says("serving tun6");
  const link = await world.run(world.client, [
    ...["nsenter", `--target=${running.child.pid}`, "--net", "ip", "link", "show", "dev", "tun6"],
  ]);
  expect(link.stdout).toContain("qlen 1000");
  await stop(running);
});

describe("a device that was there", () => {
  test("keeps its addresses and routes, and outlives us", async () => {
    ip("-n", world.client, "tuntap", "add", "dev", "mine0", "mode", "tun");
    ip("-n", world.client, "addr", "add", "192.168.77.1/24", "dev", "mine0");
    ip("-n", world.client, "link", "set", "mine0", "up");
    ip("-n", world.client, "route", "add", `${TARGET}/32`, "dev", "mine0");
    const before = ip("-n", world.client, "-4", "-o", "addr", "show", "dev", "mine0");
    const running = await serve("mine0");
    expect(ip("-n", world.client, "-4", "-o", "addr", "show", "dev", "mine0")).toBe(before);
    const { stdout } = await world.run(world.client, [
      node,
      fixture("downloads.js"),
      TARGET,
      "8080",
      "4",
      "1000000",
    ]);
    expect(stdout.trim()).toBe("4 right");
    await stop(running);
    expect(ip("-n", world.client, "-4", "-o", "addr", "show", "dev", "mine0")).toBe(before);
    ip("-n", world.client, "link", "del", "mine0");
  });

  test("stays down, and that is told", async () => {
    ip("-n", world.client, "tuntap", "add", "dev", "mine2", "mode", "tun");
    const running = await serve("mine2");
    await running.says("mine2 is down, nothing reaches it: run `ip link set mine2 up`");
    expect(ip("-n", world.client, "link", "show", "dev", "mine2")).not.toMatch(/[<,]UP[,>]/);
    await stop(running);
    ip("-n", world.client, "link", "set", "mine2", "up");
    const again = await serve("mine2");
    await stop(again);
    expect(again.stderr).not.toContain("down");
    ip("-n", world.client, "link", "del", "mine2");
  });

  test("ends us with one line when it is deleted", async () => {
    ip("-n", world.client, "tuntap", "add", "dev", "mine1", "mode", "tun");
    const running = await serve("mine1", "--log-level", "info");
    ip("-n", world.client, "link", "del", "mine1");
    expect(await running.ended).toMatchObject({ status: 1 });
    expect(running.stderr).toMatch(
      /^tun2socks: cannot read mine1: the device was deleted; [^\n]+ \(ERR_TUN_OPEN\)$/m,
    );
  });

  test("that another process serves is busy: one line, status 1", async () => {
    const first = await serve("tun8");
    const { status, stderr } = await world.run(world.client, [
      node,
      CLI,
      "run",
      "-d",
      "tun8",
      "-p",
      `socks5://${SERVER_IPV4}:1080`,
    ]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^tun2socks: [^\n]*\(ERR_TUN_BUSY\)\n$/);
    await stop(first);
  });
});

describe("SIGTERM while run still waits for", () => {
  /** Nobody answers there, and nobody says so. */
  const SILENT = "10.77.0.77";

  beforeAll(() => {
    ip("-n", world.client, "neigh", "add", SILENT, "lladdr", "02:00:00:00:00:77", "dev", "c0");
  });

  const proxied = `${node} ${CLI} run -d tun5 -p`;
  test.each([
    ["a proxy that is silent", `exec ${proxied} ${SILENT}`, "-t"],
    [
      "a resolver that is silent",
      `mount --bind $1 /etc/resolv.conf; exec ${proxied} proxy.example`,
      "-u",
    ],
  ])("%s ends it within a second, with status 0", async (_name, script, protocol) => {
    const resolver = join(world.directory, "resolv.conf");
    writeFileSync(resolver, `nameserver ${SILENT}\n`);
    const running = world.start(world.client, [
      "unshare",
      "-m",
      "sh",
      "-c",
      script,
      "sh",
      resolver,
    ]);
    await world.asks(world.client, SILENT, protocol);
    const stopping = performance.now();
    await stop(running);
    expect(performance.now() - stopping).toBeLessThan(1000);
    expect(running.stderr).toBe("");
  });
});

describe("2,000 flows at once", () => {
  test("of 1 MB each arrive whole, and memory returns to within 30 MB of before", async () => {
    const running = await serve("tun9");
    ip("-n", world.client, "route", "add", `${TARGET}/32`, "dev", "tun9");
    const run = (flows: number) =>
      world.run(world.client, [
        node,
        fixture("downloads.js"),
        TARGET,
        "8080",
        String(flows),
        "1000000",
      ]);
    // Code that is compiled and tables that have grown are not a leak: the first round is not measured.
    expect((await run(200)).stdout.trim()).toBe("200 right");
    const before = await settledRss(running);
    expect((await run(2000)).stdout.trim()).toBe("2000 right");
    const after = await settledRss(running);
    expect(after - before).toBeLessThan(30_000);
    await stop(running);
  });
});

/** Resident kB of a process once it has not changed by a MB for a second, or after twenty. */
async function settledRss(running: Running): Promise<number> {
  const read = (): number =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${running.child.pid}/status`, "utf8"))?.[1]);
  let last = read();
  for (let i = 0, same = 0; i < 20 && same < 8; i++) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const now = read();
    same = Math.abs(now - last) < 1000 ? same + 1 : 0;
    last = now;
  }
  return last;
}

describe("the proxy", () => {
  test("that cannot be reached at start is a warning, or the end with 69 under --require-proxy", async () => {
    const flags = ["run", "-d", "tun6", "-p", `socks5://${SERVER_IPV4}:9`];
    const strict = await world.run(world.client, [node, CLI, ...flags, "--require-proxy"]);
    expect(strict.status).toBe(69);
    expect(strict.stderr).toMatch(/^tun2socks: [^\n]*\(ERR_PROXY_UNREACHABLE\)\n$/);
    const lenient = world.start(world.client, [node, CLI, ...flags]);
    await lenient.says("serving tun6");
    ip("-n", world.client, "route", "add", "203.0.113.9/32", "dev", "tun6");
    const { stdout } = await world.run(world.client, [
      node,
      fixture("connect.js"),
      "203.0.113.9",
      "80",
    ]);
    expect(stdout.split(" ")[0]).toBe("EHOSTUNREACH");
    await stop(lenient);
  });

  test.skipIf(lacks("curl"))(
    "serves no address of its own host, be it of an interface without carrier",
    async () => {
      const host = world.namespace("host");
      ip("-n", host, "link", "add", "idle0", "type", "veth", "peer", "name", "idle1");
      ip("-n", host, "addr", "add", "203.0.113.77/24", "dev", "idle0");
      ip("-n", host, "link", "set", "idle0", "up");
      world.start(host, [node, CLI, "proxy"]);
      await world.bound(host, 1080);
      const curl = ["curl", "-sS", "--socks5", "127.0.0.1:1080", "http://203.0.113.77:9/"];
      const { stderr } = await world.run(host, curl);
      expect(stderr).toMatch(/203\.0\.113\.77.* \(2\)/);
    },
  );

  test.skipIf(lacks("curl"))("that refuses to be open says so", async () => {
    const { status, stderr } = await world.run(world.client, [
      node,
      CLI,
      "proxy",
      "--listen",
      "0.0.0.0:1080",
    ]);
    expect(status).toBe(2);
    expect(stderr).toMatch(/^tun2socks: [^\n]*\(ERR_PROXY_OPEN\)\n$/);
  });
});

describe("without a proxy", () => {
  const LOOPED = "203.0.113.7";

  async function serveDirectly(...flags: string[]): Promise<Running> {
    const running = world.start(world.client, [node, CLI, "run", "-d", "tun8", ...flags]);
    await running.says("serving tun8");
    ip("-n", world.client, "route", "add", `${LOOPED}/32`, "dev", "tun8");
    return running;
  }

  test.skipIf(lacks("curl"))(
    "a connection or datagram of ours that comes back is refused, once, with a line",
    async () => {
      const running = await serveDirectly();
      const curl = ["curl", "-sS", "-m", "10", `http://${LOOPED}:8080/1`];
      const { status } = await world.run(world.client, curl);
      expect(status).toBe(7);
      await running.says(`what we sent to ${LOOPED}:8080 came back through the device`);
      await world.run(world.client, [node, fixture("udp-client.js"), LOOPED, "9", "1"]);
      const sockets = await world.run(world.client, ["ss", "-Huan"]);
      expect(sockets.stdout.split("\n").length).toBeLessThan(10);
      await stop(running);
    },
  );

  test.skipIf(lacks("curl"))(
    "--fwmark leads the built-in server's connections around the device",
    async () => {
      const running = await serveDirectly("--fwmark", "7");
      ip("-n", world.server, "addr", "add", `${LOOPED}/32`, "dev", "lo");
      world.start(world.server, [node, fixture("web.js"), "8080", LOOPED]);
      await world.run(world.client, ["ip", "rule", "add", "fwmark", "7", "lookup", "77"]);
      await world.run(world.client, [
        "ip",
        "route",
        "add",
        "default",
        "via",
        SERVER_IPV4,
        "table",
        "77",
      ]);
      const url = `http://${LOOPED}:8080/1000`;
      const curl = [
        "curl",
        "-sS",
        "-m",
        "20",
        "--retry-connrefused",
        "--retry",
        "5",
        "-o",
        "/dev/null",
        url,
      ];
      expect(await world.run(world.client, curl)).toMatchObject({ status: 0 });
      await stop(running);
    },
  );
});
