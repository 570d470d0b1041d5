/**
 * The captures beside the project, with what tshark makes of them. They are not part of it: without them a
 * test says so.
 */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { CapturedPacket } from "../../src/pcap/captured-packet.ts";
import { readCaptureFile } from "../../src/pcap/read-capture.ts";

const FOLDER = join(import.meta.dirname, "../../../shared/pcaps");

export const hasCorpus: boolean = existsSync(FOLDER);
export const NO_CORPUS = `no captures in ${FOLDER}: reader and replay are tested against captures of our own only`;

export interface Truth {
  readonly format: { readonly kind: string; readonly endian: string; readonly resolution: string };
  readonly packets: {
    readonly total: number;
    readonly ip4: number;
    readonly ip6: number;
    readonly other: number;
    readonly l4: Record<string, number>;
    readonly ip_fragments?: number;
    readonly snapped?: number;
  };
  readonly reassembled: {
    readonly count: number;
    readonly fragment_errors: Record<string, number>;
  };
  readonly checksums: { readonly ip?: { readonly bad?: number } };
  /** `streams` has the first 300 of them. */
  readonly tcp: {
    readonly stream_count: number;
    readonly streams: readonly TruthStream[];
    readonly flags?: Record<string, number>;
    readonly options?: Record<string, number>;
    readonly mss?: Record<string, number>;
    readonly wscale?: Record<string, number>;
  };
  readonly udp: { readonly flows: Record<string, [number, number]> };
}

export interface TruthStream {
  readonly stream: number;
  readonly first_frame: number;
  readonly packets: number;
  readonly ok: boolean;
  readonly tunnelled?: boolean;
  readonly a: TruthSide;
  readonly b: TruthSide;
}

export interface TruthSide {
  readonly addr: string;
  readonly port: number;
  readonly bytes: number;
  readonly sha256: string | null;
}

/** `folder/name` of every capture; those with ground truth, or those in malformed/. */
export function captures(withTruth: boolean): string[] {
  if (!hasCorpus) return [];
  return readdirSync(FOLDER, { recursive: true, encoding: "utf8" })
    .filter((name) => /\.pcap(ng)?$/.test(name))
    .filter((name) => name.startsWith("malformed/") !== withTruth)
    .sort();
}

export function capturePath(name: string): string {
  return join(FOLDER, name);
}

export function truthOf(name: string): Truth {
  return JSON.parse(readFileSync(`${capturePath(name)}.truth.json`, "utf8")) as Truth;
}

export async function packetsOf(name: string): Promise<CapturedPacket[]> {
  const packets: CapturedPacket[] = [];
  for await (const packet of readCaptureFile(capturePath(name))) packets.push(packet);
  return packets;
}
