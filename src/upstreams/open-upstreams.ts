/** Makes the upstream that proxy URLs describe: one proxy, a chain of them, or a pool. */

import { TunnelError } from "../errors.ts";
import type { SocketEnvironment } from "../socks/environment.ts";
import { openUpstream } from "../socks/open-upstream.ts";
import type { ProxyUpstream } from "../socks/ports.ts";
import { CappedUpstream } from "./capped-upstream.ts";
import { ChainUpstream } from "./chain-upstream.ts";
import { MAX_MEMBERS, Pool, type PoolPolicy } from "./pool.ts";
import type { UpstreamUrl } from "./upstream-url.ts";

export interface OpenUpstreamsOptions {
  /** Of several: "failover" by default. */
  readonly policy?: PoolPolicy;
  /** Between two probes of each of several, ms; 0 (the default): real flows alone tell which works. */
  readonly probeInterval?: number;
  /** Connections at a time to each whose URL does not say; 0 (the default): any number. */
  readonly max?: number;
  /** Threads that have an upstream each for the same proxies and divide these connections; 1 by default. */
  readonly share?: number;
  /** Fills its argument with random numbers. Default: the system's. */
  readonly random?: (words: Uint16Array) => void;
}

/**
 * Opens one upstream for `urls`, of which there is at least one; several are a pool. Connects to nothing yet: `resolve`
 * comes next, then dials or `probe`.
 *
 * @throws TunnelError ERR_PROXY_URL: more than a pool has; what
 * {@link openUpstream} throws.
 */
export function openUpstreams(
  urls: readonly UpstreamUrl[],
  environment: SocketEnvironment,
  options: OpenUpstreamsOptions = {},
): ProxyUpstream {
  if (urls.length > MAX_MEMBERS) {
    throw new TunnelError(
      "ERR_PROXY_URL",
      `cannot use ${urls.length} proxies: a pool has ${MAX_MEMBERS} at most; leave some out`,
    );
  }
  const { policy = "failover", probeInterval = 0, max = 0, share = 1 } = options;
  const { random = systemRandom } = options;
  const { timers, log, dialDeadline } = environment;
  const upstreams = urls.map((url) => {
    const upstream = openChain(url, environment);
    const whole = url.max || max;
    const limit = whole === 0 ? 0 : Math.max(1, Math.floor(whole / share));
    return limit === 0 ? upstream : new CappedUpstream(upstream, limit, timers, dialDeadline);
  });
  return upstreams.length === 1
    ? (upstreams[0] as ProxyUpstream)
    : new Pool(upstreams, { timers, log }, { policy, probeInterval, dialDeadline, random });
}

function openChain({ hops }: UpstreamUrl, environment: SocketEnvironment): ProxyUpstream {
  return hops.reduce<ProxyUpstream | null>(
    (before, url) =>
      before === null
        ? openUpstream(url, environment)
        : new ChainUpstream(before, url, environment),
    null,
  ) as ProxyUpstream;
}

function systemRandom(words: Uint16Array): void {
  crypto.getRandomValues(words);
}
