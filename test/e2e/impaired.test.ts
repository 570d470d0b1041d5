/**
 * Linux TCP as the other end, through a link that loses, duplicates, reorders, corrupts and delays.
 *
 *     far ── bad link ── middle: forwards to a TUN that `tun2socks run` serves ── server: proxy and web
 *
 * Every TCP segment between the far kernel and our stack crosses the bad link; the proxy's side does not.
 */

import { afterAll, beforeAll, expect, test } from "vitest";
import type { LinkOptions } from "../../src/testing/lossy-link.ts";
import { CLI, fixture, ip, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
const TARGET_IPV4 = "203.0.113.1";
const TARGET_IPV6 = "2001:db8::1";
const OCTETS = 1_000_000;
const FAR = { ipv4: "192.0.2.1", ipv6: "fd00:78::1" };
const MIDDLE = { ipv4: "192.0.2.2", ipv6: "fd00:78::2" };

let world: World;
let far: string;

interface Counters {
  readonly sent: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly corrupted: number;
  readonly marked: number;
  readonly reordered: number;
  readonly overflowed: number;
}

beforeAll(async () => {
  world = new World();
  far = world.namespace("far");
  const middle = world.client;
  ip("-n", world.server, "addr", "add", `${TARGET_IPV4}/32`, "dev", "lo");
  ip("-n", world.server, "addr", "add", `${TARGET_IPV6}/128`, "dev", "lo", "nodad");
  await set(middle, "net.ipv4.ip_forward=1");
  await set(middle, "net.ipv6.conf.all.forwarding=1");
  // What the kernel learnt of one row's path would be the start of the next.
  await set(far, "net.ipv4.tcp_no_metrics_save=1");
  world.start(world.server, [node, fixture("web.js"), "8080", TARGET_IPV4, TARGET_IPV6]);
  const listen = ["--listen", `${SERVER_IPV4}:1080`, "--open", "--allow-private"];
  world.start(world.server, [node, CLI, "proxy", ...listen]);
  await world.bound(world.server, 8080);
  await world.bound(world.server, 1080);
  const run = ["run", "-d", "tun0", "-p", `socks5://${SERVER_IPV4}:1080`];
  await world.start(middle, [node, CLI, ...run]).says("serving tun0");
  ip("-n", middle, "route", "add", `${TARGET_IPV4}/32`, "dev", "tun0");
  ip("-n", middle, "route", "add", `${TARGET_IPV6}/128`, "dev", "tun0");
});

afterAll(() => world.close());

async function set(namespace: string, name: string): Promise<void> {
  const { status, stderr } = await world.run(namespace, ["sysctl", "-qw", name]);
  if (status !== 0) throw new Error(`sysctl ${name}: ${stderr}`);
}

/** A counter of the far kernel. */
async function counted(name: string): Promise<number> {
  const { stdout } = await world.run(far, ["nstat", "-asz", name]);
  return Number(stdout.split("\n")[1]?.split(/\s+/)[1]);
}

/** Both transfers through a link made for them, whose near end has an MTU of its own; what the link did. */
async function transfer(
  target: string,
  seed: number,
  link: LinkOptions,
  mtu: number = 1500,
): Promise<Counters> {
  const ends = [
    { netns: far, name: "bad0", ...FAR },
    { netns: world.client, name: "bad1", ...MIDDLE },
  ];
  const config = JSON.stringify({ seed, link, ends });
  const joined = world.start(far, [node, fixture("impaired-link.js"), config]);
  await joined.says("joined");
  ip("-n", far, "route", "add", `${TARGET_IPV4}/32`, "dev", "bad0");
  ip("-n", far, "route", "add", `${TARGET_IPV6}/128`, "dev", "bad0");
  ip("-n", world.client, "link", "set", "bad1", "mtu", String(mtu));
  const argv = [node, fixture("transfers.js"), target, "8080", String(OCTETS)];
  const { stdout } = await world.run(far, argv, { timeout: 30_000 });
  joined.child.kill("SIGTERM");
  const { status, stdout: said, stderr } = await joined.ended;
  expect(stdout).toBe("download right, upload right\n");
  expect(stderr).toBe("");
  expect(status).toBe(0);
  const counters = JSON.parse(said.split("\n")[1] as string) as Counters;
  expect(counters.overflowed).toBe(0);
  return counters;
}

test("1 MB each way is right with 1 % loss and 10 ms of delay", async () => {
  const { sent, lost } = await transfer(TARGET_IPV4, 1, { loss: 0.01, delay: 10 });
  expect(lost / sent).toBeGreaterThan(0.003);
});

test("1 MB each way is right with 5 % loss and a quarter of the packets overtaken", async () => {
  const link = { loss: 0.05, reorder: 0.25, delay: 5, jitter: 3 };
  const { sent, lost, reordered } = await transfer(TARGET_IPV4, 2, link);
  expect(lost / sent).toBeGreaterThan(0.02);
  expect(reordered / sent).toBeGreaterThan(0.15);
});

test("1 MB each way is right with 10 % duplicated and 1 % corrupted", async () => {
  const link = { duplicate: 0.1, corrupt: 0.01, delay: 5 };
  const { sent, duplicated, corrupted } = await transfer(TARGET_IPV4, 3, link);
  expect(duplicated / sent).toBeGreaterThan(0.05);
  expect(corrupted / sent).toBeGreaterThan(0.003);
});

test("1 MB each way over IPv6 is right with 30 to 70 ms of delay, 2 % loss and 1 % corrupted", async () => {
  const link = { loss: 0.02, corrupt: 0.01, delay: 30, jitter: 40 };
  const { sent, lost, corrupted } = await transfer(TARGET_IPV6, 4, link);
  expect(lost / sent).toBeGreaterThan(0.005);
  expect(corrupted / sent).toBeGreaterThan(0.003);
});

test.each([
  ["IPv4", TARGET_IPV4],
  ["IPv6", TARGET_IPV6],
])(
  "1 MB each way over %s is right for a client that speaks ECN, one packet in twenty marked (RFC 3168 §5)",
  async (_, target) => {
    await set(far, "net.ipv4.tcp_ecn=1");
    const before = [await counted("IpExtInCEPkts"), await counted("Ip6InCEPkts")];
    const { marked } = await transfer(target, 5, { mark: 0.05, loss: 0.002, delay: 5 });
    await set(far, "net.ipv4.tcp_ecn=2");
    const after = [await counted("IpExtInCEPkts"), await counted("Ip6InCEPkts")];
    // Marks went both ways: those that far saw are on our octets.
    const seen = after[0]! + after[1]! - before[0]! - before[1]!;
    expect(seen).toBeGreaterThan(10);
    expect(marked).toBeGreaterThan(seen);
  },
);

test.each([
  ["IPv4", TARGET_IPV4],
  ["IPv6", TARGET_IPV6],
])(
  "1 MB each way over %s is right where a router's link is narrower than the TUN (RFC 1191, RFC 8201)",
  async (_, target) => {
    const { sent } = await transfer(target, 6, { delay: 5 }, 1400);
    expect(sent).toBeGreaterThan(1400);
  },
);
