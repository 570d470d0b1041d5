/** The schemes of proxy URLs and what each means. */

export interface Scheme {
  /** What is spoken with the proxy; null: there is none. */
  readonly protocol: "socks5" | "socks4" | "socks4a" | "socks6" | "http" | null;
  /** What it is spoken over; null: nothing. */
  readonly way: "tcp" | "tls" | "unix" | null;
  /** Where the URL names no port. */
  readonly port: number;
  /** Names are the proxy's to resolve unless --dns says otherwise. */
  readonly sendsNames: boolean;
}

export type SchemeName =
  | "socks4"
  | "socks4a"
  | "socks5"
  | "socks5h"
  | "socks5s"
  | "socks5+unix"
  | "socks5h+unix"
  | "socks6"
  | "http"
  | "https"
  | "direct"
  | "reject";

/** The registered port of SOCKS. */
const SOCKS_PORT = 1080;

export const SCHEMES: Readonly<Record<SchemeName, Scheme>> = {
  socks4: { protocol: "socks4", way: "tcp", port: SOCKS_PORT, sendsNames: false },
  socks4a: { protocol: "socks4a", way: "tcp", port: SOCKS_PORT, sendsNames: true },
  socks5: { protocol: "socks5", way: "tcp", port: SOCKS_PORT, sendsNames: false },
  socks5h: { protocol: "socks5", way: "tcp", port: SOCKS_PORT, sendsNames: true },
  socks5s: { protocol: "socks5", way: "tls", port: SOCKS_PORT, sendsNames: false },
  "socks5+unix": { protocol: "socks5", way: "unix", port: 0, sendsNames: false },
  "socks5h+unix": { protocol: "socks5", way: "unix", port: 0, sendsNames: true },
  socks6: { protocol: "socks6", way: "tcp", port: SOCKS_PORT, sendsNames: false },
  // Many of them let nobody out but to ports of the web, so that no lookup of ours would pass.
  http: { protocol: "http", way: "tcp", port: 80, sendsNames: true },
  https: { protocol: "http", way: "tls", port: 443, sendsNames: true },
  direct: { protocol: null, way: null, port: 0, sendsNames: false },
  reject: { protocol: null, way: null, port: 0, sendsNames: false },
};

/** The scheme as it is written in a URL, in lower case; null: there is none of that name. */
export function schemeOf(written: string): SchemeName | null {
  if (written === "socks") return "socks5";
  return Object.hasOwn(SCHEMES, written) ? (written as SchemeName) : null;
}
