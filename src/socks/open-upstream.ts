/** The upstream that a proxy URL stands for. */

import { DirectUpstream } from "./direct-upstream.ts";
import type { SocketEnvironment } from "./environment.ts";
import type { ProxyUpstream } from "./ports.ts";
import type { ProxyUrl } from "./proxy-url.ts";
import { RejectUpstream } from "./reject-upstream.ts";
import { SocksUpstream, type SocksUpstreamOptions } from "./upstream.ts";

/** @throws TunnelError as {@link SocksUpstream} and {@link DirectUpstream} do. */
export function openUpstream(
  url: ProxyUrl,
  environment: SocketEnvironment,
  options: SocksUpstreamOptions = {},
): ProxyUpstream {
  if (url.scheme === "direct") return new DirectUpstream(environment, options.lookup);
  if (url.scheme === "reject") return new RejectUpstream(environment.timers);
  return new SocksUpstream(url, environment, options);
}
