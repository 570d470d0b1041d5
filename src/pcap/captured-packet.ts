/**
 * What the readers of both formats have in common: the packet, the port of a format, the bound, the error.
 */

import { TunnelError } from "../errors.ts";
import type { OctetQueue } from "./octet-queue.ts";

/** A packet as it was captured. */
export interface CapturedPacket {
  /** Nanoseconds since 1970-01-01 UTC; null where the capture has none (a Simple Packet Block). */
  readonly time: bigint | null;
  /** LINKTYPE_ value; those known here are in `LinkType`. */
  readonly linkType: number;
  /** Number of the interface within its section; 0 in pcap files. */
  readonly interface: number;
  /** From the link-layer header on. A view into a chunk of the source: copy what is kept for long. */
  readonly bytes: Uint8Array;
  /** Octets the packet had on the wire, as the capture says. */
  readonly originalLength: number;
  /** The capture has fewer octets than the packet had. */
  readonly truncated: boolean;
}

/** One file format. After an error it is not called again. */
export interface CaptureFormat {
  /** The next packet, or null when `input` does not hold a whole one yet. Throws ERR_CAPTURE at damage. */
  next(input: OctetQueue): CapturedPacket | null;
  /** True when the stream may end with what `next` has taken. */
  readonly isBetweenRecords: boolean;
}

/** The most octets of a packet, as in libpcap (MAXIMUM_SNAPLEN, pcap-int.h). What says more is damage. */
export const MAX_CAPTURED_OCTETS = 262_144;

/** The error of a capture that is wrong at `offset` (octets from its start, after decompression). */
export function captureError(offset: number, why: string, cause?: unknown): TunnelError {
  return new TunnelError(
    "ERR_CAPTURE",
    `cannot read the capture: ${why}, at octet ${offset}; the packets before that are good`,
    { cause },
  );
}

/** The error of a file that is no capture at all. */
export function notCaptureError(): TunnelError {
  return new TunnelError(
    "ERR_CAPTURE",
    "cannot read the capture: neither pcap nor pcapng, at octet 0; give one, plain or gzip",
  );
}
