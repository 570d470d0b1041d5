// @ts-check
// A batched UDP socket for load generators and targets, through a SOCKS5 association if there is one; and the packets that
// they tell each other.

import { connect } from "node:net";
import { DGRAM_RX_ROW, DGRAM_SLOT, DGRAM_TX_ROW, Epoll } from "../../dist/native/binding.js";
import { addressOf, allocate, bytes, native, poller, socksAddress, view } from "./sockets.js";

/** @typedef {import("./sockets.js").Place} Place */

export const BATCH = 64;
const RECEIVE_AT = allocate(BATCH * DGRAM_SLOT);
const RECEIVE_ROWS = new Int32Array(BATCH * DGRAM_RX_ROW);
/** Batches read at one wake-up. */
const MAX_BATCHES = 32;

/** A packet: kind, 3 octets of nothing, trial (u32), time sent in ms (f64), then three numbers (u32). */
export const Packet = { KIND: 0, TRIAL: 4, TIME: 8, NUMBERS: 16, OCTETS: 28 };
export const Kind = { DATA: 1, REPORT: 2, REPORTED: 3, START: 4, END: 5, QUESTION: 6 };

/** Later than this (ms) is lost: a queue that only grows must not pass for a rate that is carried. */
export const LATE = 25;

export class DatagramPort {
  rows = new Int32Array(BATCH * DGRAM_TX_ROW);
  /** Sender of the datagram that is being handed over, five int32. */
  from = new Int32Array(5);
  #fd;
  #id = -1;
  /** Nobody in particular: answers go to whoever asked. */
  #peerless;
  #header = 0;
  #headerOctets = 0;

  /** @param {number} fd @param {{ target: Place, relay: Place | null } | null} to null: no peer of its own */
  constructor(fd, to) {
    if (fd < 0) throw new Error(`cannot open a UDP socket: errno ${-fd}`);
    this.#fd = fd;
    this.#peerless = to === null;
    if (to === null) return;
    native.udpConnect(fd, addressOf(to.relay ?? to.target));
    if (to.relay !== null) {
      const header = [0, 0, 0, ...socksAddress(to.target)];
      this.#headerOctets = header.length;
      this.#header = allocate(header.length);
      bytes.set(header, this.#header);
    }
  }

  /**
   * A socket bound to a port of all addresses.
   *
   * @param {number} port
   */
  static bound(port) {
    const fd = native.udpOpen(addressOf({ host: "0.0.0.0", port }), false, 0, "");
    return new DatagramPort(fd, null);
  }

  /** @param {Place} target @param {Place | null} relay of a SOCKS association */
  static to(target, relay) {
    return new DatagramPort(native.udpOpen(null, false, 0, ""), { target, relay });
  }

  /** @param {(start: number, octets: number) => void} onDatagram @param {() => void} [onBatch] before each batch */
  watch(onDatagram, onBatch = () => {}) {
    const onPoll = () => this.#receive(onDatagram, onBatch);
    this.#id = poller.add(this.#fd, { onPoll }, Epoll.IN);
  }

  /**
   * Sends to the peer, or back to `from`. How many were taken, or -errno.
   *
   * @param {number} start
   * @param {number} octets
   */
  send(start, octets) {
    this.row(0, start, octets);
    return this.flush(1);
  }

  /** Sets row `i` of the next {@link flush}. @param {number} i @param {number} start @param {number} octets */
  row(i, start, octets) {
    const at = i * DGRAM_TX_ROW;
    const { rows, from } = this;
    rows[at] = this.#header;
    rows[at + 1] = this.#headerOctets;
    rows[at + 2] = start;
    rows[at + 3] = octets;
    // All zero where the socket has a peer.
    rows.set(from, at + 4);
  }

  /** @param {number} count */
  flush(count) {
    return native.sendBatch(this.#fd, this.rows, count);
  }

  close() {
    if (this.#id >= 0) poller.remove(this.#id, this.#fd);
    this.#id = -1;
    native.close(this.#fd);
  }

  /** @param {(start: number, octets: number) => void} onDatagram @param {() => void} onBatch */
  #receive(onDatagram, onBatch) {
    const end = RECEIVE_AT + BATCH * DGRAM_SLOT;
    for (let batch = 0; batch < MAX_BATCHES; batch++) {
      const count = native.recvBatch(this.#fd, RECEIVE_ROWS, RECEIVE_AT, end);
      if (count <= 0) return;
      onBatch();
      for (let i = 0; i < count; i++) {
        const at = i * DGRAM_RX_ROW;
        const start = /** @type {number} */ (RECEIVE_ROWS[at]);
        const stop = start + /** @type {number} */ (RECEIVE_ROWS[at + 1]);
        if (this.#peerless) this.from.set(RECEIVE_ROWS.subarray(at + 2, at + 7));
        // What the kernel has joined (UDP_GRO) are datagrams of this size each, the last may be shorter.
        const size = RECEIVE_ROWS[at + 8] || stop - start;
        for (let next = start; next < stop; next += size) {
          if (this.#id < 0) return;
          const octets = Math.min(size, stop - next);
          onDatagram(next + this.#headerOctets, octets - this.#headerOctets);
        }
      }
      if (count < BATCH) return;
    }
  }
}

/**
 * Opens a SOCKS5 UDP association, which lives as long as this process.
 *
 * @param {Place} socks
 * @returns {Promise<Place>} the relay
 */
export function associate(socks) {
  return new Promise((resolve, reject) => {
    const control = connect({ host: socks.host, port: socks.port, noDelay: true });
    let greeted = false;
    control.on("error", reject);
    control.on("connect", () => control.write(Uint8Array.of(5, 1, 0)));
    control.on("data", (reply) => {
      if (!greeted) {
        greeted = true;
        control.write(Uint8Array.of(5, 3, 0, 1, 0, 0, 0, 0, 0, 0));
        return;
      }
      if (reply[1] !== 0) return reject(new Error(`UDP ASSOCIATE: ${reply[1]}`));
      const host = [...reply.subarray(4, 8)].join(".");
      control.unref();
      resolve({ host: host === "0.0.0.0" ? socks.host : host, port: reply.readUInt16BE(8) });
    });
  });
}

/**
 * Writes a packet at `at`.
 *
 * @param {number} at
 * @param {number} kind
 * @param {number} trial
 * @param {number[]} numbers up to three
 */
export function writePacket(at, kind, trial, ...numbers) {
  bytes[at + Packet.KIND] = kind;
  view.setUint32(at + Packet.TRIAL, trial);
  for (const [i, number] of numbers.entries()) {
    view.setUint32(at + Packet.NUMBERS + 4 * i, number);
  }
}
