import { describe, expect, test } from "vitest";
import { mapMemory } from "../../src/memory.ts";
import { addon } from "../../src/native/binding.ts";

const native = addon();
const MIB = 1 << 20;

describe("the memory of an environment", () => {
  test("sizes that no int32 offset can reach, and nonsense, are refused", () => {
    for (const octets of [0, -1, Number.NaN, 2 ** 31, Number.POSITIVE_INFINITY]) {
      expect(() => native.reserve(octets)).toThrow(
        expect.objectContaining({ code: "EINVAL", syscall: "reserve", errno: 22 }),
      );
    }
  });

  test("is zero-filled, resident only where touched, and given back by release", () => {
    const bytes = new Uint8Array(native.reserve(256 * MIB));
    expect(bytes.length).toBe(256 * MIB);
    expect(native.resident()).toBe(0);
    bytes.fill(7, 0, 8 * MIB);
    expect(native.resident()).toBe(8 * MIB);

    native.release(0, 4 * MIB);
    expect(native.resident()).toBe(4 * MIB);
    expect(bytes[4 * MIB]).toBe(7);
    expect(bytes[4 * MIB - 1]).toBe(0);
  });

  test("release gives back only whole pages inside the range", () => {
    const before = native.resident();
    native.release(5 * MIB + 1, 5 * MIB + 4095);
    native.release(5 * MIB + 1, 5 * MIB + 2 * 4096 - 1);
    expect(native.resident()).toBe(before);
    native.release(5 * MIB + 1, 5 * MIB + 2 * 4096);
    expect(native.resident()).toBe(before - 4096);
  });

  test("release ignores what lies outside", () => {
    const before = native.resident();
    native.release(-4096, 4 * MIB);
    native.release(0, 257 * MIB);
    native.release(8 * MIB, 0);
    native.release(2 ** 31, 2 ** 32);
    expect(native.resident()).toBe(before);
  });

  test("a second reserve throws", () => {
    expect(() => native.reserve(MIB)).toThrow(
      expect.objectContaining({ code: "EEXIST", syscall: "reserve" }),
    );
  });

  test("what a user reads of a refusal says what failed, why and what to do", () => {
    expect(() => mapMemory(native)).toThrow(
      expect.objectContaining({
        name: "TunnelError",
        code: "ERR_MEMORY",
        message:
          "cannot reserve 1024 MiB of address space: this thread has its memory already; use another Worker for another session",
      }),
    );
  });

  test("nofile names a soft limit of the parent within our hard limit", () => {
    const { soft, hard } = native.nofile();
    expect(soft).toBeGreaterThan(0);
    expect(hard).toBeGreaterThanOrEqual(1024);
  });
});
