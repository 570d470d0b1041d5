/** docs/refusals.md, tried: Linux's own connect() and a connected UDP socket behind proxies that refuse. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { REFUSALS } from "../support/refusal-table.ts";
import { CLI, fixture, ip, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
let world: World;

beforeAll(() => {
  world = new World();
});

afterAll(() => world.close());

/** How the proxy of a row behaves; rows of our own limits have none. */
const BEHAVIOUR: Readonly<Record<string, string>> = {
  "F0–F7 (Tor) and any other": "242",
  "no connection to the proxy": "down",
  "method or password refused": "auth",
  "not SOCKS5, or closed without a reply": "http",
  "no answer within the dial deadline": "mute",
};

const ROWS = REFUSALS.filter(({ said }) => !said.startsWith("our own limit"));

test.each(ROWS.map((row, i) => ({ ...row, i })))(
  "$said: a program sees $connect4, $connect6",
  async ({ said, connect4, connect6, udp4, udp6, i }) => {
    const behaviour = BEHAVIOUR[said] ?? String(Number.parseInt(said, 10));
    const port = 3000 + i;
    const [device, v4, v6] = [`tun${i}`, `192.0.2.${i + 1}`, `2001:db8::${i + 1}`];
    if (behaviour !== "down") {
      world.start(world.server, [
        node,
        fixture("refusing-proxy.js"),
        SERVER_IPV4,
        String(port),
        behaviour,
      ]);
      await world.bound(world.server, port);
    }
    const proxy = `socks5://${SERVER_IPV4}:${port}`;
    const running = world.start(world.client, [
      node,
      CLI,
      "run",
      "-d",
      device,
      "-p",
      proxy,
      "--dns",
      "off",
    ]);
    await running.says(`serving ${device}`);
    for (const target of [v4, v6]) ip("-n", world.client, "route", "add", target, "dev", device);
    const { stdout } = await world.run(world.client, [node, fixture("refusals.js"), v4, v6]);
    // The program waits two seconds, not the two minutes of Linux's own time-out.
    const seen = stdout.trim().replaceAll("nothing", "").split(" ");
    expect(seen).toEqual(
      [connect4, connect6, udp4, udp6].map((code) => (code === "ETIMEDOUT" ? "" : code)),
    );
    running.child.kill("SIGTERM");
    expect(await running.ended).toMatchObject({ status: 0 });
  },
);
