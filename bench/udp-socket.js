// A UDP socket on the addon, in batches, and the messages of bench/udp.js.
//
// A message begins with six words: kind, run, and four numbers; the rest is padding.

import { addon, DGRAM_RX_ROW, DGRAM_SLOT, DGRAM_TX_ROW, Epoll } from "../dist/native/binding.js";
import { Poller } from "../dist/native/poller.js";

/** DATA is counted, FLOOD asks for DATA (size, rate, ms, gso), ECHO comes back, REPORT asks how much DATA came. */
export const Kind = { DATA: 1, FLOOD: 2, ECHO: 3, REPORT: 4 };
/** The shortest message. */
export const HEADER = 24;
const BATCH = 64;
const MAX_MESSAGE = 2048;
/** Between batches of a paced sender, ms: the burst of a whole millisecond is not what is to be measured. */
const NAP = 0.2;

const native = addon();
const RX_OCTETS = BATCH * DGRAM_SLOT;
const memory = native.reserve(RX_OCTETS + (BATCH + 1) * MAX_MESSAGE);
const view = new DataView(memory);
const rx = new Int32Array(BATCH * DGRAM_RX_ROW);
const tx = new Int32Array(BATCH * DGRAM_TX_ROW);
const sleeper = new Int32Array(new SharedArrayBuffer(4));
const poller = new Poller(native);
poller.start(
  () => {},
  () => {},
);

export class UdpSocket {
  #onMessage;
  #id;

  /** `bind` and `target` are IPv4 ADDRESS:PORT; `onMessage(message, from)`: both are valid during the call. */
  constructor({ bind, target, onMessage }) {
    this.#onMessage = onMessage;
    this.fd = native.udpOpen(bind === undefined ? null : words(bind), false, 0, "");
    if (this.fd < 0) throw new Error(`no socket: errno ${-this.fd}`);
    if (target !== undefined) native.udpConnect(this.fd, words(target));
    this.#id = poller.add(this.fd, this, Epoll.IN);
  }

  onPoll() {
    const count = native.recvBatch(this.fd, rx, 0, RX_OCTETS);
    for (let i = 0, row = 0; i < count && this.fd >= 0; i++, row += DGRAM_RX_ROW) {
      const end = rx[row] + rx[row + 1];
      const step = rx[row + 8] > 0 ? rx[row + 8] : rx[row + 1];
      for (let at = rx[row]; at + HEADER <= end; at += step) {
        this.#onMessage(read(at, Math.min(step, end - at)), rx.subarray(row + 2, row + 7));
      }
    }
  }

  /** Sends one message: to the words of an address, or to the target. */
  send(kind, run, numbers, length, to = null) {
    write(slot(BATCH), kind, run, numbers);
    fill(0, slot(BATCH), length, to, true);
    native.sendBatch(this.fd, tx, 1);
  }

  /** Sends a message back that has just come. */
  reply({ at, length }, to) {
    fill(0, at, length, to, true);
    native.sendBatch(this.fd, tx, 1);
  }

  /**
   * Sends `rate` DATA a second for a time, evenly; blocks. Returns how many the system took. `alone`: each is a packet
   * of its own, as most programs send them.
   */
  flood(run, length, rate, milliseconds, to, alone) {
    const started = performance.now();
    const total = Math.round((rate * milliseconds) / 1000);
    let sent = 0;
    while (sent < total) {
      const elapsed = performance.now() - started;
      // Who cannot keep up ends in time all the same.
      if (elapsed > 1.25 * milliseconds) break;
      const due = Math.min(total, Math.ceil((elapsed * rate) / 1000));
      const count = Math.min(BATCH, due - sent);
      for (let i = 0; i < count; i++) {
        write(slot(i), Kind.DATA, run, [sent + i]);
        fill(i, slot(i), length, to, alone);
      }
      const taken = count === 0 ? 0 : native.sendBatch(this.fd, tx, count);
      if (taken > 0) sent += taken;
      if (taken < BATCH) Atomics.wait(sleeper, 0, 0, NAP);
    }
    return sent;
  }

  close() {
    poller.remove(this.#id, this.fd);
    native.close(this.fd);
    this.fd = -1;
  }
}

function read(at, length) {
  return {
    at,
    length,
    kind: view.getUint32(at),
    run: view.getUint32(at + 4),
    a: view.getUint32(at + 8),
    b: view.getUint32(at + 12),
    c: view.getUint32(at + 16),
    d: view.getUint32(at + 20),
  };
}

function write(at, kind, run, numbers) {
  view.setUint32(at, kind);
  view.setUint32(at + 4, run);
  for (let i = 0; i < numbers.length; i++) view.setUint32(at + 8 + 4 * i, numbers[i]);
}

function slot(i) {
  return RX_OCTETS + i * MAX_MESSAGE;
}

function fill(i, at, length, to, alone) {
  const row = i * DGRAM_TX_ROW;
  tx.fill(0, row, row + DGRAM_TX_ROW);
  tx[row + 2] = at;
  tx[row + 3] = length;
  if (to !== null) tx.set(to, row + 4);
  tx[row + 9] = alone ? 1 : 0;
}

/** IPv4 as v4-mapped words, and the port. */
function words(text) {
  const [address, port] = text.split(":");
  const value = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  return Int32Array.of(0, 0, 0xffff, value | 0, Number(port));
}
