/** Where passwords for the proxy can be given, and that nobody but the proxy gets to see them. */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lacks } from "../support/requirements.ts";
import { CLI, fixture, type Running, SERVER_IPV4, World } from "../support/world.ts";

const node = process.execPath;
const PASSWORD = "hard-to-guess";
const PROXY = `socks5://${SERVER_IPV4}:1080`;
const WITH_PASSWORD = PROXY.replace("//", `//me:${PASSWORD}@`);

describe.skipIf(lacks("curl"))("a password for the proxy", () => {
  let world: World;
  let file: string;

  beforeAll(async () => {
    world = new World();
    file = join(world.directory, "auth");
    writeFileSync(file, `me:${PASSWORD}\n`, { mode: 0o600 });
    world.start(world.server, [node, fixture("web.js"), "8080", SERVER_IPV4]);
    const proxy = [node, CLI, "proxy", "--listen", `${SERVER_IPV4}:1080`, "--user-file", file];
    world.start(world.server, [...proxy, "--allow-private"]);
    await world.bound(world.server, 8080);
    await world.bound(world.server, 1080);
  });

  afterAll(() => world.close());

  /** What /proc shows of a process and of all below it. */
  function shown(pid: number): string {
    let text = "";
    for (const name of ["cmdline", "environ"]) {
      text += readFileSync(`/proc/${pid}/${name}`, "latin1").replaceAll("\0", " ");
    }
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      const children = readFileSync(`/proc/${pid}/task/${task}/children`, "latin1");
      for (const child of children.split(" ")) if (child !== "") text += shown(Number(child));
    }
    return text;
  }

  const CASES: readonly [string, readonly string[], Readonly<Record<string, string>>][] = [
    ["in the URL", ["-p", WITH_PASSWORD], {}],
    ["in the URL, with workers", ["-p", WITH_PASSWORD, "--workers", "2"], {}],
    ["in a file", ["-p", PROXY, "--proxy-auth-file", "FILE"], {}],
    ["in the variable", ["-p", PROXY, "--keep-env"], { TUN2SOCKS_PROXY_AUTH: `me:${PASSWORD}` }],
    ["in ALL_PROXY", ["--keep-env"], { ALL_PROXY: WITH_PASSWORD }],
  ];

  test.each(CASES)("%s opens the way and shows nowhere", async (_what, flags, given) => {
    const env = { PATH: process.env["PATH"] ?? "", ...given };
    const url = `http://${SERVER_IPV4}:8080/sha256/0`;
    const command = ["sh", "-c", `env; curl -sS --noproxy '*' ${url} && echo served; read line`];
    const written = flags.map((flag) => (flag === "FILE" ? file : flag));
    const running: Running = world.start(
      world.client,
      [node, CLI, "exec", ...written, "--", ...command],
      { env, stdio: ["pipe", "pipe", "pipe"] },
    );
    await running.says("served");
    const seen = shown(running.child.pid as number);
    expect(seen).toContain("exec");
    if (given["ALL_PROXY"] !== undefined) expect(running.stdout).toContain(`ALL_PROXY=${PROXY}`);
    running.child.stdin?.end();
    const { status, stdout, stderr } = await running.ended;
    expect(status === 0 || status === 1).toBe(true);
    expect(`${seen}${stdout}${stderr}`).not.toContain(PASSWORD);
  });
});
