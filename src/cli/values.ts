/**
 * Flag values, parsed once into what cannot be wrong. Every parser throws TunnelError ERR_USAGE with one line.
 */

import { availableParallelism } from "node:os";
import { TunnelError } from "../errors.ts";
import { LOG_LEVELS, type LogLevel } from "../log.ts";
import { type NamePattern, parseNamePattern } from "../relay/name-patterns.ts";
import { Endpoint, parseAddress } from "../stack/wire/address.ts";

/** Seconds, or numbers with a unit: 90s, 5m, 2h, 2h4m, 500ms. Returns milliseconds. */
export function parseDuration(text: string): number {
  const written = /^\d+(\.\d+)?$/.test(text) ? `${text}s` : text;
  if (!/^(\d+(\.\d+)?(ms|s|m|h))+$/.test(written)) {
    throw usage(`"${text}" is not a duration`, "write seconds, or 90s, 5m, 2h");
  }
  let sum = 0;
  for (const [, number, unit] of written.matchAll(/([\d.]+)(ms|s|m|h)/g)) {
    sum += Number(number) * (UNITS[unit as string] as number);
  }
  const milliseconds = Math.round(sum);
  if (milliseconds < 1 || milliseconds > MAX_DURATION) {
    throw usage(`"${text}" is out of range`, "write more than 0 and at most 24h");
  }
  return milliseconds;
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const MAX_DURATION = 24 * 3_600_000;

/** An integer of [low, high]; hexadecimal with 0x. */
export function parseInteger(text: string, low: number, high: number): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!(value >= low && value <= high)) {
    throw usage(`"${text}" is not a number in range`, `write one from ${low} to ${high}`);
  }
  return value;
}

export function parseMtu(text: string): number {
  return parseInteger(text, 1280, 65535);
}

/** A number of threads, or as many as serve this machine best. */
export function parseWorkers(text: string): number {
  return text === "auto" ? autoWorkers(availableParallelism()) : parseInteger(text, 1, 16);
}

/**
 * Half of the cores, four at most: programs, proxy and kernel work for each octet as long as the tunnel does, and
 * beyond four threads it is they who are waited for. On one or two cores a second thread only takes from them.
 */
export function autoWorkers(cores: number): number {
  return Math.max(1, Math.min(4, Math.floor(cores / 2)));
}

export function parseLogLevel(text: string): LogLevel {
  if (!LOG_LEVELS.includes(text as LogLevel)) {
    throw usage(`"${text}" is not a log level`, `write one of ${LOG_LEVELS.join(", ")}`);
  }
  return text as LogLevel;
}

/** One of `choices`, for instance --dns auto|tcp|udp|off. */
export function parseChoice<T extends string>(choices: readonly T[]): (text: string) => T {
  return (text) => {
    if (!choices.includes(text as T)) {
      throw usage(`"${text}" is not known`, `write one of ${choices.join(", ")}`);
    }
    return text as T;
  };
}

/** ADDRESS, ADDRESS:PORT or [V6]:PORT; `port` where none is written; `lowest` is the lowest port that may be. */
export function parseEndpoint(text: string, port: number, lowest: 0 | 1 = 0): Endpoint {
  const bracketed = /^\[([^\]]+)\](?::(\d+))?$/.exec(text);
  const plain = /^([^:]+)(?::(\d+))?$/.exec(text);
  const host = bracketed?.[1] ?? plain?.[1] ?? text;
  const written = bracketed?.[2] ?? plain?.[2];
  const address = parseAddress(host);
  if (address === null) {
    throw usage(
      `"${text}" is not an address`,
      `write 192.0.2.1, 192.0.2.1:${port} or [2001:db8::1]:${port}`,
    );
  }
  const endpoint = new Endpoint().copy(address);
  endpoint.port = written === undefined ? port : parseInteger(written, lowest, 65535);
  return endpoint;
}

/** ADDRESS[,ADDRESS…] of this host: what a socket can be bound to. */
export function parseSources(text: string): Endpoint[] {
  return text.split(",").map((part) => {
    const address = parseAddress(part);
    if (address === null || address.isUnspecified || address.isMulticast || address.isBroadcast) {
      throw usage(
        `"${part}" is not an address of a host`,
        "write 192.0.2.1 or 192.0.2.1,192.0.2.2",
      );
    }
    return address;
  });
}

/** Names: a domain with all below it, or a glob. */
export function parsePattern(text: string): NamePattern {
  const pattern = parseNamePattern(text);
  if (pattern === null) {
    throw usage(`"${text}" is no domain and no glob`, 'write example.com or "*.cdn.example"');
  }
  return pattern;
}

/** A path, not yet looked at. */
export function parsePath(text: string): string {
  if (text === "") throw usage("it is empty", "write a path");
  return text;
}

/** NAME of a network interface, as the kernel takes it (dev_valid_name in net/core/dev.c). */
export function parseInterface(text: string): string {
  if (!/^[^\s/:]{1,15}$/.test(text) || text === "." || text === "..") {
    throw usage(
      `"${text}" is not an interface name`,
      "write at most 15 octets, no slash, colon or space",
    );
  }
  return text;
}

/** A device as peers spell it too: tun0 or tun://tun0. */
export function parseDevice(text: string): string {
  return parseInterface(text.startsWith("tun://") ? text.slice("tun://".length) : text);
}

export function usage(what: string, remedy: string): TunnelError {
  return new TunnelError("ERR_USAGE", `${what}; ${remedy}`);
}
