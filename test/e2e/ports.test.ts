/** More connections than there are local ports or descriptors: refused at once, with one line, and over when it is over. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { CLI, fixture, ip, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
/** Ports of the client machine. */
const PORTS = 200;
const PROXY = `socks5://${SERVER_IPV4}:1080`;
let world: World;

beforeAll(async () => {
  world = new World();
  world.start(world.server, [node, fixture("web.js"), "8080", SERVER_IPV4]);
  world.start(world.server, [
    ...[node, CLI, "proxy", "--listen", `${SERVER_IPV4}:1080`],
    ...["--open", "--allow-private", "--log-level", "error"],
  ]);
  for (const port of [1080, 8080]) await world.bound(world.server, port);
  sysctl("net.ipv4.ip_local_port_range", `40000 ${40_000 + PORTS - 1}`);
});

afterAll(() => world.close());

function sysctl(name: string, value: string): void {
  ip("netns", "exec", world.client, "sysctl", "-qw", `${name}=${value}`);
}

/** Every test has a port of its own on the proxy's machine, and with it all local ports. */
async function forward(port: number): Promise<string> {
  world.start(world.server, [
    ...[node, CLI, "proxy", "--listen", `${SERVER_IPV4}:${port}`],
    ...["--open", "--allow-private", "--log-level", "error"],
  ]);
  await world.bound(world.server, port);
  return `socks5://${SERVER_IPV4}:${port}`;
}

const client = (count: number, atATime: number, ...more: string[]): string[] => [
  ...[node, fixture("connections.js"), SERVER_IPV4, "8080"],
  ...[String(count), String(atATime), ...more],
];

interface Connections {
  readonly answered: number;
  readonly failed: Readonly<Record<string, number>>;
  readonly slowestFailure: number;
}

test("beyond the ports of one address flows are refused at once, one line says why, and ports that come back are used", async () => {
  sysctl("net.ipv4.tcp_tw_reuse", "0");
  // The program ends its connections first, so ours to the proxy keep their ports (TIME-WAIT).
  const running = world.start(
    world.client,
    [
      ...[node, CLI, "exec", "-p", PROXY, "--dns", "off", "--pipeline", "off", "--"],
      ...["sh", "-c", `${client(300, 8).join(" ")}; read line; ${client(100, 8).join(" ")}`],
    ],
    { stdio: ["pipe", "pipe", "pipe"] },
  );
  const started = performance.now();
  await running.says('"answered"');
  const first = JSON.parse(running.stdout) as Connections;
  expect(first.answered).toBeGreaterThan(PORTS / 2);
  expect(first.answered).toBeLessThanOrEqual(PORTS);
  expect(first.failed).toEqual({ ECONNREFUSED: 300 - first.answered });
  expect(first.slowestFailure).toBeLessThan(1000);
  const lines = running.stderr.split("\n").filter((line) => line.includes("no local port"));
  // One in five seconds.
  expect(lines.length).toBeGreaterThanOrEqual(1);
  expect(lines.length).toBeLessThanOrEqual(1 + Math.floor((performance.now() - started) / 5000));
  expect(lines[0]).toMatch(/ip_local_port_range.*tcp_tw_reuse=1.*--source/);
  sysctl("net.ipv4.tcp_tw_reuse", "1");
  // The kernel gives a port back a second after its connection ended (tcp_twsk_unique).
  await new Promise((resolve) => setTimeout(resolve, 1500));
  running.child.stdin?.end("go\n");
  const { status, stdout } = await running.ended;
  expect(status).toBe(0);
  const second = JSON.parse(stdout.trim().split("\n")[1] as string) as Connections;
  expect(second).toMatchObject({ answered: 100, failed: {} });
});

test("addresses of --source have their ports together", async () => {
  sysctl("net.ipv4.tcp_tw_reuse", "0");
  const proxy = await forward(1081);
  // On another interface: what is not asked for is not used.
  ip("-n", world.client, "addr", "add", "10.77.0.11/32", "dev", "lo");
  const { status, stdout, stderr } = await world.exec(
    ["-p", proxy, "--dns", "off", "--source", "10.77.0.1", "--source", "10.77.0.11"],
    client(350, 8),
  );
  expect(status, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ answered: 350, failed: {} });
});

test("without --source the other addresses of the interface help when ports run out", async () => {
  sysctl("net.ipv4.tcp_tw_reuse", "0");
  const proxy = await forward(1082);
  ip("-n", world.client, "addr", "add", "10.77.0.12/24", "dev", "c0");
  const { status, stdout, stderr } = await world.exec(
    ["-p", proxy, "--dns", "off", "--log-level", "warn"],
    client(350, 8),
  );
  expect(status, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ answered: 350, failed: {} });
  expect(stderr).toBe("");
});

test("a source that this host does not have is one line", async () => {
  const { status, stderr } = await world.exec(["-p", PROXY, "--source", "203.0.113.9"], ["true"]);
  expect(status).toBe(125);
  expect(stderr).toMatch(/^tun2socks: .*203\.0\.113\.9: this host has no such address; [^\n]+\n$/);
});

test("without a proxy the ports towards a target, and those between us and the built-in one, are bounded the same way", async () => {
  sysctl("net.ipv4.tcp_tw_reuse", "2");
  world.start(world.server, [node, fixture("web.js"), "8081", SERVER_IPV4]);
  await world.bound(world.server, 8081);
  for (const extra of ["10.77.0.12/24"]) ip("-n", world.client, "addr", "del", extra, "dev", "c0");
  const argv = client(300, 8);
  argv[3] = "8081";
  const { status, stdout, stderr } = await world.exec(["--dns", "off"], argv);
  expect(status, stderr).toBe(0);
  const { answered, failed, slowestFailure } = JSON.parse(stdout) as Connections;
  expect(answered).toBeGreaterThan(PORTS / 2);
  expect(failed).toEqual({ ECONNREFUSED: 300 - answered });
  expect(slowestFailure).toBeLessThan(1000);
  const lines = stderr
    .split("\n")
    .filter((line) => /no local port.*ip_local_port_range/.test(line));
  expect(lines.length).toBeGreaterThanOrEqual(1);
  expect(lines.length).toBeLessThanOrEqual(2);
});

test("beyond the descriptors flows are refused at once, and one line says why", async () => {
  sysctl("net.ipv4.ip_local_port_range", "32768 60999");
  const { status, stdout, stderr } = await world.run(world.client, [
    ...["prlimit", "--nofile=600:600", node, CLI, "exec", "-p", PROXY, "--dns", "off", "--"],
    ...client(450, 450, "hold"),
  ]);
  expect(status, stderr).toBe(0);
  const { answered, failed, slowestFailure } = JSON.parse(stdout) as Connections;
  expect(answered).toBeGreaterThan(250);
  expect(answered).toBeLessThanOrEqual(600 - 256);
  expect(failed).toEqual({ ECONNREFUSED: 450 - answered });
  expect(slowestFailure).toBeLessThan(3000);
  expect(stderr.match(/too many open files; raise the limit \(ulimit -n\)/g)?.length).toBe(1);
});
