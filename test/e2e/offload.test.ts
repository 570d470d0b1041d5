/** Devices of which the kernel grants less: the same octets arrive, by packets as large as we may choose. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lacks } from "../support/requirements.ts";
import { CLI, fixture, ip, SERVER_IPV4, SERVER_IPV6, World } from "../support/world.ts";

const node = process.execPath;
const OCTETS = 50_000_000;
let world: World;

beforeAll(async () => {
  world = new World();
  world.start(world.server, [node, fixture("web.js"), "8080", SERVER_IPV4, SERVER_IPV6]);
  world.start(world.server, [node, fixture("udp-echo.js"), "7", SERVER_IPV4, SERVER_IPV6]);
  await world.bound(world.server, 8080);
  await world.bound(world.server, 7, "u");
});

afterAll(() => world.close());

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** MTU of the device inside `exec`. */
async function mtuInside(...flags: string[]): Promise<number> {
  const { stdout } = await world.exec(flags, ["ip", "link", "show", "tun0"]);
  return Number(/ mtu (\d+) /.exec(stdout)?.[1]);
}

describe.each(["checksum", "none"])("--offload %s", (granted) => {
  const flags = ["--offload", granted];

  test("gives a device of our own the MTU 65,520, and leaves an MTU that was asked for", async () => {
    expect(await mtuInside(...flags)).toBe(65_520);
    expect(await mtuInside(...flags, "--mtu", "9000")).toBe(9000);
  });

  test.skipIf(lacks("curl")).each([
    ["IPv4, MTU 65,520", `http://${SERVER_IPV4}:8080`, []],
    ["IPv6, MTU 65,520", `http://[${SERVER_IPV6}]:8080`, []],
    ["IPv4, MTU 1500", `http://${SERVER_IPV4}:8080`, ["--mtu", "1500"]],
  ])("carries 50 MB both ways with equal SHA-256 over %s", async (_name, url, more) => {
    const file = join(world.directory, "transfer");
    const curl = ["curl", "-sS", "-g"];
    const down = await world.exec([...flags, ...more], [...curl, "-o", file, `${url}/${OCTETS}`]);
    expect(down).toMatchObject({ status: 0 });
    const hash = sha256(readFileSync(file));
    const expected = await world.run(world.server, [...curl, `${url}/sha256/${OCTETS}`]);
    expect(hash).toBe(expected.stdout);
    const up = await world.exec(
      [...flags, ...more],
      [...curl, "-H", "Expect:", "-T", file, `${url}/up`],
    );
    expect(up).toMatchObject({ status: 0, stdout: hash });
  });

  test.each([
    ["IPv4", SERVER_IPV4],
    ["IPv6", SERVER_IPV6],
  ])("carries datagrams both ways over %s", async (_family, address) => {
    const echoed = await world.exec(flags, [node, fixture("udp-client.js"), address, "7", "64"]);
    expect(echoed).toMatchObject({ status: 0, stdout: "64 answered\n" });
  });
});

test("a device of our own with all offloads has the MTU 1500", async () => {
  expect(await mtuInside()).toBe(1500);
});

describe("run --offload none", () => {
  async function serve(name: string, ...flags: string[]): Promise<string> {
    const argv = [node, CLI, "run", "-d", name, "--offload", "none", ...flags];
    const running = world.start(world.client, argv);
    await running.says(`serving ${name}`);
    const shown = ip("-n", world.client, "link", "show", "dev", name);
    running.child.kill("SIGTERM");
    expect(await running.ended).toMatchObject({ status: 0 });
    return shown;
  }

  test("makes a device with the MTU 65,520, or the one that is asked for", async () => {
    expect(await serve("new0")).toContain("mtu 65520");
    expect(await serve("new1", "--mtu", "1400")).toContain("mtu 1400");
  });

  test("leaves the MTU of a device that others made", async () => {
    ip("-n", world.client, "tuntap", "add", "dev", "theirs0", "mode", "tun");
    expect(await serve("theirs0")).toContain("mtu 1500");
    expect(await serve("theirs0", "--mtu", "9000")).toContain("mtu 9000");
    ip("-n", world.client, "link", "del", "theirs0");
  });
});
