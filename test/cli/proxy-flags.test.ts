import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test, vi } from "vitest";
import { AUTH_VARIABLE, eraseCredentials, proxySettings } from "../../src/cli/proxy-flags.ts";
import { createLog } from "../../src/log.ts";
import type { ProxyUrl } from "../../src/socks/proxy-url.ts";
import { completeUpstreams, type UpstreamSettings } from "../../src/upstreams/upstream-settings.ts";
import { parseUpstream } from "../../src/upstreams/upstream-url.ts";

const directory = mkdtempSync(join(tmpdir(), "proxy-flags-"));
afterAll(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string, mode = 0o600): string {
  const path = join(directory, name);
  writeFileSync(path, text, { mode });
  return path;
}

/** The first hop of the first of `texts`. */
function complete(texts: string | readonly string[], settings: UpstreamSettings = {}): ProxyUrl {
  const urls = [texts].flat().map(parseUpstream);
  return completeUpstreams(urls, settings)[0]?.hops[0] as ProxyUrl;
}

const lines: string[] = [];
const log = createLog("debug", (line) => lines.push(line));

test.each([
  ["me:secret", "me", "secret"],
  ["me:se:cr et\r\nother:one\n", "me", "se:cr et"],
  ["\uFEFFé:x\n", "é", "x"],
  [":\n", "", ""],
])("the first line of the file is user and password: %j", (text, user, password) => {
  const proxyAuthFile = file("auth", text);
  const settings = proxySettings({ proxyAuthFile }, {}, log, true);
  const url = complete("socks5://h", settings);
  expect(url).toMatchObject({ user, password, host: "h" });
});

test("the variable says the same", () => {
  const settings = proxySettings({}, { [AUTH_VARIABLE]: "me:secret" }, log, true);
  expect(complete("http://h", settings)).toMatchObject({
    user: "me",
    password: "secret",
  });
  expect(proxySettings({}, {}, log, true)).toBe(undefined);
});

test("a file that every user can read is told", () => {
  const path = file("open", "me:secret\n", 0o644);
  lines.length = 0;
  proxySettings({ proxyAuthFile: path }, {}, log, true);
  expect(lines.join()).toContain(`every user can read ${path} (mode 0644): run \`chmod 600`);
  expect(lines.join()).not.toContain("secret");
});

const auth = { credentials: { user: "me", password: "SECRET" }, credentialsFrom: "--x" };

test.each<[string, () => unknown, RegExp]>([
  [
    "a file without a colon",
    () => proxySettings({ proxyAuthFile: file("a", "SECRET") }, {}, log, true),
    /^cannot use --proxy-auth-file: it has no colon; write user:password$/,
  ],
  [
    "a variable without one",
    () => proxySettings({}, { [AUTH_VARIABLE]: "SECRET" }, log, true),
    /^cannot use TUN2SOCKS_PROXY_AUTH: it has no colon/,
  ],
  [
    "a file that is not there",
    () => proxySettings({ proxyAuthFile: "/does/not/exist" }, {}, log, true),
    /^cannot read \/does\/not\/exist: no such file/,
  ],
  [
    "file and variable",
    () => proxySettings({ proxyAuthFile: "x" }, { [AUTH_VARIABLE]: "SECRET" }, log, true),
    /^cannot use --proxy-auth-file: TUN2SOCKS_PROXY_AUTH is set as well/,
  ],
  [
    "a file without a proxy",
    () => proxySettings({ proxyAuthFile: "x" }, {}, log, false),
    /^cannot use --proxy-auth-file: there is no proxy/,
  ],
  [
    "TLS without a proxy",
    () => proxySettings({ proxyCa: "x", proxyPin: "y" }, {}, log, false),
    /^cannot use --proxy-ca, --proxy-pin: there is no proxy/,
  ],
  [
    "credentials twice",
    () => complete("me:SECRET@h", auth),
    /^cannot use --x: the proxy URL has user and password as well/,
  ],
  [
    "credentials for a pool",
    () => complete(["a", "b"], auth),
    /^cannot use --x: there are several proxies; write each/,
  ],
  ["credentials for a chain", () => complete("a,b", auth), /^cannot use --x: there are several/],
  ["a password for SOCKS4", () => complete("socks4://h", auth), /SOCKS4 has no password/],
  [
    "a password that is too long",
    () =>
      complete("h", {
        credentials: { user: "x", password: "SECRET".repeat(50) },
      }),
    /password is longer than 255/,
  ],
  [
    "TLS where none leads",
    () => complete("http://h", { tls: { ca: "x" } }),
    /^cannot use --proxy-ca: no TLS leads to the proxy; use socks5s:/,
  ],
  [
    "a key without certificate",
    () => complete("socks5s://h", { tls: { key: "x" } }),
    /certificate and key belong together/,
  ],
])("%s is a mistake, told without the secret", (_what, act, reason) => {
  let message = "";
  try {
    act();
  } catch (error) {
    message = (error as Error).message;
  }
  expect(message).toMatch(reason);
  expect(message).not.toMatch(/SECRET/);
});

test("what the URL says of TLS comes before the flags", () => {
  const url = complete("https://h?ca=url", {
    tls: { ca: "flag", cert: "c", key: "k" },
  });
  expect(url.tls).toEqual({ ca: "url", cert: "c", key: "k" });
});

test("TLS settings are those of every proxy that TLS leads to", () => {
  const urls = ["socks5s://a,b", "c", "https://d?max=3"].map(parseUpstream);
  const completed = completeUpstreams(urls, { tls: { ca: "x" } });
  expect(completed.map(({ hops }) => hops.map(({ tls }) => tls?.ca))).toEqual([
    ["x", undefined],
    [undefined],
    ["x"],
  ]);
  expect(completed[2]?.max).toBe(3);
});

test("a variable that nobody needs for want of a proxy does no harm", () => {
  expect(() => proxySettings({}, { [AUTH_VARIABLE]: "me:x" }, log, false)).not.toThrow();
});

test.each([true, false])("credentials leave our environment, addon or not (%s)", (native) => {
  vi.stubEnv(AUTH_VARIABLE, "me:secret");
  vi.stubEnv("ALL_PROXY", "socks5://me:secret@h:1");
  vi.stubEnv("all_proxy", "me:secret@h");
  eraseCredentials(false, native);
  expect([process.env[AUTH_VARIABLE], process.env["ALL_PROXY"]]).toEqual([
    undefined,
    "socks5://me:secret@h:1",
  ]);
  eraseCredentials(true, native);
  expect([process.env["ALL_PROXY"], process.env["all_proxy"]]).toEqual(["socks5://h:1", "h"]);
  vi.unstubAllEnvs();
});
