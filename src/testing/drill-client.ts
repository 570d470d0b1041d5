/**
 * The client of a drill: its addresses, both ISNs, and the packets its lines stand for.
 */

import type { OptionSpec, SegmentSpec } from "./drill-script.ts";
import { icmpNumbers, matches, printSegment } from "./drill-segment.ts";
import { buildIcmp, buildTcp, TcpFlag, type TcpOption, type TcpPacket } from "./packet-builder.ts";
import { pattern, patternFault } from "./pattern.ts";

export interface DrillEnds {
  readonly client: string;
  readonly clientPort: number;
  readonly target: string;
  readonly targetPort: number;
}

export class DrillClient {
  readonly ends: DrillEnds;
  /** What the client's relative numbers count from. */
  isn: number;
  /** The stack's ISN, learnt from the SYN-ACK; null: its numbers are taken as they are. */
  peerIsn: number | null = null;
  #lastTsVal = 0;

  constructor(ends: DrillEnds, isn: number) {
    this.ends = ends;
    this.isn = isn;
  }

  /** Learns ISN and timestamp of a packet of the stack. */
  hear(packet: TcpPacket): void {
    if ((packet.flags & TcpFlag.SYN) !== 0) this.peerIsn ??= packet.seq;
    for (const option of packet.options) if (option.kind === "TS") this.#lastTsVal = option.value;
  }

  /** The packet of a `<` line. Octets before the first of the stream are as good as any others. */
  build(spec: SegmentSpec): Uint8Array {
    const offset = streamOffset(spec);
    return buildTcp({
      source: this.ends.client,
      destination: this.ends.target,
      sourcePort: this.ends.clientPort,
      destinationPort: this.ends.targetPort,
      seq: (this.isn + spec.seq) >>> 0,
      ack: spec.ack === null ? 0 : ((this.peerIsn ?? 0) + spec.ack) >>> 0,
      flags: spec.flags,
      trafficClass: spec.ecn ?? 0,
      window: spec.window ?? 512,
      urgent: spec.urgent ?? 0,
      options: (spec.options ?? []).map((option) => this.#option(option)),
      payload: spec.junk ? new Uint8Array(spec.octets).fill(0xee) : pattern(0, offset, spec.octets),
    });
  }

  /** An ICMP error of the client's host about a packet of the stack. */
  buildIcmp(reason: string, mtu: number, about: TcpPacket): Uint8Array {
    const [type, code] = icmpNumbers(reason, about.version);
    // RFC 792 quotes eight octets of payload, RFC 4443 §2.4 what fits 1,280.
    const body = buildTcp(about).subarray(0, about.version === 4 ? 28 : 1232);
    const { client, target } = this.ends;
    return buildIcmp({ source: client, destination: target, type, code, rest: mtu, body });
  }

  /** Whether `packet` is the one of the stack that `spec` names. */
  isNamed(packet: TcpPacket, spec: SegmentSpec): boolean {
    return (
      packet.flags === spec.flags &&
      packet.seq === ((this.peerIsn ?? 0) + spec.seq) >>> 0 &&
      packet.payload.length === spec.octets
    );
  }

  /** Why `packet` is not what the `>` line asks for; null: it is. `ownMss` is what the MTU leaves. */
  fault(spec: SegmentSpec, packet: TcpPacket, gso: number, ownMss: number): string | null {
    if (!matches(spec, packet, gso, this.peerIsn ?? 0, this.isn, ownMss)) return "";
    const { clientPort, targetPort } = this.ends;
    if (packet.sourcePort !== targetPort || packet.destinationPort !== clientPort) {
      return ` on ports ${packet.sourcePort} → ${packet.destinationPort}`;
    }
    const { payload } = packet;
    const fault = patternFault(1, streamOffset(spec), payload, 0, payload.length);
    return fault < 0 ? null : ` with a wrong octet ${fault}`;
  }

  /** The packet in the notation of the drill. */
  print(packet: TcpPacket, gso: number): string {
    return printSegment(packet, this.peerIsn ?? 0, this.isn, gso);
  }

  #option(option: OptionSpec): TcpOption {
    if (option.kind === "TS") {
      const echo = option.echo === "last" ? this.#lastTsVal : Number(option.echo);
      return { kind: "TS", value: Number(option.value), echo };
    }
    if (option.kind === "sack") {
      // SACK in an injected packet is about the stack's own octets.
      const isn = this.peerIsn ?? 0;
      const edge = (n: number): number => (isn + n) >>> 0;
      return { kind: "sack", blocks: option.blocks.map(([l, r]) => [edge(l), edge(r)] as const) };
    }
    return option.kind === "mss" || option.kind === "wscale"
      ? { kind: option.kind, value: Number(option.value) }
      : option;
  }
}

/** Octet 0 of a stream has the number 1; on a SYN it follows the SYN's own number. */
function streamOffset(spec: SegmentSpec): number {
  return (spec.flags & TcpFlag.SYN) !== 0 ? spec.seq : spec.seq - 1;
}
