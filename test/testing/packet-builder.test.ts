import fc from "fast-check";
import { expect, test } from "vitest";
import {
  addressOctets,
  addressText,
  buildIcmp,
  buildTcp,
  buildUdp,
  checksum,
  decodePacket,
  TcpFlag,
  type TcpOption,
} from "../../src/testing/packet-builder.ts";

const bytes = (hex: string): Uint8Array =>
  Uint8Array.from(Buffer.from(hex.replace(/\s/g, ""), "hex"));

test("the checksum of RFC 1071 §3's example is the complement of ddf2", () => {
  expect(checksum(bytes("0001 f203 f4f5 f6f7"))).toBe(0xffff - 0xddf2);
});

test("a checksum does not depend on how the octets are cut into parts", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(40), (octets, cut) => {
      expect(checksum(octets.subarray(0, cut), octets.subarray(cut))).toBe(checksum(octets));
    }),
  );
});

test("a header from the wire has the checksum 0 over itself (RFC 791 §3.1)", () => {
  expect(checksum(bytes("45000073 00004000 4011b861 c0a80001 c0a800c7"))).toBe(0);
});

test.each([
  ["0.0.0.0", "00000000"],
  ["10.0.0.2", "0a000002"],
  ["::", "00000000000000000000000000000000"],
  ["::1", "00000000000000000000000000000001"],
  ["fd00::a00:2", "fd00000000000000000000000a000002"],
  ["2001:db8:0:1:1:1:1:1", "20010db8000000010001000100010001"],
  ["2001:db8::1:0:0:1", "20010db8000000000001000000000001"],
  ["1:0:0:2::", "00010000000000020000000000000000"],
])("the address %s is written as RFC 5952 §4 has it", (text, hex) => {
  expect(Buffer.from(addressOctets(text)).toString("hex")).toBe(hex);
  expect(addressText(bytes(hex))).toBe(text);
});

const u32 = fc.nat(0xffffffff);
const option: fc.Arbitrary<TcpOption> = fc.oneof(
  fc.record({ kind: fc.constant("mss" as const), value: fc.nat(65535) }),
  fc.record({ kind: fc.constant("wscale" as const), value: fc.nat(14) }),
  fc.record({ kind: fc.constant("TS" as const), value: u32, echo: u32 }),
  fc.constant({ kind: "sackOK" as const }),
  fc.constant({ kind: "nop" as const }),
);
const families = fc.constantFrom(["10.0.0.2", "192.0.2.9"], ["fd00::2", "2001:db8::9"]);

test("decoding gives back what was built, without a fault", () => {
  const segment = fc.record({
    sourcePort: fc.nat(65535),
    destinationPort: fc.nat(65535),
    seq: u32,
    ack: u32,
    flags: fc.nat(255),
    window: fc.nat(65535),
    options: fc.array(option, { maxLength: 3 }),
    payload: fc.uint8Array({ maxLength: 100 }),
  });
  fc.assert(
    fc.property(families, segment, ([source, destination], fields) => {
      const packet = decodePacket(
        buildTcp({ source: source!, destination: destination!, ...fields }),
      );
      expect(packet).toMatchObject({ kind: "tcp", faults: [], source, destination, ...fields });
    }),
  );
});

test("one flipped bit of a TCP, UDP or ICMP message never goes unnoticed (RFC 1071 §1)", () => {
  fc.assert(
    fc.property(families, fc.nat(), fc.nat(7), ([source, destination], place, bit) => {
      const ends = { source: source!, destination: destination! };
      const ports = { sourcePort: 1, destinationPort: 2 };
      const payload = Uint8Array.of(1, 2, 3, 4, 5);
      for (const packet of [
        buildTcp({ ...ends, ...ports, seq: 1, flags: TcpFlag.SYN, payload }),
        buildUdp({ ...ends, ...ports, payload }),
        buildIcmp({ ...ends, type: 3, code: 1, body: payload }),
      ]) {
        const header = ends.source.includes(":") ? 40 : 20;
        packet[header + (place % (packet.length - header))]! ^= 1 << bit;
        expect(decodePacket(packet).faults).not.toEqual([]);
      }
    }),
  );
});

test("a SYN captured from Linux decodes as tcpdump prints it", () => {
  // 127.0.0.1.40000 > 127.0.0.1.80: Flags [S], options [mss 65495,sackOK,TS val 10 ecr 0,nop,wscale 7]
  const packet = bytes(`
    4500003c 1c464000 40060000 7f000001 7f000001
    9c400050 01020304 00000000 a002ffd7 00000000
    0204ffd7 0402080a 0000000a 00000000 01030307`);
  const sum = checksum(packet.subarray(0, 20));
  packet[10] = sum >> 8;
  packet[11] = sum & 255;
  const decoded = decodePacket(packet);
  expect(decoded).toMatchObject({
    kind: "tcp",
    source: "127.0.0.1",
    sourcePort: 40000,
    destinationPort: 80,
    seq: 0x01020304,
    flags: TcpFlag.SYN,
    window: 65495,
    options: [
      { kind: "mss", value: 65495 },
      { kind: "sackOK" },
      { kind: "TS", value: 10, echo: 0 },
      { kind: "nop" },
      { kind: "wscale", value: 7 },
    ],
    faults: ["TCP checksum"],
  });
});
