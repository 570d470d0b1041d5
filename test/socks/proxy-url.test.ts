import { describe, expect, test } from "vitest";
import { TunnelError } from "../../src/errors.ts";
import { parseProxyUrl, redacted, withCredentials } from "../../src/socks/proxy-url.ts";

const none = { user: null, password: null };

describe("proxy URLs", () => {
  test.each([
    ["socks5://proxy.example:1081", "socks5", "proxy.example", 1081],
    ["socks5h://proxy.example", "socks5h", "proxy.example", 1080],
    ["socks://10.0.0.1", "socks5", "10.0.0.1", 1080],
    ["SOCKS5://10.0.0.1/", "socks5", "10.0.0.1", 1080],
    ["127.0.0.1:9050", "socks5", "127.0.0.1", 9050],
    ["  localhost:9050\n", "socks5", "localhost", 9050],
    ["socks5://[2001:db8::1]:1", "socks5", "2001:db8::1", 1],
    ["[::1]", "socks5", "::1", 1080],
    ["socks5://:@host:65535", "socks5", "host", 65535],
    ["socks5://bücher.example", "socks5", "bücher.example", 1080],
    ["socks4://h", "socks4", "h", 1080],
    ["socks4a://h:9050", "socks4a", "h", 9050],
    ["socks5s://h", "socks5s", "h", 1080],
    ["http://h", "http", "h", 80],
    ["http://h:3128/", "http", "h", 3128],
    ["https://h", "https", "h", 443],
    ["direct", "direct", "", 0],
    ["direct://", "direct", "", 0],
    ["REJECT", "reject", "", 0],
    ["reject:///", "reject", "", 0],
    ["direct:1080", "socks5", "direct", 1080],
  ])("%s", (text, scheme, host, port) => {
    expect(parseProxyUrl(text)).toEqual({ scheme, host, port, ...none });
  });

  test.each([
    ["socks5://me:secret@h", "me", "secret"],
    ["socks5://me@h", "me", ""],
    ["socks5://:secret@h", "", "secret"],
    ["me:secret@h:1080", "me", "secret"],
    ["socks5://m%40e:s%3A%2F%25@h", "m@e", "s:/%"],
    ["socks5://me:p@ss/w:rd@h", "me", "p@ss/w:rd"],
    ["socks5://%C3%A9:x@h", "é", "x"],
  ])("%s holds credentials", (text, user, password) => {
    expect(parseProxyUrl(text)).toMatchObject({ host: "h", user, password });
  });

  test("credentials may have 255 octets each, counted in UTF-8 (RFC 1929 §2)", () => {
    const longest = `${"é".repeat(127)}x`;
    expect(parseProxyUrl(`socks5://${longest}:${longest}@h`).user).toBe(longest);
    expect(() => parseProxyUrl(`socks5://${longest}x:y@h`)).toThrow(/user is longer than 255/);
    expect(() => parseProxyUrl(`socks5://x:${longest}y@h`)).toThrow(/password is longer than 255/);
  });

  test.each([
    ["ftp://me:SECRET@h:80", /scheme ftp is not supported/],
    ["socks4://me:SECRET@h", /SOCKS4 has no password/],
    ["socks4a://SECRET%00x@h", /user has a NUL/],
    ["http://me%3AX:SECRET@h", /user has a colon/],
    ["direct://me:SECRET@h", /direct:\/\/ leads to no host/],
    ["socks5://me:SECRET@h?ca=x", /host is no name/],
    ["socks5s://me:SECRET@h?xx=1", /setting that is not known/],
    ["socks5s://me:SECRET@h?toString=1", /setting that is not known/],
    ["socks5s://me:SECRET@h?ca=a&ca=b", /setting ca twice/],
    ["socks5s://me:SECRET@h?ca=", /setting ca is empty/],
    ["socks5s://me:SECRET@h?ca=%ZZ", /setting ca has a bad percent-encoding/],
    ["socks5s://me:SECRET@h?pin=sha256/abc", /pin is no hash/],
    ["https://me:SECRET@h?cert=x", /certificate and key belong together/],
    ["socks5+unix://me:SECRET@host/run/x", /names no socket/],
    ["socks5+unix://me:SECRET@", /names no socket/],
    ["socks5+unix://me:SECRET@/", /names no socket/],
    [`socks5+unix://me:SECRET@/${"x".repeat(107)}`, /path is longer than 107/],
    ["socks5+unix://me:SECRET@/a%ZZ", /path has a bad percent-encoding/],
    ["socks5://me:SECRET", /port is not a number/],
    ["socks5://me:SECRET@h:0", /port is not a number/],
    ["socks5://me:SECRET@h:65536", /port is not a number/],
    ["socks5://me:SECRET@h:", /port is not a number/],
    ["socks5://me:SECRET@h:80/path", /port is not a number/],
    ["socks5://me:SECRET@h/path", /host is no name/],
    ["socks5://me:SECRET@", /host is missing/],
    ["socks5://me:SECRET@:1080", /host is missing/],
    ["", /host is missing/],
    ["socks5://me:SECRET@::1:1080", /in brackets/],
    ["socks5://me:SECRET@[::1", /in brackets/],
    ["socks5://me:SECRET@[fe80::1%25eth0]", /no IPv6 address/],
    ["socks5://me:SECRET@[10.0.0.1]:1080", /no IPv6 address/],
    ["socks5://me:SECRET%ZZ@h", /password has a bad percent-encoding/],
    ["socks5://me:SECRET@h h", /host is no name/],
  ])("%s is refused in one line that keeps the secret", (text, reason) => {
    let error: unknown;
    try {
      parseProxyUrl(text);
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(TunnelError);
    const { code, message, cause } = error as TunnelError;
    expect(code).toBe("ERR_PROXY_URL");
    expect(message).toMatch(reason);
    expect(message).not.toMatch(/SECRET|\n/);
    expect(cause).toBeUndefined();
  });

  test("a Unix socket is a path instead of a host", () => {
    const url = parseProxyUrl("socks5h+unix://me:p%2Fw@/run/tor%20x/a@b?c");
    expect(url).toEqual({
      scheme: "socks5h+unix",
      host: "",
      port: 0,
      path: "/run/tor x/a@b?c",
      user: "me",
      password: "p/w",
    });
    expect(redacted(url)).toBe("socks5h+unix:///run/tor%20x/a@b?c");
    expect(redacted(parseProxyUrl("socks5+unix:///a%0Ab"))).toBe("socks5+unix:///a%0Ab");
  });

  test("where TLS leads to the proxy the URL says how it proves who it is", () => {
    const pin = `sha256/${"A+/9".repeat(10)}xyz=`;
    const url = parseProxyUrl(
      `socks5s://me:p?q@h:99/?ca=%2Fa%26b&pin=${pin}&cert=c&key=k&sni=proxy.example`,
    );
    expect(url).toMatchObject({ host: "h", port: 99, user: "me", password: "p?q" });
    expect(url.tls).toEqual({ ca: "/a&b", pin, cert: "c", key: "k", sni: "proxy.example" });
    expect(redacted(url)).toBe("socks5s://h:99");
  });

  test("credentials that were given elsewhere are bound by the scheme, too", () => {
    const credentials = { user: "me", password: "SECRET" };
    expect(withCredentials(parseProxyUrl("http://h"), credentials)).toMatchObject(credentials);
    expect(() => withCredentials(parseProxyUrl("socks4://h"), credentials)).toThrow(/no password/);
    expect(() => withCredentials(parseProxyUrl("direct"), credentials)).toThrow(/takes no user/);
  });

  test("a label has no credentials", () => {
    expect(redacted(parseProxyUrl("direct://"))).toBe("direct");
    expect(redacted(parseProxyUrl("socks5h://me:secret@h"))).toBe("socks5h://h:1080");
    expect(redacted(parseProxyUrl("me:secret@[::1]:99"))).toBe("socks5://[::1]:99");
  });
});
