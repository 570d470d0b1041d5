/** What a user reads of `tun2socks listen` when it cannot listen. */

import { expect, test } from "vitest";
import { main } from "../../src/cli/main.ts";
import { stderr, stdout } from "../support/command-output.ts";
import { ScriptedProxy } from "../support/scripted-proxy.ts";

test.each([
  ["listen --to 127.0.0.1:80", "no proxy given; write -p socks5://host:port (ERR_USAGE)"],
  ["listen -p 127.0.0.1", "no server given; write --to 127.0.0.1:PORT (ERR_USAGE)"],
  ["listen -p http://127.0.0.1 --to 127.0.0.1:80", "cannot listen by http: only SOCKS5 and"],
  ["listen -p socks6://127.0.0.1 --to 127.0.0.1:80", "cannot listen by socks6: only SOCKS5 and"],
  ["listen -p 127.0.0.1 --to 127.0.0.1", 'cannot use --to: "127.0.0.1" has no port; write'],
  ["listen -p 127.0.0.1 --to web:80", 'cannot use --to: "web:80" is not an address;'],
  ["listen -p 127.0.0.1 --to 127.0.0.1:80 --peer x", 'cannot use --peer: "x" is not an address;'],
])("%s: one line, status 2", async (line, message) => {
  expect(await main(line.split(" "))).toBe(2);
  expect(stdout).toBe("");
  expect(stderr.startsWith(`tun2socks: ${message}`), stderr).toBe(true);
  expect(stderr.match(/\n/g)?.length).toBe(1);
});

test.each(["socks4", "socks4a"])("a proxy is asked by %s:// too", async (scheme) => {
  // A SOCKS5 server takes it for a greeting.
  const proxy = await ScriptedProxy.start();
  try {
    const url = proxy.url.replace("socks5", scheme);
    expect(await main(["listen", "-p", url, "--to", "127.0.0.1:80"])).toBe(69);
    expect(stderr).toMatch(/SOCKS4a?[^\n]*\(ERR_PROXY_PROTOCOL\)\n$/);
  } finally {
    await proxy.close();
  }
});

test.each([
  [7, "it refused: command not supported (07) (ERR_PROXY_REFUSED)"],
  [null, "it closed the connection instead of a reply; does it do BIND? (ERR_PROXY_REFUSED)"],
])("a proxy that refuses BIND with %s: one line, status 69", async (reply, message) => {
  const proxy = await ScriptedProxy.start({ reply: () => reply });
  try {
    const url = proxy.url.replace("//", "//me:secret@");
    const plain = await main(["listen", "-p", proxy.url, "--to", "127.0.0.1:80"]);
    expect({ plain, stdout, stderr }).toEqual({
      plain: 69,
      stdout: "",
      stderr: `tun2socks: proxy ${proxy.url}: ${message}\n`,
    });
    await main(["listen", "-p", url, "--to", "127.0.0.1:80"]);
    expect(stderr).not.toContain("secret");
  } finally {
    await proxy.close();
  }
});
