#!/usr/bin/env node
// @ts-check
// One UDP question after another, each once the last was answered. Usage: questions.js JSON, prints JSON:
//   { host, socks, milliseconds }   on one socket
//   { host, count }                 each from a source port that was not used before
//       → { rate, p50, p99, asked, answered }   answers/s, microseconds

import { quantile } from "../statistics.js";
import { associate, DatagramPort, Kind, Packet, writePacket } from "./datagram-port.js";
import { PORTS } from "./port-numbers.js";
import { addressOf, allocate, finish, native, now, view } from "./sockets.js";

/** Asked again it would be another question: without an answer for so long it counts as lost. */
const TIMEOUT = 1000;
/** So many lost in a row, and it is given up. */
const MAX_LOST = 3;
const FIRST_PORT = 10_000;
const WARM_UP = 100;
/** An end whatever happens. */
const LONGEST = 60_000;

const options = JSON.parse(/** @type {string} */ (process.argv[2]));
const target = { host: options.host, port: PORTS.echo };
const fresh = options.count !== undefined;
const relay = options.socks == null ? null : await associate(options.socks);
const question = allocate(Packet.OCTETS);
/** @type {number[]} */
const times = [];
const started = now();
let measured = started;
let port = fresh ? null : watched(DatagramPort.to(target, relay));
let last = started;
let asked = 0;
let answered = 0;
let lost = 0;
let sent = 0;
let sourcePort = FIRST_PORT;
ask();
setInterval(() => {
  if (now() - sent < TIMEOUT) return;
  if (++lost === MAX_LOST) report();
  ask();
}, 50);

/** @param {DatagramPort} one */
function watched(one) {
  one.watch((start) => {
    if (view.getUint32(start + Packet.TRIAL) !== asked) return;
    const at = now();
    last = at;
    answered++;
    lost = 0;
    if (answered === WARM_UP) measured = at;
    if (answered > WARM_UP) times.push(at - sent);
    const over = fresh ? answered + lost >= options.count : at - measured >= options.milliseconds;
    if (over) report();
    else ask();
  });
  return one;
}

function ask() {
  if (now() - started > LONGEST || (fresh && asked >= options.count)) report();
  if (fresh) {
    port?.close();
    port = watched(fromNewPort());
  }
  asked++;
  writePacket(question, Kind.QUESTION, asked);
  sent = now();
  port?.send(question, Packet.OCTETS);
}

function fromNewPort() {
  for (;;) {
    const fd = native.udpOpen(addressOf({ host: "0.0.0.0", port: sourcePort++ }), false, 0, "");
    if (fd >= 0) return new DatagramPort(fd, { target, relay: null });
  }
}

function report() {
  // Until the last answer: what was lost is told by the others.
  const seconds = (last - measured) / 1000;
  times.sort((a, b) => a - b);
  const [p50, p99] = [0.5, 0.99].map((share) => quantile(times, share) * 1000);
  const rate = times.length / seconds;
  finish({ rate, p50, p99, asked, answered });
}
