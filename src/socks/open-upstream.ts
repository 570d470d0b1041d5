/** The upstream that a proxy URL stands for. */

import type { SocketEnvironment } from "./environment.ts";
import type { ProxyUpstream } from "./ports.ts";
import type { ProxyUrl } from "./proxy-url.ts";
import { SocksUpstream, type SocksUpstreamOptions } from "./upstream.ts";

/** @throws TunnelError as {@link SocksUpstream} does. */
export function openUpstream(
  url: ProxyUrl,
  environment: SocketEnvironment,
  options: SocksUpstreamOptions = {},
): ProxyUpstream {
  return new SocksUpstream(url, environment, options);
}
