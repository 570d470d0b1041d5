/**
 * What one `-p` stands for: a proxy, or a chain of them, `URL,URL,...`, which a flow passes in that order.
 *
 * Every comma separates: one in a user or a password is written %2C. `?max=N` behind a proxy bounds the connections at
 * a time; of a chain the least counts.
 */

import { TunnelError } from "../errors.ts";
import { type ProxyUrl, parseProxyUrl } from "../socks/proxy-url.ts";
import { SCHEMES } from "../socks/schemes.ts";
import { parseAddress } from "../stack/wire/address.ts";

/** Proxies of a chain. Each costs round trips and, for datagrams, a header. */
export const MAX_HOPS = 8;

/** The largest number of connections that a proxy may be held to. */
export const MAX_CONNECTIONS = 1_000_000;

export interface UpstreamUrl {
  /** In the order in which a flow passes them; at least one. */
  readonly hops: readonly ProxyUrl[];
  /** Connections at a time; 0: any number. */
  readonly max: number;
}

/**
 * Parses a proxy URL or a chain.
 *
 * @throws TunnelError ERR_PROXY_URL, one line without credentials.
 */
export function parseUpstream(text: string): UpstreamUrl {
  const parts = text.split(",");
  if (parts.length > MAX_HOPS) {
    throw bad(
      `a chain has ${MAX_HOPS} proxies at most, this one ${parts.length}`,
      "leave some out",
    );
  }
  let max = 0;
  const hops = parts.map((part, index) => {
    try {
      const { url, limit } = takeLimit(part.trim());
      if (limit > 0) max = max === 0 ? limit : Math.min(max, limit);
      return parseProxyUrl(url);
    } catch (error) {
      if (parts.length === 1 || !(error instanceof TunnelError)) throw error;
      const where = `hop ${index + 1} of ${parts.length}; a comma in a password is written %2C`;
      throw new TunnelError(error.code, `${error.message} (${where})`);
    }
  });
  for (let i = 0; i < hops.length && hops.length > 1; i++) checkHop(hops, i);
  return { hops, max };
}

/** True when names are the proxies' to resolve: each says so, of a chain the last, which is the one that does. */
export function resolveNames(urls: readonly UpstreamUrl[]): boolean {
  return (
    urls.length > 0 && urls.every(({ hops }) => SCHEMES[hops.at(-1)?.scheme ?? "direct"].sendsNames)
  );
}

/** A hop is a proxy, all but the first are reached by TCP, and each can say where the next one is. */
function checkHop(hops: readonly ProxyUrl[], index: number): void {
  const { scheme, host, gss } = hops[index] as ProxyUrl;
  const before = hops[index - 1];
  const { way } = SCHEMES[scheme];
  if (way === null) throw bad(`${scheme} is no proxy of a chain`, "leave it out");
  if (before === undefined) return;
  if (way !== "tcp" || gss !== undefined) {
    const what = way === "tcp" ? `${scheme} with GSSAPI` : scheme;
    throw bad(`${what} can only be the first proxy of a chain`, "put it there, or leave it out");
  }
  const address = parseAddress(host);
  const { protocol } = SCHEMES[before.scheme];
  const canReach =
    address === null ? protocol !== "socks4" : address.isV4 || !protocol?.startsWith("socks4");
  if (canReach) return;
  const what = address === null ? "the name" : "the IPv6 address";
  const why = `${before.scheme} cannot carry ${what} of the proxy behind it`;
  throw bad(why, "write its IPv4 address, or use socks5");
}

/** The URL without its `max`, and that; 0 without one. A "?" before the last "@" is one of a password. */
function takeLimit(text: string): { readonly url: string; readonly limit: number } {
  const at = text.indexOf("?", text.lastIndexOf("@") + 1);
  if (at < 0) return { url: text, limit: 0 };
  const pairs = text.slice(at + 1).split("&");
  const others = pairs.filter((pair) => !pair.startsWith("max="));
  if (others.length === pairs.length) return { url: text, limit: 0 };
  const limit = Number(
    /^max=(\d{1,7})$/.exec(pairs.find((pair) => !others.includes(pair)) ?? "")?.[1],
  );
  if (!(limit >= 1 && limit <= MAX_CONNECTIONS)) {
    throw bad(`max is not a number from 1 to ${MAX_CONNECTIONS}`, "write ?max=8, or leave it out");
  }
  const query = others.length === 0 ? "" : `?${others.join("&")}`;
  return { url: text.slice(0, at) + query, limit };
}

function bad(why: string, advice: string): TunnelError {
  return new TunnelError("ERR_PROXY_URL", `cannot use the proxy URL: ${why}; ${advice}`);
}
