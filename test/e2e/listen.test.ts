/** `tun2socks listen` by a real proxy's BIND, as its user runs it. */

import { createHash } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startDante } from "../support/dante.ts";
import { lacks } from "../support/requirements.ts";
import { CLI, fixture, World } from "../support/world.ts";

const node = process.execPath;
const EMPTY = createHash("sha256").digest("hex");
const PATIENCE = { timeout: 10_000 };
let world: World;

beforeAll(async () => {
  world = new World();
  world.start(world.client, [node, fixture("web.js"), "8080", "127.0.0.1"]);
  await world.bound(world.client, 8080);
});

afterAll(() => world.close());

test.skipIf(lacks("danted", "curl"))(
  "Dante listens, who connects there reaches a server here, and SIGTERM ends it with 0",
  async () => {
    const proxy = await startDante(world);
    const listen = world.start(world.client, [
      ...[node, CLI, "listen", "-p", proxy, "--to", "127.0.0.1:8080"],
    ]);
    for (let turn = 0; turn < 2; turn++) {
      await expect.poll(() => listen.stdout.split("\n").length, PATIENCE).toBe(turn + 2);
      const address = listen.stdout.trim().split("\n").at(-1);
      const curl = ["curl", "-sS", "--max-time", "10", `http://${address}/sha256/0`];
      const answer = await world.run(world.server, curl);
      expect(answer).toEqual({ status: 0, stderr: "", stdout: EMPTY });
    }
    listen.child.kill("SIGTERM");
    expect(await listen.ended).toMatchObject({ status: 0 });
  },
);
