/**
 * Flags that `exec` and `run` share, what they mean together, and the session they describe.
 */

import { type Command, Option } from "commander";
import { TunnelError } from "../errors.ts";
import type { Log, LogLevel } from "../log.ts";
import type { NamePattern } from "../relay/name-patterns.ts";
import type { DnsMode, UdpMode } from "../relay/relay.ts";
import { ruleWarnings } from "../rules/coverage.ts";
import { formatRule } from "../rules/rule.ts";
import { Session, type SessionOptions } from "../session.ts";
import type { PipelineMode } from "../socks/pipelining.ts";
import { HALF_CLOSED, IDLE } from "../stack/tcp/lifetimes.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { OFFLOADS, type OffloadName } from "../tun/offload.ts";
import { POOL_POLICIES, type PoolPolicy } from "../upstreams/pool.ts";
import { MAX_CONNECTIONS } from "../upstreams/upstream-url.ts";
import { addConfigFlags, applyConfig, type RuleFlags } from "./config-flags.ts";
import { eraseCredentials, type ProxyFlags, proxyOptions, proxySettings } from "./proxy-flags.ts";
import {
  parseChoice,
  parseDuration,
  parseEndpoint,
  parseInteger,
  parseInterface,
  parseLogLevel,
  parseMtu,
  parsePattern,
  parseSources,
  parseWorkers,
  usage,
} from "./values.ts";

export const DNS_MODES: readonly DnsMode[] = ["auto", "tcp", "udp", "off", "fake"];
export const UDP_MODES: readonly UdpMode[] = ["per-source", "shared"];
export const ICMP_MODES = ["own", "reply", "off"] as const;
export type IcmpMode = (typeof ICMP_MODES)[number];
export const CONGESTION_CONTROLS = ["cubic", "newreno"] as const;
export type CongestionName = (typeof CONGESTION_CONTROLS)[number];
export const PIPELINE_MODES: readonly PipelineMode[] = ["auto", "on", "off"];
export const BINDINGS = ["native", "tuntap2"] as const;
export type BindingName = (typeof BINDINGS)[number];

export interface TunnelFlags extends RuleFlags, ProxyFlags {
  readonly proxy: readonly string[];
  readonly pool?: PoolPolicy;
  readonly poolProbe?: number;
  readonly proxyMax?: number;
  readonly mtu?: number;
  readonly dns?: DnsMode;
  readonly dnsReal: readonly NamePattern[];
  readonly dnsServer?: Endpoint;
  readonly hostLoopback: boolean;
  readonly tcpIdle: number;
  readonly tcpHalfClosed: number;
  readonly udpTimeout: number;
  readonly udp: UdpMode;
  readonly icmp: IcmpMode;
  readonly congestion: CongestionName;
  readonly offload: OffloadName;
  readonly logLevel: LogLevel;
  readonly fwmark: number;
  readonly interface?: string;
  readonly source: readonly Endpoint[];
  readonly pipeline: PipelineMode;
  readonly workers: number;
}

/** Adds the shared flags. Help texts name the defaults themselves: commander would print parsed values. */
export function addTunnelFlags(command: Command): Command {
  for (const option of proxyOptions(value)) command.addOption(option);
  return addConfigFlags(command)
    .hook("preAction", (_command, acting) => applyConfig(acting))
    .option(
      "-p, --proxy <url>",
      "http[s]|socks4[a]|socks5[h|s]://[user:pass@]host[:port]",
      repeated(value("-p", String)),
      [],
    )
    .option(
      "--mtu <octets>",
      "1280 to 65535 (default: what the device has, 1500)",
      value("--mtu", parseMtu),
    )
    .option(
      "--dns <mode>",
      "auto (default), tcp, udp, off, fake (socks5h's default)",
      value("--dns", parseChoice(DNS_MODES)),
    )
    .option(
      "--dns-server <ip>",
      "resolver behind the proxy (default: this host's own)",
      value("--dns-server", (text) => parseEndpoint(text, 53, 1)),
    )
    .option("--host-loopback", "198.18.0.2 reaches 127.0.0.1 of this host", false)
    .option(
      "--tcp-idle <time>",
      "silence that ends a TCP flow: 90s, 5m (default: 2h4m)",
      value("--tcp-idle", parseDuration),
      IDLE,
    )
    .option(
      "--tcp-half-closed <t>",
      "the same once one side has finished (default: 10m)",
      value("--tcp-half-closed", parseDuration),
      HALF_CLOSED,
    )
    .option(
      "--udp-timeout <time>",
      "idle life of a UDP flow: 90s, 5m, 2h (default: 5m)",
      value("--udp-timeout", parseDuration),
      300_000,
    )
    .option(
      "--icmp <mode>",
      "answer ping to: own, reply (all), off (default: own)",
      value("--icmp", parseChoice(ICMP_MODES)),
      "own",
    )
    .option(
      "--fwmark <mark>",
      "SO_MARK of sockets that lead out",
      value("--fwmark", (text) => parseInteger(text, 0, 0xffffffff)),
      0,
    )
    .option(
      "--interface <name>",
      "interface of sockets that lead out",
      value("--interface", parseInterface),
    )
    .addOption(logLevel())
    .addOption(dnsReal())
    .addOption(pool())
    .addOption(poolProbe())
    .addOption(proxyMax())
    .addOption(congestion())
    .addOption(pipeline())
    .addOption(udp())
    .addOption(offload())
    .addOption(source())
    .addOption(workers());
}

/** For the few names that a program must have the address of: README.md has it. */
function dnsReal(): Option {
  return new Option("--dns-real <pattern>", "a domain or a glob that --dns fake leaves alone")
    .argParser(repeated(value("--dns-real", parsePattern)))
    .default([])
    .hideHelp();
}

/** For who has several proxies: docs/pools.md has it. */
function pool(): Option {
  return new Option("--pool <policy>", `${POOL_POLICIES.join(", ")} (default: failover)`)
    .argParser(value("--pool", parseChoice(POOL_POLICIES)))
    .hideHelp();
}

function poolProbe(): Option {
  return new Option("--pool-probe <seconds>", "try each proxy of a pool so often")
    .argParser(value("--pool-probe", (text) => 1000 * parseInteger(text, 1, 86_400)))
    .hideHelp();
}

/** For proxies that count connections. */
function proxyMax(): Option {
  return new Option("--proxy-max <n>", "connections at a time to each proxy (default: any number)")
    .argParser(value("--proxy-max", (text) => parseInteger(text, 1, MAX_CONNECTIONS)))
    .hideHelp();
}

/** For measurements: the help is for what users need, and one screen. */
function congestion(): Option {
  return new Option("--congestion <name>", "congestion control: cubic or newreno (default: cubic)")
    .argParser(value("--congestion", parseChoice(CONGESTION_CONTROLS)))
    .default("cubic")
    .hideHelp();
}

/** For proxies that "auto" misjudges. */
function pipeline(): Option {
  return new Option("--pipeline <mode>", "handshakes in one write: auto, on or off (default: auto)")
    .argParser(value("--pipeline", parseChoice(PIPELINE_MODES)))
    .default("auto")
    .hideHelp();
}

/** For proxies that count connections: docs/udp.md says what it costs. */
function udp(): Option {
  return new Option("--udp <mode>", "associations: per-source or shared (default: per-source)")
    .argParser(value("--udp", parseChoice(UDP_MODES)))
    .default("per-source")
    .hideHelp();
}

/** For measurements too, and for a kernel whose offloads are broken. */
function offload(): Option {
  return new Option(
    "--offload <what>",
    "ask the kernel for: on (all), checksum, none (default: on)",
  )
    .argParser(value("--offload", parseChoice(OFFLOADS)))
    .default("on")
    .hideHelp();
}

/** For hosts with more connections than one address has ports. */
function source(): Option {
  const parse = value("--source", parseSources);
  return new Option("--source <ip,...>", "addresses of this host that connections leave from")
    .argParser((text: string, before: readonly Endpoint[]) => [...before, ...parse(text)])
    .default([])
    .hideHelp();
}

/** Hidden too: who needs it has read of it. */
function workers(): Option {
  return new Option("--workers <n>", "threads with a queue each: 1 to 16, or auto (default: 1)")
    .argParser(value("--workers", parseWorkers))
    .default(1)
    .hideHelp();
}

export function logLevel(): Option {
  return new Option("--log-level <level>", "silent, error, warn, info or debug (default: info)")
    .argParser(value("--log-level", parseLogLevel))
    .default("info");
}

/** A parser of ours as commander wants it: what it throws names the flag. No value of ours begins with "-". */
export function value<T>(flag: string, parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      if (text.startsWith("-")) {
        throw usage(`"${text}" stands where its value should`, `write ${flag} VALUE`);
      }
      return parse(text);
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error;
      throw new TunnelError(error.code, `cannot use ${flag}: ${error.message}`);
    }
  };
}

/** The same for a flag that may stand several times: all values in their order. */
export function repeated<T>(
  parse: (text: string) => T,
): (text: string, before: readonly T[]) => T[] {
  return (text, before) => [...before, parse(text)];
}

/**
 * Opens what both commands need.
 *
 * @throws TunnelError of {@link Session.open}; ERR_USAGE for a flag that would have no effect.
 */
export function openSession(flags: TunnelFlags, log: Log, native: boolean): Promise<Session> {
  return openBy(Session.open, flags, log, native);
}

/** The same by what opens as {@link Session.open} does. */
export async function openBy<T extends { readonly dns: DnsMode }>(
  open: (options: SessionOptions) => Promise<T>,
  flags: TunnelFlags,
  log: Log,
  native: boolean,
): Promise<T> {
  const env = { ...process.env };
  const fromEnvironment = flags.proxy.length === 0;
  if (flags.hostLoopback && !native) {
    throw usage(
      "cannot use --host-loopback: --binding tuntap2 has no way to the host's loopback",
      "leave it out, or use --binding native",
    );
  }
  const hasProxy = !fromEnvironment || Boolean(env["ALL_PROXY"] || env["all_proxy"]);
  const settings = proxySettings(flags, env, log, hasProxy);
  eraseCredentials(fromEnvironment, native);
  try {
    const opened = await open({
      proxy: flags.proxy,
      pool: flags.pool,
      poolProbe: flags.poolProbe,
      proxyMax: flags.proxyMax,
      ...(settings === undefined ? {} : { settings }),
      env,
      log,
      native,
      fwmark: flags.fwmark,
      interface: flags.interface ?? "",
      tcpIdle: flags.tcpIdle,
      tcpHalfClosed: flags.tcpHalfClosed,
      udpTimeout: flags.udpTimeout,
      udp: flags.udp,
      icmp: flags.icmp,
      congestion: flags.congestion,
      pipeline: flags.pipeline,
      sources: flags.source,
      dns: flags.dns,
      dnsReal: flags.dnsReal,
      dnsServer: flags.dnsServer,
      hostLoopback: flags.hostLoopback,
      upstreams: Object.fromEntries(flags.upstreams ?? []),
      rules: flags.rule.map(formatRule),
      ...(flags.sniff === undefined ? {} : { sniff: flags.sniff }),
    });
    for (const { text } of ruleWarnings(flags.rule, {
      fake: opened.dns === "fake",
      sniffed: flags.sniff !== undefined,
    })) {
      log.warn?.(text);
    }
    return opened;
  } catch (error) {
    if (!(error instanceof TunnelError && error.code === "ERR_PROXY_URL")) throw error;
    const place = fromEnvironment ? "ALL_PROXY" : "-p";
    throw new TunnelError(
      error.code,
      error.message.replace(/^cannot use the proxy URL/, `cannot use the proxy URL of ${place}`),
    );
  }
}
