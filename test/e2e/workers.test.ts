/** `tun2socks run --workers`: a device with several queues, each served by a thread of its own. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lacks } from "../support/requirements.ts";
import { CLI, fixture, ip, type Running, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
const PROXY = `socks5://${SERVER_IPV4}:1080`;
/** Addresses behind the proxy that the client machine reaches through the TUN only. */
const TARGETS = [1, 2, 3, 4, 5, 6, 7, 8].map((host) => `203.0.113.${host}`);
const [TARGET] = TARGETS as [string];
let world: World;

beforeAll(async () => {
  world = new World();
  for (const target of TARGETS) ip("-n", world.server, "addr", "add", `${target}/32`, "dev", "lo");
  world.start(world.server, [node, fixture("web.js"), "8080", TARGET]);
  world.start(world.server, [node, fixture("udp-echo.js"), "7", ...TARGETS]);
  world.start(world.server, [node, fixture("name-server.js"), SERVER_IPV4, "53"]);
  if (!lacks("iperf3")) world.start(world.server, ["iperf3", "-s", "-B", TARGET]);
  world.start(world.server, [
    ...[node, CLI, "proxy", "--listen", `${SERVER_IPV4}:1080`, "--open", "--allow-private"],
  ]);
  await world.bound(world.server, 8080);
  await world.bound(world.server, 1080);
  await world.bound(world.server, 53, "u");
});

afterAll(() => world.close());

async function serve(name: string, ...flags: string[]): Promise<Running> {
  const command = [node, CLI, "run", "-d", name, "-p", PROXY, "--dns-server", SERVER_IPV4];
  const running = world.start(world.client, [...command, ...flags]);
  await running.says(`serving ${name}`);
  return running;
}

/** Ends it as an operator would; that takes no longer than with one thread. */
async function stop(running: Running): Promise<void> {
  const stopping = performance.now();
  running.child.kill("SIGTERM");
  expect(await running.ended).toMatchObject({ status: 0 });
  expect(performance.now() - stopping).toBeLessThan(2000);
}

function queuesOf(name: string): number {
  const shown = ip("-n", world.client, "-d", "link", "show", "dev", name);
  return Number(/numqueues (\d+)/.exec(shown)?.[1] ?? 1);
}

function isThere(name: string): boolean {
  return ip("-n", world.client, "link", "show").includes(` ${name}: `);
}

function routed(name: string): void {
  ip("-n", world.client, "route", "replace", "203.0.113.0/24", "dev", name);
}

/** `flows` downloads of `octets` each, all at once, whose hashes are right. */
async function downloads(flows: number, octets: number): Promise<string> {
  const command = [node, fixture("downloads.js"), TARGET, "8080", String(flows), String(octets)];
  return (await world.run(world.client, command)).stdout.trim();
}

describe("two workers on a device that was missing", () => {
  let running: Running;

  beforeAll(async () => {
    running = await serve("wrk0", "--workers", "2");
    routed("wrk0");
  });

  test("have a queue each", () => {
    expect(queuesOf("wrk0")).toBe(2);
    expect(ip("-n", world.client, "-o", "addr", "show", "dev", "wrk0")).toContain("198.18.0.1/15");
  });

  test("carry 64 downloads at once, whose hashes are right", async () => {
    expect(await downloads(64, 1_000_000)).toBe("64 right");
  });

  test("carry 2,000 flows at once", async () => {
    expect(await downloads(2000, 100_000)).toBe("2000 right");
  });

  test.skipIf(lacks("iperf3")).each([
    ["up", []],
    ["down", ["-R"]],
  ])("carry eight streams of iperf3 %s", async (_name, flags) => {
    const command = ["iperf3", "-J", "-t", "2", "-P", "8", "-c", TARGET, ...flags];
    const { status, stdout } = await world.run(world.client, command);
    expect(status, stdout).toBe(0);
    const { end } = JSON.parse(stdout) as { end: { streams: { receiver: { bytes: number } }[] } };
    for (const { receiver } of end.streams) expect(receiver.bytes).toBeGreaterThan(100_000);
  });

  test.each([200, 3000])(
    "carry datagrams of %i octets from one port to many, whatever queue",
    async (octets) => {
      const command = [node, fixture("datagrams.js"), "32", String(octets), "7", ...TARGETS];
      expect((await world.run(world.client, command)).stdout.trim()).toBe("256 of 256 echoed");
    },
  );

  test("answer queries that each have a port of their own", async () => {
    const command = [node, fixture("queries.js"), "198.18.0.3", "web.test", "400"];
    expect((await world.run(world.client, command)).stdout.trim()).toBe("400 of 400 answered");
  });

  test("end by SIGTERM, and the device with them", async () => {
    await stop(running);
    // What each of them finds out is one line.
    expect(running.stderr).toMatch(
      /^[^\n]+ serving wrk0 [^\n]+\n[^\n]+ a whole handshake in [^\n]+\n$/,
    );
    expect(isThere("wrk0")).toBe(false);
  });
});

test("without a proxy each worker has the built-in one, and one line says so", async () => {
  const running = world.start(world.server, [
    ...[node, CLI, "run", "-d", "wrk1", "--workers", "3", "--dns", "off"],
  ]);
  await running.says("serving wrk1");
  expect(running.stderr.match(/using the built-in one/g)?.length).toBe(1);
  await stop(running);
});

test("what is asked of the kernel and where sockets leave from holds for each worker", async () => {
  ip("-n", world.client, "addr", "add", "10.77.0.21/24", "dev", "c0");
  const running = await serve(
    "wrk5",
    "--workers",
    "2",
    "--offload",
    "none",
    "--source",
    "10.77.0.21",
  );
  expect(running.stderr).toContain("serving wrk5 (MTU 65520)");
  routed("wrk5");
  const ended = downloads(16, 1_000_000);
  await world.asks(world.client, `${SERVER_IPV4} src 10.77.0.21`, "-t");
  expect(await ended).toBe("16 right");
  await stop(running);
});

test.each([
  ["--dns", "fake"],
  ["--dns", "fake", "--dns-real", "web.test"],
  ["--dns-real", "web.test"],
])("names that one worker alone would know are refused: %s", async (...flags) => {
  const command = [node, CLI, "run", "-d", "wrk6", "-p", PROXY, "--workers", "2", ...flags];
  const { status, stderr } = await world.run(world.client, command);
  expect(stderr).toMatch(
    /^tun2socks: cannot use --dns fake with --workers: [^\n]+ \(ERR_USAGE\)\n$/,
  );
  expect(status).toBe(2);
  expect(isThere("wrk6")).toBe(false);
});

test("exec refuses them too, before the command starts", async () => {
  const flags = ["-p", PROXY, "--workers", "2", "--dns", "fake"];
  const { status, stdout, stderr } = await world.exec(flags, ["echo", "started"]);
  expect(stderr).toMatch(/^tun2socks: cannot use --dns fake with --workers: [^\n]+\n$/);
  expect([status, stdout]).toEqual([125, ""]);
});

test("socks5h looks names up as --dns auto does", async () => {
  const running = await serve("wrk7", "-p", PROXY.replace("socks5", "socks5h"), "--workers", "2");
  const command = [node, fixture("queries.js"), "198.18.0.3", "web.test", "8"];
  expect((await world.run(world.client, command)).stdout.trim()).toBe("8 of 8 answered");
  await stop(running);
});

describe("a device that was there", () => {
  test("with several queues is served and left as it was", async () => {
    const tuntap = ["tuntap", "add", "dev", "many0", "mode", "tun", "multi_queue"];
    ip("-n", world.client, ...tuntap);
    ip("-n", world.client, "addr", "add", "192.168.77.1/24", "dev", "many0");
    ip("-n", world.client, "link", "set", "many0", "up");
    const before = ip("-n", world.client, "-4", "-o", "addr", "show", "dev", "many0");
    const running = await serve("many0", "--workers", "2");
    routed("many0");
    expect(await downloads(8, 1_000_000)).toBe("8 right");
    await stop(running);
    expect(ip("-n", world.client, "-4", "-o", "addr", "show", "dev", "many0")).toBe(before);
    expect(queuesOf("many0")).toBe(0);
    ip("-n", world.client, "link", "del", "many0");
  });

  test("with one queue is served by one thread, and a line says how to have more", async () => {
    ip("-n", world.client, "tuntap", "add", "dev", "one0", "mode", "tun");
    ip("-n", world.client, "link", "set", "one0", "up");
    const running = await serve("one0", "--workers", "4");
    expect(
      running.stderr.match(/one0 has one queue: one thread serves it; make it with/g),
    ).toHaveLength(1);
    routed("one0");
    expect(await downloads(8, 1_000_000)).toBe("8 right");
    await stop(running);
    ip("-n", world.client, "link", "del", "one0");
  });

  test("that another process serves is busy, with one thread and with several", async () => {
    ip("-n", world.client, "tuntap", "add", "dev", "many2", "mode", "tun", "multi_queue");
    const first = await serve("many2", "--workers", "2");
    for (const workers of ["1", "2"]) {
      const { status, stderr } = await world.run(world.client, [
        ...[node, CLI, "run", "-d", "many2", "-p", PROXY, "--workers", workers],
      ]);
      expect(status).toBe(1);
      expect(stderr).toMatch(/^tun2socks: cannot open many2: another [^\n]*\(ERR_TUN_BUSY\)\n$/);
    }
    expect(queuesOf("many2")).toBe(2);
    await stop(first);
    ip("-n", world.client, "link", "del", "many2");
  });

  test("ends all workers with one line when it is deleted", async () => {
    ip("-n", world.client, "tuntap", "add", "dev", "many1", "mode", "tun", "multi_queue");
    ip("-n", world.client, "link", "set", "many1", "up");
    const running = await serve("many1", "--workers", "2");
    ip("-n", world.client, "link", "del", "many1");
    expect(await running.ended).toMatchObject({ status: 1 });
    expect(running.stderr).toMatch(
      /^tun2socks: cannot read many1: the device was deleted; [^\n]+\n$/m,
    );
    expect(running.stderr.match(/ERR_/g)).toHaveLength(1);
  });
});

test.each([
  { mtu: 1500, offload: "on" },
  { mtu: 65_520, offload: "none" },
])(
  "exec has a queue for each worker too, and the status is the command's: $offload",
  async ({ mtu, offload }) => {
    const script = `ip -d link show tun0 && ${node} ${fixture("downloads.js")} ${TARGET} 8080 16 1000000; exit 7`;
    const flags = ["-p", PROXY, "--workers", "2", "--offload", offload];
    const { status, stdout } = await world.exec(flags, ["sh", "-c", script]);
    expect(stdout).toContain(` mtu ${mtu} `);
    expect(stdout).toMatch(/numqueues 2[\s\S]*\n16 right\n$/);
    expect(status).toBe(7);
  },
);

describe("a worker that ends", () => {
  /** Worker 1 does so soon after it serves, see the fixture. */
  const crashing = (by: string): NodeJS.ProcessEnv => ({
    ...process.env,
    NODE_OPTIONS: `--require ${fixture("crash-worker.cjs")}`,
    CRASH_WORKER: "1",
    CRASH_BY: by,
  });

  test.each([
    ["throws", "throw", "unexpected failure: on purpose; this is a bug, please report it"],
    ["exits", "exit", "unexpected failure: worker 1 of 3 ended with status 0; this is a bug"],
  ])(
    "because it %s takes the process along: one line, status 1, no device",
    async (_name, by, line) => {
      const running = world.start(
        world.client,
        [node, CLI, "run", "-d", "wrk2", "-p", PROXY, "--workers", "3", "--log-level", "error"],
        { env: crashing(by) },
      );
      expect(await running.ended).toMatchObject({ status: 1 });
      expect(running.stderr).toMatch(/^tun2socks: [^\n]+ \(ERR_INTERNAL\)\n$/);
      expect(running.stderr).toContain(line);
      expect(isThere("wrk2")).toBe(false);
    },
  );

  test("ends exec as well, and its command: one line, status 125", async () => {
    const { status, stderr } = await world.exec(
      ["-p", PROXY, "--workers", "2", "--keep-env"],
      ["env", "-u", "NODE_OPTIONS", "sleep", "60"],
      { env: crashing("throw") },
    );
    expect(stderr).toMatch(
      /^tun2socks: unexpected failure: on purpose; [^\n]+ \(ERR_INTERNAL\)\n$/,
    );
    expect(status).toBe(125);
  });

  test("never, because it hangs, does not keep SIGTERM from ending all", async () => {
    const running = world.start(
      world.client,
      [node, CLI, "run", "-d", "wrk5", "-p", PROXY, "--workers", "2"],
      { env: crashing("loop") },
    );
    await running.says("hangs");
    await stop(running);
    expect(isThere("wrk5")).toBe(false);
  });

  test("because the library terminates it: the others are closed, and the device is gone", async () => {
    const running = world.start(world.client, [node, fixture("workers.js"), "wrk3", PROXY, "2"], {
      stdio: ["pipe", "pipe", "pipe"],
    });
    await running.says("serving");
    routed("wrk3");
    expect(await downloads(4, 100_000)).toBe("4 right");
    running.child.stdin?.write("terminate 1\n");
    expect(await running.ended).toMatchObject({ status: 3 });
    expect(running.stdout).toMatch(/failed: worker 1 of 2 ended with status 1\nclosed\n$/);
    expect(isThere("wrk3")).toBe(false);
  });
});

test("the counters of all workers are added up, and packets of one source go from one to the other", async () => {
  const running = world.start(world.client, [node, fixture("workers.js"), "wrk4", PROXY, "4"], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  await running.says("serving");
  routed("wrk4");
  expect(await downloads(32, 100_000)).toBe("32 right");
  const command = [node, fixture("datagrams.js"), "8", "100", "7", ...TARGETS];
  expect((await world.run(world.client, command)).stdout.trim()).toBe("64 of 64 echoed");
  running.child.stdin?.write("stats\n");
  await running.says("unlistedFlows");
  running.child.stdin?.end();
  expect(await running.ended).toMatchObject({ status: 0 });
  const [line] = running.stdout.split("\n").filter((text) => text.startsWith("{"));
  const stats = JSON.parse(line as string) as {
    stack: Record<string, number>;
    relay: Record<string, number>;
  };
  // The hash has a download of its own.
  expect(stats.stack["tcpOpens"]).toBe(33);
  expect(stats.relay["tcpOpened"]).toBe(33);
  expect(stats.stack["udpFlowsOpened"]).toBe(8);
  // Eight targets of a source on four queues: they cannot all come to the worker that has it.
  expect(stats.stack["handedOver"]).toBeGreaterThan(0);
  expect(stats.stack["handOverFull"]).toBe(0);
});
