/** `tun2socks probe`: what a proxy can do, on one card. */

import { Command } from "commander";
import { TunnelError } from "../errors.ts";
import { hostResolver } from "../host/resolver.ts";
import { createLog, type LogLevel } from "../log.ts";
import { Loop } from "../loop.ts";
import { plainMemory } from "../memory.ts";
import { cardText } from "../probe/card.ts";
import { type ProbePlan, probe } from "../probe/probe.ts";
import { chooseTargets, type HostPort } from "../probe/targets.ts";
import { parseProxyUrl } from "../socks/proxy-url.ts";
import { SCHEMES } from "../socks/schemes.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { standardError, standardOutput } from "./error-line.ts";
import { logLevel, value } from "./flags.ts";
import { parseDuration, parseEndpoint, parseInteger, usage } from "./values.ts";

interface ProbeFlags {
  readonly target: readonly HostPort[];
  readonly closed: Endpoint;
  readonly dnsServer?: Endpoint;
  readonly udpTarget?: Endpoint;
  readonly count: number;
  readonly timeout: number;
  readonly json: boolean;
  readonly logLevel: LogLevel;
}

/** Reserved for documentation (RFC 2606 §3), and there. */
const DEFAULT_TARGET: HostPort = { host: "example.com", port: 80 };
/** TEST-NET-1 (RFC 5737): nobody is there. */
const DEFAULT_CLOSED = "192.0.2.1:9";

export function probeCommand(setStatus: (status: number) => void): Command {
  const target = value("--target", parseTarget);
  return new Command("probe")
    .summary("what a proxy can do: methods, commands, UDP, honesty")
    .description("Asks a proxy what it can do (or $ALL_PROXY), and prints a card.")
    .argument("[url]", "[scheme://][user:pass@]host[:port], as for -p")
    .option(
      "--target <host:port>",
      "for CONNECT; may be repeated (default: example.com:80)",
      (text: string, before: readonly HostPort[]) => [...before, target(text)],
      [],
    )
    .option(
      "--closed <addr:port>",
      `where nobody listens (default: ${DEFAULT_CLOSED})`,
      value("--closed", (text) => parseEndpoint(text, 9, 1)),
      parseEndpoint(DEFAULT_CLOSED, 9),
    )
    .option(
      "--dns-server <ip>",
      "resolver to ask by UDP (default: this host's own)",
      value("--dns-server", (text) => parseEndpoint(text, 53, 1)),
    )
    .option(
      "--udp-target <addr:port>",
      "a UDP echo, where no --dns-server is given",
      value("--udp-target", (text) => parseEndpoint(text, 7, 1)),
    )
    .option(
      "--count <n>",
      "datagrams, 1 to 1000 (default: 10)",
      value("--count", (text) => parseInteger(text, 1, 1000)),
      10,
    )
    .option(
      "--timeout <time>",
      "of a question, a sixth of all (default: 5s)",
      value("--timeout", parseDuration),
      5000,
    )
    .option("--json", "the card as JSON", false)
    .addOption(logLevel().default("warn").hideHelp())
    .addHelpText(
      "after",
      `
CONNECTs carry no octet; the resolver is asked for the target's name.
Exit status: 0 it granted a CONNECT, 69 it did not, 2 usage, 1 otherwise.`,
    )
    .action(async (url: string | undefined, flags: ProbeFlags) =>
      setStatus(await runProbe(url, flags)),
    );
}

async function runProbe(written: string | undefined, flags: ProbeFlags): Promise<number> {
  const { ALL_PROXY, all_proxy } = process.env;
  const text = written ?? (ALL_PROXY || all_proxy || undefined);
  if (text === undefined) throw usage("no proxy given", "write tun2socks probe URL");
  const url = parseProxyUrl(text);
  if (SCHEMES[url.scheme].protocol === null) {
    throw usage(`${url.scheme} is no proxy`, "write tun2socks probe socks5://host:port");
  }
  const loop = new Loop(null, plainMemory());
  try {
    const log = createLog(flags.logLevel, standardError);
    const card = await probe(url, await plan(flags), { loop, log });
    standardOutput(flags.json ? `${JSON.stringify(card, null, 2)}\n` : cardText(card));
    if (card.error === null) return 0;
    throw new TunnelError(card.error.code, card.error.message);
  } finally {
    loop.close();
  }
}

async function plan(flags: ProbeFlags): Promise<ProbePlan> {
  const { closed, count, udpTarget, timeout: deadline } = flags;
  const written = flags.target.length === 0 ? [DEFAULT_TARGET] : flags.target;
  const targets = await chooseTargets(written, deadline);
  const name = targets.name?.name ?? DEFAULT_TARGET.host;
  const resolver = flags.dnsServer ?? hostResolver().server;
  const udp =
    udpTarget === undefined || flags.dnsServer !== undefined
      ? { peer: resolver, question: name }
      : { peer: udpTarget, question: null };
  return { ...targets, closed, udp: { ...udp, count }, deadline };
}

/** HOST:PORT, a name or an address. */
function parseTarget(text: string): HostPort {
  const match = /^(?:\[([0-9a-f:.]+)\]|([^:\s/@]+)):(\d+)$/i.exec(text);
  if (match === null) {
    throw usage(`"${text}" is no host with a port`, "write example.com:80 or [2001:db8::1]:80");
  }
  return {
    host: (match[1] ?? match[2]) as string,
    port: parseInteger(match[3] as string, 1, 65535),
  };
}
