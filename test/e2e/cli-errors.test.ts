/** What a user reads when something outside the command line is wrong: one line, the right status, nothing left. */

import { chmodSync, chownSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
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
const EXEC = `${node} ${CLI} exec --log-level warn`;
let world: World;

beforeAll(async () => {
  world = new World();
  world.start(world.server, [node, fixture("web.js"), "8080", SERVER_IPV4]);
  const users = join(world.directory, "users");
  writeFileSync(users, "user:right\n");
  const listen = ["proxy", "--listen", `${SERVER_IPV4}:1080`, "--user-file", users];
  world.start(world.server, [node, CLI, ...listen]);
  await world.bound(world.server, 8080);
  await world.bound(world.server, 1080);
});

afterAll(() => world.close());

function shell(script: string): Promise<Result> {
  const env = { PATH: process.env["PATH"] };
  return world.run(world.client, ["sh", "-c", script], { env, timeout: 30_000 });
}

/** Own mounts, in which /dev/net holds what `make` puts there. */
function withDevice(make: string, command: string): string {
  return `exec unshare --mount sh -c 'set -e; mount -t tmpfs none /dev/net; ${make}; exec ${command}'`;
}

const UNPRIVILEGED = "setpriv --inh-caps=-all --bounding-set=-all";
/** Root that file permissions bind. */
const OBEDIENT = "setpriv --inh-caps=-all --bounding-set=-dac_override,-dac_read_search";
const CLOSED_NODE = "mknod -m 600 /dev/net/tun c 10 200; chown 1:1 /dev/net/tun";

/** Throws where nobody catches, once the command runs or the device is served. */
const BUG = `${node} --import='data:text/javascript,setTimeout(()=>{throw(new(Error)("bug"))},1000)' ${CLI}`;

interface Case {
  readonly name: string;
  readonly script: string;
  readonly status: number;
  readonly says: string;
}

const CASES: readonly Case[] = [
  {
    name: "exec at a port where no proxy listens",
    script: `${EXEC} -p ${SERVER_IPV4}:9 -- true`,
    status: 125,
    says: "connection refused; is it running on that port? (ERR_PROXY_UNREACHABLE)",
  },
  {
    name: "run --require-proxy at a port where no proxy listens",
    script: `${node} ${CLI} run -d tun0 --require-proxy -p ${SERVER_IPV4}:9`,
    status: 69,
    says: "connection refused; is it running on that port? (ERR_PROXY_UNREACHABLE)",
  },
  {
    name: "run --require-proxy with several proxies of which none listens",
    script: `${node} ${CLI} run -d tun0 --require-proxy -p ${SERVER_IPV4}:9 -p ${SERVER_IPV4}:10`,
    status: 69,
    says: `proxy socks5://${SERVER_IPV4}:10: connection refused; is it running on that port? (ERR_PROXY_UNREACHABLE)`,
  },
  {
    name: "a wrong password",
    script: `${EXEC} -p user:wrong@${SERVER_IPV4} -- true`,
    status: 125,
    says: "it refused user and password; check them (ERR_PROXY_AUTH)",
  },
  {
    name: "a wrong password in ALL_PROXY, for run",
    script: `ALL_PROXY=user:wrong@${SERVER_IPV4} ${node} ${CLI} run -d tun0 --require-proxy`,
    status: 69,
    says: "it refused user and password; check them (ERR_PROXY_AUTH)",
  },
  {
    name: "a password that was not given",
    script: `${EXEC} -p ${SERVER_IPV4} -- true`,
    status: 125,
    says: "give credentials, socks5://user:password@host:port (ERR_PROXY_AUTH)",
  },
  {
    name: "a Unix socket that is not there",
    script: `${node} ${CLI} run -d tun0 --require-proxy -p socks5+unix:///does/not/exist`,
    status: 69,
    says: "there is no such socket; is it running, is that its path? (ERR_PROXY_UNREACHABLE)",
  },
  {
    name: "a file of authorities that is not there",
    script: `${EXEC} -p "socks5s://${SERVER_IPV4}?ca=/does/not/exist" -- true`,
    status: 125,
    says: "cannot read /does/not/exist: ENOENT; check the path and its permissions (ERR_USAGE)",
  },
  {
    name: "a proxy without TLS where TLS was to be",
    script: `${EXEC} -p https://${SERVER_IPV4}:1080 -- true`,
    status: 125,
    says: "(ERR_PROXY_PROTOCOL)",
  },
  {
    name: "a server that is not SOCKS5",
    script: `${EXEC} -p ${SERVER_IPV4}:8080 -- true`,
    status: 125,
    says: "(ERR_PROXY_PROTOCOL)",
  },
  {
    name: "exec without /dev/net/tun",
    script: withDevice(":", `${EXEC} -- true`),
    status: 125,
    says: "cannot open /dev/net/tun: it does not exist; run `modprobe tun` as root",
  },
  {
    name: "run without /dev/net/tun",
    script: withDevice(":", `${node} ${CLI} run -d tun0 --log-level warn`),
    status: 1,
    says: "(ERR_TUN_MISSING)",
  },
  {
    name: "exec without permission for the device",
    script: withDevice(CLOSED_NODE, `${OBEDIENT} ${EXEC} -- true`),
    status: 125,
    says: "denied to uid 0 (mode 0600); run `chmod 0666 /dev/net/tun` as root (ERR_TUN_PERMISSION)",
  },
  {
    name: "run without permission for the device",
    script: withDevice(CLOSED_NODE, `${UNPRIVILEGED} ${node} ${CLI} run -d tun0 --log-level warn`),
    status: 77,
    says: "(ERR_TUN_PERMISSION)",
  },
  {
    name: "run without CAP_NET_ADMIN",
    script: withDevice(
      "mknod -m 666 /dev/net/tun c 10 200",
      `${UNPRIVILEGED} ${node} ${CLI} run -d tun0 --log-level warn`,
    ),
    status: 77,
    says: "(ERR_TUN_PERMISSION)",
  },
  {
    name: "forbidden user namespaces",
    script: `exec unshare --user --map-root-user sh -c '
      echo 0 > /proc/sys/user/max_user_namespaces
      exec ${UNPRIVILEGED} ${EXEC} -- true'`,
    status: 125,
    says: "user namespaces are disabled (user.max_user_namespaces is 0); run `sysctl -w user",
  },
  {
    name: "an address space too small for the memory",
    script: `ulimit -v 2000000; ${EXEC} -- true`,
    status: 125,
    says: "cannot reserve 2048 MiB of address space: ENOMEM; raise `ulimit -v`, or allow overcommit",
  },
  {
    name: "a port that needs a privilege",
    script: `exec ${UNPRIVILEGED} ${node} ${CLI} proxy --listen 127.0.0.1:80`,
    status: 77,
    says: "cannot listen on 127.0.0.1:80: ports below 1024 need CAP_NET_BIND_SERVICE; choose another",
  },
  {
    name: "a user file without a user",
    script: `exec ${node} ${CLI} proxy --user-file /dev/null`,
    status: 2,
    says: "cannot use /dev/null: no user is in it; write user:password (ERR_USAGE)",
  },
  {
    name: "a command that does not exist",
    script: `${EXEC} -- /no/such/command`,
    status: 127,
    says: "cannot run /no/such/command: no such command, or its interpreter is missing; check",
  },
  {
    name: "a command that cannot be executed",
    script: `${EXEC} -- /etc/passwd`,
    status: 126,
    says: "cannot run /etc/passwd: permission denied; make it an executable file (ERR_COMMAND_NOT",
  },
  {
    name: "a bug of ours under exec",
    script: `${BUG} exec --log-level warn -- sleep 30`,
    status: 125,
    says: "tun2socks: unexpected failure: bug; this is a bug, please report it (ERR_INTERNAL)",
  },
];

describe("one line and the right status for", () => {
  test.each(CASES)("$name", async ({ script, status, says }) => {
    const result = await shell(script);
    expect(result).toMatchObject({ status, stdout: "" });
    expect(result.stderr).toContain(says);
    expect(result.stderr).toMatch(/^tun2socks: [^\n]+: [^\n]+[;,?][^\n]* \(ERR_[A-Z_]+\)\n$/);
    expect(result.stderr).not.toMatch(/right|wrong/);
  });

  test("a device that another process serves", async () => {
    const run = [node, CLI, "run", "-d", "tun5", "--log-level"];
    const first = world.start(world.client, [...run, "info"]);
    await first.says("serving tun5");
    const second = await world.run(world.client, [...run, "warn"]);
    expect(second).toMatchObject({ status: 1, stdout: "" });
    expect(second.stderr).toMatch(/^tun2socks: cannot open tun5: [^\n]+ \(ERR_TUN_BUSY\)\n$/);

    const told = performance.now();
    first.child.kill("SIGTERM");
    expect(await first.ended).toMatchObject({ status: 0 });
    expect(performance.now() - told).toBeLessThan(1000);
    expect(ip("-n", world.client, "-o", "link")).not.toContain("tun5");
  });

  test("a user file of another user", async () => {
    const users = join(world.directory, "closed");
    writeFileSync(users, "user:right\n", { mode: 0o600 });
    chownSync(users, 1, 1);
    const result = await shell(`exec ${OBEDIENT} ${node} ${CLI} proxy --user-file ${users}`);
    expect(result).toMatchObject({ status: 77, stdout: "" });
    expect(result.stderr).toBe(
      `tun2socks: cannot read ${users}: permission denied; check the path and its permissions (ERR_PERMISSION)\n`,
    );
  });

  test("a port that another program has", async () => {
    const listen = ["proxy", "--listen", `${SERVER_IPV4}:8080`, "--user", "a:b"];
    const { status, stderr } = await world.run(world.server, [node, CLI, ...listen]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^tun2socks: cannot listen on [^\n]+ \(ERR_PROXY_LISTEN\)\n$/);
  });
});

test("an unreachable proxy is one line of run's log, with its code, and run serves on", async () => {
  const run = [node, CLI, "run", "-d", "tun6", "-p", `${SERVER_IPV4}:9`];
  const running = world.start(world.client, run);
  await running.says("serving tun6");
  expect(running.stderr).toMatch(
    /^tun2socks: proxy [^\n]+ \(ERR_PROXY_UNREACHABLE\); serving all the same[^\n]*\ntun2socks: serving/,
  );
  running.child.kill("SIGINT");
  expect(await running.ended).toMatchObject({ status: 0 });
});

test("a resolv.conf that cannot be replaced is one line of exec's log, and the command runs", async () => {
  const without = `unshare --mount sh -c 'mount -t tmpfs none /etc && exec ${EXEC} -- echo ran'`;
  expect(await shell(without)).toEqual({
    status: 0,
    stdout: "ran\n",
    stderr:
      "tun2socks: in the namespace: bind /etc/resolv.conf: ENOENT; names may stay unknown, or be asked past the tunnel\n",
  });
});

test("a user file that every user can read is told, and is used", async () => {
  const users = join(world.directory, "open");
  writeFileSync(users, "user:right\n");
  const serve = (port: number): Running =>
    world.start(world.server, [
      ...[node, CLI, "proxy", "--listen", `127.0.0.1:${port}`, "--user-file", users],
    ]);
  chmodSync(users, 0o644);
  const warned = serve(2001);
  await warned.says("SOCKS5 on 127.0.0.1:2001, with password");
  expect(warned.stderr).toContain(
    `tun2socks: every user can read ${users} (mode 0644): run \`chmod 600 ${users}\`\n`,
  );
  chmodSync(users, 0o600);
  const silent = serve(2002);
  await silent.says("SOCKS5 on 127.0.0.1:2002, with password");
  expect(silent.stderr).not.toContain("chmod");
});

test("run serves on when the reader of its log has gone", async () => {
  const command = `${node} ${CLI} run -d tun7 -p ${SERVER_IPV4}:9`;
  const { stdout, stderr } = await shell(`(timeout 2 ${command} 2>&1; echo $? >&2) | head -c 1`);
  expect(stdout).toBe("t");
  // What timeout says of a program that had to be told.
  expect(stderr).toBe("124\n");
});

describe("demo", () => {
  test("ends with the one line that explains it where no program can be run", async () => {
    const result = await shell(withDevice(":", `${node} ${CLI} demo`));
    expect(result.status).toBe(1);
    expect(result.stdout).not.toContain("FAIL");
    expect(result.stderr).toMatch(/^tun2socks: cannot open [^\n]+ \(ERR_TUN_MISSING\)\n$/);
  });

  test("leaves nothing behind when it is told to end", async () => {
    const env = { ...process.env, TMPDIR: world.directory };
    const running = world.start(world.client, [node, CLI, "demo"], { env });
    await running.says("download");
    running.child.kill("SIGTERM");
    expect((await running.ended).status).not.toBe(0);
    expect(readdirSync(world.directory).filter((name) => name.includes("demo"))).toEqual([]);
  });
});
