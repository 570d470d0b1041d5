import { constants, gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { readCapture } from "../../src/pcap/read-capture.ts";
import { chunked, pcap, readAll } from "./capture-builder.ts";

/** Hard to compress, so that there are several pieces. */
const RECORDS = Array.from({ length: 300 }, (_, i) => ({ seconds: i, bytes: randomOctets(i) }));
const FILE = pcap(RECORDS);
const ZIPPED = gzipSync(FILE);

test.each([1, 2, 1000, 1 << 20])("a compressed capture in chunks of %i octets", async (chunk) => {
  const { packets, error } = await readAll(ZIPPED, chunk);
  expect(error).toBeNull();
  expect(packets).toEqual((await readAll(FILE)).packets);
});

test("several members follow each other (RFC 1952 §2.2)", async () => {
  const members = [FILE.subarray(0, 1000), FILE.subarray(1000)].map((part) => gzipSync(part));
  const { packets, error } = await readAll(Buffer.concat(members));
  expect(error).toBeNull();
  expect(packets).toHaveLength(300);
});

test.each([10, 5000, 100_000])(
  "%i octets of zeros behind the last member are ignored",
  async (octets) => {
    const { packets, error } = await readAll(Buffer.concat([ZIPPED, Buffer.alloc(octets)]), 3000);
    expect(error).toBeNull();
    expect(packets).toHaveLength(300);
  },
);

test("anything else behind the last member is damage, after the packets of earlier pieces", async () => {
  const { packets, error } = await readAll(Buffer.concat([ZIPPED, Buffer.from("PK text")]));
  const sure = Math.floor((inflatedLength(ZIPPED.length - 4096) - 24) / 116);
  expect(packets.length).toBeGreaterThanOrEqual(sure);
  expect(error).toMatchObject({ code: "ERR_CAPTURE" });
});

test("what expands a thousandfold is read in pieces", async () => {
  const records = Array.from({ length: 2000 }, () => ({ bytes: new Uint8Array(10_000) }));
  const zipped = gzipSync(pcap(records));
  expect(zipped.length).toBeLessThan(100_000);
  let count = 0;
  for await (const packet of readCapture(chunked(zipped, 1 << 20))) count += packet.bytes.length;
  expect(count).toBe(20_000_000);
});

describe("a damaged file gives the packets before the damage", () => {
  test("cut short: every whole packet that can be decompressed", async () => {
    for (let cut = 20; cut < ZIPPED.length; cut += 997) {
      const { packets, error } = await readAll(ZIPPED.subarray(0, cut));
      const there = inflatedLength(cut);
      expect(packets).toHaveLength(Math.max(0, Math.floor((there - 24) / 116)));
      expect(error).toMatchObject({
        code: "ERR_CAPTURE",
        message: expect.stringMatching(/gzip is damaged \(unexpected end of file\), at octet \d+;/),
      });
    }
  });

  test("octets overwritten: what comes more than one piece before", async () => {
    const broken = Buffer.from(ZIPPED);
    const at = 20_000;
    broken.fill(0xff, at, at + 300);
    const { packets, error } = await readAll(broken);
    expect(packets.length).toBeGreaterThanOrEqual(
      Math.floor((inflatedLength(at - 4096) - 24) / 116),
    );
    expect(packets.length).toBeLessThan(300);
    expect(error).toMatchObject({ code: "ERR_CAPTURE" });
  });

  test("a wrong checksum is an error at the end", async () => {
    const broken = Buffer.from(ZIPPED);
    broken[broken.length - 8] ^= 1;
    expect((await readAll(broken)).error).toMatchObject({
      code: "ERR_CAPTURE",
      message: expect.stringContaining("incorrect data check"),
    });
  });

  test("gzip that holds no capture", async () => {
    expect((await readAll(gzipSync("hello, world"))).error).toMatchObject({
      message: expect.stringContaining("neither pcap nor pcapng, at octet 0"),
    });
  });
});

test("an error of the source passes through, compressed or not", async () => {
  for (const bytes of [FILE, ZIPPED]) {
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 5000);
      throw new Error("disk on fire");
    }
    const read = async (): Promise<void> => {
      for await (const _ of readCapture(failing()));
    };
    await expect(read()).rejects.toThrow("disk on fire");
  }
});

test("who stops early ends the source, compressed or not", async () => {
  for (const bytes of [FILE, ZIPPED]) {
    let ended = 0;
    async function* source(): AsyncGenerator<Uint8Array> {
      try {
        yield* chunked(bytes, 100);
      } finally {
        ended++;
      }
    }
    for await (const _ of readCapture(source())) break;
    expect(ended).toBe(1);
  }
});

/** Octets that the first `cut` of ZIPPED decompress to. */
function inflatedLength(cut: number): number {
  return gunzipSync(ZIPPED.subarray(0, cut), { finishFlush: constants.Z_SYNC_FLUSH }).length;
}

/** A hundred octets of xorshift32. */
function randomOctets(seed: number): Uint8Array {
  let state = seed + 1;
  return Uint8Array.from({ length: 100 }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 16;
  });
}
