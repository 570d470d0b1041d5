/** Several proxies: one of a pool is killed, and a chain leads where only the first proxy reaches. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { lacks } from "../support/requirements.ts";
import {
  CLI,
  fixture,
  ip,
  type Result,
  type Running,
  SERVER_IPV4,
  World,
} from "../support/world.ts";

const node = process.execPath;
const WEB = "203.0.113.1";
const FIRST = `socks5://${SERVER_IPV4}:1080`;
const SECOND = `socks5://${SERVER_IPV4}:1081`;
/** Seen from the server machine. */
const INNER = "socks5://127.0.0.1:1082";
let world: World;
let first: Running;

function startProxy(listen: string): Running {
  const flags = ["--listen", listen, "--open", "--allow-private"];
  return world.start(world.server, [node, CLI, "proxy", ...flags]);
}

beforeAll(async () => {
  world = new World();
  const { server } = world;
  ip("-n", server, "addr", "add", `${WEB}/32`, "dev", "lo");
  world.start(server, [node, fixture("web.js"), "8080", WEB]);
  world.start(server, [node, fixture("udp-echo.js"), "7", WEB]);
  first = startProxy(`${SERVER_IPV4}:1080`);
  startProxy(`${SERVER_IPV4}:1081`);
  startProxy("127.0.0.1:1082");
  for (const port of [1080, 1081, 1082, 8080]) await world.bound(server, port);
  await world.bound(server, 7, "u");
});

afterAll(() => world.close());

const fetchOctets = (octets: number): string[] => [
  "curl",
  "-sS",
  "-o",
  "/dev/null",
  "-w",
  "%{size_download}",
  `http://${WEB}:8080/${octets}`,
];

test.skipIf(lacks("curl"))("a chain leads through each proxy, for TCP and for UDP", async () => {
  const flags = ["-p", `${FIRST},${INNER}`];
  const web = await world.exec(flags, fetchOctets(5_000_000));
  expect(web).toMatchObject({ status: 0, stdout: "5000000", stderr: "" });
  const udp = await world.exec(flags, [node, fixture("udp-client.js"), WEB, "7", "50"]);
  expect(udp.stdout).toBe("50 answered\n");
  const broken = await world.exec(["-p", `${FIRST},socks5://127.0.0.1:9`], ["true"]);
  expect(broken.status).toBe(125);
  expect(broken.stderr).toContain(
    `chain ${FIRST} -> socks5://127.0.0.1:9: proxy ${FIRST}: it refused: connection refused (05)`,
  );
});

test.skipIf(lacks("curl"))(
  "new flows go on through the other proxy when one is killed",
  async () => {
    const { client } = world;
    const pool = ["-p", FIRST, "-p", SECOND];
    const product = world.start(client, [node, CLI, "run", "-d", "tun0", ...pool]);
    await product.says(`through ${FIRST}, ${SECOND} (failover)`);
    ip("-n", client, "route", "add", `${WEB}/32`, "dev", "tun0");
    const flow = (): Promise<Result> => world.run(client, fetchOctets(1000));
    expect(await flow()).toMatchObject({ status: 0, stdout: "1000" });
    first.child.kill("SIGKILL");
    await first.ended;
    for (let i = 0; i < 3; i++) expect(await flow()).toMatchObject({ status: 0, stdout: "1000" });
    await product.says(`pool: ${FIRST} is down: connection refused`);
    product.child.kill("SIGTERM");
    expect(await product.ended).toMatchObject({ status: 0 });
  },
);
