/**
 * Flags that `exec` and `run` share, and what they mean together.
 */

import { type Command, InvalidArgumentError, Option } from "commander";
import { TunnelError } from "../errors.ts";
import type { LogLevel } from "../log.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import {
  parseChoice,
  parseDuration,
  parseEndpoint,
  parseInteger,
  parseInterface,
  parseLogLevel,
  parseMtu,
} from "./values.ts";

export const DNS_MODES = ["auto", "tcp", "udp", "off"] as const;
export type DnsMode = (typeof DNS_MODES)[number];
export const ICMP_MODES = ["own", "reply", "off"] as const;
export type IcmpMode = (typeof ICMP_MODES)[number];
export const BINDINGS = ["native", "tuntap2"] as const;
export type BindingName = (typeof BINDINGS)[number];

export interface TunnelFlags {
  readonly proxy?: string;
  readonly mtu?: number;
  readonly dns: DnsMode;
  readonly dnsServer?: Endpoint;
  readonly hostLoopback: boolean;
  readonly udpTimeout: number;
  readonly icmp: IcmpMode;
  readonly logLevel: LogLevel;
  readonly fwmark: number;
  readonly interface?: string;
}

/** Adds the shared flags. */
export function addTunnelFlags(command: Command): Command {
  return command
    .option(
      "-p, --proxy <url>",
      "socks5://[user:pass@]host[:1080]; default $ALL_PROXY, else built in",
    )
    .option("--mtu <octets>", "MTU of the device (1280 to 65535)", value(parseMtu))
    .option(
      "--dns <mode>",
      "how names are asked: auto, tcp, udp, off",
      value(parseChoice(DNS_MODES)),
      "auto",
    )
    .option(
      "--dns-server <address>",
      "resolver behind the proxy (default: the host's own)",
      value((text) => parseEndpoint(text, 53)),
    )
    .option(
      "--host-loopback",
      "198.18.0.2 and host.tun2socks.internal reach this host's 127.0.0.1",
      false,
    )
    .option(
      "--udp-timeout <time>",
      "idle life of a UDP flow: 90s, 5m (default: 5m)",
      value(parseDuration),
      300_000,
    )
    .option(
      "--icmp <mode>",
      "answer ping for: own addresses, reply (all), off",
      value(parseChoice(ICMP_MODES)),
      "own",
    )
    .option(
      "--fwmark <mark>",
      "SO_MARK of sockets to the proxy",
      value((text) => parseInteger(text, 0, 0xffffffff)),
      0,
    )
    .option("--interface <name>", "send to the proxy through this interface", value(parseInterface))
    .addOption(logLevel());
}

export function logLevel(): Option {
  return new Option("--log-level <level>", "silent, error, warn, info, debug")
    .argParser(value(parseLogLevel))
    .default("info");
}

/** A parser of ours as commander wants it: its TunnelError becomes commander's, which names the flag. */
export function value<T>(parse: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parse(text);
    } catch (error) {
      if (error instanceof TunnelError) throw new InvalidArgumentError(error.message);
      throw error;
    }
  };
}
