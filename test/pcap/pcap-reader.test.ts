import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { exitStatus } from "../../src/errors.ts";
import { MAX_CAPTURED_OCTETS } from "../../src/pcap/captured-packet.ts";
import { readCaptureFile } from "../../src/pcap/read-capture.ts";
import { damageAt, Fields, pcap, readAll } from "./capture-builder.ts";

const ONE = Uint8Array.of(0x45, 1, 2, 3, 4);
const TWO = Uint8Array.of(0x60, 5, 6);

const SHAPES = [
  { isLittle: true, nanoseconds: false },
  { isLittle: true, nanoseconds: true },
  { isLittle: false, nanoseconds: false },
  { isLittle: false, nanoseconds: true },
];

describe.each(SHAPES)("little-endian $isLittle, nanoseconds $nanoseconds", (shape) => {
  const unit = shape.nanoseconds ? 1n : 1000n;
  const file = pcap(
    [
      { seconds: 1_700_000_000, fraction: 123_456, bytes: ONE },
      { seconds: 0xffffffff, fraction: 999_999, bytes: TWO, originalLength: 1500 },
    ],
    shape,
  );
  const expected = [
    {
      time: 1_700_000_000_000_000_000n + 123_456n * unit,
      linkType: 101,
      interface: 0,
      originalLength: 5,
      truncated: false,
    },
    { time: 4_294_967_295_000_000_000n + 999_999n * unit, originalLength: 1500, truncated: true },
  ];

  test.each([1, 3, 16, 65536])("packets in chunks of %i octets", async (chunk) => {
    const { packets, error } = await readAll(file, chunk);
    expect(error).toBeNull();
    expect(packets).toMatchObject(expected);
    expect(packets.map(({ bytes }) => [...bytes])).toEqual([[...ONE], [...TWO]]);
  });

  test("a file cut anywhere gives the packets before the cut, then its offset", async () => {
    const first = 24 + 16 + ONE.length;
    for (let cut = 24; cut < file.length; cut++) {
      const { packets, error } = await readAll(file.subarray(0, cut));
      expect(packets).toHaveLength(cut < first ? 0 : 1);
      if (cut === 24 || cut === first) expect(error).toBeNull();
      else expect(error).toMatchObject(damageAt(cut < first ? 24 : first, "it ends within"));
    }
  });

  test("the largest packet is read, one octet more is damage", async () => {
    const bytes = new Uint8Array(MAX_CAPTURED_OCTETS);
    const whole = await readAll(pcap([{ bytes: ONE }, { bytes }], shape));
    expect(whole).toMatchObject({ error: null, packets: [{}, { originalLength: bytes.length }] });
    const longer = new Fields(shape.isLittle).u32(0, 0, bytes.length + 1, 0).bytes;
    const { packets, error } = await readAll(
      Buffer.concat([pcap([{ bytes: ONE }], shape), longer]),
    );
    expect(packets).toHaveLength(1);
    expect(error).toMatchObject(damageAt(24 + 16 + ONE.length, "a packet of 262145 octets"));
  });
});

test("packets handed out do not change while later ones are read", async () => {
  const records = Array.from({ length: 500 }, (_, i) => ({ bytes: new Uint8Array(40).fill(i) }));
  const { packets } = await readAll(pcap(records), 97);
  expect(packets).toHaveLength(500);
  for (const [i, { bytes }] of packets.entries())
    expect(bytes.every((o) => o === (i & 255))).toBe(true);
});

test("the length of a frame check sequence is no part of the link type", async () => {
  const { packets } = await readAll(pcap([{ bytes: ONE }], { network: 0x24000001 }));
  expect(packets).toMatchObject([{ linkType: 1 }]);
});

test("reserved bits of the link type refuse the file", async () => {
  const { error } = await readAll(pcap([{ bytes: ONE }], { network: 0x00010001 }));
  expect(error).toMatchObject(damageAt(20, "reserved bits"));
});

test("another version is refused", async () => {
  const file = pcap([{ bytes: ONE }]);
  file.writeUInt16LE(3, 6);
  expect((await readAll(file)).error).toMatchObject(damageAt(4, "pcap version 2.3 is not known"));
});

test.each([
  ["nothing", Buffer.alloc(0)],
  ["three octets", Buffer.from("abc")],
  ["text", Buffer.from("GET / HTTP/1.1\r\n")],
])("%s is no capture", async (_, bytes) => {
  expect((await readAll(bytes)).error).toMatchObject(damageAt(0, "neither pcap nor pcapng"));
});

test("a file that cannot be read is ERR_CAPTURE with its name and the reason; exit status 1", async () => {
  const path = join(tmpdir(), "no-such-folder", "x.pcap");
  const read = async (): Promise<void> => {
    for await (const _ of readCaptureFile(path));
  };
  await expect(read()).rejects.toMatchObject({
    code: "ERR_CAPTURE",
    message: expect.stringMatching(/^cannot read .*x\.pcap: ENOENT/),
  });
  expect(exitStatus("ERR_CAPTURE")).toBe(1);
});
