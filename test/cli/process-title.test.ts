import { expect, test } from "vitest";
import { titleOf } from "../../src/cli/process-title.ts";
import { withoutCredentials } from "../../src/socks/proxy-url.ts";

test.each([
  ["run -d tun0 -p socks5://me:SECRET@h:1", "run -d tun0 -p socks5://***@h:1"],
  ["run -d tun0 -p me:SEC@RET@h", "run -d tun0 -p ***@h"],
  ["run --proxy=http://SECRET@h -d tun0", "run --proxy=http://***@h -d tun0"],
  ["run --proxy socks5s://me:SECRET@h?ca=a", "run --proxy socks5s://***@h?ca=a"],
  ["run -pme:SECRET@h", "run -p***@h"],
  ["run -p socks5://a:SECRET@h,socks5://b:SECRET@i", "run -p socks5://***@i"],
  ["run -p socks5+unix://me:SECRET@/run/a@b", "run -p socks5+unix://***@/run/a@b"],
  ["run -d tun0 --prxy=socks5://me:SECRET@h", "run -d tun0 --prxy=socks5://***@h"],
  ["proxy --user me:SECRET", "proxy --user me:***"],
  ["proxy --user=me:SE:CRET", "proxy --user=me:***"],
  ["probe --json me:SECRET@h", "probe --json ***@h"],
  ["exec -p me:SECRET@h -- ssh me:x@y", "exec -p ***@h -- ssh me:x@y"],
])("of `%s` others see no password", (words, shown) => {
  expect(titleOf(words.split(" "))).toBe(`tun2socks ${shown}`);
});

test.each([
  "run -d tun0 -p socks5://h:1080",
  "run -d tun0 -p socks5+unix:///run/a@b",
  "exec -- curl http://me:x@y",
  "exec ssh me@y",
  "",
])("`%s` holds none and stays as it is", (words) => {
  expect(titleOf(words.split(" "))).toBe(null);
});

test("a proxy URL without its credentials is the same proxy", () => {
  expect(withoutCredentials("SOCKS5://me:p/w@h:1")).toBe("SOCKS5://h:1");
  expect(withoutCredentials("me:p\nw@h")).toBe("h");
  expect(withoutCredentials("socks5+unix://me:pw@/run/a@b")).toBe("socks5+unix:///run/a@b");
  expect(withoutCredentials("http://h")).toBe("http://h");
});
