/**
 * What is said of the proxy beside its URL, by flags and by the environment; hidden from the help, README.md has it.
 *
 * A password never stays where other users or our children see it: an argument is covered in the process's title
 * (process-title.ts), a variable that we used is erased from our own environment, which every child inherits.
 */

import { Option } from "commander";
import type { Log } from "../log.ts";
import { addon } from "../native/binding.ts";
import { withoutCredentials } from "../socks/proxy-url.ts";
import { type TlsSettings, tlsFlags } from "../socks/tls-settings.ts";
import type { UpstreamSettings } from "../upstreams/upstream-settings.ts";
import { readSecretFile } from "./secret-file.ts";
import { parsePath, usage } from "./values.ts";

export interface ProxyFlags {
  readonly proxyAuthFile?: string;
  readonly proxyCa?: string;
  readonly proxyPin?: string;
  readonly proxyCert?: string;
  readonly proxyKey?: string;
}

/** `user:password`, for a URL without any. */
export const AUTH_VARIABLE = "TUN2SOCKS_PROXY_AUTH";

/** `value` as that of flags.ts. */
export function proxyOptions(
  value: (flag: string, parse: (text: string) => string) => (text: string) => string,
): Option[] {
  const hidden = (flag: string, argument: string, what: string): Option =>
    new Option(`${flag} <${argument}>`, what).argParser(value(flag, parsePath)).hideHelp();
  return [
    hidden("--proxy-auth-file", "file", "user:password for the proxy, in its first line"),
    hidden("--proxy-ca", "file", "authorities (PEM) that may vouch for the proxy"),
    hidden("--proxy-pin", "hash", "sha256/BASE64 of the proxy's public key"),
    hidden("--proxy-cert", "file", "a certificate (PEM) to show the proxy"),
    hidden("--proxy-key", "file", "its key (PEM)"),
  ];
}

/**
 * The settings of flags and environment; undefined: none. Without a proxy a variable may be there for another command,
 * but a flag is a mistake.
 *
 * @throws TunnelError ERR_USAGE, ERR_PERMISSION; without anything of what the file or the variable holds.
 */
export function proxySettings(
  flags: ProxyFlags,
  env: Readonly<Record<string, string | undefined>>,
  log: Log,
  hasProxy: boolean,
): UpstreamSettings | undefined {
  const tls = tlsSettings(flags);
  if (!hasProxy && (tls !== undefined || flags.proxyAuthFile !== undefined)) {
    const what = tls === undefined ? "--proxy-auth-file" : tlsFlags(tls);
    throw usage(`cannot use ${what}: there is no proxy`, "give one with -p, or leave it out");
  }
  const fromEnvironment = env[AUTH_VARIABLE];
  if (flags.proxyAuthFile !== undefined && fromEnvironment !== undefined) {
    throw usage(
      `cannot use --proxy-auth-file: ${AUTH_VARIABLE} is set as well`,
      "give one of them",
    );
  }
  let given: UpstreamSettings = {};
  if (flags.proxyAuthFile !== undefined) {
    const [line = ""] = readSecretFile(flags.proxyAuthFile, log)
      .replace(/^\uFEFF/, "")
      .split("\n");
    given = credentials(line.replace(/\r$/, ""), "--proxy-auth-file");
  } else if (fromEnvironment !== undefined) {
    given = credentials(fromEnvironment, AUTH_VARIABLE);
  }
  if (tls === undefined && given.credentials === undefined) return undefined;
  return { ...given, ...(tls === undefined ? {} : { tls }) };
}

function credentials(text: string, from: string): UpstreamSettings {
  const colon = text.indexOf(":");
  if (colon < 0) throw usage(`cannot use ${from}: it has no colon`, "write user:password");
  return {
    credentials: { user: text.slice(0, colon), password: text.slice(colon + 1) },
    credentialsFrom: from,
  };
}

function tlsSettings(flags: ProxyFlags): TlsSettings | undefined {
  const { proxyCa, proxyPin, proxyCert, proxyKey } = flags;
  const tls: TlsSettings = {
    ...(proxyCa === undefined ? {} : { ca: proxyCa }),
    ...(proxyPin === undefined ? {} : { pin: proxyPin }),
    ...(proxyCert === undefined ? {} : { cert: proxyCert }),
    ...(proxyKey === undefined ? {} : { key: proxyKey }),
  };
  return Object.keys(tls).length === 0 ? undefined : tls;
}

/**
 * Erases the credentials that were read from our environment, so that no child has them: the variable of ours, and,
 * where the proxy is that of ALL_PROXY, those in it. With `native` the kernel's copy (/proc/PID/environ), too.
 */
export function eraseCredentials(isFromAllProxy: boolean, native: boolean): void {
  const { env } = process;
  const erase = (name: string): void => {
    if (native) addon().eraseVariable(name);
  };
  if (env[AUTH_VARIABLE] !== undefined) {
    erase(AUTH_VARIABLE);
    delete env[AUTH_VARIABLE];
  }
  if (!isFromAllProxy) return;
  for (const name of ["ALL_PROXY", "all_proxy"]) {
    const written = env[name];
    const rest = written === undefined ? undefined : withoutCredentials(written);
    if (rest === undefined || rest === written) continue;
    erase(name);
    env[name] = rest;
  }
}
