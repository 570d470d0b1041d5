import { expect, test } from "vitest";
import { Offload, type TunInfo } from "../../src/native/binding.ts";
import { offloadBounds, ownMtu } from "../../src/tun/offload.ts";

const device = (offload: number): TunInfo => ({
  ...{ fd: -1, name: "tun0", created: true, multiQueue: false, mtu: 1500 },
  ...{ vnetHeader: offload !== 0, offload },
});

test("a device of ours has the MTU 1500 where the kernel grants TSO, with or without USO", () => {
  expect(ownMtu(device(0x6f))).toBe(1500);
  expect(ownMtu(device(0x0f))).toBe(1500);
});

test("a device of ours has the MTU 65,520 where the kernel grants checksums only, or nothing", () => {
  expect(ownMtu(device(Offload.CSUM))).toBe(65_520);
  expect(ownMtu(device(0))).toBe(65_520);
});

test("what is asked of the kernel: all it has, checksums only, not even the header", () => {
  const { offload, vnetHeader } = offloadBounds("on");
  expect([offload & 0x6f, vnetHeader]).toEqual([0x6f, true]);
  expect(offloadBounds("checksum")).toEqual({ offload: Offload.CSUM, vnetHeader: true });
  expect(offloadBounds("none")).toEqual({ offload: 0, vnetHeader: false });
});
