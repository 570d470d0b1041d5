/** Everything of the matrix with one proxy, through the whole program. */

import {
  CLI,
  fixture,
  type Result,
  SERVER_IPV4,
  SERVER_IPV6,
  type World,
} from "../support/world.ts";
import type { Cells } from "./columns.ts";
import { CREDENTIALS, NAME, type ServerRow } from "./servers.ts";

/** Of peer-targets.js, on the server's machine. */
export const TARGETS = 7000;

/** Starts a proxy and tries everything with it. */
export async function tryServer(world: World, row: ServerRow): Promise<Cells> {
  const { url, urlOfNames = url, wantsPassword } = await row.start(world);
  const own = wantsPassword ? CREDENTIALS : null;
  const [addresses, names, right, wrong, bind] = await Promise.all([
    check(world, url, own, ["--dns", "off"], "connect,refused,half,transfer,udp,warm", [
      `v4=${SERVER_IPV4}`,
      `v6=${SERVER_IPV6}`,
    ]),
    check(world, urlOfNames, own, ["--dns", "fake"], "connect,udp", [`name=${NAME}`]),
    check(world, url, CREDENTIALS, ["--dns", "off"], "connect", [`v4=${SERVER_IPV4}`]),
    check(world, url, "me:wrong", ["--dns", "off"], "connect", [`v4=${SERVER_IPV4}`]),
    tryBind(world, withCredentials(url, own)),
  ]);
  const { seen } = addresses;
  const of = (what: string): string => seen(`${what} v4`);
  return {
    v4: of("connect"),
    v6: seen("connect v6"),
    name: names.seen("connect name"),
    refused: of("refused"),
    transfer: of("transfer"),
    half: of("half"),
    password: right.seen("connect v4"),
    wrong: wrong.seen("connect v4"),
    udp4: of("udp"),
    udp6: seen("udp v6"),
    udpName: names.seen("udp name"),
    bind,
    oneWrite: url.startsWith("socks5") ? oneWrite(addresses.said) : "–",
  };
}

/** What the log says of handshakes in one write. Other protocols than SOCKS5 have but one message. */
function oneWrite(said: string): string {
  if (/takes a whole handshake/.test(said)) return "yes";
  return /handshakes go step by step/.test(said) ? "no, found out" : "not found out";
}

interface Checked {
  /** What tun2socks and the checks said on standard error. */
  readonly said: string;
  /** The result of a check, or why there is none. */
  seen(check: string): string;
}

/** Runs peer-checks.js in a namespace of `tun2socks exec`. */
async function check(
  world: World,
  url: string,
  credentials: string | null,
  flags: readonly string[],
  whats: string,
  hosts: readonly string[],
): Promise<Checked> {
  const proxy = withCredentials(url, credentials);
  const result: Result = await world.run(world.client, [
    ...[process.execPath, CLI, "exec", "-p", proxy, ...flags, "--"],
    ...[process.execPath, fixture("peer-checks.js"), `${TARGETS}`, whats, ...hosts],
  ]);
  const { status, stdout, stderr } = result;
  const code = errorCode(stderr);
  const seen: Record<string, string> = status === 0 ? JSON.parse(stdout) : {};
  return { said: stderr, seen: (name) => seen[name] ?? code ?? `status ${status}: ${stderr}` };
}

/** `tun2socks listen`: who connects where the proxy listens reaches a server of the client's machine. */
async function tryBind(world: World, proxy: string): Promise<string> {
  world.start(world.client, [
    ...[process.execPath, fixture("peer-targets.js"), `${TARGETS}`, "127.0.0.1"],
  ]);
  await world.bound(world.client, TARGETS + 1);
  const listen = world.start(world.client, [
    ...[process.execPath, CLI, "listen", "-p", proxy, "--to", `127.0.0.1:${TARGETS}`, "--once"],
    // Dante wants to know, in SOCKS4.
    ...["--peer", SERVER_IPV4],
  ]);
  const refused = listen.ended.then(({ status, stderr }) => {
    return errorCode(stderr) ?? `status ${status}: ${stderr}`;
  });
  const listening = listen.says("\n").then(
    () => "",
    () => "",
  );
  const why = await Promise.race([refused, listening]);
  const [, host = "", port = ""] = /^(.*):(\d+)\n/.exec(listen.stdout) ?? [];
  if (port === "") return why === "" ? refused : why;
  const { stdout, stderr } = await world.run(world.server, [
    ...[process.execPath, fixture("peer-checks.js"), port, "connect", `bind=${host}`],
  ]);
  return stdout === ""
    ? stderr
    : ((JSON.parse(stdout) as Record<string, string>)["connect bind"] ?? "");
}

function withCredentials(url: string, credentials: string | null): string {
  return credentials === null ? url : url.replace("://", `://${credentials}@`);
}

function errorCode(stderr: string): string | undefined {
  return /\((ERR_[A-Z_]+)\)/.exec(stderr)?.[1];
}
