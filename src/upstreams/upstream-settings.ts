/** What is said of proxies beside their URLs: credentials, and how one proves by TLS who it is. */

import { TunnelError } from "../errors.ts";
import { type UrlCredentials, withCredentials } from "../socks/proxy-url.ts";
import { SCHEMES } from "../socks/schemes.ts";
import { checkTlsSettings, type TlsSettings, tlsFlags } from "../socks/tls-settings.ts";
import type { UpstreamUrl } from "./upstream-url.ts";

/** Plain data. */
export interface UpstreamSettings {
  /** Of the one proxy, whose URL has none: of several the password of one would be told to all. */
  readonly credentials?: UrlCredentials;
  /** Where they were given, for messages. */
  readonly credentialsFrom?: string;
  /** Of every proxy that TLS leads to; what its URL says itself comes first. */
  readonly tls?: TlsSettings;
}

/**
 * The URLs, completed. Without any there is nothing to complete.
 *
 * @throws TunnelError ERR_USAGE for what is given twice or in vain, ERR_PROXY_URL for what a scheme cannot carry.
 */
export function completeUpstreams(
  urls: readonly UpstreamUrl[],
  settings: UpstreamSettings = {},
): readonly UpstreamUrl[] {
  if (urls.length === 0) return urls;
  return withTls(withUser(urls, settings), settings.tls);
}

function withUser(
  urls: readonly UpstreamUrl[],
  { credentials, credentialsFrom = "credentials" }: UpstreamSettings,
): readonly UpstreamUrl[] {
  if (credentials === undefined) return urls;
  const [{ hops, max }] = urls as [UpstreamUrl];
  const [url] = hops;
  if (urls.length > 1 || hops.length > 1 || url === undefined) {
    throw bad(credentialsFrom, "there are several proxies", "write each one's into its URL");
  }
  if (url.user !== null) {
    throw bad(credentialsFrom, "the proxy URL has user and password as well", "give them once");
  }
  return [{ hops: [withCredentials(url, credentials)], max }];
}

function withTls(urls: readonly UpstreamUrl[], tls?: TlsSettings): readonly UpstreamUrl[] {
  if (tls === undefined) return urls;
  if (!urls.some(({ hops }) => hops.some(({ scheme }) => SCHEMES[scheme].way === "tls"))) {
    throw bad(tlsFlags(tls), "no TLS leads to the proxy", "use socks5s:// or https://");
  }
  return urls.map(({ hops, max }) => ({
    max,
    hops: hops.map((url) =>
      SCHEMES[url.scheme].way === "tls"
        ? { ...url, tls: checkTlsSettings({ ...tls, ...url.tls }) }
        : url,
    ),
  }));
}

function bad(what: string, why: string, advice: string): TunnelError {
  return new TunnelError("ERR_USAGE", `cannot use ${what}: ${why}; ${advice}`);
}
