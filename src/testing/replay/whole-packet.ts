/**
 * The IP packets of a capture as a replay gives them to a stack: whole, with room for other numbers in them.
 *
 * Snapped packets are filled up with zeros to the length their header says. Fragments wait for each other and make
 * one packet, which leaves in the pieces it came in. Checksums are put right when a packet is finished: captures of
 * a sender that leaves them to its device have none. What cannot be parsed stays as it was captured.
 */

import { Endpoint } from "../../stack/wire/address.ts";
import { complement, pseudoHeaderSum, sumOctets } from "../../stack/wire/checksum.ts";
import { IPV4_HEADER, IPV6_HEADER, IpHeader, Protocol, parseIp } from "../../stack/wire/ip.ts";
import { read16, write16, write32 } from "../../stack/wire/octets.ts";

interface Piece {
  readonly bytes: Uint8Array;
  /** Where its part of the upper layer begins, and which part that is. */
  readonly dataStart: number;
  readonly offset: number;
  readonly length: number;
}

export class WholePacket {
  /** Number in the capture, from 1; of fragments that of the last. */
  readonly frame: number;
  /** Milliseconds since the first packet of the capture. */
  readonly at: number;
  /** Place in the order of time. */
  readonly order: number;
  /** -1: it cannot be parsed, or fragments are missing. */
  readonly protocol: number;
  /** Without ports. */
  readonly src: Endpoint = new Endpoint();
  readonly dst: Endpoint = new Endpoint();
  /** From the upper layer's header to the end of the packet: write to it before {@link WholePacket.finish}. */
  readonly upper: Uint8Array;
  /** Its end is not in the capture. */
  readonly isCut: boolean;
  readonly #pieces: readonly Piece[];

  constructor(
    pieces: readonly Piece[],
    frame: number,
    at: number,
    order: number,
    ip: IpHeader | null,
    isCut: boolean,
  ) {
    this.#pieces = pieces;
    this.frame = frame;
    this.at = at;
    this.order = order;
    this.isCut = isCut;
    this.protocol = ip === null ? -1 : ip.protocol;
    if (ip !== null) {
      this.src.copy(ip.src);
      this.dst.copy(ip.dst);
    }
    this.upper = join(pieces);
  }

  /** The packets to be given to the stack, one or the fragments. */
  get packets(): Uint8Array[] {
    return this.#pieces.map(({ bytes }) => bytes);
  }

  /**
   * Puts addresses and checksums in. `checksumAt`: of the upper layer's field, over `length` octets; -1: there is
   * none.
   */
  finish(src: Endpoint, dst: Endpoint, checksumAt: number, length: number): void {
    const { upper } = this;
    if (checksumAt >= 0) {
      const pseudo = pseudoHeaderSum(src, dst, this.protocol, length);
      write16(upper, checksumAt, 0);
      const sum = complement(sumOctets(upper, 0, length, pseudo));
      write16(upper, checksumAt, sum === 0 && this.protocol === Protocol.UDP ? 0xffff : sum);
    }
    for (const { bytes, dataStart, offset, length } of this.#pieces) {
      if (this.#pieces.length > 1) bytes.set(upper.subarray(offset, offset + length), dataStart);
      if (bytes[0] >> 4 === 4) {
        write32(bytes, 12, src.w3);
        write32(bytes, 16, dst.w3);
        mendHeader(bytes);
      } else {
        putAddress(bytes, 8, src);
        putAddress(bytes, 24, dst);
      }
    }
  }
}

/** Makes whole packets of captured ones. */
export class PacketAssembler {
  readonly #ip: IpHeader = new IpHeader();
  readonly #fragments: Map<string, Fragments> = new Map();

  /** Takes an IP packet, which is copied. null: it waits for other fragments. The rest as {@link WholePacket} has it. */
  add(payload: Uint8Array, frame: number, at: number, order: number): WholePacket | null {
    const ip = this.#ip;
    const bytes = filledUp(payload);
    if (parseIp(bytes, 0, bytes.length, ip) !== 0) {
      const raw = { bytes: payload.slice(), dataStart: payload.length, offset: 0, length: 0 };
      return new WholePacket([raw], frame, at, order, null, false);
    }
    const piece = {
      bytes: bytes.subarray(0, ip.totalEnd),
      dataStart: ip.payloadStart,
      offset: ip.fragmentOffset,
      length: ip.totalEnd - ip.payloadStart,
    };
    const isCut = ip.totalEnd > payload.length;
    if (!ip.isFragment) return new WholePacket([piece], frame, at, order, ip, isCut);
    const key = [ip.src.w0, ip.src.w1, ip.src.w2, ip.src.w3, ip.dst.w0, ip.dst.w1, ip.dst.w2]
      .concat(ip.dst.w3, ip.id, ip.protocol)
      .join();
    let fragments = this.#fragments.get(key);
    if (fragments === undefined) {
      fragments = { pieces: [], total: -1, isCut: false, frame, at, order };
      this.#fragments.set(key, fragments);
    }
    Object.assign(fragments, { frame, at, order, isCut: fragments.isCut || isCut });
    fragments.pieces.push(piece);
    if (!ip.moreFragments) fragments.total = piece.offset + piece.length;
    if (!isComplete(fragments)) return null;
    this.#fragments.delete(key);
    return new WholePacket(fragments.pieces, frame, at, order, ip, fragments.isCut);
  }

  /** What still waits for fragments, unparsed. */
  rest(): WholePacket[] {
    const rest = [...this.#fragments.values()].map(
      ({ pieces, frame, at, order, isCut }) =>
        new WholePacket(pieces, frame, at, order, null, isCut),
    );
    this.#fragments.clear();
    return rest;
  }
}

interface Fragments {
  readonly pieces: Piece[];
  /** Octets of the upper layer; -1: the last fragment has not come. */
  total: number;
  isCut: boolean;
  frame: number;
  at: number;
  order: number;
}

function isComplete({ pieces, total }: Fragments): boolean {
  if (total < 0) return false;
  let end = 0;
  for (const piece of [...pieces].sort((a, b) => a.offset - b.offset)) {
    if (piece.offset > end) return false;
    end = Math.max(end, piece.offset + piece.length);
  }
  return end >= total;
}

/** The upper layer: of one piece a view into it. */
function join(pieces: readonly Piece[]): Uint8Array {
  if (pieces.length === 1) return pieces[0].bytes.subarray(pieces[0].dataStart);
  const end = Math.max(0, ...pieces.map(({ offset, length }) => offset + length));
  const upper = new Uint8Array(end);
  // The first copy counts, as in the stack.
  for (const { bytes, dataStart, offset } of [...pieces].reverse()) {
    upper.set(bytes.subarray(dataStart), offset);
  }
  return upper;
}

/** A copy of the length its header says, with a right IPv4 header checksum. */
function filledUp(payload: Uint8Array): Uint8Array {
  const isV4 = payload[0] >> 4 === 4;
  const header = isV4 ? IPV4_HEADER : IPV6_HEADER;
  if (payload.length < header) return payload.slice();
  const said = isV4 ? read16(payload, 2) : IPV6_HEADER + read16(payload, 4);
  const bytes = new Uint8Array(Math.max(said, payload.length));
  bytes.set(payload);
  if (isV4) mendHeader(bytes);
  return bytes;
}

function mendHeader(bytes: Uint8Array): void {
  write16(bytes, 10, 0);
  write16(bytes, 10, complement(sumOctets(bytes, 0, Math.min((bytes[0] & 15) << 2, bytes.length))));
}

function putAddress(bytes: Uint8Array, at: number, address: Endpoint): void {
  write32(bytes, at, address.w0);
  write32(bytes, at + 4, address.w1);
  write32(bytes, at + 8, address.w2);
  write32(bytes, at + 12, address.w3);
}
