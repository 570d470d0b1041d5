/** `socks5h://`: names that only the proxy knows, programs that know nothing of it, and a resolver that hears nothing. */

import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startDante } from "../support/dante.ts";
import { withHosts } from "../support/hosts.ts";
import { lacks } from "../support/requirements.ts";
import { startSshProxy } from "../support/ssh.ts";
import { CLI, fixture, type Running, SERVER_IPV4, SERVER_IPV6, World } from "../support/world.ts";

const node = process.execPath;
/** In the hosts file of the proxy's machine, and nowhere else. */
const NAME = "web.proxy-only.internal";
const EMPTY = createHash("sha256").digest("hex");
let world: World;
/** The resolver behind the proxy: prints what it is asked. */
let resolver: Running;
let builtIn: string;
/** Gives a program of the proxy's machine that machine's hosts file. */
let knowing: (argv: readonly string[]) => readonly string[];

beforeAll(async () => {
  world = new World();
  knowing = withHosts(world, [
    `${SERVER_IPV4} ${NAME} single proxy.test`,
    `${SERVER_IPV6} six.proxy-only.internal`,
  ]);
  world.start(world.server, [node, fixture("web.js"), "8080", SERVER_IPV4, SERVER_IPV6]);
  world.start(world.server, [node, fixture("udp-echo.js"), "7", SERVER_IPV4, SERVER_IPV6]);
  resolver = world.start(world.server, [node, fixture("name-server.js"), SERVER_IPV4, "53"]);
  const proxy = [node, CLI, "proxy", "--listen", `${SERVER_IPV4}:1087`, "--open"];
  world.start(world.server, knowing([...proxy, "--allow-private"]));
  await world.bound(world.server, 8080);
  await world.bound(world.server, 53, "u");
  await world.bound(world.server, 1087);
  builtIn = `socks5://${SERVER_IPV4}:1087`;
});

afterAll(() => world.close());

function flags(proxy: string, ...more: readonly string[]): string[] {
  return ["-p", proxy.replace("socks5:", "socks5h:"), "--dns-server", SERVER_IPV4, ...more];
}

/** What the resolver was asked while `action` ran. */
async function asked(action: () => Promise<unknown>): Promise<string[]> {
  const before = resolver.stdout.length;
  await action();
  return resolver.stdout
    .slice(before)
    .trim()
    .split("\n")
    .filter((line) => line !== "");
}

const PROXIES: Array<[string, () => Promise<string>]> = [
  ["the built-in server", () => Promise.resolve(builtIn)],
];
if (!lacks("danted")) PROXIES.push(["Dante", () => startDante(world, 1080, knowing)]);
if (!lacks("ssh", "sshd")) PROXIES.push(["ssh -D", () => startSshProxy(world, 1081, knowing)]);

describe.skipIf(lacks("curl")).each(PROXIES)("through %s", (peer, start) => {
  let proxy: string;

  beforeAll(async () => {
    proxy = await start();
  });

  test("curl reaches a name that only the proxy knows, and no resolver is asked", async () => {
    for (const host of [NAME, NAME.toUpperCase(), "single"]) {
      const url = `http://${host}:8080/sha256/0`;
      const questions = await asked(async () => {
        expect(await world.exec(flags(proxy), ["curl", "-sS", url])).toMatchObject({
          status: 0,
          stdout: EMPTY,
        });
      });
      expect(questions).toEqual([]);
    }
  });

  test("a short name is the proxy's to complete, whatever domain this machine is in", async () => {
    const machine = [
      "unshare",
      "--uts",
      "sh",
      "-c",
      'hostname here.corp.example && exec "$@"',
      "sh",
    ];
    const command = ["curl", "-sS", "http://single:8080/sha256/0"];
    const exec = [node, CLI, "exec", ...flags(proxy), "--", ...command];
    const result = await world.run(world.client, [...machine, ...exec]);
    expect(result).toMatchObject({ status: 0, stdout: EMPTY });
  });

  test("a name that the proxy does not know is an error of connect(), not of the lookup", async () => {
    const url = "http://nosuch.proxy-only.internal:8080/";
    const { status, stderr } = await world.exec(flags(proxy), ["curl", "-sS", url]);
    // ssh -D grants first and closes then.
    expect([7, 52, 56], stderr).toContain(status);
  });

  // OpenSSH has no UDP.
  test.skipIf(peer === "ssh -D")(
    "datagrams to a name come back from where they were sent, and no resolver is asked",
    async () => {
      const questions = await asked(async () => {
        const command = [node, fixture("udp-client.js"), NAME, "7", "50"];
        const { stdout, stderr } = await world.exec(flags(proxy), command);
        expect(stdout.trim(), stderr).toBe("50 answered");
      });
      expect(questions).toEqual([]);
    },
  );
});

describe.skipIf(lacks("dig", "curl"))("lookups", () => {
  test("other types go to the resolver behind the proxy, and addresses never do, over UDP and TCP", async () => {
    const script = `dig +short ${NAME} A; dig +short +tcp ${NAME} AAAA; dig +short ${NAME} TYPE65; dig +short ${NAME} MX`;
    let output = "";
    const questions = await asked(async () => {
      output = (await world.exec(flags(builtIn), ["sh", "-c", script])).stdout;
    });
    expect(output).toMatch(/^198\.1[89]\.\d+\.\d+\nfd00:18::c61[23]:[0-9a-f]+\n$/);
    expect(questions).toEqual([`MX ${NAME}`]);
  });

  test("an address has its name, and one that stands for none is unreachable", async () => {
    const script = `address=$(dig +short ${NAME}); dig +short -x $address; curl -sSv http://198.19.255.1/`;
    const questions = await asked(async () => {
      const { status, stdout, stderr } = await world.exec(flags(builtIn), ["sh", "-c", script]);
      expect(stdout).toBe(`${NAME}.\n`);
      expect(status).toBe(7);
      expect(stderr).toContain("No route to host");
    });
    expect(questions).toEqual([]);
  });

  test("run: programs whose resolver is 198.18.0.3 reach names too", async () => {
    const run = world.start(world.client, [node, CLI, "run", "-d", "names0", ...flags(builtIn)]);
    await run.says("serving names0");
    const script = `curl -sS http://$(dig +short @198.18.0.3 ${NAME}):8080/sha256/0`;
    expect(await world.run(world.client, ["sh", "-c", script])).toMatchObject({
      status: 0,
      stdout: EMPTY,
    });
    run.child.kill("SIGTERM");
    expect(await run.ended).toMatchObject({ status: 0 });
  });

  test("--dns-real: those names are looked up, and their flows go by address", async () => {
    const questions = await asked(async () => {
      const command = ["sh", "-c", "dig +short www.test; curl -sS http://www.test:8080/sha256/0"];
      const result = await world.exec(flags(builtIn, "--dns-real", "test"), command);
      expect(result).toMatchObject({ status: 0, stdout: `${SERVER_IPV4}\n${EMPTY}` });
    });
    expect(questions).toContain("A www.test");
  });

  test("the proxy's own name is looked up, lest it be found behind itself", async () => {
    const exec = [node, CLI, "exec", ...flags("socks5://proxy.test:1087")];
    const command = ["sh", "-c", "dig +short proxy.test; dig +short below.proxy.test"];
    const result = await world.run(world.client, knowing([...exec, "--", ...command]));
    const [own, below] = result.stdout.split("\n");
    expect(own, result.stderr).toBe(SERVER_IPV4);
    expect(below).toMatch(/^198\.1[89]\./);
  });

  test("socks5:// and --dns auto look names up as before", async () => {
    for (const more of [
      ["-p", builtIn, "--dns-server", SERVER_IPV4],
      flags(builtIn, "--dns", "auto"),
    ]) {
      const { stdout } = await world.exec(more, ["dig", "+short", "www.test"]);
      expect(stdout).toBe(`${SERVER_IPV4}\n`);
    }
  });
});
