/**
 * Proxy URLs: `scheme://[user[:password]@]host[:port][?settings]`, `socks5+unix://[user[:password]@]/path`, `direct`
 * and `reject`.
 *
 * User and password are percent-decoded; what curl users forget to encode is understood too (the last "@" ends the
 * password). No message and no label ever holds credentials, nor any part of the text that might be one.
 */

import { TunnelError } from "../errors.ts";
import type { GssOptions } from "./gss-context.ts";
import { isGssSetting, parseGssSettings } from "./gss-settings.ts";
import { MAX_TEXT } from "./message.ts";
import { SCHEMES, type SchemeName, schemeOf } from "./schemes.ts";
import { parseTlsSettings, type TlsSettings } from "./tls-settings.ts";

export interface ProxyUrl {
  readonly scheme: SchemeName;
  /** A name or an address, IPv6 without brackets; "" where the scheme has none. */
  readonly host: string;
  readonly port: number;
  /** Of a Unix socket. */
  readonly path?: string;
  /** Null: no credentials. At most 255 octets of UTF-8. */
  readonly user: string | null;
  /** Null exactly when `user` is. */
  readonly password: string | null;
  /** How the proxy proves who it is, and we; only where TLS leads to it. */
  readonly tls?: TlsSettings;
  /** The same by GSSAPI, with SOCKS5 only; then there is no `user`. */
  readonly gss?: GssOptions;
}

/**
 * Parses a proxy URL. Without a scheme, and with `socks://`, it is SOCKS5; without a port, that of the scheme.
 *
 * @throws TunnelError ERR_PROXY_URL, one line without credentials.
 */
export function parseProxyUrl(text: string): ProxyUrl {
  const trimmed = text.trim();
  const alone = /^(direct|reject)(?::\/*)?$/i.exec(trimmed)?.[1]?.toLowerCase();
  if (alone !== undefined) return { scheme: alone as SchemeName, ...NOWHERE };
  const match = /^([a-z][a-z0-9+.-]*):\/\//i.exec(trimmed);
  const scheme = parseScheme(match?.[1]?.toLowerCase() ?? "socks5");
  const rest = trimmed.slice(match?.[0].length ?? 0);
  const { way } = SCHEMES[scheme];
  if (way === null) throw bad(`${scheme}:// leads to no host`, `write ${scheme} alone`);
  if (way === "unix") {
    const socket = parseSocket(scheme, rest);
    check(scheme, socket);
    return { scheme, ...socket };
  }
  const at = rest.lastIndexOf("@");
  const credentials = at < 0 ? NO_CREDENTIALS : parseCredentials(rest.slice(0, at));
  check(scheme, credentials);
  const place = rest.slice(at + 1);
  const question = place.indexOf("?");
  const settings = place.slice(question + 1);
  const query = way === "tls" || hasGssSettings(scheme, settings) ? question : -1;
  const authority = query < 0 ? place : place.slice(0, query);
  return {
    scheme,
    ...parseAuthority(scheme, authority.replace(/\/$/, "")),
    ...credentials,
    ...(query < 0 ? {} : parseSettings(scheme, settings, credentials)),
  };
}

function hasGssSettings(scheme: SchemeName, query: string): boolean {
  return SCHEMES[scheme].protocol === "socks5" && query.split("&").some(isGssSetting);
}

function parseSettings(
  scheme: SchemeName,
  query: string,
  { user, password }: UrlCredentials,
): Pick<ProxyUrl, "tls" | "gss"> & Partial<UrlCredentials> {
  const parts = query.split("&");
  const gss = hasGssSettings(scheme, query) ? parts.filter(isGssSetting) : [];
  const others = parts.filter((part) => !gss.includes(part));
  if (others.length > 0 && SCHEMES[scheme].way !== "tls") {
    throw bad("it has a setting that is not known", "leave it out");
  }
  const tls = others.length === 0 ? {} : { tls: parseTlsSettings(others.join("&")) };
  if (gss.length === 0) return tls;
  if (password !== null && password !== "") {
    throw bad("GSSAPI takes a ticket, not a password", "give the principal alone, and run kinit");
  }
  return { ...tls, ...NO_CREDENTIALS, gss: parseGssSettings(gss, user) };
}

/** The URL without its credentials, for logs. */
export function redacted(url: ProxyUrl): string {
  const { scheme, path, port } = url;
  if (path !== undefined) return `${scheme}://${encodeURI(path)}`;
  if (SCHEMES[scheme].way === null) return scheme;
  const host = url.host.includes(":") ? `[${url.host}]` : url.host;
  return `${scheme}://${host}:${port}`;
}

/** A written URL, whatever is wrong with it, with `instead` for what may be credentials; the same text if nothing is. */
export function withoutCredentials(text: string, instead = ""): string {
  // The path of a socket may have an "@" of its own.
  const socket = /^([a-z0-9.-]*\+unix:\/\/)[^/]*@/i;
  if (/^[a-z0-9.-]*\+unix:/i.test(text)) return text.replace(socket, `$1${instead}`);
  return text.replace(/^((?:[a-z][a-z0-9+.-]*:\/\/)?).*@/is, `$1${instead}`);
}

export interface UrlCredentials {
  readonly user: string | null;
  readonly password: string | null;
}

const NO_CREDENTIALS: UrlCredentials = { user: null, password: null };
const NOWHERE = { host: "", port: 0, ...NO_CREDENTIALS };

/**
 * The same URL with user and password that were given elsewhere.
 *
 * @throws TunnelError ERR_PROXY_URL if the scheme cannot carry them.
 */
export function withCredentials(url: ProxyUrl, credentials: UrlCredentials): ProxyUrl {
  check(url.scheme, credentials);
  if (url.gss !== undefined) {
    throw bad("GSSAPI takes a ticket, not a password", "leave the password out, and run kinit");
  }
  return { ...url, user: credentials.user, password: credentials.password };
}

function parseScheme(scheme: string): SchemeName {
  const known = schemeOf(scheme);
  if (known !== null) return known;
  throw bad(`the scheme ${scheme} is not supported`, "use socks5://host:port");
}

function parseAuthority(
  scheme: SchemeName,
  authority: string,
): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(authority);
  if (match === null) {
    const advice = `write an IPv6 address in brackets, ${scheme}://[2001:db8::1]:1080`;
    throw bad("host and port cannot be told apart", advice);
  }
  const [, bracketed, plain, port] = match;
  const host = bracketed ?? plain ?? "";
  if (bracketed !== undefined && (!isIPv6(bracketed) || bracketed.includes("%"))) {
    const advice = `write ${scheme}://[2001:db8::1]:1080`;
    throw bad("what is in brackets is no IPv6 address", advice);
  }
  if (host === "") throw bad("the host is missing", `use ${scheme}://host:port`);
  if (bracketed === undefined && /[^\w.-]/.test(host) && NO_NAME.test(host)) {
    throw bad("the host is no name and no address", `use ${scheme}://host:port`);
  }
  return { host, port: port === undefined ? SCHEMES[scheme].port : parsePort(scheme, port) };
}

/** Only asked of what is not ASCII: these classes take a millisecond to compile. */
const NO_NAME = /[^\p{L}\p{M}\p{N}._-]/u;

function isIPv6(text: string): boolean {
  return process.getBuiltinModule("node:net").isIPv6(text);
}

function parsePort(scheme: SchemeName, text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) {
    throw bad("the port is not a number from 1 to 65535", `use ${scheme}://host:1080`);
  }
  return port;
}

/** Octets of the path of a socket: sun_path of unix(7), its NUL apart. */
const MAX_PATH = 107;

/** `[user[:password]@]/path`: here nothing else can stand before the first slash. */
function parseSocket(scheme: SchemeName, rest: string): Omit<ProxyUrl, "scheme"> {
  const slash = rest.indexOf("/");
  const before = slash < 0 ? rest : rest.slice(0, slash);
  if (slash < 0 || rest.length === slash + 1 || (before !== "" && !before.endsWith("@"))) {
    throw bad("it names no socket", `use ${scheme}:///path/to/socket`);
  }
  const path = decode(rest.slice(slash), "path");
  if (path.includes("\0") || Buffer.byteLength(path) > MAX_PATH) {
    throw bad(`the path is longer than ${MAX_PATH} octets`, "use a shorter one, or a link to it");
  }
  const credentials = before === "" ? NO_CREDENTIALS : parseCredentials(before.slice(0, -1));
  return { host: "", port: 0, path, ...credentials };
}

function parseCredentials(text: string): UrlCredentials {
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
  return decoded;
}

/** What the protocol of `scheme` cannot carry is refused before it is tried. */
function check(scheme: SchemeName, { user, password }: UrlCredentials): void {
  if (user === null || password === null) return;
  const { protocol } = SCHEMES[scheme];
  if (protocol === null) throw bad(`${scheme} takes no user`, "leave out user and password");
  for (const [what, text] of Object.entries({ user, password })) {
    if (Buffer.byteLength(text) > MAX_TEXT) {
      throw bad(`the ${what} is longer than ${MAX_TEXT} octets`, "RFC 1929 cannot carry more");
    }
  }
  if (protocol === "socks4" || protocol === "socks4a") {
    if (password !== "") throw bad("SOCKS4 has no password", "give the user alone, or use socks5");
    if (user.includes("\0")) throw bad("the user has a NUL", "SOCKS4 ends it there");
  } else if (protocol === "http" && user.includes(":")) {
    throw bad("the user has a colon", "Basic credentials end it there (RFC 7617)");
  }
}

function bad(why: string, advice: string): TunnelError {
  return new TunnelError("ERR_PROXY_URL", `cannot use the proxy URL: ${why}; ${advice}`);
}
