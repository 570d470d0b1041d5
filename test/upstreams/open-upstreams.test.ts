import { expect, test } from "vitest";
import type { SocketEnvironment } from "../../src/socks/environment.ts";
import { CappedUpstream } from "../../src/upstreams/capped-upstream.ts";
import { type OpenUpstreamsOptions, openUpstreams } from "../../src/upstreams/open-upstreams.ts";
import { MAX_MEMBERS, Pool } from "../../src/upstreams/pool.ts";
import { parseUpstream } from "../../src/upstreams/upstream-url.ts";
import { socketEnvironment, UpstreamWorld } from "./harness.ts";

function open(texts: readonly string[], options: OpenUpstreamsOptions = {}) {
  const environment: SocketEnvironment = socketEnvironment(new UpstreamWorld());
  return openUpstreams(texts.map(parseUpstream), environment, options);
}

test("labels name every proxy, and no credentials", () => {
  expect(open(["me:pw@a"]).label).toBe("socks5://a:1080");
  expect(open(["me:pw@a,b"]).label).toBe("socks5://a:1080 -> socks5://b:1080");
  expect(open(["me:pw@a?max=3,b", "c"], { policy: "random" }).label).toBe(
    "socks5://a:1080 -> socks5://b:1080, socks5://c:1080 (random)",
  );
});

test("one proxy without a limit is itself: nothing stands between it and its flows", () => {
  const upstream = open(["a"]);
  expect(upstream).not.toBeInstanceOf(CappedUpstream);
  expect(upstream).not.toBeInstanceOf(Pool);
});

test.each<[string, OpenUpstreamsOptions, number]>([
  ["a?max=8", {}, 8],
  ["a", { max: 5 }, 5],
  ["a?max=8", { max: 5 }, 8],
  ["a?max=8", { share: 4 }, 2],
  ["a?max=3", { share: 4 }, 1],
])("the limit of %s with %j is %d", (text, options, limit) => {
  expect(open([text], options)).toMatchObject({ limit });
});

test("a pool has 64 proxies at most", () => {
  const urls = Array.from({ length: MAX_MEMBERS + 1 }, (_, i) => `p${i}`);
  expect(open(urls.slice(1))).toBeInstanceOf(Pool);
  expect(() => open(urls)).toThrow("cannot use 65 proxies: a pool has 64 at most; leave some out");
});
