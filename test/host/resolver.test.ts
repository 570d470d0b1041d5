import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { hostResolver } from "../../src/host/resolver.ts";
import { formatEndpoint } from "../../src/stack/wire/address.ts";

const directory = mkdtempSync(join(tmpdir(), "tun2socks-resolver-"));
afterAll(() => rmSync(directory, { recursive: true }));

function files(...texts: string[]): string[] {
  return texts.map((text, i) => {
    const path = join(directory, `resolv-${i}`);
    writeFileSync(path, text);
    return path;
  });
}

function found(...texts: string[]): string {
  const { server, fallback } = hostResolver(files(...texts));
  return `${formatEndpoint(server)}${fallback ? " (fallback)" : ""}`;
}

test("the first server that is not on loopback is taken", () => {
  expect(
    found("# comment\nnameserver 127.0.0.1\nnameserver 192.0.2.7\nnameserver 192.0.2.8\n"),
  ).toBe("192.0.2.7:53");
});

test("behind systemd-resolved's stub its own list is read", () => {
  expect(found("nameserver 127.0.0.53\n", "nameserver 2001:db8::53\n")).toBe("[2001:db8::53]:53");
});

test("IPv6 loopback, names and zones are not servers", () => {
  expect(found("nameserver ::1\nnameserver dns.example\nnameserver fe80::1%eth0\n")).toBe(
    "1.1.1.1:53 (fallback)",
  );
});

test("a missing file is no error", () => {
  expect(hostResolver([join(directory, "none")]).fallback).toBe(true);
});
