/**
 * The other workers, as the stack of one sees them (Neighbours of src/stack/ports.ts): who has which flow stands in the
 * directory, packets travel in rings, one for each pair and direction.
 *
 * A reader is woken once for all packets that come before it reads: the writer that finds its flag down raises it, and
 * pings at the end of its batch.
 */

import { keyedHash } from "../stack/flow-table.ts";
import { Owner } from "../stack/ports.ts";
import type { Stack } from "../stack/stack.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { emitIp, type IpHeader, ipHeaderLength } from "../stack/wire/ip.ts";
import type { TunnelNeighbours } from "../tunnel.ts";
import { FlowDirectory } from "./flow-directory.ts";
import { PacketRing } from "./packet-ring.ts";
import type { SharedState } from "./shared-state.ts";

export class WorkerNeighbours implements TunnelNeighbours {
  readonly count: number;
  readonly directory: FlowDirectory;
  readonly #bytes: Uint8Array;
  readonly #own: number;
  readonly #secret: Uint32Array;
  /** By the worker at the other end; none to ourselves. */
  readonly #out: (PacketRing | null)[] = [];
  readonly #in: PacketRing[] = [];
  /** By worker: it was pinged, and has not read since. */
  readonly #pinged: Int32Array;
  /** By worker: something was written for it in this batch. */
  readonly #written: Uint8Array;
  readonly #ping: (worker: number) => void;
  readonly #words: Int32Array = new Int32Array(FRAGMENT_WORDS);
  #onArrival: () => void = () => {};
  /** The ring that was read first last time. */
  #next = 0;

  /** `bytes`: the memory of this worker. `ping`: wakes another, once for everything written before it reads. */
  constructor(state: SharedState, own: number, bytes: Uint8Array, ping: (worker: number) => void) {
    const { workers, secret } = state;
    this.count = workers;
    this.directory = new FlowDirectory(state.directory, secret, own, workers);
    this.#bytes = bytes;
    this.#own = own;
    this.#secret = secret;
    this.#pinged = new Int32Array(state.pinged);
    this.#written = new Uint8Array(workers);
    this.#ping = ping;
    for (let other = 0; other < workers; other++) {
      const rings = state.rings;
      this.#out.push(
        other === own ? null : new PacketRing(rings[own * workers + other] as SharedArrayBuffer),
      );
      if (other !== own) {
        this.#in.push(new PacketRing(rings[other * workers + own] as SharedArrayBuffer));
      }
    }
  }

  start(onArrival: () => void): void {
    this.#onArrival = onArrival;
  }

  /** We were pinged. */
  pinged(): void {
    this.#onArrival();
  }

  claim(src: Endpoint, dst: Endpoint): number {
    return this.directory.claim(src, dst);
  }

  find(src: Endpoint, dst: Endpoint): number {
    return this.directory.find(src, dst);
  }

  release(src: Endpoint, dst: Endpoint): void {
    this.directory.release(src, dst);
  }

  ownerOfFragment(ip: IpHeader): number {
    const words = this.#words;
    words[0] = ip.id;
    words[1] = ip.src.w0;
    words[2] = ip.src.w1;
    words[3] = ip.src.w2;
    words[4] = ip.src.w3;
    words[5] = ip.dst.w0;
    words[6] = ip.dst.w1;
    words[7] = ip.dst.w2;
    words[8] = ip.dst.w3;
    // Not the protocol: fragments of IPv6 but the first do not say it.
    const hash = keyedHash(
      words,
      FRAGMENT_WORDS,
      this.#secret[0] as number,
      this.#secret[1] as number,
    );
    const owner = (hash >>> 0) % this.count;
    return owner === this.#own ? Owner.OURS : owner;
  }

  handOver(owner: number, ip: IpHeader, flags: number, gsoSize: number): boolean {
    const ring = this.#out[owner];
    if (ring === null || ring === undefined) return false;
    // A reassembled datagram has no header in memory.
    const isWhole = ip.start >= 0;
    const from = isWhole ? ip.start : ip.payloadStart;
    const header = isWhole ? 0 : ipHeaderLength(ip.dst);
    const octets = ip.totalEnd - from;
    let at = ring.reserve(header + octets, flags, gsoSize);
    if (at < 0) return false;
    if (!isWhole) {
      at += emitIp(ring.bytes, at, ip.src, ip.dst, ip.protocol, ip.trafficClass, ip.id, octets);
    }
    copy(this.#bytes, from, ip.totalEnd, ring.bytes, at);
    ring.publish();
    this.#written[owner] = 1;
    return true;
  }

  /** Wakes those for whom something was written, unless they are about to read anyway. */
  notify(): void {
    const written = this.#written;
    for (let worker = 0; worker < written.length; worker++) {
      if (written[worker] === 0) continue;
      written[worker] = 0;
      if (Atomics.exchange(this.#pinged, worker, 1) === 0) this.#ping(worker);
    }
  }

  /**
   * Gives the stack a batch of what was handed over, copied to [start, end) of the memory, and ends it. The rings take
   * turns. True: there is more.
   */
  deliver(stack: Stack, start: number, end: number): boolean {
    if (Atomics.load(this.#pinged, this.#own) === 0) return false;
    Atomics.store(this.#pinged, this.#own, 0);
    const rings = this.#in;
    let at = start;
    let left = MAX_BATCH;
    let isMore = false;
    for (let i = 0; i < rings.length; i++) {
      const ring = rings[(this.#next + i) % rings.length] as PacketRing;
      for (let octets = ring.front(); octets > 0; octets = ring.front()) {
        if (left === 0 || at + octets > end) {
          isMore = true;
          break;
        }
        copy(ring.bytes, ring.start, ring.start + octets, this.#bytes, at);
        const { flags, gsoSize } = ring;
        ring.shift();
        stack.input(at, at + octets, flags, gsoSize, 0, 0);
        at = (at + octets + ALIGN - 1) & ~(ALIGN - 1);
        left--;
      }
    }
    this.#next = (this.#next + 1) % rings.length;
    if (left < MAX_BATCH) stack.endBatch();
    if (isMore) Atomics.store(this.#pinged, this.#own, 1);
    return isMore;
  }
}

function copy(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): void {
  // A view is garbage; for a short packet a loop is as fast.
  if (end - start > SHORT) to.set(from.subarray(start, end), at);
  else for (let i = start; i < end; i++, at++) to[at] = from[i] as number;
}

const FRAGMENT_WORDS = 9;
/** As many as the device gives at a time. */
const MAX_BATCH = 64;
const ALIGN = 64;
const SHORT = 128;
