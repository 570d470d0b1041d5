/**
 * What one `-p` stands for: a proxy, or a chain of them, `URL,URL,...`, which a flow passes in that order.
 *
 * Every comma separates: one in a user or a password is written %2C. `?max=N` behind a proxy bounds the connections at
 * a time; of a chain the least counts.
 */

import { TunnelError } from "../errors.ts";
import { type ProxyUrl, parseProxyUrl } from "../socks/proxy-url.ts";

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
    const [url, query] = splitQuery(part);
    try {
      const own = parseQuery(query);
      if (own > 0) max = max === 0 ? own : Math.min(max, own);
      return parseProxyUrl(url);
    } catch (error) {
      if (parts.length === 1 || !(error instanceof TunnelError)) throw error;
      const where = `hop ${index + 1} of ${parts.length}; a comma in a password is written %2C`;
      throw new TunnelError(error.code, `${error.message} (${where})`);
    }
  });
  return { hops, max };
}

/** The URL, and what stands behind its "?": not one in a password, which ends at the last "@". */
function splitQuery(url: string): [url: string, query: string] {
  const at = url.indexOf("?", url.lastIndexOf("@") + 1);
  return at < 0 ? [url, ""] : [url.slice(0, at), url.slice(at + 1)];
}

/** `max`, 0 without one. */
function parseQuery(query: string): number {
  let max = 0;
  for (const pair of query.trim().split("&")) {
    if (pair === "") continue;
    const [, digits] = /^max=(\d{1,7})$/.exec(pair) ?? [];
    max = Number(digits);
    if (!(max >= 1 && max <= MAX_CONNECTIONS)) {
      throw bad("behind its ? stands something else than max=N", "use ?max=8, or leave it out");
    }
  }
  return max;
}

function bad(why: string, advice: string): TunnelError {
  return new TunnelError("ERR_PROXY_URL", `cannot use the proxy URL: ${why}; ${advice}`);
}
