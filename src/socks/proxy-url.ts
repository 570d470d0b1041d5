/**
 * Proxy URLs: `socks5://[user:password@]host[:port]`.
 *
 * User and password are percent-decoded; what curl users forget to encode is understood too (the last "@" ends the
 * password). No message and no label ever holds credentials, nor any part of the text that might be one.
 */

import { TunnelError } from "../errors.ts";
import { MAX_TEXT } from "./message.ts";

/** The registered port of SOCKS. */
export const DEFAULT_PORT = 1080;

export interface ProxyUrl {
  /** "socks5h": names travel to the proxy where we know them. */
  readonly scheme: "socks5" | "socks5h";
  /** A name or an address, IPv6 without brackets. */
  readonly host: string;
  readonly port: number;
  /** Null: no credentials. At most 255 octets of UTF-8. */
  readonly user: string | null;
  /** Null exactly when `user` is. */
  readonly password: string | null;
}

/**
 * Parses a proxy URL. Without a scheme, and with `socks://`, it is SOCKS5; without a port, 1080.
 *
 * @throws TunnelError ERR_PROXY_URL, one line without credentials.
 */
export function parseProxyUrl(text: string): ProxyUrl {
  const trimmed = text.trim();
  const match = /^([a-z][a-z0-9+.-]*):\/\//i.exec(trimmed);
  const scheme = parseScheme(match?.[1]?.toLowerCase() ?? "socks5");
  const rest = trimmed.slice(match?.[0].length ?? 0);
  const at = rest.lastIndexOf("@");
  const credentials = at < 0 ? NO_CREDENTIALS : parseCredentials(rest.slice(0, at));
  return { scheme, ...parseAuthority(rest.slice(at + 1).replace(/\/$/, "")), ...credentials };
}

/** The URL without its credentials, for logs. */
export function redacted(url: ProxyUrl): string {
  const host = url.host.includes(":") ? `[${url.host}]` : url.host;
  return `${url.scheme}://${host}:${url.port}`;
}

interface Credentials {
  readonly user: string | null;
  readonly password: string | null;
}

const NO_CREDENTIALS: Credentials = { user: null, password: null };

function parseScheme(scheme: string): ProxyUrl["scheme"] {
  if (scheme === "socks5" || scheme === "socks5h") return scheme;
  if (scheme === "socks") return "socks5";
  throw bad(`the scheme ${scheme} is not supported`, "use socks5://host:port");
}

function parseAuthority(authority: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(authority);
  if (match === null) {
    const advice = "write an IPv6 address in brackets, socks5://[2001:db8::1]:1080";
    throw bad("host and port cannot be told apart", advice);
  }
  const [, bracketed, plain, port] = match;
  const host = bracketed ?? plain ?? "";
  if (bracketed !== undefined && (!isIPv6(bracketed) || bracketed.includes("%"))) {
    throw bad("what is in brackets is no IPv6 address", "write socks5://[2001:db8::1]:1080");
  }
  if (host === "") throw bad("the host is missing", "use socks5://host:port");
  if (bracketed === undefined && /[^\w.-]/.test(host) && NO_NAME.test(host)) {
    throw bad("the host is no name and no address", "use socks5://host:port");
  }
  return { host, port: port === undefined ? DEFAULT_PORT : parsePort(port) };
}

/** Only asked of what is not ASCII: these classes take a millisecond to compile. */
const NO_NAME = /[^\p{L}\p{M}\p{N}._-]/u;

function isIPv6(text: string): boolean {
  return process.getBuiltinModule("node:net").isIPv6(text);
}

function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) {
    throw bad("the port is not a number from 1 to 65535", "use socks5://host:1080");
  }
  return port;
}

function parseCredentials(text: string): Credentials {
  const colon = text.indexOf(":");
  const user = decode(colon < 0 ? text : text.slice(0, colon), "user");
  const password = colon < 0 ? "" : decode(text.slice(colon + 1), "password");
  return user === "" && password === "" ? NO_CREDENTIALS : { user, password };
}

function decode(text: string, what: string): string {
  let decoded: string;
  try {
    decoded = decodeURIComponent(text);
  } catch {
    // Not as `cause`: it must not travel with anything of the text.
    throw bad(`the ${what} has a bad percent-encoding`, "write a literal % as %25");
  }
  if (Buffer.byteLength(decoded) > MAX_TEXT) {
    throw bad(`the ${what} is longer than ${MAX_TEXT} octets`, "RFC 1929 cannot carry more");
  }
  return decoded;
}

function bad(why: string, advice: string): TunnelError {
  return new TunnelError("ERR_PROXY_URL", `cannot use the proxy URL: ${why}; ${advice}`);
}
