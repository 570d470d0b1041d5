#!/usr/bin/env node
// @ts-check
// New connections, one octet each way. Usage: connections.js JSON, prints JSON:
//   { host, socks, concurrency, ports: "one" | "many", closes: "target" | "client", count | milliseconds }
//       → { done, failed, seconds, p50, p99, gap }   ms; gap: the longest time in which none ended well
// Seconds are those of the run, or by count those until the last that ended well: what failed is told by the others.
// Those of the first tenth of a second are not counted where it runs by time, nor the first tenth where it runs by count.

import { quantile } from "../statistics.js";
import { OCTET_PORTS, PORTS } from "./port-numbers.js";
import { allocate, bytes, finish, now, Stream, Way } from "./sockets.js";

/** A connection that takes longer has failed. */
const TIMEOUT = 3000;
/** Ends a run by count that does not get on. */
const MAX_FAILED = 64;
const LONGEST = 60_000;

const options = JSON.parse(/** @type {string} */ (process.argv[2]));
// A port more is another place to connect to, so that a source port may be used again.
const ports = options.ports === "many" ? OCTET_PORTS : [PORTS.octet];
const ways = ports.map((port) => new Way({ host: options.host, port }, options.socks));
const octet = allocate(1);
const clientCloses = options.closes === "client";
bytes[octet] = clientCloses ? 1 : 0;
/** @type {number[]} */
const times = [];
/** @type {Set<Stream>} */
const open = new Set();
const byTime = options.milliseconds !== undefined;
const warmUp = byTime ? Number.POSITIVE_INFINITY : Math.floor(options.count / 10);
const first = now();
let measured = byTime ? first + 100 : 0;
let begun = 0;
let endings = 0;
let done = 0;
let failed = 0;
let last = 0;
let gap = 0;

const handler = {
  /** @param {Stream} stream */
  onOpen: (stream) => void stream.send(octet, 1),
  /** @param {Stream} stream @param {number} _start @param {number} octets */
  onData(stream, _start, octets) {
    stream.octets += octets;
    if (clientCloses) this.onEnd(stream);
  },
  /** @param {Stream} stream */
  onEnd(stream) {
    stream.close();
    ended(stream, stream.octets === 1);
  },
  /** @param {Stream} stream */
  onError: (stream) => ended(stream, false),
};

const watch = setInterval(() => {
  const at = now();
  for (const stream of open) {
    if (at - stream.started > TIMEOUT) {
      stream.close();
      ended(stream, false);
    }
  }
  if (at - first > LONGEST) report();
}, 50);
for (let i = 0; i < options.concurrency; i++) another();

function another() {
  const stream = new Stream(/** @type {Way} */ (ways[begun++ % ways.length]), handler);
  stream.started = now();
  open.add(stream);
  const result = stream.connect();
  if (result < 0) setTimeout(ended, 10, stream, false);
}

/** @param {Stream} stream @param {boolean} well */
function ended(stream, well) {
  open.delete(stream);
  const at = now();
  endings++;
  if (well && !byTime && measured === 0 && endings > warmUp) measured = at;
  const counts = measured !== 0 && at >= measured;
  if (counts && well) {
    if (last !== 0) gap = Math.max(gap, at - last);
    last = at;
    done++;
    times.push(at - stream.started);
  } else if (!well) failed++;
  const over = byTime
    ? at - first > options.milliseconds + 100
    : endings >= options.count || failed >= MAX_FAILED;
  if (over) report();
  else another();
}

function report() {
  clearInterval(watch);
  const end = now();
  gap = Math.max(gap, end - (last || measured));
  const seconds = ((byTime ? end : last) - measured) / 1000;
  times.sort((a, b) => a - b);
  const [p50, p99] = [quantile(times, 0.5), quantile(times, 0.99)];
  finish({ done, failed, seconds, p50, p99, gap });
}
