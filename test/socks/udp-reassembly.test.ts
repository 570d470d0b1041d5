import { expect, test } from "vitest";
import { REASSEMBLY_TIME } from "../../src/socks/udp-reassembly.ts";
import { ADDRESS, datagram, FragmentReceiver, LAST } from "../support/socks-fragments.ts";

const OTHER = [1, 192, 0, 2, 2, 0, 80];

test("fragments in order make the datagram, with FRAG 0 and their address (RFC 1928 §7)", () => {
  const receiver = new FragmentReceiver();
  expect(receiver.receive(datagram(1, "one "))).toBeNull();
  expect(receiver.receive(datagram(2, ""))).toBeNull();
  expect(receiver.receive(datagram(3 | LAST, "three"))).toEqual(datagram(0, "one three"));
  expect(receiver.counts).toEqual({ received: 3, reassembled: 1 });
  expect(receiver.store.octets).toBe(0);
  expect(receiver.time.next()).toBe(-1);
});

test("a sequence of one fragment is a datagram, and so is one of 127", () => {
  const receiver = new FragmentReceiver();
  expect(receiver.texts(datagram(1 | LAST, "a"))).toEqual(["a"]);
  const many = Array.from({ length: 127 }, (_, i) => datagram(i < 126 ? i + 1 : 127 | LAST, "x"));
  expect(receiver.texts(...many).at(-1)).toBe("x".repeat(127));
});

test("names and IPv6 addresses are kept as they are", () => {
  const receiver = new FragmentReceiver();
  const name = [3, 3, 0x41, 0x2e, 0x62, 0, 53];
  const ipv6 = [4, ...new Array(15).fill(0), 1, 0, 53];
  for (const address of [name, ipv6]) {
    receiver.receive(datagram(1, "x", address));
    expect(receiver.receive(datagram(2 | LAST, "y", address))).toEqual(datagram(0, "xy", address));
  }
});

test("a lower FRAG abandons the queue and starts over (RFC 1928 §7)", () => {
  const receiver = new FragmentReceiver();
  const all = [datagram(1, "a"), datagram(2, "b"), datagram(1, "c"), datagram(2 | LAST, "d")];
  expect(receiver.texts(...all)).toEqual([null, null, null, "cd"]);
  expect(receiver.counts).toEqual({ received: 4, reassembled: 1, outOfOrder: 2 });
});

test("a place that was skipped abandons the queue, and nothing is made of what follows", () => {
  const receiver = new FragmentReceiver();
  const all = [datagram(1, "a"), datagram(3, "c"), datagram(2, "b"), datagram(4 | LAST, "d")];
  expect(receiver.texts(...all)).toEqual([null, null, null, null]);
  expect(receiver.counts).toEqual({ received: 4, outOfOrder: 1, strays: 3 });
  expect(receiver.store.octets).toBe(0);
});

test("a datagram that stands alone passes, and abandons the queue (RFC 1928 §7)", () => {
  const receiver = new FragmentReceiver();
  const all = [datagram(1, "a"), datagram(0, "alone"), datagram(2 | LAST, "b")];
  expect(receiver.texts(...all)).toEqual([null, "alone", null]);
  expect(receiver.counts).toEqual({ received: 2, interrupted: 1, strays: 1 });
});

test("the same fragment once more changes nothing", () => {
  const receiver = new FragmentReceiver();
  const all = [
    datagram(1, "a"),
    datagram(1, "a"),
    datagram(2 | LAST, "b"),
    datagram(2 | LAST, "b"),
  ];
  expect(receiver.texts(...all)).toEqual([null, null, "ab", null]);
  expect(receiver.counts).toEqual({ received: 4, reassembled: 1, duplicates: 1, strays: 1 });
});

test.each([
  ["octets", datagram(1, "A")],
  ["length", datagram(1, "aa")],
  ["address", datagram(1, "a", OTHER)],
])("the same place with another %s is another sequence", (_, second) => {
  const receiver = new FragmentReceiver();
  const address = [...second.subarray(3, 10)];
  const all = [datagram(1, "a"), second, datagram(2 | LAST, "b", address)];
  const text = Buffer.from(second.subarray(10)).toString();
  expect(receiver.texts(...all)).toEqual([null, null, `${text}b`]);
  expect(receiver.counts).toMatchObject({ outOfOrder: 1, reassembled: 1 });
});

test("a fragment to another address never continues a sequence", () => {
  const receiver = new FragmentReceiver();
  expect(receiver.texts(datagram(1, "a"), datagram(2 | LAST, "b", OTHER))).toEqual([null, null]);
  expect(receiver.counts).toEqual({ received: 2, outOfOrder: 1, strays: 1 });
});

test("place 0 with the end bit is no fragment of anything", () => {
  const receiver = new FragmentReceiver();
  expect(receiver.texts(datagram(LAST, "a"))).toEqual([null]);
  expect(receiver.counts).toEqual({ received: 1, strays: 1 });
});

test("the queue waits five seconds from its first fragment, not less (RFC 1928 §7)", () => {
  expect(REASSEMBLY_TIME).toBeGreaterThanOrEqual(5000);
  const receiver = new FragmentReceiver();
  receiver.receive(datagram(1, "a"));
  receiver.time.advance(REASSEMBLY_TIME - 1);
  expect(receiver.texts(datagram(2 | LAST, "b"))).toEqual(["ab"]);
  receiver.receive(datagram(1, "a"));
  receiver.time.advance(receiver.time.now() + 4000);
  receiver.receive(datagram(2, "b"));
  receiver.time.advance(receiver.time.now() + 1010);
  expect(receiver.texts(datagram(3 | LAST, "c"))).toEqual([null]);
  expect(receiver.counts).toMatchObject({ timedOut: 2, strays: 1, reassembled: 1 });
  expect(receiver.store.octets).toBe(0);
});

test("65,527 octets, the longest payload over IPv6, are a datagram; one more is none", () => {
  const receiver = new FragmentReceiver();
  const half = new Uint8Array(32_000);
  const send = (octets: number): number | undefined => {
    receiver.receive(datagram(1, half));
    receiver.receive(datagram(2, half));
    return receiver.receive(datagram(3 | LAST, new Uint8Array(octets - 64_000)))?.length;
  };
  expect(send(65_527)).toBe(65_527 + 3 + ADDRESS.length);
  expect(send(65_528)).toBeUndefined();
  expect(receiver.counts).toMatchObject({ reassembled: 1, tooLong: 3 });
  expect(receiver.store.octets).toBe(0);
});

test("at the bound over all queues the oldest gives way", () => {
  const first = new FragmentReceiver(10_000);
  const second = new FragmentReceiver(undefined, first);
  const third = new FragmentReceiver(undefined, first);
  const data = new Uint8Array(4000);
  first.receive(datagram(1, data));
  second.receive(datagram(1, data));
  expect(first.counts).toEqual({ received: 2 });
  third.receive(datagram(1, data));
  expect(first.counts).toEqual({ received: 3, evicted: 1 });
  expect(first.queue.count).toBe(0);
  expect(first.receive(datagram(2 | LAST, "x"))).toBeNull();
  expect(second.receive(datagram(2 | LAST, "x"))?.length).toBe(10 + 4001);
  // Many small ones count for what they cost.
  for (let i = 1; i <= 127; i++) second.receive(datagram(i, ""));
  expect(first.counts).toMatchObject({ evicted: 1 + 1 + 79 });
  expect(first.store.octets).toBeLessThanOrEqual(10_000);
});

test("an association that ends holds nothing and has no timer", () => {
  const receiver = new FragmentReceiver();
  receiver.receive(datagram(1, "a"));
  receiver.queue.clear();
  receiver.queue.clear();
  expect(receiver.store.octets).toBe(0);
  expect(receiver.time.next()).toBe(-1);
});
