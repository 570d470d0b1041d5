import { expect, test } from "vitest";
import { addressOf, ask, fakeWorld, query } from "../support/lookups.ts";

/** The names of `asked` that are looked up, not faked. */
function forwarded(real: readonly string[], ...asked: readonly string[]): string[] {
  const world = fakeWorld({ real });
  return asked.filter((name) => ask(world, query(name, "A")) === null);
}

test("a domain means itself and what is below it", () => {
  const real = ["corp.example", ".dots.example."];
  expect(
    forwarded(real, "corp.example", "a.b.corp.example", "acorp.example", "example", "dots.example"),
  ).toEqual(["corp.example", "a.b.corp.example", "dots.example"]);
});

test("a glob means names as a whole; * stands for any octets, ? for one", () => {
  const real = ["*.cdn.example", "ns?.example", "a*b*c.test"];
  const asked = [
    "x.cdn.example",
    "x.y.cdn.example",
    "cdn.example",
    "ns1.example",
    "ns12.example",
    "abc.test",
    "a1b.2b3c.test",
    "a1c.test",
    "x.abc.test",
  ];
  expect(forwarded(real, ...asked)).toEqual([
    "x.cdn.example",
    "x.y.cdn.example",
    "ns1.example",
    "abc.test",
    "a1b.2b3c.test",
  ]);
});

test("letters have no case, other octets are compared as they are (RFC 4343)", () => {
  const real = ["Corp.Example", "bücher.test", "xn--bcher-kva.example"];
  const asked = ["CORP.example", "bücher.test", "BÜCHER.test", "XN--BCHER-KVA.example"];
  expect(forwarded(real, ...asked)).toEqual([
    "CORP.example",
    "bücher.test",
    "XN--BCHER-KVA.example",
  ]);
});

test("* makes every name real, all types of it, but not the addresses of ours", () => {
  const world = fakeWorld({ real: ["*"] });
  for (const type of ["A", "AAAA", "ANY", "UNKNOWN_65"]) {
    expect(ask(world, query("www.example", type))).toBeNull();
  }
  expect(ask(world, query("localhost", "A"))).toBeNull();
  const pointer = ask(world, query("1.1.19.198.in-addr.arpa", "PTR"));
  expect(pointer).toMatchObject({ rcode: "NXDOMAIN" });
  expect(addressOf(world, "host.tun2socks.internal")).toBeUndefined();
});

// Exponential time would outlast the test's.
test("a glob of many stars is soon done with a name that nearly fits", () => {
  const real = [`${"*a".repeat(120)}*b`];
  const name = new Array(4).fill("a".repeat(61)).join(".");
  expect(forwarded(real, name)).toEqual([]);
});
