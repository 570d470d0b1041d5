/** `tun2socks exec`: ordinary programs, Linux's own TCP, and proxies that others wrote. */

import { createHash } from "node:crypto";
import { createReadStream, readFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startDante } from "../support/dante.ts";
import { lacks } from "../support/requirements.ts";
import { startSshProxy } from "../support/ssh.ts";
import { fixture, SERVER_IPV4, SERVER_IPV6, World } from "../support/world.ts";

const node = process.execPath;
let world: World;

beforeAll(async () => {
  world = new World();
  world.start(world.server, [node, fixture("web.js"), "8080", SERVER_IPV4, SERVER_IPV6]);
  world.start(world.server, [node, fixture("udp-echo.js"), "7", SERVER_IPV4, SERVER_IPV6]);
  world.start(world.server, [node, fixture("name-server.js"), SERVER_IPV4, "53"]);
  await world.bound(world.server, 8080);
  await world.bound(world.server, 53, "u");
  if (!lacks("iperf3")) world.start(world.server, ["iperf3", "-s", "-B", SERVER_IPV4]);
  if (!lacks("microsocks")) {
    world.start(world.server, ["microsocks", "-i", SERVER_IPV4, "-p", "1086"]);
    await world.bound(world.server, 1086);
  }
});

afterAll(() => world.close());

const WEB = `http://${SERVER_IPV4}:8080`;
const WEB6 = `http://[${SERVER_IPV6}]:8080`;
const OCTETS = 500_000_000;

async function sha256(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}

const PROXIES: Array<[string, (() => Promise<string>) | null]> = [["the built-in server", null]];
if (!lacks("danted")) PROXIES.push(["Dante", () => startDante(world)]);

describe.skipIf(lacks("curl")).each(PROXIES)("500 MB through %s", (_name, start) => {
  let flags: string[] = [];

  beforeAll(async () => {
    flags = start === null ? [] : ["-p", await start()];
  });

  test.each([
    ["IPv4", WEB],
    ["IPv6", WEB6],
  ])("arrive with equal SHA-256 both ways over %s", async (_family, url) => {
    const file = join(world.directory, "transfer");
    const down = await world.exec(flags, ["curl", "-sS", "-g", "-o", file, `${url}/${OCTETS}`]);
    expect(down).toMatchObject({ status: 0 });
    const expected = await world.run(world.server, ["curl", "-sS", `${WEB}/sha256/${OCTETS}`]);
    const hash = await sha256(file);
    expect(hash).toBe(expected.stdout);
    const up = await world.exec(flags, [
      "curl",
      "-sS",
      "-g",
      "-H",
      "Expect:",
      "-T",
      file,
      `${url}/up`,
    ]);
    expect(up).toMatchObject({ status: 0, stdout: hash });
  });
});

describe.skipIf(lacks("curl"))("what a program sees", () => {
  test("of a closed port: connection refused, within 50 ms of its SYN", async () => {
    const { status, stderr } = await world.exec([], ["curl", "-sSv", `http://${SERVER_IPV4}:81/`]);
    expect(status).toBe(7);
    expect(stderr).toContain("Connection refused");
    const probe = await world.exec([], [node, fixture("connect.js"), SERVER_IPV4, "81", "10"]);
    const [code, elapsed] = probe.stdout.trim().split(" ");
    expect(code).toBe("ECONNREFUSED");
    expect(Number(elapsed)).toBeLessThan(50);
  });

  test("of a server that resets in mid-transfer: an error, never a short success", async () => {
    const { status, stdout } = await world.exec(
      [],
      ["curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", `${WEB}/cut/2000000`],
    );
    expect(status).toBe(56);
    expect(Number(stdout)).toBeLessThan(2_000_000);
  });
});

describe.skipIf(lacks("curl", "danted"))("through Dante", () => {
  let proxy: string;

  beforeAll(async () => {
    proxy = await startDante(world, 1085);
  });

  test("an unreachable network and an unreachable host are told apart", async () => {
    // No route at the proxy's machine is REP 03; a host that does not answer ARP is REP 04.
    const network = await world.exec(["-p", proxy], ["curl", "-sSv", "http://192.0.2.1/"]);
    expect(network, network.stderr).toMatchObject({ status: 7 });
    expect(network.stderr).toContain("Network is unreachable");
    const host = await world.exec(["-p", proxy], ["curl", "-sSv", "http://10.77.0.99/"]);
    expect(host, host.stderr).toMatchObject({ status: 7 });
    expect(host.stderr).toContain("No route to host");
  });

  test("names resolve by UDP ASSOCIATE, for dig and for curl", async () => {
    const flags = ["-p", proxy, "--dns", "udp", "--dns-server", SERVER_IPV4];
    if (!lacks("dig")) {
      const dig = await world.exec(flags, ["dig", "+short", "+tries=1", "www.test"]);
      expect(dig).toMatchObject({ status: 0, stdout: `${SERVER_IPV4}\n` });
    }
    const curl = await world.exec(flags, ["curl", "-sS", "http://www.test:8080/sha256/0"]);
    expect(curl).toMatchObject({ status: 0, stdout: createHash("sha256").digest("hex") });
  });

  test("datagrams come back from the address they were sent to", async () => {
    const { stdout } = await world.exec(
      ["-p", proxy],
      [node, fixture("udp-client.js"), SERVER_IPV4, "7", "50"],
    );
    expect(stdout.trim()).toBe("50 answered");
  });
});

describe.skipIf(lacks("curl", "sshd", "ssh"))("through ssh -D, which has no UDP", () => {
  let proxy: string;

  beforeAll(async () => {
    proxy = await startSshProxy(world);
  });

  test("names resolve by DNS over TCP", async () => {
    const flags = ["-p", proxy, "--dns-server", SERVER_IPV4];
    if (!lacks("dig")) {
      const dig = await world.exec(flags, ["dig", "+short", "+tries=1", "www.test"]);
      expect(dig).toMatchObject({ status: 0, stdout: `${SERVER_IPV4}\n` });
    }
    const curl = await world.exec(flags, ["curl", "-sS", "http://www.test:8080/sha256/0"]);
    expect(curl).toMatchObject({ status: 0, stdout: createHash("sha256").digest("hex") });
  });

  test("other datagrams fail at once: a connected socket sees ECONNREFUSED", async () => {
    const { stdout } = await world.exec(
      ["-p", proxy],
      [node, fixture("udp-client.js"), SERVER_IPV4, "7", "1"],
    );
    const [code, elapsed] = stdout.trim().split(" ");
    expect(code).toBe("ECONNREFUSED");
    expect(Number(elapsed)).toBeLessThan(1000);
  });
});

test("through a proxy that says yes before it knows, one line tells, and refusals are resets", async () => {
  world.start(world.server, [node, fixture("refusing-proxy.js"), SERVER_IPV4, "1087", "0"]);
  await world.bound(world.server, 1087);
  const hosts = [SERVER_IPV4, SERVER_IPV6, "10.77.0.1", SERVER_IPV4];
  const { stdout, stderr } = await world.exec(
    ["-p", `socks5://${SERVER_IPV4}:1087`, "--dns", "off"],
    [node, fixture("ends.js"), "9", ...hosts],
  );
  expect(stdout).toMatch(/ ECONNRESET ECONNRESET\n$/);
  expect(stderr.match(/says yes before it knows/g)?.length).toBe(1);
});

describe.skipIf(lacks("iperf3", "microsocks"))("iperf3 through microsocks", () => {
  test.each([
    ["up", []],
    ["down", ["-R"]],
    ["both ways with 8 streams", ["--bidir", "-P", "4"]],
  ])("%s runs to its end", async (_name, flags) => {
    const proxy = `socks5://${SERVER_IPV4}:1086`;
    const run = ["iperf3", "-J", "-t", "1", "-c", SERVER_IPV4, ...flags];
    const { status, stdout } = await world.exec(["-p", proxy, "--dns", "off"], run);
    expect(status, stdout).toBe(0);
    const { end } = JSON.parse(stdout) as { end: { sum_received: { bytes: number } } };
    expect(end.sum_received.bytes).toBeGreaterThan(1_000_000);
  });
});

describe("errors of ours", () => {
  test.each([
    ["an unknown scheme", ["-p", "gopher://127.0.0.1"], "ERR_PROXY_URL"],
    ["a bad port", ["-p", "socks5://127.0.0.1:99999"], "ERR_PROXY_URL"],
    ["a proxy that is not there", ["-p", "socks5://127.0.0.1:9"], "ERR_PROXY_UNREACHABLE"],
    ["an unknown flag", ["--no-such-flag"], "ERR_USAGE"],
    ["a bad value", ["--dns", "sometimes"], "ERR_USAGE"],
  ])("%s: one line, status 125", async (_name, flags, code) => {
    const { status, stderr } = await world.exec(flags, ["true"]);
    expect(status).toBe(125);
    expect(stderr).toMatch(new RegExp(`^tun2socks: [^\\n]*\\(${code}\\)\\n$`));
  });

  test("ALL_PROXY with a scheme we lack is an error, never ignored", async () => {
    const { status, stderr } = await world.exec([], ["true"], {
      env: { ...process.env, ALL_PROXY: "ftp://127.0.0.1" },
    });
    expect(status).toBe(125);
    expect(stderr).toMatch(/^tun2socks: [^\n]*\(ERR_PROXY_URL\)\n$/);
  });

  test("a wrong password is told, and is not printed", async () => {
    const server = world.start(world.client, [
      node,
      fixture("../../../bin/tun2socks.js"),
      "proxy",
      "--listen",
      "127.0.0.1:1089",
      "--user",
      "me:secret",
    ]);
    await server.says("SOCKS5 on");
    const { status, stderr } = await world.exec(
      ["-p", "socks5://me:wrong@127.0.0.1:1089"],
      ["true"],
    );
    expect(status).toBe(125);
    expect(stderr).toMatch(/^tun2socks: [^\n]*\(ERR_PROXY_AUTH\)\n$/);
    expect(stderr).not.toContain("wrong@");
    server.child.kill("SIGTERM");
    expect(await server.ended).toMatchObject({ status: 0 });
  });
});

describe("the command", () => {
  test.each([
    ["its own status", ["sh", "-c", "exit 7"], 7],
    ["128+N for a signal", ["sh", "-c", "kill -TERM $$"], 143],
    ["127 when it is not found", ["no-such-command-here"], 127],
    ["126 when it cannot be executed", ["/etc/passwd"], 126],
  ])("ends with %s", async (_name, command, expected) => {
    expect((await world.exec([], command)).status).toBe(expected);
  });

  test("has no *_PROXY variables unless --keep-env", async () => {
    const env = {
      ...process.env,
      HTTP_PROXY: "http://127.0.0.1:9",
      https_proxy: "http://127.0.0.1:9",
    };
    const count = ["sh", "-c", "env | grep -ic _proxy="];
    expect((await world.exec([], count, { env })).stdout.trim()).toBe("0");
    expect((await world.exec(["--keep-env"], count, { env })).stdout.trim()).toBe("2");
  });

  test("reaches the host's loopback by name only under --host-loopback", async () => {
    world.start(world.client, [node, fixture("web.js"), "8081", "127.0.0.1"]);
    await world.bound(world.client, 8081);
    const ask = ["curl", "-sS", "http://host.tun2socks.internal:8081/sha256/0"];
    const flags = ["--dns-server", SERVER_IPV4];
    expect(await world.exec([...flags, "--host-loopback"], ask)).toMatchObject({ status: 0 });
    expect((await world.exec(flags, ask)).status).not.toBe(0);
    const byAddress = ["curl", "-sS", "http://198.18.0.2:8081/sha256/0"];
    expect((await world.exec(flags, byAddress)).status).toBe(7);
  });

  test("keeps its status when it deletes the device, and that is told in one line", async () => {
    const command = ["sh", "-c", "ip link del tun0 && sleep 0.5; exit 3"];
    const { status, stderr } = await world.exec(["--log-level", "warn"], command);
    expect(status).toBe(3);
    expect(stderr).toMatch(
      /^tun2socks: cannot read tun0: the device was deleted; [^\n]+ \(ERR_TUN_OPEN\)\n$/,
    );
  });

  test("leaves the machine's interfaces and resolver as they were", async () => {
    const before = [
      await world.run(world.client, ["ip", "-o", "addr"]),
      readFileSync("/etc/resolv.conf", "utf8"),
    ];
    await world.exec([], ["true"]);
    const after = [
      await world.run(world.client, ["ip", "-o", "addr"]),
      readFileSync("/etc/resolv.conf", "utf8"),
    ];
    expect(after).toEqual(before);
  });
});
