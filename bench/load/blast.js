// @ts-check
// Sends datagrams at a rate, and blocks while it does: timers of a millisecond are too coarse for that.

import { BATCH, Kind, Packet } from "./datagram-port.js";
import { allocate, bytes, now, view } from "./sockets.js";

const MAX_OCTETS = 1472;
const SLOTS_AT = allocate(BATCH * 1536);
const PAUSE = new Int32Array(new SharedArrayBuffer(4));
/** Between two batches, in ms. */
const SHORT = 0.1;
/** What is more than this much overdue (ms) is not made up for: it would be a burst that nobody asked for. */
const BACKLOG = 2;

/**
 * How many were sent, and in how many seconds.
 *
 * @param {import("./datagram-port.js").DatagramPort} port
 * @param {{ trial: number, size: number, rate: number, milliseconds: number }} order `rate` per second
 */
export function blast(port, { trial, size, rate, milliseconds }) {
  const octets = Math.min(Math.max(size, Packet.OCTETS), MAX_OCTETS);
  for (let i = 0; i < BATCH; i++) {
    const at = SLOTS_AT + i * 1536;
    bytes[at + Packet.KIND] = Kind.DATA;
    view.setUint32(at + Packet.TRIAL, trial);
    port.row(i, at, octets);
  }
  const started = now();
  const backlog = Math.max(BATCH, (rate * BACKLOG) / 1000);
  let sent = 0;
  let forgone = 0;
  for (let at = started; at < started + milliseconds; at = now()) {
    let due = Math.floor(((at - started) * rate) / 1000) - sent - forgone;
    if (due > backlog) {
      forgone += due - backlog;
      due = backlog;
    }
    if (due < 1) {
      Atomics.wait(PAUSE, 0, 0, SHORT);
      continue;
    }
    const count = Math.min(due, BATCH);
    for (let i = 0; i < count; i++) view.setFloat64(SLOTS_AT + i * 1536 + Packet.TIME, at);
    const taken = port.flush(count);
    if (taken > 0) sent += taken;
    else Atomics.wait(PAUSE, 0, 0, SHORT);
  }
  return { sent, seconds: (now() - started) / 1000 };
}
