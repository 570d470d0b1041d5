/**
 * Packets to send, gathered by one flush: headers in a ring of the memory, payload by reference.
 *
 * The rows are laid out as the addon's tunWrite takes them (see TX_HEAD of src/native/binding.ts), so one
 * call writes the whole batch. The ring starts anew after every write: nothing outlives it.
 */

import { TX_HEAD } from "../native/binding.ts";
import { MAX_SLICES, type PacketSink } from "../stack/ports.ts";

/** Packets of one batch. */
export const TX_PACKETS = 256;
const MAX_HEADER = 256;
const ROWS = TX_PACKETS * (TX_HEAD + 2 * 4) + 2 * MAX_SLICES;

/** Octets of header ring a {@link TxBatch} needs. */
export const TX_HEADER_OCTETS: number = TX_PACKETS * MAX_HEADER;

export class TxBatch implements PacketSink {
  readonly rows: Int32Array = new Int32Array(ROWS);
  /** Committed packets. */
  packets = 0;
  /** Int32 used in `rows` by committed packets. */
  length = 0;
  readonly #start: number;
  readonly #end: number;
  #next: number;
  #slices = 0;

  /** Headers go to [start, end) of the memory, at least {@link TX_HEADER_OCTETS}. */
  constructor(start: number, end: number) {
    this.#start = start;
    this.#end = end;
    this.#next = start;
  }

  reserve(octets: number): number {
    const at = this.#next;
    const row = this.length;
    if (
      this.packets === TX_PACKETS ||
      at + octets > this.#end ||
      row + TX_HEAD + 2 * MAX_SLICES > ROWS
    ) {
      return -1;
    }
    this.rows[row] = at;
    this.rows[row + 1] = octets;
    this.#slices = 0;
    // Sixteen-octet alignment keeps headers of neighbouring packets off each other's words.
    this.#next = (at + octets + 15) & ~15;
    return at;
  }

  attach(start: number, end: number): void {
    const at = this.length + TX_HEAD + 2 * this.#slices;
    this.rows[at] = start;
    this.rows[at + 1] = end - start;
    this.#slices++;
  }

  commit(gsoType: number, gsoSize: number, csumStart: number, csumOffset: number): void {
    const rows = this.rows;
    const row = this.length;
    rows[row + 2] = gsoType;
    rows[row + 3] = gsoSize;
    rows[row + 4] = csumStart;
    rows[row + 5] = csumOffset;
    rows[row + 6] = this.#slices;
    this.length = row + TX_HEAD + 2 * this.#slices;
    this.packets++;
  }

  /** Forgets all packets; their headers and slices may be overwritten. */
  clear(): void {
    this.packets = 0;
    this.length = 0;
    this.#next = this.#start;
  }
}
