/**
 * Datagrams larger than the MTU, sent as IPv4 fragments (RFC 791 §3.2) or IPv6 fragments (RFC 8200 §4.5).
 *
 * A datagram is a short prefix (the UDP header, checksum included) and a payload in the memory. Emission can
 * stop at any fragment when the sink is full and go on later: all state is the offset reached.
 */

import type { PacketSink } from "./ports.ts";
import type { Endpoint } from "./wire/address.ts";
import {
  emitIpv4,
  emitIpv6,
  FRAGMENT_HEADER,
  HOP_LIMIT,
  IPV4_HEADER,
  IPV6_HEADER,
  MORE_FRAGMENTS,
  Protocol,
} from "./wire/ip.ts";
import { write16, write32 } from "./wire/octets.ts";

export class Fragmenter {
  /** Fragments emitted. */
  fragments = 0;
  readonly #bytes: Uint8Array;
  readonly #mtu: number;
  #id: number;
  /** Octets of the running datagram that were emitted. */
  #offset = 0;

  /** Fragments go to at most `mtu` octets; `id` is the first identification. */
  constructor(bytes: Uint8Array, mtu: number, id: number) {
    this.#bytes = bytes;
    this.#mtu = mtu;
    this.#id = id | 0;
  }

  /**
   * Emits prefix and [start, end) as fragments. False: the sink is full; call again with the same datagram.
   * The prefix goes into the first fragment whole.
   */
  emit(
    src: Endpoint,
    dst: Endpoint,
    protocol: number,
    prefix: Uint8Array,
    start: number,
    end: number,
    sink: PacketSink,
  ): boolean {
    const bytes = this.#bytes;
    const isV4 = dst.isV4;
    const header = isV4 ? IPV4_HEADER : IPV6_HEADER + FRAGMENT_HEADER;
    const room = (this.#mtu - header) & ~7;
    const length = prefix.length + end - start;
    while (this.#offset < length) {
      const offset = this.#offset;
      const octets = Math.min(room, length - offset);
      const more = offset + octets < length;
      const prefixed = offset === 0 ? prefix.length : 0;
      const at = sink.reserve(header + prefixed);
      if (at < 0) return false;
      if (isV4) {
        const field = (offset >> 3) | (more ? MORE_FRAGMENTS : 0);
        emitIpv4(bytes, at, src, dst, protocol, HOP_LIMIT, 0, this.#id, field, header + octets);
      } else {
        const payload = FRAGMENT_HEADER + octets;
        emitIpv6(bytes, at, src, dst, Protocol.FRAGMENT, HOP_LIMIT, 0, payload);
        bytes[at + IPV6_HEADER] = protocol;
        bytes[at + IPV6_HEADER + 1] = 0;
        write16(bytes, at + IPV6_HEADER + 2, offset | (more ? 1 : 0));
        write32(bytes, at + IPV6_HEADER + 4, this.#id);
      }
      for (let i = 0; i < prefixed; i++) bytes[at + header + i] = prefix[i];
      const from = start + offset - (prefix.length - prefixed);
      sink.attach(from, from + octets - prefixed);
      sink.commit(0, 0, 0, -1);
      this.fragments++;
      this.#offset = offset + octets;
    }
    this.#offset = 0;
    this.#id = (this.#id + 1) | 0;
    return true;
  }
}
