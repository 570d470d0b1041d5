import { isIP } from "node:net";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  cidrContains,
  Endpoint,
  formatAddress,
  parseAddress,
  parseCidr,
} from "../../src/stack/wire/address.ts";
import { addSums, sumOctets, swapSum } from "../../src/stack/wire/checksum.ts";
import { IcmpMessage, parseIcmp } from "../../src/stack/wire/icmp.ts";
import { emitIp, emitIpv4, emitIpv6, IpHeader, parseIp } from "../../src/stack/wire/ip.ts";
import { read16, read32, write16, write32 } from "../../src/stack/wire/octets.ts";
import { printPacket } from "../../src/stack/wire/print.ts";
import { emitUdp, parseUdp, UdpHeader } from "../../src/stack/wire/udp.ts";

const int32 = fc.integer({ min: -0x80000000, max: 0x7fffffff });
const port = fc.integer({ min: 0, max: 65535 });
const octets = (maxLength: number) => fc.uint8Array({ maxLength });
/** Unicast sources that a header may carry. */
const address4 = fc
  .integer({ min: 0x01000000, max: 0x5fffffff })
  .map((w3) => new Endpoint().set(0, 0, 0xffff, w3, 0));
const address6 = fc
  .tuple(fc.integer({ min: 0x20000000, max: 0x3fffffff }), int32, int32, int32)
  .map(([w0, w1, w2, w3]) => new Endpoint().set(w0, w1, w2, w3, 0));

/** RFC 1071 word by word. */
function naiveSum(bytes: Uint8Array, start: number, end: number): number {
  let sum = 0;
  for (let at = start; at < end; at += 2) {
    sum += bytes[at] * 256 + (at + 1 < end ? bytes[at + 1] : 0);
  }
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}

test("the sum equals the word by word one, for any range and cut", () => {
  fc.assert(
    fc.property(octets(3000), fc.nat(), fc.nat(), (bytes, a, b) => {
      const start = a % (bytes.length + 1);
      const end = start + (b % (bytes.length - start + 1));
      const whole = sumOctets(bytes, start, end);
      expect(whole).toBe(naiveSum(bytes, start, end));
      const middle = start + (((a ^ b) >>> 1) % (end - start + 1));
      const tail = sumOctets(bytes, middle, end);
      const odd = ((middle - start) & 1) === 1;
      const parts = addSums(sumOctets(bytes, start, middle), odd ? swapSum(tail) : tail);
      // Zero has two forms in one's complement, but only octets that are all 0 sum to 0.
      expect(parts).toBe(whole);
    }),
  );
});

test("reads give what was written, as int32", () => {
  fc.assert(
    fc.property(int32, port, fc.nat(8), (word, half, at) => {
      const bytes = new Uint8Array(16);
      write32(bytes, at, word);
      expect(read32(bytes, at)).toBe(word);
      expect(read32(bytes, at)).toBe(new DataView(bytes.buffer).getInt32(at));
      write16(bytes, at, half);
      expect(read16(bytes, at)).toBe(half);
      expect(read16(bytes, at)).toBe(new DataView(bytes.buffer).getUint16(at));
    }),
  );
});

test("an address reads back from its text, and Node takes that text for the same family", () => {
  fc.assert(
    fc.property(fc.oneof(address4, address6, sparseAddress()), (address) => {
      const text = formatAddress(address);
      expect(isIP(text)).toBe(address.isV4 ? 4 : 6);
      expect(parseAddress(text)?.sameAddress(address)).toBe(true);
    }),
  );
});

test("a text is an address exactly when Node says so; its own form is canonical (RFC 4291 §2.2)", () => {
  const part = fc.oneof(
    fc.constantFrom("", "0", "00", "1", "ffff", "FFFF", "10000", "g", "1.2.3.4", "256.1.1.1", "01"),
    fc.nat(300).map(String),
  );
  const text = fc
    .tuple(fc.array(part, { maxLength: 9 }), fc.constantFrom(":", ".", "::"))
    .map(([parts, separator]) => parts.join(separator));
  fc.assert(
    fc.property(
      fc.oneof(
        text,
        fc.ipV4(),
        fc.ipV6(),
        fc.ipV6().map((t) => t.toUpperCase()),
      ),
      (t) => {
        const address = parseAddress(t);
        expect(address !== null, t).toBe(isIP(t) !== 0);
        if (address !== null)
          expect(parseAddress(formatAddress(address))?.equals(address)).toBe(true);
      },
    ),
    { numRuns: 2000 },
  );
});

test("a prefix contains an address exactly when their first bits are equal", () => {
  const bits = (address: Endpoint) =>
    [address.w0, address.w1, address.w2, address.w3]
      .map((word) => (word >>> 0).toString(2).padStart(32, "0"))
      .join("");
  fc.assert(
    fc.property(address6, fc.nat(128), fc.nat(127), (base, length, flipped) => {
      const cidr = parseCidr(`${formatAddress(base)}/${length}`);
      const words = bits(base);
      const flip = (bit: string, i: number) => (i === flipped ? (bit === "0" ? "1" : "0") : bit);
      const other = [...words].map(flip).join("");
      const word = (i: number) => Number.parseInt(other.slice(i, i + 32), 2);
      const address = new Endpoint().set(word(0), word(32), word(64), word(96), 0);
      const expected = words.slice(0, length) === other.slice(0, length);
      expect(cidr !== null && cidrContains(cidr, address)).toBe(expected);
    }),
  );
});

test("parse ∘ emit is the identity of an IPv4 header", () => {
  const fields = fc.record({
    src: address4,
    dst: address4,
    protocol: fc.nat(255),
    ttl: fc.nat(255),
    trafficClass: fc.nat(255),
    id: port,
    fragment: fc.nat(0x7fff),
    length: fc.nat(100),
  });
  fc.assert(
    fc.property(fields, (f) => {
      const bytes = new Uint8Array(20 + f.length);
      const { src, dst, protocol, ttl, trafficClass, id, fragment } = f;
      emitIpv4(bytes, 0, src, dst, protocol, ttl, trafficClass, id, fragment, bytes.length);
      const header = new IpHeader();
      expect(parseIp(bytes, 0, bytes.length, header)).toBe(0);
      expect(header).toMatchObject({
        protocol,
        ttl,
        trafficClass,
        id,
        dontFragment: (fragment & 0x4000) !== 0,
        moreFragments: (fragment & 0x2000) !== 0,
        fragmentOffset: (fragment & 0x1fff) * 8,
        payloadStart: 20,
        totalEnd: bytes.length,
      });
      expect(header.src.sameAddress(src) && header.dst.sameAddress(dst)).toBe(true);
    }),
  );
});

test("parse ∘ emit is the identity of an IPv6 header", () => {
  fc.assert(
    fc.property(
      address6,
      address6,
      fc.integer({ min: 61, max: 255 }),
      fc.nat(255),
      fc.nat(255),
      fc.nat(100),
      (src, dst, protocol, ttl, trafficClass, length) => {
        const bytes = new Uint8Array(40 + length);
        emitIpv6(bytes, 0, src, dst, protocol, ttl, trafficClass, length);
        const header = new IpHeader();
        expect(parseIp(bytes, 0, bytes.length, header)).toBe(0);
        expect(header).toMatchObject({
          protocol,
          ttl,
          trafficClass,
          payloadStart: 40,
          totalEnd: bytes.length,
        });
        expect(header.src.sameAddress(src) && header.dst.sameAddress(dst)).toBe(true);
      },
    ),
  );
});

test("parse ∘ emit is the identity of a UDP header", () => {
  fc.assert(
    fc.property(port, port, fc.nat(50), port, (srcPort, dstPort, payload, checksum) => {
      const bytes = new Uint8Array(8 + payload);
      emitUdp(bytes, 0, srcPort, dstPort, bytes.length, checksum);
      const header = new UdpHeader();
      expect(parseUdp(bytes, 0, bytes.length, header)).toBe(0);
      expect(header).toMatchObject({ srcPort, dstPort, checksum, length: bytes.length });
    }),
  );
});

test("hostile octets never throw and never make a header that leaves its packet", () => {
  const start = fc.constantFrom([], [0x45, 0, 0, 40], [0x60, 0, 0, 0, 0, 30, 0], [0x46], [0x60]);
  const walk = fc.record({
    src: address6,
    dst: address6,
    next: fc.constantFrom(0, 43, 44, 60, 58),
  });
  const hostile = fc.oneof(
    fc.tuple(start, octets(120)).map(([head, tail]) => Uint8Array.of(...head, ...tail)),
    fc.tuple(walk, octets(80)).map(([{ src, dst, next }, tail]) => {
      const bytes = new Uint8Array(40 + tail.length);
      emitIp(bytes, 0, src, dst, next, 0, 0, tail.length);
      bytes.set(tail, 40);
      return bytes;
    }),
  );
  fc.assert(
    fc.property(hostile, (bytes) => {
      const header = new IpHeader();
      if (parseIp(bytes, 0, bytes.length, header) === 0) {
        expect(header.totalEnd).toBeLessThanOrEqual(bytes.length);
        expect(header.payloadStart).toBeLessThanOrEqual(header.totalEnd);
        parseIcmp(bytes, header, false, new IcmpMessage());
        parseUdp(bytes, header.payloadStart, header.totalEnd, new UdpHeader());
      }
      expect(printPacket(bytes, 0, bytes.length)).not.toBe("");
    }),
    { numRuns: 3000 },
  );
});

/** Addresses with many zero groups, the hard part of RFC 5952. */
function sparseAddress() {
  const word = fc.constantFrom(0, 1, 0x10000, 0x10001, 0xffff, -1);
  return fc
    .tuple(word, word, word, word)
    .map(([w0, w1, w2, w3]) => new Endpoint().set(w0, w1, w2, w3, 0));
}
