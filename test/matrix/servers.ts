/** The proxies of the matrix, none of them written here but the last: how each is started and what it cannot do. */

import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startDante } from "../support/dante.ts";
import { withHosts } from "../support/hosts.ts";
import { startSshProxy } from "../support/ssh.ts";
import { CLI, SERVER_IPV4, SERVER_IPV6, type World } from "../support/world.ts";
import type { Column } from "./columns.ts";

/** In the hosts file of the proxy's machine, and nowhere else. */
export const NAME = "web.proxy-only.internal";
const USER = "me";
export const PASSWORD = "right";
const PORT = 1080;

/** A proxy that runs: the URL without credentials. */
export interface Proxy {
  readonly url: string;
  /** The one with which names go to the proxy, if `--dns fake` is not enough. */
  readonly urlOfNames?: string;
  /** It asks for {@link CREDENTIALS}. */
  readonly wantsPassword: boolean;
}

export interface ServerRow {
  readonly name: string;
  /** What it is started with; without one of them the row is not run. */
  readonly programs: readonly string[];
  /** What is seen where it is not what {@link USUAL} says: what it does not do, and how that shows. */
  readonly instead: Partial<Record<Column, string>>;
  start(world: World): Promise<Proxy>;
}

export const CREDENTIALS = `${USER}:${PASSWORD}`;

/** The server's machine knows {@link NAME}; every server is started so. */
export function knowing(world: World): (argv: readonly string[]) => readonly string[] {
  return withHosts(world, [`${SERVER_IPV4} ${NAME}`, `${SERVER_IPV6} ${NAME}`]);
}

async function listening(
  world: World,
  argv: readonly string[],
  port = PORT,
  namespace = world.server,
): Promise<void> {
  const running = world.start(namespace, knowing(world)(argv));
  await world.bound(namespace, port).catch((cause) => {
    throw new Error(`${argv[0]}: ${running.stdout}${running.stderr}`, { cause });
  });
}

/** A file of the world's. */
function file(world: World, name: string, text: string): string {
  const path = join(world.directory, name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

/** Users of the machine are Dante's users: this one has one that nobody else has. */
function withUser(world: World): (argv: readonly string[]) => readonly string[] {
  const { stdout } = spawnSync("openssl", ["passwd", "-6", PASSWORD], { encoding: "utf8" });
  const passwd = readFileSync("/etc/passwd", "utf8");
  const users = file(world, "passwd", `${passwd}${USER}:x:64999:65534::/:/bin/false\n`);
  const shadow = file(world, "shadow", `${USER}:${stdout.trim()}:20000:0:99999:7:::\n`);
  const mounts = `mount --bind ${users} /etc/passwd && mount --bind ${shadow} /etc/shadow`;
  return (argv) => ["sh", "-c", `chmod 644 ${users} && ${mounts} && exec "$@"`, "sh", ...argv];
}

const built = (world: World, ...flags: readonly string[]): Promise<void> =>
  listening(world, [
    ...[process.execPath, CLI, "proxy", "--listen", `${SERVER_IPV4}:${PORT}`, "--allow-private"],
    ...flags,
  ]);

const NO_UDP = { udp4: "ECONNREFUSED", udp6: "ECONNREFUSED", udpName: "ECONNREFUSED" };
const NO_BIND = { bind: "ERR_PROXY_REFUSED" };
const MICROSOCKS = {
  ...NO_UDP,
  ...NO_BIND,
  // It takes the end of one direction for that of both, and each recv(2) for one message.
  half: "closed",
  oneWrite: "no, found out",
};

/** SOCKS4 has neither IPv6 nor passwords nor UDP. */
const SOCKS4 = {
  ...NO_UDP,
  v6: "ECONNREFUSED",
  oneWrite: "–",
  password: "ERR_PROXY_URL",
  wrong: "ERR_PROXY_URL",
};

/** HTTP has no negotiation: a password is looked at with the request, or not at all. */
const TINYPROXY = { ...NO_UDP, bind: "ERR_USAGE", half: "closed", oneWrite: "–" };

/** A certificate of its own for the server's machine, and stunnel with it in front of `port`. */
async function startTls(world: World, tlsPort: number, port: number): Promise<string> {
  const [key, cert] = [join(world.directory, "tls.key"), join(world.directory, "tls.crt")];
  const { status, stderr } = spawnSync(
    "openssl",
    [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
      ...["-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=proxy"],
      ...["-addext", `subjectAltName=IP:${SERVER_IPV4}`],
    ],
    { encoding: "utf8" },
  );
  if (status !== 0) throw new Error(`openssl: ${stderr}`);
  const service = `accept = ${SERVER_IPV4}:${tlsPort}\nconnect = ${SERVER_IPV4}:${port}`;
  const tls = `foreground = yes\npid =\n[proxy]\n${service}\ncert = ${cert}\nkey = ${key}\n`;
  await listening(world, ["stunnel4", file(world, "stunnel.conf", tls)], tlsPort);
  return cert;
}

async function startTinyproxy(world: World, ...lines: readonly string[]): Promise<void> {
  const config = [`Port ${PORT}`, `Listen ${SERVER_IPV4}`, "Timeout 60", "MaxClients 50", ...lines];
  const path = file(world, "tinyproxy.conf", config.map((line) => `${line}\n`).join(""));
  await listening(world, ["tinyproxy", "-d", "-c", path]);
}

const URL = `socks5://${SERVER_IPV4}:${PORT}`;

export const SERVERS: readonly ServerRow[] = [
  {
    name: "Dante",
    programs: ["danted"],
    instead: { password: "ERR_PROXY_AUTH" },
    start: async (world) => ({
      url: await startDante(world, PORT, knowing(world)),
      wantsPassword: false,
    }),
  },
  {
    name: "Dante, password",
    programs: ["danted", "openssl"],
    instead: {},
    start: async (world) => {
      const wrap = withUser(world);
      const hosts = knowing(world);
      const url = await startDante(world, PORT, (argv) => wrap(hosts(argv)), "username");
      return { url, wantsPassword: true };
    },
  },
  {
    name: "Dante, SOCKS4",
    programs: ["danted"],
    // It does not know 4a.
    instead: { ...SOCKS4, name: "ECONNREFUSED" },
    async start(world) {
      await startDante(world, PORT, knowing(world));
      return {
        url: URL.replace("socks5", "socks4"),
        urlOfNames: URL.replace("socks5", "socks4a"),
        wantsPassword: false,
      };
    },
  },
  {
    name: "Dante behind stunnel",
    programs: ["danted", "stunnel4", "openssl"],
    instead: { password: "ERR_PROXY_AUTH" },
    async start(world) {
      await startDante(world, PORT, knowing(world));
      const cert = await startTls(world, 1443, PORT);
      return { url: `socks5s://${SERVER_IPV4}:1443?ca=${cert}`, wantsPassword: false };
    },
  },
  {
    name: "microsocks",
    programs: ["microsocks"],
    instead: { ...MICROSOCKS, password: "ERR_PROXY_AUTH" },
    async start(world) {
      await listening(world, ["microsocks", "-i", SERVER_IPV4, "-p", `${PORT}`]);
      return { url: URL, wantsPassword: false };
    },
  },
  {
    name: "microsocks, password",
    programs: ["microsocks"],
    instead: MICROSOCKS,
    async start(world) {
      const credentials = ["-u", USER, "-P", PASSWORD];
      await listening(world, ["microsocks", "-i", SERVER_IPV4, "-p", `${PORT}`, ...credentials]);
      return { url: URL, wantsPassword: true };
    },
  },
  {
    name: "ssh -D",
    programs: ["ssh", "sshd"],
    instead: {
      ...NO_UDP,
      ...NO_BIND,
      // It closes at a greeting without "no authentication".
      password: "ERR_PROXY_PROTOCOL",
      wrong: "ERR_PROXY_PROTOCOL",
    },
    start: async (world) => ({
      url: await startSshProxy(world, PORT, knowing(world)),
      wantsPassword: false,
    }),
  },
  {
    name: "ssh -D, SOCKS4a",
    programs: ["ssh", "sshd"],
    // It closes instead of a reply, which without a negotiation before it is no proof of a proxy.
    instead: { ...SOCKS4, refused: "EHOSTUNREACH", bind: "ERR_PROXY_PROTOCOL" },
    async start(world) {
      const url = await startSshProxy(world, PORT, knowing(world));
      return { url: url.replace("socks5", "socks4a"), wantsPassword: false };
    },
  },
  {
    name: "shadowsocks",
    programs: ["ss-local", "ss-server"],
    instead: {
      ...NO_BIND,
      password: "ERR_PROXY_AUTH",
      // It grants before it knows, and takes the end of one direction for that of both.
      refused: "closed",
      half: "closed",
    },
    async start(world) {
      const shared = ["-s", SERVER_IPV4, "-p", "8388", "-k", PASSWORD, "-m", "aes-256-gcm", "-u"];
      await listening(world, ["ss-server", ...shared], 8388);
      const local = ["ss-local", ...shared, "-b", "127.0.0.1", "-l", `${PORT}`];
      await listening(world, local, PORT, world.client);
      return { url: `socks5://127.0.0.1:${PORT}`, wantsPassword: false };
    },
  },
  {
    name: "tinyproxy",
    programs: ["tinyproxy"],
    instead: { ...TINYPROXY, wrong: "yes" },
    async start(world) {
      await startTinyproxy(world);
      return { url: URL.replace("socks5", "http"), wantsPassword: false };
    },
  },
  {
    name: "tinyproxy, password",
    programs: ["tinyproxy"],
    instead: { ...TINYPROXY, wrong: "EHOSTUNREACH" },
    async start(world) {
      await startTinyproxy(world, `BasicAuth ${USER} ${PASSWORD}`);
      return { url: URL.replace("socks5", "http"), wantsPassword: true };
    },
  },
  {
    name: "tinyproxy behind stunnel",
    programs: ["tinyproxy", "stunnel4", "openssl"],
    instead: { ...TINYPROXY, wrong: "yes" },
    async start(world) {
      await startTinyproxy(world);
      const cert = await startTls(world, 1443, PORT);
      return { url: `https://${SERVER_IPV4}:1443?ca=${cert}`, wantsPassword: false };
    },
  },
  {
    name: "tun2socks proxy",
    programs: [],
    instead: { password: "ERR_PROXY_AUTH" },
    async start(world) {
      await built(world, "--open");
      return { url: URL, wantsPassword: false };
    },
  },
  {
    name: "tun2socks proxy, password",
    programs: [],
    instead: {},
    async start(world) {
      await built(world, "--user-file", file(world, "users", `${CREDENTIALS}\n`));
      return { url: URL, wantsPassword: true };
    },
  },
];
