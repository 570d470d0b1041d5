/**
 * The TCP streams of a capture: which packets belong to one, and which side is the client.
 *
 * A SYN with another number begins a new stream of the same pair of endpoints. The client is who sent the SYN or got
 * the SYN-ACK; where neither was captured, who uses the higher port.
 */

import type { RefuseReason } from "../../stack/ports.ts";
import type { Endpoint } from "../../stack/wire/address.ts";
import { read32 } from "../../stack/wire/octets.ts";
import { ACK, parseTcp, SYN, TCP_HEADER, TcpSegment } from "../../stack/wire/tcp.ts";
import { endpointKey } from "./ends.ts";
import type { WholePacket } from "./whole-packet.ts";

/** A segment of a stream. Sequence numbers are int32. */
export interface StreamPacket {
  readonly packet: WholePacket;
  readonly fromClient: boolean;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  /** Empty for none. A view into the packet. */
  readonly payload: Uint8Array;
  /** Options as TcpSegment has them. */
  readonly mss: number;
  readonly windowScale: number;
  readonly sackPermitted: boolean;
  readonly hasTimestamps: boolean;
  readonly tsVal: number;
  /** Offsets of TSecr and of the edges of SACK blocks in the packet's upper layer; -1 and none if there are none. */
  readonly tsEcrAt: number;
  readonly sackEdgesAt: readonly number[];
}

export interface Conversation {
  readonly client: Endpoint;
  readonly server: Endpoint;
  /** In the order of time. */
  readonly packets: readonly StreamPacket[];
  /** It begins with the client's SYN. */
  readonly hasSyn: boolean;
  /** ICMP errors about its SYN, in the order of time. */
  readonly refusals: readonly Refusal[];
}

export interface Refusal {
  readonly packet: WholePacket;
  readonly reason: RefuseReason;
  /** The sequence number it quotes. */
  readonly seq: number;
}

/** Collects the segments of a capture. */
export class Conversations {
  readonly #drafts: Draft[] = [];
  readonly #current: Map<string, Draft> = new Map();
  readonly #segment: TcpSegment = new TcpSegment();

  /** Takes a TCP packet. False: it cannot be parsed. */
  add(packet: WholePacket): boolean {
    const s = this.#segment;
    const { upper } = packet;
    if (parseTcp(upper, 0, upper.length, s) !== 0) return false;
    const src = packet.src.clone();
    const dst = packet.dst.clone();
    src.port = s.srcPort;
    dst.port = s.dstPort;
    const key = pairKey(src, dst);
    let draft = this.#current.get(key);
    const isSyn = (s.flags & SYN) !== 0;
    if (draft === undefined || (isSyn && !(s.flags & ACK) && draft.isOther(src, s.seq))) {
      draft = new Draft(src, dst);
      this.#current.set(key, draft);
      this.#drafts.push(draft);
    }
    draft.add(packet, src, s);
    return true;
  }

  /** An ICMP error quotes the segment `refusal.seq` that `src` sent to `dst`. */
  refuse(src: Endpoint, dst: Endpoint, refusal: Refusal): void {
    this.#current.get(pairKey(src, dst))?.refusals.push({ ...refusal, src });
  }

  all(): Conversation[] {
    return this.#drafts.map((draft) => draft.finish());
  }
}

/** A stream while its client is not known. */
class Draft {
  readonly refusals: (Refusal & { readonly src: Endpoint })[] = [];
  readonly #one: Endpoint;
  readonly #other: Endpoint;
  readonly #packets: (StreamPacket & { readonly fromOne: boolean })[] = [];
  /** Sequence number of the first octet of either side. */
  #oneBase: number | null = null;
  #otherBase: number | null = null;

  constructor(one: Endpoint, other: Endpoint) {
    this.#one = one;
    this.#other = other;
  }

  /** A SYN of `src` with this number belongs to another stream. */
  isOther(src: Endpoint, seq: number): boolean {
    const base = src.equals(this.#one) ? this.#oneBase : this.#otherBase;
    return base !== null && base !== ((seq + 1) | 0);
  }

  add(packet: WholePacket, src: Endpoint, s: TcpSegment): void {
    const fromOne = src.equals(this.#one);
    const base = (s.seq + (s.flags & SYN ? 1 : 0)) | 0;
    if (fromOne) this.#oneBase ??= base;
    else this.#otherBase ??= base;
    this.#packets.push({ fromOne, ...streamPacket(packet, s) });
  }

  finish(): Conversation {
    const isOneClient = this.#isOneClient();
    const packets = this.#packets.map((p) => ({ ...p, fromClient: p.fromOne === isOneClient }));
    const client = isOneClient ? this.#one : this.#other;
    const syn = packets.find((p) => p.fromClient && (p.flags & (SYN | ACK)) === SYN);
    return {
      client,
      server: isOneClient ? this.#other : this.#one,
      packets,
      hasSyn: syn !== undefined,
      refusals: this.refusals.filter(({ src, seq }) => src.equals(client) && seq === syn?.seq),
    };
  }

  #isOneClient(): boolean {
    const syn = this.#packets.find(({ flags }) => (flags & (SYN | ACK)) === SYN);
    if (syn !== undefined) return syn.fromOne;
    const synAck = this.#packets.find(({ flags }) => (flags & SYN) !== 0);
    if (synAck !== undefined) return !synAck.fromOne;
    return this.#one.port >= this.#other.port;
  }
}

function streamPacket(packet: WholePacket, s: TcpSegment): StreamPacket {
  const { upper } = packet;
  return {
    packet,
    fromClient: false,
    seq: s.seq,
    ack: s.ack,
    flags: s.flags,
    payload: upper.subarray(s.payloadStart, s.payloadEnd),
    mss: s.mss,
    windowScale: s.windowScale,
    sackPermitted: s.sackPermitted,
    hasTimestamps: s.hasTimestamps,
    tsVal: s.tsVal,
    ...optionOffsets(upper, s.payloadStart),
  };
}

/** Where the numbers stand that a replay replaces. Options that end the list in the parser end it here. */
function optionOffsets(
  upper: Uint8Array,
  end: number,
): { tsEcrAt: number; sackEdgesAt: readonly number[] } {
  let tsEcrAt = -1;
  const sackEdgesAt: number[] = [];
  for (let at = TCP_HEADER; at < end && upper[at] !== 0; ) {
    if (upper[at] === 1) {
      at++;
      continue;
    }
    const length = at + 1 < end ? upper[at + 1] : 0;
    if (length < 2 || at + length > end) break;
    if (upper[at] === 8 && length === 10) tsEcrAt = at + 6;
    if (upper[at] === 5) {
      for (let edge = at + 2; edge + 4 <= at + length; edge += 4) sackEdgesAt.push(edge);
    }
    at += length;
  }
  return { tsEcrAt, sackEdgesAt };
}

/** TSecr of a packet, or null. */
export function echoOf(p: StreamPacket): number | null {
  return p.tsEcrAt < 0 ? null : read32(p.packet.upper, p.tsEcrAt);
}

function pairKey(a: Endpoint, b: Endpoint): string {
  const one = endpointKey(a);
  const other = endpointKey(b);
  return one < other ? `${one} ${other}` : `${other} ${one}`;
}
