import { describe, expect, test } from "vitest";
import { parseProxyUrl, redacted, withCredentials } from "../../src/socks/proxy-url.ts";

const gss = (url: string) => parseProxyUrl(url).gss;

test("?gssapi asks for confidentiality of the service rcmd, with the tickets of the default cache", () => {
  expect(gss("socks5://proxy.test?gssapi")).toEqual({
    level: "confidentiality",
    service: "rcmd",
    nec: false,
    principal: null,
  });
});

test("the user is the principal, realm and all, and no credentials are left of it", () => {
  const url = parseProxyUrl(
    "socks5h://alice@EXAMPLE.ORG@proxy.test:1081/?gssapi=integrity&service=rcmd%2Fp.example.org&nec",
  );
  expect(url).toMatchObject({ scheme: "socks5h", host: "proxy.test", port: 1081, user: null });
  expect(url.gss).toEqual({
    level: "integrity",
    service: "rcmd/p.example.org",
    nec: true,
    principal: "alice@EXAMPLE.ORG",
  });
  expect(redacted(url)).toBe("socks5h://proxy.test:1081");
});

test("settings of TLS and of GSSAPI stand side by side", () => {
  const url = parseProxyUrl("socks5s://proxy.test?sni=other.test&gssapi=clear");
  expect(url.tls).toEqual({ sni: "other.test" });
  expect(url.gss?.level).toBe("clear");
});

describe("what makes no sense is refused without a word of it", () => {
  const SECRET = "hunter2";
  test.each([
    [`socks5://alice:${SECRET}@proxy.test?gssapi`, "a ticket, not a password"],
    [`socks5://proxy.test?gssapi=${SECRET}`, "level of GSSAPI is not known"],
    [`socks5://proxy.test?gssapi&service=${SECRET}%20`, "the service is no name"],
    ["socks5://proxy.test?gssapi&service=", "the service is no name"],
    ["socks5://proxy.test?gssapi&service=%zz", "bad percent-encoding"],
    ["socks5://proxy.test?gssapi&nec=1", "nec takes no value"],
    ["socks5://proxy.test?service=rcmd", "settings of GSSAPI"],
    ["socks5://proxy.test?nec", "settings of GSSAPI"],
    ["socks5://proxy.test?gssapi&gssapi", "the setting gssapi twice"],
    [`socks5://proxy.test?gssapi&${SECRET}=1`, "a setting that is not known"],
  ])("%s", (url, why) => {
    let message = "";
    try {
      parseProxyUrl(url);
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toContain(why);
    expect(message).not.toContain(SECRET);
  });

  test("a password from elsewhere", () => {
    const url = parseProxyUrl("socks5://proxy.test?gssapi");
    expect(() => withCredentials(url, { user: "alice", password: SECRET })).toThrow(
      /a ticket, not a password/,
    );
  });
});
