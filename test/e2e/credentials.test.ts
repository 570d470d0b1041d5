/** A password, however it is given and whatever becomes of it, is in nothing that we print and in no environment. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { lacks } from "../support/requirements.ts";
import { CLI, fixture, type Result, type Running, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
/** Part of every password here, right or wrong, and of nothing else. */
const SECRET = "S3cr3t-0f-ours";
const RIGHT = `${SECRET}@/:word`;
const WRONG = `${SECRET}-wrong`;
const PROXY = `${SERVER_IPV4}:1080`;
let world: World;
let users: string;
let wrong: string;

beforeAll(async () => {
  world = new World();
  users = join(world.directory, "users");
  wrong = join(world.directory, "wrong");
  writeFileSync(users, `me:${RIGHT}\n`, { mode: 0o600 });
  writeFileSync(wrong, `me:${WRONG}\n`, { mode: 0o600 });
  world.start(world.server, [node, fixture("web.js"), "8080", SERVER_IPV4]);
  world.start(world.server, [
    ...[node, CLI, "proxy", "--listen", PROXY, "--user-file", users, "--allow-private"],
  ]);
  await world.bound(world.server, 8080);
  await world.bound(world.server, 1080);
});

afterAll(() => world.close());

/** No form of a password: as it is, percent-encoded, in base64 at any of its three offsets, in hex. */
function expectNoSecret(text: string): void {
  const octets = Buffer.from(SECRET);
  const base64 = [0, 1, 2].map((shift) => {
    const shifted = Buffer.concat([Buffer.alloc(shift), octets]).toString("base64");
    return shifted.slice(shift === 0 ? 0 : shift + 1, -4);
  });
  for (const form of [SECRET, octets.toString("hex"), ...base64]) {
    expect(form.length).toBeGreaterThan(11);
    expect(text).not.toContain(form);
  }
}

function url(password: string, address = PROXY): string {
  return `socks5://me:${encodeURIComponent(password)}@${address}`;
}

/** How a proxy and its password are given: flags and environment. */
type Way = (proxy: string) => { flags: readonly string[]; env: NodeJS.ProcessEnv };

const WAYS: Readonly<Record<string, Way>> = {
  "in -p": (proxy) => ({ flags: ["-p", proxy], env: {} }),
  "in ALL_PROXY": (proxy) => ({ flags: [], env: { ALL_PROXY: proxy } }),
};

/** What happens to it: the proxy, the port that the command asks for, and how exec ends. */
const FATES = [
  ["that is right", url(RIGHT), "8080", 0],
  ["for a target that refuses", url(RIGHT), "9", 0],
  ["that is wrong", url(WRONG), "", 125],
  ["for a proxy that is not there", url(RIGHT, `${SERVER_IPV4}:9`), "", 125],
  ["for a server that is none", url(RIGHT, `${SERVER_IPV4}:8080`), "", 125],
  ["in a URL that cannot be read", url(RIGHT, `${SERVER_IPV4}:port`), "", 125],
  ["with a bad encoding", `socks5://me:${SECRET}%zz@${PROXY}`, "", 125],
  ["for a scheme that we have not", url(RIGHT).replace("socks5", "gopher"), "", 125],
] as const;

const rows = Object.keys(WAYS).flatMap((way) => FATES.map((fate) => [way, ...fate] as const));

test.concurrent.each(rows)(
  "exec with a password %s, %s: it is in no line and not in the command's environment",
  async (way, _fate, proxy, port, status) => {
    const { flags, env } = WAYS[way]?.(proxy) ?? { flags: [], env: {} };
    const command = `cat /proc/self/environ; exec ${node} ${fixture("connect.js")} ${SERVER_IPV4} ${port}`;
    const result: Result = await world.exec(
      [...flags, "--dns", "off", "--log-level", "debug"],
      ["sh", "-c", command],
      { env: { PATH: process.env["PATH"], ...env } },
    );
    expect(result.status, result.stderr).toBe(status);
    expectNoSecret(result.stdout + result.stderr);
  },
);

/** The same where the URL has none: the password of {@link FATES}' first five is in a file or a variable. */
const APART: Readonly<Record<string, (isRight: boolean) => ReturnType<Way>>> = {
  "by --proxy-auth-file": (isRight) => ({
    flags: ["--proxy-auth-file", isRight ? users : wrong],
    env: {},
  }),
  "in TUN2SOCKS_PROXY_AUTH": (isRight) => ({
    flags: ["--keep-env"],
    env: { TUN2SOCKS_PROXY_AUTH: `me:${isRight ? RIGHT : WRONG}` },
  }),
};

const apart = Object.keys(APART).flatMap((way) =>
  FATES.slice(0, 5).map((fate) => [way, ...fate] as const),
);

test.concurrent.each(apart)(
  "exec with a password %s, %s: it is in no line and not in the command's environment",
  async (way, _fate, proxy, port, status) => {
    const { flags, env } = APART[way]?.(!proxy.includes("wrong")) ?? { flags: [], env: {} };
    const command = `cat /proc/self/environ; exec ${node} ${fixture("connect.js")} ${SERVER_IPV4} ${port}`;
    const result: Result = await world.exec(
      ["-p", proxy.replace(/me:.*@/, ""), ...flags, "--dns", "off", "--log-level", "debug"],
      ["sh", "-c", command],
      { env: { PATH: process.env["PATH"], ...env } },
    );
    expect(result.status, result.stderr).toBe(status);
    expectNoSecret(result.stdout + result.stderr);
  },
);

/** What every user of the machine sees of a process. */
function commandLine(running: Running): string {
  const line = readFileSync(`/proc/${running.child.pid}/cmdline`, "latin1");
  expect(line).toContain("tun2socks");
  return line;
}

test.each(Object.keys(WAYS))(
  "run with a password %s: it is in no line, from the start to the end, nor in its arguments once it serves",
  async (way) => {
    const { flags, env } = WAYS[way]?.(url(RIGHT)) ?? { flags: [], env: {} };
    const running = world.start(
      world.client,
      [node, CLI, "run", "-d", "tun0", "--log-level", "debug", ...flags],
      { env: { PATH: process.env["PATH"], ...env } },
    );
    await running.says("serving tun0");
    expectNoSecret(commandLine(running));
    running.child.kill("SIGTERM");
    const { status, stdout, stderr } = await running.ended;
    expect(status, stderr).toBe(0);
    expectNoSecret(stdout + stderr);
  },
);

test.skipIf(lacks("curl")).each([
  ["--user", (): string => `me:${RIGHT}`],
  ["--user-file", (): string => users],
] as const)(
  "the server with a password by %s: it is in no line, whoever asks, nor in its arguments once it listens",
  async (flag, given) => {
    const port = flag === "--user" ? 1081 : 1082;
    const running = world.start(world.server, [
      ...[node, CLI, "proxy", "--listen", `${SERVER_IPV4}:${port}`, "--allow-private"],
      ...["--log-level", "debug", flag, given()],
    ]);
    await running.says(`on ${SERVER_IPV4}:${port}`);
    expectNoSecret(commandLine(running));
    const target = `http://${SERVER_IPV4}:8080/sha256/0`;
    for (const [password, status] of [
      [RIGHT, 0],
      [WRONG, 97],
    ] as const) {
      const proxy = ["--socks5", `${SERVER_IPV4}:${port}`, "--proxy-user", `me:${password}`];
      const result = await world.run(world.client, ["curl", "-sS", ...proxy, target]);
      expect(result.status, result.stderr).toBe(status);
    }
    running.child.kill("SIGTERM");
    const { status, stdout, stderr } = await running.ended;
    expect(status).toBe(0);
    expectNoSecret(stdout + stderr);
  },
);
