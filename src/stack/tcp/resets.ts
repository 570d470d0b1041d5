/**
 * RSTs in answer to segments of no connection (RFC 9293 §3.10.7.1), waiting for flush.
 */

import type { PacketSink } from "../ports.ts";
import type { StackStats } from "../stats.ts";
import { Endpoint } from "../wire/address.ts";
import { complement, pseudoHeaderSum, sumOctets } from "../wire/checksum.ts";
import { emitIp, ipHeaderLength, Protocol } from "../wire/ip.ts";
import { write16 } from "../wire/octets.ts";
import { emitTcp, TCP_CHECKSUM, TCP_HEADER } from "../wire/tcp.ts";

/** RSTs that wait for one flush. */
export const MAX_RESETS = 256;

export class ResetQueue {
  readonly #bytes: Uint8Array;
  readonly #stats: StackStats;
  readonly #src: Endpoint[] = [];
  readonly #dst: Endpoint[] = [];
  readonly #seq: Int32Array = new Int32Array(MAX_RESETS);
  readonly #ack: Int32Array = new Int32Array(MAX_RESETS);
  readonly #flags: Uint8Array = new Uint8Array(MAX_RESETS);
  #count = 0;
  #sent = 0;

  constructor(bytes: Uint8Array, stats: StackStats) {
    this.#bytes = bytes;
    this.#stats = stats;
    for (let i = 0; i < MAX_RESETS; i++) {
      this.#src.push(new Endpoint());
      this.#dst.push(new Endpoint());
    }
  }

  /** RSTs wait for flush. */
  get isDirty(): boolean {
    return this.#count > 0;
  }

  /** Queues an RST from `src` to `dst` with these flags. A full queue drops it, counted. */
  add(src: Endpoint, dst: Endpoint, seq: number, ack: number, flags: number): void {
    if (this.#count === MAX_RESETS) {
      this.#stats.tcpResetsDropped++;
      return;
    }
    const entry = this.#count++;
    this.#src[entry].copy(src);
    this.#dst[entry].copy(dst);
    this.#seq[entry] = seq;
    this.#ack[entry] = ack;
    this.#flags[entry] = flags;
  }

  /** Emits what waits, whole checksums included. False: the sink is full; write it and call again. */
  flush(sink: PacketSink): boolean {
    for (; this.#sent < this.#count; this.#sent++) {
      const entry = this.#sent;
      if (
        !emitReset(
          this.#bytes,
          this.#src[entry],
          this.#dst[entry],
          this.#seq[entry],
          this.#ack[entry],
          this.#flags[entry],
          sink,
        )
      ) {
        return false;
      }
      this.#stats.tcpResetsOut++;
    }
    this.#count = 0;
    this.#sent = 0;
    return true;
  }
}

/** Emits an RST without options. False: the sink is full. */
export function emitReset(
  bytes: Uint8Array,
  src: Endpoint,
  dst: Endpoint,
  seq: number,
  ack: number,
  flags: number,
  sink: PacketSink,
): boolean {
  const ipLength = ipHeaderLength(dst);
  const at = sink.reserve(ipLength + TCP_HEADER);
  if (at < 0) return false;
  emitIp(bytes, at, src, dst, Protocol.TCP, 0, 0, TCP_HEADER);
  const tcp = at + ipLength;
  emitTcp(bytes, tcp, src.port, dst.port, seq, ack, TCP_HEADER, flags, 0, 0);
  const pseudo = pseudoHeaderSum(src, dst, Protocol.TCP, TCP_HEADER);
  const sum = sumOctets(bytes, tcp, tcp + TCP_HEADER, pseudo);
  write16(bytes, tcp + TCP_CHECKSUM, complement(sum));
  sink.commit(0, 0, 0, -1);
  return true;
}
