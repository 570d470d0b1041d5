import { expect, test } from "vitest";
import { FlowTable, keyedHash } from "../../src/stack/flow-table.ts";
import { Endpoint } from "../../src/stack/wire/address.ts";
import { endpoint } from "./kit.ts";

const SECRET = Uint32Array.of(0xdeadbeef, 0x12345678);
const TARGET = endpoint("192.0.2.1:443");

function client(n: number): Endpoint {
  return new Endpoint().set(0, 0, 0xffff, 0x0a000000 + (n >> 16), n & 0xffff);
}

test("every part of the pair tells flows apart, the direction too", () => {
  const table = new FlowTable(SECRET, 100);
  const base = endpoint("[fd00::1]:1000");
  const pairs: [Endpoint, Endpoint][] = [
    [base, TARGET],
    [TARGET, base],
    [endpoint("[fd00::1]:1001"), TARGET],
    [endpoint("[fd00::2]:1000"), TARGET],
    [endpoint("[fd00:0:0:1::1]:1000"), TARGET],
    [base, endpoint("192.0.2.1:444")],
    [base, endpoint("192.0.2.2:443")],
    [base, endpoint("[::c000:201]:443")],
  ];
  const indices = pairs.map(([src, dst]) => table.insert(src, dst));
  expect(new Set(indices).size).toBe(pairs.length);
  expect(pairs.map(([src, dst]) => table.find(src, dst))).toEqual(indices);
});

test("at the bound an insertion is refused, and possible again after a removal", () => {
  const table = new FlowTable(SECRET, 100);
  for (let n = 0; n < 100; n++) expect(table.insert(client(n), TARGET)).toBe(n);
  expect(table.insert(client(100), TARGET)).toBe(-1);
  table.remove(7);
  expect(table.insert(client(100), TARGET)).toBe(7);
  expect(table.find(client(7), TARGET)).toBe(-1);
  expect(table.size).toBe(100);
});

test("a bound of one works", () => {
  const table = new FlowTable(SECRET, 1);
  expect(table.insert(client(1), TARGET)).toBe(0);
  expect(table.insert(client(2), TARGET)).toBe(-1);
});

test("65,536 flows are all found, and indices stay dense", () => {
  const table = new FlowTable(SECRET, 65_536);
  for (let n = 0; n < 65_536; n++) expect(table.insert(client(n), TARGET)).toBe(n);
  for (let n = 0; n < 65_536; n++) if (table.find(client(n), TARGET) !== n) throw new Error(`${n}`);
});

test("the hash depends on every word, on their number and on both halves of the key", () => {
  const words = Int32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9);
  const seen = new Set([
    keyedHash(words, 9, 1, 2),
    keyedHash(words, 3, 1, 2),
    keyedHash(words, 9, 3, 2),
    keyedHash(words, 9, 1, 3),
  ]);
  for (let word = 0; word < 9; word++) {
    const changed = Int32Array.from(words);
    changed[word] ^= 1 << (3 * word);
    seen.add(keyedHash(changed, 9, 1, 2));
  }
  expect(seen.size).toBe(13);
});

test("a program that varies only its port cannot crowd the low bits of the hash", () => {
  const buckets = new Int32Array(1024);
  const words = new Int32Array(3);
  for (let port = 0; port < 65_536; port++) {
    words[0] = (port << 16) | 443;
    buckets[keyedHash(words, 3, 11, 22) & 1023]++;
  }
  // 64 on average; 8 standard deviations.
  expect(Math.max(...buckets)).toBeLessThan(128);
  expect(Math.min(...buckets)).toBeGreaterThan(16);
});

test("a look-up in steps finds what a look-up finds, and knows what was taken out", () => {
  const table = new FlowTable(SECRET, 1000);
  for (let n = 0; n < 1000; n++) table.insert(client(n), TARGET);
  for (let n = 0; n < 1000; n += 2) table.remove(n);
  const src = new Endpoint();
  const dst = new Endpoint();
  for (let n = 0; n < 1000; n++) {
    const index = table.guess(table.hash(client(n), TARGET));
    expect(index).toBe(table.find(client(n), TARGET));
    expect(table.isAt(n, client(n), TARGET)).toBe(n % 2 === 1);
    expect(table.isAt(n, client(n + 1), TARGET)).toBe(false);
    if (index < 0) continue;
    table.read(index, src, dst);
    expect(src.equals(client(n)) && dst.equals(TARGET)).toBe(true);
  }
});
