/**
 * What the packets of a batch are about to need is read before the first of them is worked on.
 *
 * With very many flows a packet finds nothing of its flow in the caches, and waits for memory once for each object on its
 * way: hash slot, row of the table, connection, handler. A wait is some 200 ns, and while one packet is worked on nothing
 * else happens. Loads that do not depend on each other overlap: the same loads for all packets, in short loops, one kind
 * after another, cost a fraction of that. With few flows there is nothing to wait for, and the loops are not worth it.
 *
 * Nothing is decided here and nothing changes: a packet that is misread, or of no flow, costs a useless load.
 */

import { Endpoint } from "../wire/address.ts";
import { IPV4_HEADER, IPV6_HEADER, Protocol } from "../wire/ip.ts";
import { read16, read32 } from "../wire/octets.ts";
import { TCP_HEADER } from "../wire/tcp.ts";
import type { Connection } from "./connection.ts";
import type { TcpContext } from "./context.ts";

export class LookAhead {
  readonly #context: TcpContext;
  /** Of each packet of the batch that may be TCP: where it starts, and the index in the table (at first the hash). */
  readonly #starts: Int32Array = new Int32Array(MAX_PACKETS);
  readonly #indices: Int32Array = new Int32Array(MAX_PACKETS);
  #count = 0;
  #next = 0;
  readonly #src: Endpoint = new Endpoint();
  readonly #dst: Endpoint = new Endpoint();
  /** What was read, lest the reading be optimized away. */
  sum = 0;

  constructor(context: TcpContext) {
    this.#context = context;
  }

  /** `rows`: `count` packets as Stack.lookAhead has them. */
  read(rows: Int32Array, count: number, stride: number): void {
    this.#count = 0;
    const { bytes, connections, table } = this.#context;
    if (table.size < MIN_FLOWS) return;
    const starts = this.#starts;
    const indices = this.#indices;
    let packets = 0;
    for (let i = 0; i < count && packets < MAX_PACKETS; i++) {
      const start = rows[i * stride];
      if (!readPair(bytes, start, start + rows[i * stride + 1], this.#src, this.#dst)) continue;
      starts[packets] = start;
      indices[packets++] = table.hash(this.#src, this.#dst);
    }
    let sum = 0;
    for (let i = 0; i < packets; i++) sum ^= table.slot(indices[i]);
    for (let i = 0; i < packets; i++) {
      const index = table.guess(indices[i]);
      indices[i] = index;
      if (index < 0) continue;
      sum ^= table.row(index);
      if (connections[index] === null) sum++;
    }
    for (let i = 0; i < packets; i++) {
      const c = indices[i] < 0 ? null : connections[indices[i]];
      if (c !== null) sum ^= touch(c);
    }
    for (let i = 0; i < packets; i++) {
      const c = indices[i] < 0 ? null : connections[indices[i]];
      if (c?.handler?.onReadable !== undefined) sum++;
    }
    this.sum = sum;
    this.#count = packets;
    this.#next = 0;
  }

  /** The index that the packet at `start` is likely to have, or -1. Packets are asked for in the order they were given. */
  guess(start: number): number {
    while (this.#next < this.#count && this.#starts[this.#next] < start) this.#next++;
    const isNext = this.#next < this.#count && this.#starts[this.#next] === start;
    return isNext ? this.#indices[this.#next++] : -1;
  }
}

/** One word of each cache line that a segment in order needs: no two neighbours are more than 64 octets apart. */
function touch(c: Connection): number {
  let sum = c.pseudoSum ^ c.rcvAdv ^ c.readableOctets ^ c.sackReportsDue;
  sum ^= c.sndNxt ^ c.sndMss ^ c.tsOffset ^ c.limitedUntil;
  return c.isDraining ? ~sum : sum;
}

/** Puts the ends of a TCP packet without options of IP or extension headers into `src` and `dst`; false: it is none. */
function readPair(
  bytes: Uint8Array,
  start: number,
  end: number,
  src: Endpoint,
  dst: Endpoint,
): boolean {
  const first = bytes[start];
  let tcp = start + IPV4_HEADER;
  if (first === 0x45) {
    if (end < tcp + TCP_HEADER || bytes[start + 9] !== Protocol.TCP) return false;
    src.set(0, 0, 0xffff, read32(bytes, start + 12), read16(bytes, tcp));
    dst.set(0, 0, 0xffff, read32(bytes, start + 16), read16(bytes, tcp + 2));
    return true;
  }
  tcp = start + IPV6_HEADER;
  if (first >> 4 !== 6 || end < tcp + TCP_HEADER || bytes[start + 6] !== Protocol.TCP) return false;
  readV6(bytes, start + 8, src, read16(bytes, tcp));
  readV6(bytes, start + 24, dst, read16(bytes, tcp + 2));
  return true;
}

function readV6(bytes: Uint8Array, at: number, endpoint: Endpoint, port: number): void {
  endpoint.set(
    read32(bytes, at),
    read32(bytes, at + 4),
    read32(bytes, at + 8),
    read32(bytes, at + 12),
    port,
  );
}

/** With fewer flows the caches hold what is needed often enough. */
const MIN_FLOWS = 512;
/** Of a batch; the rest is met as it comes. */
const MAX_PACKETS = 64;
