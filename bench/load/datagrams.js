#!/usr/bin/env node
// @ts-check
// Datagrams one way, and how many arrive. Usage: datagrams.js JSON, prints JSON:
//   { host, socks, direction: "up" | "down", size, mode: "fixed", rate, milliseconds }
//       → { sent, seconds, arrived, inTime }
//   { host, socks, direction, size, mode: "search" }
//       → { rate, limited }: packets/s that arrived in time where less than 1 % did not; limited: it sent no faster

import { setTimeout as wait } from "node:timers/promises";
import { blast } from "./blast.js";
import { associate, DatagramPort, Kind, LATE, Packet, writePacket } from "./datagram-port.js";
import { PORTS } from "./port-numbers.js";
import { allocate, bytes, finish, now, view } from "./sockets.js";

/** @typedef {{ sent: number, seconds: number, arrived: number, inTime: number }} Trial */

const FIRST_RATE = 20_000;
const MAX_RATE = 1_280_000;
const TRIAL = 300;
const MAX_TRIALS = 16;
const ALLOWED_LOSS = 0.01;
/** The search ends when the bounds are this near to each other. */
const NEAR = 1.06;
/** A lost question is asked again; this often, every so many ms. */
const RETRIES = 30;
const RETRY = 100;

const options = JSON.parse(/** @type {string} */ (process.argv[2]));
const up = options.direction === "up";
const target = { host: options.host, port: up ? PORTS.sink : PORTS.source };
const relay = options.socks === null ? null : await associate(options.socks);
const port = DatagramPort.to(target, relay);
const question = allocate(Packet.OCTETS);
const answer = allocate(Packet.OCTETS);
// A trial takes longer than a millisecond, so numbers of later processes are larger (modulo 2³²).
let trial = Math.floor(now()) >>> 0;
let arrived = 0;
let inTime = 0;
let at = 0;
/** @type {(start: number) => void} */
let onAnswer = () => {};
port.watch(
  (start) => {
    if (view.getUint32(start + Packet.TRIAL) !== trial) return;
    if (bytes[start + Packet.KIND] !== Kind.DATA) return onAnswer(start);
    arrived++;
    if (at - view.getFloat64(start + Packet.TIME) <= LATE) inTime++;
  },
  () => {
    at = now();
  },
);

// The flow is there before anything is measured.
await (up ? ask(Kind.REPORT) : run(1000, 20));
const result =
  options.mode === "search" ? await search() : await run(options.rate, options.milliseconds);
finish(result);

/** Doubles the rate until it is too much, then halves the interval. */
async function search() {
  let low = 0;
  let high = MAX_RATE;
  let best = 0;
  let limited = false;
  let rate = FIRST_RATE;
  for (let n = 0; n < MAX_TRIALS && low * NEAR < high && !limited; n++) {
    let result = await run(rate, TRIAL);
    // One hiccup of the machine is not a limit.
    if (!carried(result)) result = await run(rate, TRIAL);
    if (carried(result)) {
      low = rate;
      best = Math.max(best, result.inTime / result.seconds);
      limited = result.sent / result.seconds < 0.9 * rate;
    } else high = rate;
    rate = high === MAX_RATE ? Math.min(2 * rate, MAX_RATE) : (low + high) / 2;
    if (high <= FIRST_RATE / 16) break;
  }
  return { rate: best, limited };
}

/** @param {Trial} result */
function carried(result) {
  return result.sent > 0 && result.inTime >= (1 - ALLOWED_LOSS) * result.sent;
}

/**
 * @param {number} rate
 * @param {number} milliseconds
 * @returns {Promise<Trial>}
 */
async function run(rate, milliseconds) {
  trial = (trial + 1) >>> 0;
  if (up) {
    const { sent, seconds } = blast(port, { trial, size: options.size, rate, milliseconds });
    await wait(2 * LATE);
    const start = await ask(Kind.REPORT);
    const counted = { arrived: number(start, 0), inTime: number(start, 1) };
    return { sent, seconds, ...counted };
  }
  arrived = 0;
  inTime = 0;
  const start = await ask(Kind.START, options.size, rate, milliseconds);
  const [sent, seconds] = [number(start, 0), number(start, 1) / 1e6];
  return { sent, seconds, arrived, inTime };
}

/** @param {number} start @param {number} i */
function number(start, i) {
  return view.getUint32(start + Packet.NUMBERS + 4 * i);
}

/**
 * Asks until there is an answer, and gives its offset.
 *
 * @param {number} kind
 * @param {...number} numbers
 * @returns {Promise<number>}
 */
function ask(kind, ...numbers) {
  return new Promise((resolve, reject) => {
    writePacket(question, kind, trial, ...numbers);
    let left = RETRIES;
    const send = () => {
      if (left-- === 0) return reject(new Error("no answer"));
      port.send(question, Packet.OCTETS);
    };
    const timer = setInterval(send, RETRY);
    onAnswer = (start) => {
      clearInterval(timer);
      bytes.copyWithin(answer, start, start + Packet.OCTETS);
      resolve(answer);
    };
    send();
  });
}
