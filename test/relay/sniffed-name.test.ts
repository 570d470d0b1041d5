/** Names in a client's first octets. */

import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { expect, test } from "vitest";
import { MAX_SNIFFED, type Sniffed, sniffName } from "../../src/relay/sniffed-name.ts";

const sniff = (octets: Uint8Array | string): Sniffed => {
  const bytes = typeof octets === "string" ? Buffer.from(octets, "latin1") : octets;
  return sniffName(bytes, bytes.length);
};

const u16 = (value: number) => [value >> 8, value & 255];
const vector = (octets: readonly number[]) => [...u16(octets.length), ...octets];

interface Hello {
  /** Of server_name; null: there is none. */
  readonly name?: string | null;
  /** Octets of extensions before it. */
  readonly before?: number;
}

/** A ClientHello in records of at most `size` octets. */
function hello({ name = "www.example.com", before = 100 }: Hello = {}, size = 16_384): Uint8Array {
  const host = [...Buffer.from(name ?? "", "latin1")];
  const extensions = [
    ...u16(0xfafa),
    ...vector(new Array(before).fill(7)),
    ...(name === null ? [] : [...u16(0), ...vector(vector([0, ...vector(host)]))]),
    ...u16(43),
    ...vector([2, 3, 4]),
  ];
  const body = [
    ...u16(0x0303),
    ...new Array(32).fill(9),
    32,
    ...new Array(32).fill(8),
    ...vector([0x13, 0x01, 0x13, 0x02]),
    1,
    0,
    ...vector(extensions),
  ];
  const message = [1, 0, ...vector(body)];
  const records: number[] = [];
  for (let at = 0; at < message.length; at += size) {
    records.push(22, 3, 1, ...vector(message.slice(at, at + size)));
  }
  return Uint8Array.from(records);
}

test("the name of a ClientHello is found, whatever extensions and records are around it (RFC 6066 §3)", () => {
  expect(sniff(hello())).toEqual({ name: "www.example.com" });
  expect(sniff(hello({ name: "WWW.Example.COM." }))).toEqual({ name: "www.example.com" });
  expect(sniff(hello({ before: 4000 }))).toEqual({ name: "www.example.com" });
  expect(sniff(hello({ before: 4000 }, 1000))).toEqual({ name: "www.example.com" });
  expect(sniff(hello({}, 1))).toEqual({ name: "www.example.com" });
});

test("a ClientHello without a name, or with what is none, tells nothing", () => {
  for (const name of [null, "192.0.2.1", "a b", "*.example.com", "", "a..b", "x".repeat(254)]) {
    expect(sniff(hello({ name })), String(name)).toEqual({ name: null });
  }
});

test("of a ClientHello that has not come as far as its name more is awaited, at every octet", () => {
  const whole = hello({ before: 40 }, 50);
  for (let length = 0; length < whole.length; length++) {
    const sniffed = sniff(whole.subarray(0, length));
    if (sniffed !== "more") {
      expect(sniffed, `${length} octets`).toEqual({ name: "www.example.com" });
      expect(length).toBeGreaterThan(whole.length - 20);
    }
  }
});

test("a ClientHello of OpenSSL is understood", () => {
  // What it would send: into a pipe of our own instead of a connection.
  const script = `
    const { Duplex } = require("node:stream");
    const socket = new Duplex({ read() {}, write(chunk, _encoding, done) { process.stdout.write(chunk); done(); setImmediate(() => process.exit(0)); } });
    require("node:tls").connect({ socket, servername: "www.example.com", ALPNProtocols: ["h2"] }).on("error", () => {});`;
  const octets = execFileSync(process.execPath, ["-e", script]);
  expect(octets[0]).toBe(22);
  expect(sniff(octets)).toEqual({ name: "www.example.com" });
});

test.each([
  ["GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n", "www.example.com"],
  ["POST /x HTTP/1.0\r\nAccept: */*\r\nhOST:Example.COM:8080  \r\n\r\n", "example.com"],
  ["GET / HTTP/1.1\nHost: a.example\n\n", "a.example"],
  ["GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n", null],
  ["GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", null],
  ["GET / HTTP/1.1\r\nHost:\r\n\r\n", null],
  ["GET / HTTP/1.1\r\nHost: a\x01b\r\n\r\n", null],
  ["GET / HTTP/1.0\r\n\r\nHost: not.a.header\r\n", null],
  ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", null],
  ["SSH-2.0-OpenSSH_9.2\r\n", null],
  ["\x00\x01\x02", null],
  ["\x16\x05\x01\x00\x10\x01", null],
  ["\x16\x03\x01\x00\x00", null],
  ["\x16\x03\x01\xff\xff", null],
  ["\x16\x03\x01\x00\x04\x02\x00\x00\x00", null],
  ["\x16\x03\x01\x00\x01\x01\x15\x03\x01\x00\x02\x01\x00", null],
])("%j tells %j", (octets, name) => {
  expect(sniff(octets)).toEqual({ name });
});

test.each(["", "G", "GET", "GET / HT", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: exam"])(
  "of %j more is awaited (RFC 9112 §3.2)",
  (octets) => {
    expect(sniff(octets)).toBe("more");
  },
);

test("a Host of thousands of blanks costs no more than its octets", () => {
  // A pattern that goes back at each of them takes longer than a test may.
  const blanks = " ".repeat(4000);
  const request = (host: string) => `GET / HTTP/1.1\r\nHost:${host}\r\n\r\n`;
  expect(sniff(request(`${blanks}\r${blanks}b`))).toEqual({ name: null });
  expect(sniff(request(`${blanks}a${blanks}b`))).toEqual({ name: null });
  expect(sniff(request(`${blanks}a.example${blanks}`))).toEqual({ name: "a.example" });
});

test("nothing is awaited beyond 16 KiB", () => {
  const request = (length: number) => `GET / HTTP/1.1\r\nX: ${"x".repeat(length)}`.slice(0, length);
  expect(sniff(request(MAX_SNIFFED - 1))).toBe("more");
  expect(sniff(request(MAX_SNIFFED))).toEqual({ name: null });
});

test("no octets throw, and none reads beyond what has come", () => {
  const whole = hello({ before: 10 });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 6 }),
      fc.nat(whole.length),
      (changes, length) => {
        const octets = whole.slice(0, length);
        for (const [at, value] of changes) if (at < length) octets[at] = value;
        // What lies behind is a name that must not be told.
        const memory = new Uint8Array(length + 4000);
        memory.set(octets);
        memory.set(hello({ name: "secret.example" }), length);
        const sniffed = sniffName(memory, length);
        if (sniffed !== "more") expect(sniffed.name).not.toBe("secret.example");
      },
    ),
    { numRuns: 3000 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (octets) => void sniff(octets)));
});
