import { expect, test } from "vitest";
import type { ProxyUrl } from "../../src/socks/proxy-url.ts";
import { MAX_HOPS, parseUpstream } from "../../src/upstreams/upstream-url.ts";

function short({ scheme, user, host, port }: ProxyUrl): string {
  return `${scheme}://${user === null ? "" : `${user}@`}${host}:${port}`;
}

test.each([
  ["192.0.2.1", ["socks5://192.0.2.1:1080"], 0],
  ["socks5://a,socks5h://b:9", ["socks5://a:1080", "socks5h://b:9"], 0],
  ["u:p@a:1,[2001:db8::1]:2", ["socks5://u@a:1", "socks5://2001:db8::1:2"], 0],
  ["socks5://me:p%2Cw@a,b", ["socks5://me@a:1080", "socks5://b:1080"], 0],
  ["socks5://a?max=8", ["socks5://a:1080"], 8],
  ["socks5://a?max=8,b?max=3,c", ["socks5://a:1080", "socks5://b:1080", "socks5://c:1080"], 3],
  ["socks4://a,192.0.2.2", ["socks4://a:1080", "socks5://192.0.2.2:1080"], 0],
  ["socks4a://a,http://b:8080", ["socks4a://a:1080", "http://b:8080"], 0],
  ["https://a?max=2,socks4://b", ["https://a:443", "socks4://b:1080"], 2],
  ["direct?max=7", ["direct://:0"], 7],
  ["socks5://me:what?max=1@a", ["socks5://me@a:1080"], 0],
])("%s is a way through %j, for %d connections at a time", (text, hops, max) => {
  const upstream = parseUpstream(text);
  expect(upstream.hops.map(short)).toEqual(hops);
  expect(upstream.max).toBe(max);
});

test.each([
  ["a,", "the host is missing", "hop 2 of 2"],
  ["socks5://u:se,cret@a", "cannot use the proxy URL", "a comma in a password is written %2C"],
  ["a?max=0", "max is not a number from 1 to 1000000", "write ?max=8"],
  ["a?max=8&min=2", "cannot use the proxy URL", ""],
  ["a,direct", "direct is no proxy of a chain", "leave it out"],
  ["reject,a", "reject is no proxy of a chain", "leave it out"],
  ["a,https://b", "https can only be the first proxy of a chain", "put it there"],
  ["a,socks5s://b", "socks5s can only be the first proxy of a chain", "put it there"],
  ["a,socks5+unix:///x", "socks5+unix can only be the first proxy of a chain", "put it there"],
  ["a,b?gssapi", "socks5 with GSSAPI can only be the first proxy of a chain", "put it there"],
  ["socks4://a,b", "socks4 cannot carry the name of the proxy behind it", "use socks5"],
  ["socks4a://a,[2001:db8::1]", "socks4a cannot carry the IPv6 address of the proxy", "use socks5"],
  ["a,b?max=x", "max is not a number from 1 to 1000000", "hop 2 of 2"],
  ["a,".repeat(MAX_HOPS), `a chain has ${MAX_HOPS} proxies at most, this one ${MAX_HOPS + 1}`, ""],
])("%s is refused in one line without credentials", (text, why, advice) => {
  let message = "";
  try {
    parseUpstream(text);
  } catch (error) {
    message = (error as Error).message;
  }
  expect(message).toContain(why);
  expect(message).toContain(advice);
  expect(message).not.toMatch(/\n|cret/);
});
