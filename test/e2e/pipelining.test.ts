/** Handshakes in one write (`--pipeline`) with servers that take them and one that loses the request. */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startDante } from "../support/dante.ts";
import { lacks } from "../support/requirements.ts";
import { CLI, fixture, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
let world: World;

beforeAll(async () => {
  world = new World();
  world.start(world.server, [node, fixture("web.js"), "8080", SERVER_IPV4]);
  await world.bound(world.server, 8080);
});

afterAll(() => world.close());

interface Connections {
  readonly answered: number;
  readonly failed: Readonly<Record<string, number>>;
  readonly slowestAnswer: number;
}

/** So many connections through `proxy`, a few at a time; what they met, and what was said. */
async function connections(
  proxy: string,
  flags: readonly string[] = [],
): Promise<Connections & { readonly stderr: string }> {
  const { status, stdout, stderr } = await world.exec(
    ["-p", proxy, "--dns", "off", ...flags],
    [node, fixture("connections.js"), SERVER_IPV4, "8080", "40", "4"],
  );
  expect(status, stderr).toBe(0);
  return { ...(JSON.parse(stdout) as Connections), stderr };
}

async function microsocks(port: number, ...flags: string[]): Promise<void> {
  world.start(world.server, ["microsocks", "-i", SERVER_IPV4, "-p", String(port), ...flags]);
  await world.bound(world.server, port);
}

describe.skipIf(lacks("microsocks"))("microsocks, which takes each recv for one message", () => {
  test("auto finds out with one connection, which is late and not lost", async () => {
    await microsocks(1081);
    const result = await connections(`socks5://${SERVER_IPV4}:1081`);
    expect(result).toMatchObject({ answered: 40, failed: {} });
    expect(result.slowestAnswer).toBeGreaterThan(900);
    expect(result.stderr.match(/in one write/g)?.length).toBe(1);
    expect(result.stderr).toMatch(/handshakes go step by step/);
  });

  test("so it does with a password", async () => {
    await microsocks(1082, "-u", "me", "-P", "secret");
    const result = await connections(`socks5://me:secret@${SERVER_IPV4}:1082`);
    expect(result).toMatchObject({ answered: 40, failed: {} });
    expect(result.stderr).toMatch(/handshakes go step by step/);
    expect(result.stderr).not.toContain("secret");
  });

  test("off never tries", async () => {
    await microsocks(1083);
    const result = await connections(`socks5://${SERVER_IPV4}:1083`, ["--pipeline", "off"]);
    expect(result).toMatchObject({ answered: 40, failed: {} });
    expect(result.stderr).not.toMatch(/one write/);
  });
});

test.skipIf(lacks("danted")).each([["auto"], ["on"]])(
  "Dante takes whole handshakes: %s",
  async (mode) => {
    const proxy = await startDante(world, mode === "on" ? 1084 : 1085);
    const result = await connections(proxy, ["--pipeline", mode]);
    expect(result).toMatchObject({ answered: 40, failed: {} });
    expect(/takes a whole handshake/.test(result.stderr)).toBe(mode === "auto");
  },
);

test("our own server takes them, with a password too", async () => {
  world.start(world.server, [
    ...[node, CLI, "proxy", "--listen", `${SERVER_IPV4}:1086`, "--allow-private"],
    ...["--user", "me:secret"],
  ]);
  await world.bound(world.server, 1086);
  const result = await connections(`socks5://me:secret@${SERVER_IPV4}:1086`);
  expect(result).toMatchObject({ answered: 40, failed: {} });
  expect(result.stderr).toMatch(/takes a whole handshake in one write, which saves two round/);
  expect(result.stderr).not.toContain("secret");
});

test("SOCKS6 has the whole handshake in one message, and our own server takes it if asked to", async () => {
  world.start(world.server, [
    ...[node, CLI, "proxy", "--socks6", "--listen", `${SERVER_IPV4}:1087`, "--allow-private"],
    ...["--user", "me:secret"],
  ]);
  await world.bound(world.server, 1087);
  const result = await connections(`socks6://me:secret@${SERVER_IPV4}:1087`);
  expect(result).toMatchObject({ answered: 40, failed: {} });
  expect(result.stderr).not.toContain("secret");
});
