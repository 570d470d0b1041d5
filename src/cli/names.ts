/** Where flows have names, seen from flags alone. */

import { parseUpstream, resolveNames } from "../upstreams/upstream-url.ts";

/** True when flows go to names: `--dns` says so, or, where it says nothing, the schemes of the proxies. */
export function hasNames(dns: string | undefined, proxies: readonly string[]): boolean {
  if (dns !== undefined) return dns === "fake";
  return resolveNames(proxies.map(parseUpstream));
}
