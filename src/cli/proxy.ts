/** `tun2socks proxy`: the built-in SOCKS server alone. */

import { Command, Option } from "commander";
import { createLog, type Log, type LogLevel } from "../log.ts";
import { Loop } from "../loop.ts";
import { MEMORY_OCTETS_WITH_SERVER, mapMemory } from "../memory.ts";
import { addon } from "../native/binding.ts";
import { withoutHostBits } from "../network-prefix.ts";
import { formatRange } from "../rules/rule.ts";
import { type AccessRule, parseAccessRule } from "../socks/access-rules.ts";
import { parseUserFile } from "../socks/credentials.ts";
import { SocksServer } from "../socks/server.ts";
import { UDP_IDLE } from "../socks/server-association.ts";
import { HALF_CLOSED, IDLE } from "../stack/tcp/lifetimes.ts";
import {
  type Cidr,
  type Endpoint,
  formatAddress,
  formatEndpoint,
  parseCidr,
} from "../stack/wire/address.ts";
import { standardError } from "./error-line.ts";
import { logLevel, value } from "./flags.ts";
import { readSecretFile } from "./secret-file.ts";
import { stopSignal } from "./stop-signal.ts";
import {
  parseDuration,
  parseEndpoint,
  parseInteger,
  parsePath,
  parseSources,
  usage,
} from "./values.ts";

interface ProxyFlags {
  readonly listen: Endpoint;
  readonly user?: string;
  readonly userFile?: string;
  readonly open: boolean;
  readonly allowPrivate: boolean;
  readonly allowClient: readonly Cidr[];
  readonly bindAddress?: Endpoint;
  readonly maxClients?: number;
  readonly maxPerClient?: number;
  readonly tcpIdle: number;
  readonly tcpHalfClosed: number;
  readonly udpTimeout: number;
  readonly socks6: boolean;
  readonly logLevel: LogLevel;
}

const DEFAULT_LISTEN = "127.0.0.1:1080";
/** Connections of one address, when others than this host's programs can be clients: a whole machine behind a tunnel is one. */
const MAX_PER_CLIENT = 4096;

export function proxyCommand(setStatus: (status: number) => void): Command {
  const rules: AccessRule[] = [];
  return new Command("proxy")
    .summary("the built-in SOCKS server alone")
    .description("The built-in SOCKS server alone: SOCKS5, SOCKS4 and 4a.")
    .option(
      "--listen <addr:port>",
      `where to listen (default: ${DEFAULT_LISTEN})`,
      value("--listen", (text) => parseEndpoint(text, 1080)),
      parseEndpoint(DEFAULT_LISTEN, 1080),
    )
    .option("--user <name:pass>", "the only user; visible to other local users")
    .option(
      "--user-file <file>",
      "users, one name:password in a line",
      value("--user-file", parsePath),
    )
    .option("--open", "listen beyond loopback without a user", false)
    .option("--allow-private", "serve the destinations named below, too", false)
    .addOption(accessRule(rules, true))
    .addOption(accessRule(rules, false))
    .addOption(allowClient())
    .option(
      "--max-clients <n>",
      "connections at a time; more wait (default: 9305)",
      value("--max-clients", (text) => parseInteger(text, 1, 65535)),
    )
    .addOption(bindAddress())
    .addOption(new Option("--socks6", "SOCKS6 too, experimental").default(false).hideHelp())
    .addOption(maxPerClient())
    .addOption(silence("--tcp-idle <time>", IDLE))
    .addOption(silence("--tcp-half-closed <time>", HALF_CLOSED))
    .addOption(silence("--udp-timeout <time>", UDP_IDLE))
    .addOption(logLevel())
    .addHelpText(
      "after",
      `
A rule is all, an address or a prefix, with ports or not: 10.0.0.0/8:80,443.
The first that matches decides. Else refused without --allow-private: this host,
link-local addresses (clouds have their metadata there) and, for clients on
other hosts, private networks; --allow opens what it names (but not: all).
With users SOCKS4, which has no passwords, is refused.
--log-level debug tells what was refused.
Exit status: 0, 2 usage, 77 permission, 1 otherwise.`,
    )
    .action(async (flags: ProxyFlags) => setStatus(await proxy(flags, rules)));
}

/** --allow and --deny: one list, in the order of the command line. */
function accessRule(rules: AccessRule[], isAllow: boolean): Option {
  const flag = isAllow ? "--allow" : "--deny";
  const parse = value(flag, (text) => {
    const rule = parseAccessRule(isAllow, text);
    if (rule === null) {
      throw usage(`"${text}" is not a rule`, "write all:25, 10.0.0.0/8, [2001:db8::1]:80,443");
    }
    if (rule.cidr !== null) refuseHostBits(text, rule.cidr);
    return rule;
  });
  const what = `${isAllow ? "serve" : "refuse"} this destination; may be repeated`;
  return new Option(`${flag} <rule>`, what).argParser((text) => {
    rules.push(parse(text));
  });
}

function allowClient(): Option {
  const parse = value("--allow-client", (text) => {
    const cidr = parseCidr(text);
    if (cidr === null)
      throw usage(`"${text}" is not a prefix`, "write 192.0.2.0/24 or 2001:db8::1");
    refuseHostBits(text, cidr);
    return cidr;
  });
  return new Option("--allow-client <cidr>", "only these may be clients; may be repeated")
    .argParser((text, earlier: readonly Cidr[]) => [...earlier, parse(text)])
    .default([]);
}

/** @throws TunnelError ERR_USAGE: nothing is opened that who wrote it may not have meant. */
function refuseHostBits(text: string, cidr: Cidr): void {
  const meant = withoutHostBits(cidr);
  if (meant !== null) {
    throw usage(`"${text}" has bits behind its prefix`, `write ${formatRange(meant)}`);
  }
}

/** The rest is rare, and the help one screen: README.md has it. */
function bindAddress(): Option {
  const parse = (text: string): Endpoint => {
    const [address, ...others] = parseSources(text);
    if (others.length > 0) throw usage(`"${text}" is more than one address`, "write one");
    return address as Endpoint;
  };
  return new Option("--bind-address <ip>", "where BIND listens (default: what suits the peer)")
    .argParser(value("--bind-address", parse))
    .hideHelp();
}

function maxPerClient(): Option {
  const what = `--max-clients of one address (default: ${MAX_PER_CLIENT}, on loopback any)`;
  return new Option("--max-per-client <n>", what)
    .argParser(value("--max-per-client", (text) => parseInteger(text, 1, 65535)))
    .hideHelp();
}

/** What silence ends, as `run` has it. */
function silence(flags: string, milliseconds: number): Option {
  const flag = flags.slice(0, flags.indexOf(" "));
  return new Option(flags, "silence that ends it (defaults: 2h4m, 10m, 10m)")
    .argParser(value(flag, parseDuration))
    .default(milliseconds)
    .hideHelp();
}

/**
 * Threads, of which libuv lends half to getaddrinfo (threadpool.c, slow_work_thread_threshold): to four clients whose
 * names nobody answers. It has four, unless told otherwise before the first is used.
 */
const LOOKUP_THREADS = "128";

async function proxy(flags: ProxyFlags, rules: readonly AccessRule[]): Promise<number> {
  process.env["UV_THREADPOOL_SIZE"] ??= LOOKUP_THREADS;
  const log = createLog(flags.logLevel, standardError);
  const stopped = stopSignal();
  const credentials = readCredentials(flags, log);
  const native = addon();
  const memory = mapMemory(native, MEMORY_OCTETS_WITH_SERVER);
  const loop = new Loop(native, memory);
  try {
    const server = new SocksServer(
      {
        address: formatAddress(flags.listen),
        port: flags.listen.port,
        credentials,
        allowPrivate: flags.allowPrivate,
        socks6: flags.socks6,
        open: flags.open,
        rules,
        allowClients: flags.allowClient,
        maxPerClient: flags.maxPerClient ?? (flags.listen.isLoopback ? 0 : MAX_PER_CLIENT),
        tcpIdle: flags.tcpIdle,
        tcpHalfClosed: flags.tcpHalfClosed,
        udpIdle: flags.udpTimeout,
        ...(flags.maxClients === undefined ? {} : { maxClients: flags.maxClients }),
        ...(flags.bindAddress === undefined ? {} : { bindAddress: flags.bindAddress }),
      },
      { addon: native, poller: loop.poller!, memory, timers: loop.timers, log, turn: loop },
    );
    if (flags.maxClients !== undefined && flags.maxClients > server.maxConnections) {
      throw usage(
        `cannot use --max-clients: there is memory for ${server.maxConnections}`,
        "write no more",
      );
    }
    const { port } = server.listen();
    flags.listen.port = port;
    log.info?.(
      credentials === null
        ? `SOCKS4 and SOCKS5 on ${formatEndpoint(flags.listen)}`
        : `SOCKS5 on ${formatEndpoint(flags.listen)}, with password`,
    );
    await stopped;
    server.close();
    return 0;
  } finally {
    loop.close();
  }
}

function readCredentials(flags: ProxyFlags, log: Log): Map<string, string> | null {
  const { userFile } = flags;
  if (userFile !== undefined) {
    if (flags.user !== undefined)
      throw usage("cannot use --user: --user-file is given as well", "give one of them");
    return parseUserFile(readSecretFile(userFile, log), userFile);
  }
  if (flags.user === undefined) return null;
  const colon = flags.user.indexOf(":");
  if (colon < 1 || colon === flags.user.length - 1) {
    throw usage("cannot use --user: it has no name or no password", "write --user NAME:PASS");
  }
  return new Map([[flags.user.slice(0, colon), flags.user.slice(colon + 1)]]);
}
