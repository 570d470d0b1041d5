/**
 * What is asked of the kernel for a device, and the MTU that follows from what it grants.
 *
 * With TSO packets cross the device as super-segments of up to 64 KiB at any MTU. Without, packets that large have the
 * same effect, and a device of our own may have the MTU for them: one packet costs what it costs whatever its size.
 */

import { Offload, type TunInfo, type TunOpenOptions } from "../native/binding.ts";

/** Upper bounds: all there is; checksums only; nothing, not even the header that tells of them (IFF_VNET_HDR). */
export const OFFLOADS = ["on", "checksum", "none"] as const;
export type OffloadName = (typeof OFFLOADS)[number];

export function offloadBounds(
  name: OffloadName,
): Required<Pick<TunOpenOptions, "offload" | "vnetHeader">> {
  switch (name) {
    case "on":
      return { offload: 0x7fff_ffff, vnetHeader: true };
    case "checksum":
      return { offload: Offload.CSUM, vnetHeader: true };
    case "none":
      return { offload: 0, vnetHeader: false };
  }
}

/** What paths beyond the tunnel have too, so that programs find nothing unusual. */
export const MTU_WITH_TSO = 1500;
/** The largest multiple of 16 below the largest IP packet. */
export const MTU_WITHOUT_TSO = 65_520;

/** The MTU of a device of our own, for which the user gave none. */
export function ownMtu(info: TunInfo): number {
  return (info.offload & Offload.TSO4) === 0 ? MTU_WITHOUT_TSO : MTU_WITH_TSO;
}
