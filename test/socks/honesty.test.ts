/** When a proxy is said to answer CONNECT before it knows. */

import { expect, test } from "vitest";
import { createLog } from "../../src/log.ts";
import { ENOUGH, MEMORY, ProxyHonesty, SOON } from "../../src/socks/honesty.ts";
import { Reply } from "../../src/socks/message.ts";
import type { Destination } from "../../src/socks/ports.ts";
import { SocksRefusal } from "../../src/socks/refusal.ts";
import { TimerWheel } from "../../src/stack/timer-wheel.ts";
import { Endpoint, parseAddress } from "../../src/stack/wire/address.ts";

function to(host: string, port = 80): Destination {
  const address = parseAddress(host);
  const endpoint = new Endpoint();
  if (address !== null) endpoint.copy(address);
  endpoint.port = port;
  return { name: address === null ? host : null, endpoint };
}

class Case {
  readonly timers = new TimerWheel();
  readonly lines: string[] = [];
  readonly honesty = new ProxyHonesty(
    "socks5://192.0.2.9:1080",
    this.timers,
    createLog("warn", (line) => this.lines.push(line)),
  );

  /** A stream to `host` ends without an octet, `after` ms after it was granted. */
  end(host: string, after = 10, port = 80): boolean {
    const openedAt = this.timers.now();
    this.timers.advance(openedAt + after);
    return this.honesty.endedUnheard(to(host, port), openedAt);
  }

  reply(reply: number): void {
    this.honesty.refused(new SocksRefusal("reply", "socks5://192.0.2.9:1080", "it refused", reply));
  }
}

test("three hosts that end without an octet make a liar, of which one line tells", () => {
  const it = new Case();
  expect(it.end("192.0.2.1")).toBe(false);
  expect(it.end("192.0.2.2")).toBe(false);
  expect(it.end("192.0.2.3")).toBe(true);
  expect(it.honesty.lies).toBe(true);
  expect(it.end("192.0.2.1")).toBe(true);
  expect(it.lines).toEqual([
    "tun2socks: proxy socks5://192.0.2.9:1080: says yes before it knows: refusals reach programs as resets (3 hosts in a row were closed without an octet)\n",
  ]);
});

test("one host is no evidence, whatever its ports; a name and an address are two", () => {
  const it = new Case();
  for (let port = 1; port < 100; port++) expect(it.end("192.0.2.1", 10, port)).toBe(false);
  expect(it.end("down.example")).toBe(false);
  expect(it.end("2001:db8::1")).toBe(true);
});

test("an end that comes late is no evidence, and no refusal of a liar either", () => {
  const it = new Case();
  for (let i = 1; i < 10; i++) expect(it.end(`192.0.2.${i}`, SOON + 1)).toBe(false);
  for (let i = 1; i <= ENOUGH; i++) it.end(`192.0.2.${i}`, SOON);
  expect(it.honesty.lies).toBe(true);
  expect(it.end("192.0.2.9", SOON + 1)).toBe(false);
});

test("what was held against it is forgotten after ten minutes", () => {
  const it = new Case();
  it.end("192.0.2.1");
  it.end("192.0.2.2");
  it.timers.advance(it.timers.now() + MEMORY);
  expect(it.end("192.0.2.3")).toBe(false);
  expect(it.end("192.0.2.4")).toBe(false);
  expect(it.end("192.0.2.5")).toBe(true);
});

test.each([
  Reply.NETWORK_UNREACHABLE,
  Reply.HOST_UNREACHABLE,
  Reply.CONNECTION_REFUSED,
  Reply.TTL_EXPIRED,
])("REP %d is said by who waits: the evidence is forgotten, and the label too", (reply) => {
  const it = new Case();
  it.end("192.0.2.1");
  it.end("192.0.2.2");
  it.reply(reply);
  expect(it.end("192.0.2.3")).toBe(false);
  for (const host of ["192.0.2.4", "192.0.2.5"]) it.end(host);
  expect(it.honesty.lies).toBe(true);
  it.reply(reply);
  expect(it.honesty.lies).toBe(false);
  for (const host of ["192.0.2.6", "192.0.2.7", "192.0.2.8"]) it.end(host);
  expect(it.honesty.lies).toBe(true);
  expect(it.lines.length).toBe(1);
});

test.each([
  Reply.GENERAL_FAILURE,
  Reply.NOT_ALLOWED,
  Reply.COMMAND_NOT_SUPPORTED,
  Reply.ADDRESS_TYPE_NOT_SUPPORTED,
])("REP %d is said by liars too", (reply) => {
  const it = new Case();
  it.end("192.0.2.1");
  it.end("192.0.2.2");
  it.reply(reply);
  expect(it.end("192.0.2.3")).toBe(true);
});

test("trouble with the proxy itself proves nothing", () => {
  const it = new Case();
  it.end("192.0.2.1");
  it.end("192.0.2.2");
  it.honesty.refused(new SocksRefusal("timeout", "", "no answer in time", Reply.HOST_UNREACHABLE));
  expect(it.end("192.0.2.3")).toBe(true);
});
