/**
 * Judges every packet the stack writes: it parses, its checksums are right, and no flow breaks a promise of TCP.
 *
 * Per flow, as seen on the wire: SND.NXT never jumps, the octets are the upstream's, nothing is sent behind FIN,
 * acknowledgements and the right edge of the window never move left (RFC 9293 §3.8.6.2.1), what SACK reports is
 * there, and only new octets of those that speak ECN are ECT.
 */

import {
  buildIp,
  type DecodedPacket,
  decodePacket,
  type OtherPacket,
  patternFault,
  TcpFlag,
  type TcpPacket,
} from "../../src/testing/index.ts";

const ECT_0 = 2;

export class Finding extends Error {}

/** One connection as its packets show it; sequence numbers are unsigned. */
export interface SeenFlow {
  readonly client: string;
  readonly clientPort: number;
  readonly target: string;
  readonly targetPort: number;
  readonly iss: number;
  readonly irs: number;
  readonly shift: number;
  /** Both ends speak ECN. */
  readonly ecn: boolean;
  /** Behind the furthest octet sent. */
  sent: number;
  /** The furthest acknowledgement and right edge. */
  ack: number;
  edge: number;
  finSent: boolean;
}

export class Observer {
  /** By {@link flowKey}: the last connection that was answered. */
  readonly flows: Map<string, SeenFlow> = new Map();
  packets = 0;
  readonly #holds: (key: string, left: number, right: number) => boolean;
  /** Of the datagram whose fragments are being written. */
  #parts: Uint8Array[] = [];

  /** `holds`: whether the flow has all octets of [left, right) that it reports by SACK. */
  constructor(holds: (key: string, left: number, right: number) => boolean = () => true) {
    this.#holds = holds;
  }

  /** @throws Finding */
  watch(bytes: Uint8Array): void {
    this.packets++;
    let packet: DecodedPacket;
    try {
      packet = decodePacket(bytes);
    } catch (error) {
      throw new Finding(`a packet that cannot be read: ${(error as Error).message}`);
    }
    if (packet.faults.length > 0) throw new Finding(`a wrong packet: ${packet.faults.join(", ")}`);
    if (packet.kind === "other") this.#fragment(bytes, packet);
    if (packet.kind === "tcp" && (packet.flags & TcpFlag.RST) === 0) this.#tcp(packet);
  }

  /** The stack writes the fragments of a datagram in a row: they have to make a right one. */
  #fragment(bytes: Uint8Array, packet: OtherPacket): void {
    const v6 = packet.version === 6;
    if (v6 && packet.protocol !== 44) throw new Finding(`protocol ${packet.protocol}`);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const field = view.getUint16(v6 ? 42 : 6);
    const offset = v6 ? field & 0xfff8 : (field & 0x1fff) * 8;
    const more = (field & (v6 ? 1 : 0x2000)) !== 0;
    const payload = v6 ? packet.payload.subarray(8) : packet.payload;
    if (offset === 0) this.#parts = [];
    const before = this.#parts.reduce((sum, part) => sum + part.length, 0);
    if (offset !== before) throw new Finding(`a fragment at ${offset} behind ${before} octets`);
    if (more && payload.length % 8 !== 0) throw new Finding(`${payload.length} octets and more`);
    this.#parts.push(payload);
    if (more) return;
    if (offset === 0) throw new Finding("a fragment that is all of its datagram");
    const protocol = v6 ? bytes[40]! : packet.protocol;
    const whole = buildIp(packet, protocol, Buffer.concat(this.#parts));
    const { kind, faults } = decodePacket(whole);
    this.#parts = [];
    if (kind === "other") throw new Finding(`fragments of protocol ${protocol}`);
    if (faults.length > 0) throw new Finding(`a wrong datagram: ${faults.join(", ")}`);
  }

  #tcp(packet: TcpPacket): void {
    const key = flowKey(
      packet.destination,
      packet.destinationPort,
      packet.source,
      packet.sourcePort,
    );
    const known = this.flows.get(key);
    if ((packet.flags & TcpFlag.ACK) === 0) throw new Finding(`${key}: a segment without ACK`);
    if ((packet.flags & TcpFlag.SYN) !== 0) {
      if (known !== undefined && known.iss === packet.seq && (known.irs + 1) >>> 0 === packet.ack)
        return;
      const scale = packet.options.find((option) => option.kind === "wscale");
      if (packet.payload.length > 0) throw new Finding(`${key}: a SYN-ACK with octets`);
      if ((packet.trafficClass & 3) !== 0) throw new Finding(`${key}: a SYN-ACK that is ECT`);
      this.flows.set(key, {
        client: packet.destination,
        clientPort: packet.destinationPort,
        target: packet.source,
        targetPort: packet.sourcePort,
        iss: packet.seq,
        irs: (packet.ack - 1) >>> 0,
        shift: scale?.value ?? 0,
        ecn: (packet.flags & TcpFlag.ECE) !== 0,
        sent: (packet.seq + 1) >>> 0,
        ack: packet.ack,
        edge: (packet.ack + packet.window) >>> 0,
        finSent: false,
      });
      return;
    }
    if (known === undefined) throw new Finding(`${key}: a segment before any SYN-ACK`);
    this.#sending(key, known, packet);
    this.#receiving(key, known, packet);
  }

  #sending(key: string, flow: SeenFlow, packet: TcpPacket): void {
    const ahead = (packet.seq - flow.sent) | 0;
    const offset = (packet.seq - flow.iss - 1) | 0;
    if (ahead > 0) throw new Finding(`${key}: SND.NXT jumps by ${ahead}`);
    // A keep-alive stands one octet before what it asks about (RFC 9293 §3.8.4).
    if (offset < -1) throw new Finding(`${key}: octet ${offset} before the stream`);
    const { payload } = packet;
    const probe = Math.max(0, -offset);
    const fault = patternFault(1, offset + probe, payload, probe, payload.length);
    if (fault >= 0) throw new Finding(`${key}: octet ${fault} is not the upstream's`);
    const fin = packet.flags & TcpFlag.FIN;
    const end = ahead + payload.length + fin;
    // Only new octets are ECT (RFC 3168 §6.1.4 to §6.1.6); the one of a window probe comes again.
    const mark = packet.trafficClass & 3;
    if (mark !== 0 && (mark !== ECT_0 || !flow.ecn || payload.length === 0 || ahead < -1)) {
      throw new Finding(`${key}: ECN field ${mark} on ${payload.length} octets ${-ahead} back`);
    }
    if (end > 0) {
      if (flow.finSent) throw new Finding(`${key}: ${end} octets behind FIN`);
      flow.sent = (flow.sent + end) >>> 0;
    }
    if (fin !== 0) {
      if (end < 0) throw new Finding(`${key}: FIN before octets that were sent`);
      flow.finSent = true;
    } else if (flow.finSent && payload.length > 0 && end >= 0) {
      throw new Finding(`${key}: an octet in the place of FIN`);
    }
  }

  #receiving(key: string, flow: SeenFlow, packet: TcpPacket): void {
    const acked = (packet.ack - flow.ack) | 0;
    if (acked < 0) throw new Finding(`${key}: the acknowledgement moves left by ${-acked}`);
    flow.ack = packet.ack;
    const edge = (packet.ack + packet.window * 2 ** flow.shift) >>> 0;
    const opened = (edge - flow.edge) | 0;
    if (opened < 0) throw new Finding(`${key}: the window's right edge moves left by ${-opened}`);
    flow.edge = edge;
    const sack = packet.options.find((option) => option.kind === "sack");
    for (const [left, right] of sack?.blocks ?? []) {
      // The first may report a duplicate (RFC 2883 §4).
      if (((right - packet.ack) | 0) <= 0 && left === sack?.blocks[0]?.[0]) continue;
      const isHeld = ((left - packet.ack) | 0) > 0 && ((right - left) | 0) > 0;
      if (!isHeld || !this.#holds(key, left | 0, right | 0)) {
        throw new Finding(`${key}: SACK of octets that are not there`);
      }
    }
  }
}

export function flowKey(
  client: string,
  clientPort: number,
  target: string,
  targetPort: number,
): string {
  return `${client} ${clientPort} > ${target} ${targetPort}`;
}
