/**
 * What the captured server did, as a script: it answers the SYN, sends octets, FIN or RST, each at its captured time
 * at the earliest and not before the octets that it had acknowledged by then have arrived upstream.
 *
 * The client's acknowledgements stand for what was not captured of the server: it acknowledges octets, so they were
 * sent, and zeros stand for them. In the same way its first acknowledgement stands for a SYN-ACK.
 */

import type { RefuseReason, SynAckProfile } from "../../stack/ports.ts";
import { ACK, FIN, RST, SYN } from "../../stack/wire/tcp.ts";
import { type Conversation, echoOf, type StreamPacket } from "./conversation.ts";
import { MAX_JUMP, OctetAssembly, streamOffset } from "./octet-assembly.ts";

/** What the server does. */
export type ServerDeed =
  | { readonly kind: "accept"; readonly profile: SynAckProfile }
  | { readonly kind: "refuse"; readonly reason: RefuseReason }
  /** The octets before `end` may go. */
  | { readonly kind: "octets"; readonly end: number }
  | { readonly kind: "fin" }
  | { readonly kind: "reset" };

/** When: `needs` octets have to have arrived upstream, `fed` packets of the client have to have been fed. */
export type ServerAct = ServerDeed & {
  /** Place in the order of time: that of the packet it was, or is inferred from. */
  readonly order: number;
  readonly at: number;
  readonly needs: number;
  readonly fed: number;
};

export interface ServerScript {
  readonly answer: "accepted" | "refused" | "none";
  /** The captured ISN of the server; null: nothing says it. */
  readonly isn: number | null;
  /** The server's stream, with zeros for what is missing. */
  readonly octets: Uint8Array;
  /** Octets that zeros stand for. */
  readonly missing: number;
  /** The highest acknowledgement of the client that makes sense: an offset in the stream, FIN counting as one. */
  readonly acknowledged: number;
  readonly hasFin: boolean;
  /** Timestamps the server sent. */
  readonly stamps: ReadonlySet<number>;
  /** The client's stream up to its first gap, and how much lies behind that. */
  readonly clientOctets: Uint8Array;
  readonly clientBehindGap: number;
  readonly acts: readonly ServerAct[];
}

export function serverScript(conversation: Conversation): ServerScript {
  return new Builder(conversation).build();
}

class Builder {
  readonly #packets: readonly StreamPacket[];
  readonly #conversation: Conversation;
  readonly #isn: number | null;
  /** Sequence number of the client's first octet. */
  readonly #clientBase: number;
  readonly #clientStream: OctetAssembly = new OctetAssembly();
  /** All that was captured of the server, and the part that the acts so far have let go. */
  readonly #captured: OctetAssembly = new OctetAssembly();
  readonly #released: OctetAssembly = new OctetAssembly();
  readonly #acts: ServerAct[] = [];
  /** Where FIN stands; -1: none was captured. */
  #fin = -1;
  /** The acts have come to it; they send it once they have sent what precedes it. */
  #finSeen = false;
  #finSent = false;
  /** Octets the acts have let go. */
  #sent = 0;
  #acknowledged = 0;
  #needs = 0;

  constructor(conversation: Conversation) {
    this.#conversation = conversation;
    this.#packets = conversation.packets;
    this.#isn = serverIsn(conversation.packets);
    const syn = this.#packets.find((p) => p.fromClient && (p.flags & SYN) !== 0);
    this.#clientBase = ((syn?.seq ?? 0) + 1) | 0;
  }

  build(): ServerScript {
    this.#collect();
    const end = this.#fin >= 0 ? this.#fin : Math.max(this.#captured.end, this.#acknowledged);
    const answer = this.#answer();
    if (answer === "accepted") this.#act(end);
    else if (answer === "refused") this.#refuse();
    this.#acts.sort((a, b) => a.order - b.order);
    const missing = this.#captured.fill(0, end);
    return {
      answer,
      isn: this.#isn,
      octets: this.#captured.octets.subarray(0, end),
      missing,
      acknowledged: this.#acknowledged,
      hasFin: this.#fin >= 0,
      stamps: new Set(
        this.#packets.filter((p) => !p.fromClient && p.hasTimestamps).map((p) => p.tsVal),
      ),
      clientOctets: this.#clientStream.octets,
      clientBehindGap: this.#clientStream.end - this.#clientStream.prefix,
      acts: this.#acts,
    };
  }

  /** Both streams, and how far the client acknowledges. */
  #collect(): void {
    for (const p of this.#packets) {
      if (p.fromClient) {
        const at = (p.seq + (p.flags & SYN ? 1 : 0)) | 0;
        const near = this.#clientStream.end;
        this.#clientStream.add(streamOffset(at, this.#clientBase, near), p.payload);
      } else if (this.#isn !== null) {
        const at = this.#serverOffset(p, this.#captured.end);
        this.#captured.add(at, p.payload);
        const end = at + p.payload.length;
        if ((p.flags & FIN) !== 0 && end <= this.#captured.end + 1) this.#fin = end;
      }
    }
    if (this.#isn === null) return;
    const fin = this.#fin;
    for (const p of this.#packets) {
      if (!p.fromClient || (p.flags & (ACK | RST)) !== ACK) continue;
      const at = streamOffset(p.ack, (this.#isn + 1) | 0, this.#acknowledged);
      const most = fin >= 0 ? fin + 1 : Math.max(this.#captured.end, this.#acknowledged + MAX_LEAP);
      if (at > this.#acknowledged && at <= most) this.#acknowledged = at;
    }
  }

  #answer(): ServerScript["answer"] {
    if (!this.#conversation.hasSyn) return "none";
    if (this.#isn !== null) return "accepted";
    const isReset = this.#packets.some((p) => !p.fromClient && (p.flags & RST) !== 0);
    return isReset || this.#conversation.refusals.length > 0 ? "refused" : "none";
  }

  /** The acts of a server that accepted; its stream has `end` octets. */
  #act(end: number): void {
    const lastWord = this.#packets.findLastIndex((p) => !p.fromClient && !(p.flags & RST));
    let fed = 0;
    let isAccepted = false;
    let isOver = false;
    for (const [index, p] of this.#packets.entries()) {
      if (p.fromClient) {
        if (!isAccepted && (p.flags & (SYN | ACK | RST)) === ACK) {
          isAccepted = true;
          this.#add(p, { kind: "accept", profile: this.#inferredProfile() });
        }
        this.#inferFrom(p, end);
        fed++;
        continue;
      }
      if ((p.flags & ACK) !== 0) this.#noteAck(p);
      if (!isAccepted && (p.flags & SYN) !== 0 && p.seq === this.#isn) {
        isAccepted = true;
        this.#add(p, { kind: "accept", profile: profileOf(p) });
      }
      this.#released.add(this.#serverOffset(p, this.#released.end), p.payload);
      if ((p.flags & FIN) !== 0) this.#finSeen = true;
      this.#release(p, end);
      // One that the server speaks on behind was injected, or answered an old segment.
      if (!isOver && (p.flags & RST) !== 0 && index > lastWord && isAccepted) {
        isOver = true;
        this.#add(p, { kind: "reset" }, fed);
      }
    }
  }

  /** Every answer to the SYN, whichever it was. */
  #refuse(): void {
    for (const p of this.#packets) {
      if (!p.fromClient && (p.flags & RST) !== 0) this.#add(p, { kind: "refuse", reason: "reset" });
    }
    for (const { packet, reason } of this.#conversation.refusals) {
      const { order, at } = packet;
      this.#acts.push({ order, at, needs: 0, fed: 0, kind: "refuse", reason });
    }
  }

  /** Octets that were never captured and that the client acknowledges now must have been sent. */
  #inferFrom(p: StreamPacket, end: number): void {
    if ((p.flags & (ACK | RST)) !== ACK || this.#isn === null) return;
    const at = streamOffset(p.ack, (this.#isn + 1) | 0, this.#released.prefix);
    if (at <= this.#released.prefix || at > end + 1) return;
    if (this.#released.fill(this.#released.prefix, Math.min(at, end), this.#captured) > 0) {
      this.#release(p, end);
    }
  }

  /** Lets go of what has become whole. */
  #release(p: StreamPacket, end: number): void {
    const now = Math.min(this.#released.prefix, end);
    if (now > this.#sent) this.#add(p, { kind: "octets", end: now });
    this.#sent = now;
    if (!this.#finSeen || this.#finSent || this.#fin !== now) return;
    this.#finSent = true;
    this.#add(p, { kind: "fin" });
  }

  /** The server's acknowledgements: clamped to what the capture has of the client, or nothing would ever do. */
  #noteAck(p: StreamPacket): void {
    const at = streamOffset(p.ack, this.#clientBase, this.#needs);
    if (at <= this.#needs || at > this.#needs + MAX_JUMP) return;
    this.#needs = Math.min(at, this.#clientStream.prefix);
  }

  #add(p: StreamPacket, deed: ServerDeed, fed: number = 0): void {
    const { order, at } = p.packet;
    const needs = deed.kind === "accept" || deed.kind === "refuse" ? 0 : this.#needs;
    this.#acts.push({ ...deed, order, at, needs, fed });
  }

  /** Without a SYN-ACK: what the client does behind it says what it offered; the rest is usual. */
  #inferredProfile(): SynAckProfile {
    const later = this.#packets.find((p) => p.fromClient && (p.flags & (SYN | ACK)) === ACK);
    const timestamps = later?.hasTimestamps ?? false;
    return { mss: 1460, windowScale: 7, sackPermitted: true, timestamps };
  }

  #serverOffset({ seq, flags }: StreamPacket, near: number): number {
    const at = (seq + (flags & SYN ? 1 : 0)) | 0;
    return streamOffset(at, ((this.#isn ?? 0) + 1) | 0, near);
  }
}

function profileOf(p: StreamPacket): SynAckProfile {
  return {
    mss: p.mss,
    windowScale: p.windowScale,
    sackPermitted: p.sackPermitted,
    timestamps: p.hasTimestamps,
  };
}

/** Octets that were not captured and one acknowledgement may stand for: more is no acknowledgement of this stream. */
const MAX_LEAP: number = 1 << 20;

/** By the SYN-ACK the client acknowledges, by any, or by the client's first acknowledgement. */
function serverIsn(packets: readonly StreamPacket[]): number | null {
  if (!packets.some((p) => p.fromClient && (p.flags & SYN) !== 0)) return null;
  const acks = packets.filter((p) => p.fromClient && (p.flags & (ACK | RST)) === ACK);
  const offers = packets.filter((p) => !p.fromClient && (p.flags & SYN) !== 0);
  const taken = offers.find(({ seq }) => acks[0]?.ack === ((seq + 1) | 0)) ?? offers[0];
  if (taken !== undefined) return taken.seq;
  return acks.length > 0 ? (acks[0].ack - 1) | 0 : null;
}

/** Whether the client echoes something the server sent: then it stands for something of ours. */
export function isEcho(script: ServerScript, p: StreamPacket): boolean {
  const echo = echoOf(p);
  return echo !== null && (script.stamps.size === 0 || script.stamps.has(echo));
}
