/**
 * The layout of a worker's one memory: rx arena | header ring | scratch | datagrams | pages.
 *
 * The addon maps it (reserved, touched pages only cost memory); tests use a plain Uint8Array.
 */

import { TunnelError } from "./errors.ts";
import type { Addon, NativeError } from "./native/binding.ts";
import type { StackMemory } from "./stack/ports.ts";
import { TX_HEADER_OCTETS } from "./tun/batch.ts";

const PAGE = 65536;
/** One batch of TUN packets: 64 packets rarely exceed it; the reader stops when less than 66 KiB is left. */
const RX_OCTETS = 32 * PAGE;
const HEADER_OCTETS: number = Math.ceil(TX_HEADER_OCTETS / PAGE) * PAGE;
const SCRATCH_OCTETS = 4 * PAGE;
/** The addon gives every datagram of a batch a slot of 65 KiB: room for two full batches a turn. Untouched pages cost nothing. */
const DATAGRAM_OCTETS = 160 * PAGE;

/** Octets reserved by default: address space, not memory. */
export const MEMORY_OCTETS: number = 1 << 30;
/** The same for a worker that has the built-in server too. All offsets are int32. */
export const MEMORY_OCTETS_WITH_SERVER: number = 2 ** 31 - PAGE;

/** A bump allocator over a region, emptied at the end of every turn. */
export class Arena {
  readonly start: number;
  readonly end: number;
  /** The next free octet. */
  next: number;

  constructor(start: number, end: number) {
    this.start = start;
    this.end = end;
    this.next = start;
  }

  /** An 8-octet aligned offset of `octets` octets valid until `clear`; -1 when full. */
  take(octets: number): number {
    const at = this.next;
    if (at + octets > this.end) return -1;
    this.next = (at + octets + 7) & ~7;
    return at;
  }

  clear(): void {
    this.next = this.start;
  }
}

export interface MemoryLayout extends StackMemory {
  readonly rxStart: number;
  readonly rxEnd: number;
  readonly headersStart: number;
  readonly headersEnd: number;
  /** For one system call at a time: handshakes, the built-in server's copies. Nothing survives a call. */
  readonly scratchStart: number;
  readonly scratchEnd: number;
  /** Datagrams received from upstream, and headers of datagrams to send: valid to the end of the turn. */
  readonly datagrams: Arena;
}

/**
 * Reserves the memory of this worker in the addon. Once per worker.
 *
 * @throws TunnelError ERR_MEMORY.
 */
export function mapMemory(addon: Addon, octets: number = MEMORY_OCTETS): MemoryLayout {
  const bytes = new Uint8Array(reserve(addon, octets));
  return layout(bytes, (start, end) => addon.release(start, end));
}

function reserve(addon: Addon, octets: number): ArrayBuffer {
  try {
    return addon.reserve(octets);
  } catch (error) {
    const cause = error as NativeError;
    const what = `cannot reserve ${Math.ceil(octets / 2 ** 20)} MiB of address space`;
    throw new TunnelError(
      "ERR_MEMORY",
      cause.code === "EEXIST"
        ? `${what}: this thread has its memory already; use another Worker for another session`
        : `${what}: ${cause.code}; raise \`ulimit -v\`, or allow overcommit (sysctl vm.overcommit_memory)`,
      { cause },
    );
  }
}

/** Divides the pages: the first part has `octets` of them, the second the rest; all other regions are common. */
export function splitPages(
  whole: MemoryLayout,
  octets: number,
): readonly [MemoryLayout, MemoryLayout] {
  const middle = whole.pagesStart + Math.floor(octets / PAGE) * PAGE;
  return [
    { ...whole, pagesEnd: middle },
    { ...whole, pagesStart: middle },
  ];
}

/** The same layout over ordinary memory (tests, embedding without the addon). */
export function plainMemory(octets: number = 64 << 20): MemoryLayout {
  return layout(new Uint8Array(octets), () => {});
}

function layout(bytes: Uint8Array, released: (start: number, end: number) => void): MemoryLayout {
  const headersStart = RX_OCTETS;
  const scratchStart = headersStart + HEADER_OCTETS;
  const datagramsStart = scratchStart + SCRATCH_OCTETS;
  const pagesStart = datagramsStart + DATAGRAM_OCTETS;
  return {
    bytes,
    rxStart: 0,
    rxEnd: RX_OCTETS,
    headersStart,
    headersEnd: scratchStart,
    scratchStart,
    scratchEnd: datagramsStart,
    datagrams: new Arena(datagramsStart, pagesStart),
    pagesStart,
    pagesEnd: Math.floor(bytes.length / PAGE) * PAGE,
    released,
  };
}
