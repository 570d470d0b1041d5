/**
 * A UDP socket on the addon: datagrams of one size leave it as one message, which the kernel hands whole to a socket
 * that takes such (UDP_SEGMENT, UDP_GRO), as loopback and many a network card do.
 */

import type { MemoryLayout } from "../../src/memory.ts";
import { addon, DGRAM_RX_ROW, DGRAM_SLOT, DGRAM_TX_ROW } from "../../src/native/binding.ts";

const BATCH = 64;
const OCTETS = BATCH * DGRAM_SLOT;

export class SegmentingSocket {
  readonly fd: number;
  readonly #memory: MemoryLayout;
  /** At the end of the pages, which nobody else has come to. */
  readonly #start: number;

  constructor(memory: MemoryLayout) {
    this.#memory = memory;
    this.#start = memory.pagesEnd - OCTETS;
    this.fd = addon().udpOpen(loopback(0), false, 0, "");
  }

  /** Sends to a port of 127.0.0.1. */
  send(datagrams: readonly Uint8Array[], port: number): void {
    const rows = new Int32Array(datagrams.length * DGRAM_TX_ROW);
    let at = this.#start;
    datagrams.forEach((datagram, i) => {
      this.#memory.bytes.set(datagram, at);
      rows.set([0, 0, at, datagram.length, ...loopback(port), 0], i * DGRAM_TX_ROW);
      at += datagram.length;
    });
    const sent = addon().sendBatch(this.fd, rows, datagrams.length);
    if (sent !== datagrams.length) throw new Error(`${sent} of ${datagrams.length} were sent`);
  }

  /** What has come, datagram by datagram, and from which port. */
  take(): Array<{ readonly data: Buffer; readonly port: number }> {
    const rows = new Int32Array(BATCH * DGRAM_RX_ROW);
    const count = addon().recvBatch(this.fd, rows, this.#start, this.#start + OCTETS);
    const taken = [];
    for (let row = 0; row < count * DGRAM_RX_ROW; row += DGRAM_RX_ROW) {
      const [start = 0, length = 0, , , , , port = 0, , segment = 0] = rows.subarray(row);
      for (let at = start; at < start + length; at += segment || length) {
        const end = Math.min(at + (segment || length), start + length);
        taken.push({ data: Buffer.from(this.#memory.bytes.slice(at, end)), port });
      }
    }
    return taken;
  }

  close(): void {
    addon().close(this.fd);
  }
}

function loopback(port: number): Int32Array {
  return Int32Array.of(0, 0, 0xffff, 0x7f000001, port);
}
