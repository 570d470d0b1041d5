import { describe, expect, test } from "vitest";
import { MAX_BLOCK_OCTETS, MAX_INTERFACES } from "../../src/pcap/pcapng-reader.ts";
import { Blocks, damageAt, readAll } from "./capture-builder.ts";

const ONE = Uint8Array.of(0x45, 1, 2, 3, 4);
const TWO = Uint8Array.of(0x60, 5, 6, 7);
const END_OF_OPTIONS = Buffer.alloc(4);

describe.each([{ isLittle: true }, { isLittle: false }])("little-endian $isLittle", (order) => {
  const ng = new Blocks(order.isLittle);
  const head = Buffer.concat([ng.section(), ng.interface(101, 4)]);

  test.each([1, 5, 65536])(
    "the three kinds of packet blocks, in chunks of %i octets",
    async (chunk) => {
      const file = Buffer.concat([
        head,
        ng.interface(1),
        ng.enhanced(1, 5_000_000_001n, ONE),
        ng.obsolete(0, 7n, TWO, 60),
        ng.simple(TWO, 60),
        ng.simple(TWO),
      ]);
      const { packets, error } = await readAll(file, chunk);
      expect(error).toBeNull();
      expect(packets.map(({ bytes }) => [...bytes])).toEqual(
        [ONE, TWO, TWO, TWO].map((b) => [...b]),
      );
      expect(packets).toMatchObject([
        {
          time: 5_000_000_001_000n,
          linkType: 1,
          interface: 1,
          originalLength: 5,
          truncated: false,
        },
        { time: 7000n, linkType: 101, interface: 0, originalLength: 60, truncated: true },
        { time: null, linkType: 101, interface: 0, originalLength: 60, truncated: true },
        { time: null, originalLength: 4, truncated: false },
      ]);
    },
  );

  test.each([
    ["milliseconds", 3, 1500n, 1_500_000_000n],
    ["nanoseconds", 9, 1500n, 1500n],
    ["picoseconds, rounded down", 12, 1999n, 1n],
    ["1/1024 of a second", 0x8a, 1536n, 1_500_000_000n],
    ["2⁻¹²⁷ of a second", 0xff, (1n << 64n) - 1n, 0n],
  ])("if_tsresol: %s", async (_, resolution, ticks, time) => {
    const options = Buffer.concat([ng.resolution(resolution), END_OF_OPTIONS]);
    const file = [ng.section(), ng.interface(101, 0, options), ng.enhanced(0, ticks, ONE)];
    expect(await readAll(Buffer.concat(file))).toMatchObject({ error: null, packets: [{ time }] });
  });

  test.each([1_700_000_000n, -5n])("if_tsoffset of %d s", async (seconds) => {
    const options = Buffer.concat([ng.offset(seconds), ng.resolution(9)]);
    const file = [ng.section(), ng.interface(101, 0, options), ng.enhanced(0, 42n, ONE)];
    const time = seconds * 1_000_000_000n + 42n;
    expect(await readAll(Buffer.concat(file))).toMatchObject({ error: null, packets: [{ time }] });
  });

  test("a section starts without interfaces, in its own byte order", async () => {
    const other = new Blocks(!order.isLittle);
    const file = Buffer.concat([
      head,
      ng.enhanced(0, 1n, ONE),
      other.section(),
      other.interface(113),
      other.enhanced(0, 2n, TWO),
    ]);
    expect(await readAll(file)).toMatchObject({
      error: null,
      packets: [
        { linkType: 101, time: 1000n },
        { linkType: 113, time: 2000n },
      ],
    });
    const { error } = await readAll(
      Buffer.concat([file, other.section(), other.enhanced(0, 1n, ONE)]),
    );
    expect(error).toMatchObject(damageAt(file.length + 28, "there is no interface 0"));
  });

  test.each([1, 1000, 65536])(
    "other blocks are skipped, however long, in chunks of %i octets",
    async (chunk) => {
      const long = ng.block(0xbad, new Uint8Array(chunk === 1 ? 4000 : 2 * MAX_BLOCK_OCTETS));
      const file = Buffer.concat([
        head,
        long,
        ng.block(5, new Uint8Array(0)),
        ng.enhanced(0, 1n, ONE),
      ]);
      const { packets, error } = await readAll(file, chunk);
      expect(error).toBeNull();
      expect(packets).toMatchObject([{ time: 1000n }]);
      const cut = await readAll(file.subarray(0, head.length + 100), chunk);
      expect(cut.error).toMatchObject(damageAt(head.length + 100, "it ends within"));
    },
  );

  test("a file cut anywhere gives the packets before the cut, then its offset", async () => {
    const parts = [
      ng.section(),
      ng.interface(101),
      ng.enhanced(0, 1n, ONE),
      ng.enhanced(0, 1n, TWO),
    ];
    const file = Buffer.concat(parts);
    const ends = parts.map((_, i) => Buffer.concat(parts.slice(0, i + 1)).length);
    for (let cut = 4; cut < file.length; cut++) {
      const whole = ends.filter((end) => end <= cut);
      const { packets, error } = await readAll(file.subarray(0, cut));
      expect(packets).toHaveLength(Math.max(0, whole.length - 2));
      if (whole.at(-1) === cut) expect(error).toBeNull();
      else expect(error).toMatchObject(damageAt(whole.at(-1) ?? 0, "it ends within"));
    }
  });

  const damaged: [string, Buffer, string][] = [
    ["a length below 12", patched(ng.enhanced(0, 1n, TWO), 4, 8, order.isLittle), "a block of 8 "],
    [
      "a length not in fours",
      patched(ng.enhanced(0, 1n, TWO), 4, 37, order.isLittle),
      "a block of 37 ",
    ],
    ["two lengths", patched(ng.enhanced(0, 1n, TWO), 32, 40, order.isLittle), "the two lengths"],
    [
      "two lengths of a skipped block",
      patched(ng.block(9, TWO), 12, 20, order.isLittle),
      "the two lengths",
    ],
    [
      "a packet longer than its block",
      patched(ng.enhanced(0, 1n, TWO), 20, 5, order.isLittle),
      "a packet of 5 octets in a block of 36",
    ],
    [
      "the same in a simple block",
      patched(ng.simple(new Uint8Array(0)), 8, 400, order.isLittle),
      "a packet of 4 octets in a block of 16",
    ],
    ["an unknown interface", ng.enhanced(2, 1n, TWO), "there is no interface 2"],
    ["a block too short for its fields", ng.block(6, new Uint8Array(8)), "a block is too short"],
    ["an empty packet block", ng.block(6, new Uint8Array(0)), "a block is too short"],
    ["an empty interface block", ng.block(1, new Uint8Array(0)), "a block is too short"],
    [
      "an option longer than its block",
      ng.interface(1, 0, ng.resolution(6).subarray(0, 4)),
      "an option is longer",
    ],
    [
      "a block beyond the bound",
      ng.block(6, new Uint8Array(MAX_BLOCK_OCTETS)),
      "a block of 1048588 octets is too long",
    ],
    [
      "a section without byte order",
      patched(ng.section(), 8, 1, order.isLittle),
      "a section without a byte order",
    ],
    [
      "a section of another version",
      patched(ng.section(), 12, 0x00020002, order.isLittle),
      "pcapng version 2 is not known",
    ],
  ];

  test.each(damaged)("damage: %s", async (_, block, why) => {
    const start = Buffer.concat([head, ng.enhanced(0, 1n, ONE)]);
    const { packets, error } = await readAll(
      Buffer.concat([start, block, ng.enhanced(0, 1n, ONE)]),
    );
    expect(packets).toHaveLength(1);
    expect(error).toMatchObject(damageAt(start.length, why));
  });
});

test("interfaces are bounded", async () => {
  const ng = new Blocks();
  const most = [ng.section(), ...Array.from({ length: MAX_INTERFACES }, () => ng.interface(101))];
  const file = Buffer.concat([...most, ng.enhanced(MAX_INTERFACES - 1, 1n, ONE)]);
  expect(await readAll(file)).toMatchObject({ error: null, packets: [{ interface: 4095 }] });
  const { error } = await readAll(Buffer.concat([file, ng.interface(101)]));
  expect(error).toMatchObject(damageAt(file.length, "more than 4096 interfaces"));
});

/** The block with the 32-bit field at `at` overwritten. */
function patched(block: Buffer, at: number, value: number, isLittle: boolean): Buffer {
  if (isLittle) block.writeUInt32LE(value, at);
  else block.writeUInt32BE(value, at);
  return block;
}
