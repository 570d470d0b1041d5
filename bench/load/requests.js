#!/usr/bin/env node
// @ts-check
// HTTP requests on keep-alive connections, on each one after another. Usage: requests.js JSON, prints JSON:
//   { host, socks, connections, milliseconds } → { rate, p50, p99 }   requests/s, microseconds
// The first second is not counted.

import { quantile } from "../statistics.js";
import { PORTS } from "./port-numbers.js";
import { allocate, bytes, finish, now, Stream, Way } from "./sockets.js";

const WARM_UP = 1000;
/** Without an answer for so long it has failed. */
const SILENCE = 3000;
const options = JSON.parse(/** @type {string} */ (process.argv[2]));
const way = new Way({ host: options.host, port: PORTS.http }, options.socks);
const text = "GET / HTTP/1.1\r\nhost: bench\r\n\r\n";
const request = allocate(text.length);
bytes.set(Buffer.from(text), request);
/** @type {number[]} */
const times = [];
const started = now();
let answered = started;
/** Octets of an answer, by its first head. */
let whole = 0;

/** @param {string} why */
function fail(why) {
  console.error(why);
  process.exit(1);
}

/** @param {Stream} stream */
function ask(stream) {
  stream.octets = 0;
  stream.started = now();
  stream.send(request, text.length);
}

const handler = {
  onOpen: ask,
  /** @param {Stream} stream @param {number} start @param {number} octets */
  onData(stream, start, octets) {
    if (whole === 0) {
      const head = Buffer.from(bytes.buffer, start, octets).toString("latin1");
      whole =
        head.indexOf("\r\n\r\n") +
        4 +
        Number(/content-length: (\d+)/i.exec(head)?.[1] ?? Number.NaN);
    }
    stream.octets += octets;
    if (stream.octets < whole) return;
    answered = now();
    if (answered >= started + WARM_UP) times.push(answered - stream.started);
    if (answered < started + WARM_UP + options.milliseconds) ask(stream);
    else report();
  },
  onEnd: () => fail("the target closed"),
  /** @param {Stream} _stream @param {number} errno */
  onError: (_stream, errno) => fail(`errno ${errno}`),
};
for (let i = 0; i < options.connections; i++) {
  const result = new Stream(way, handler).connect();
  if (result < 0) fail(`errno ${-result}`);
}
setInterval(() => {
  if (now() - answered > SILENCE) fail("no answer");
}, 100);

function report() {
  const seconds = (answered - started - WARM_UP) / 1000;
  times.sort((a, b) => a - b);
  const [p50, p99] = [0.5, 0.99].map((share) => quantile(times, share) * 1000);
  finish({ rate: times.length / seconds, p50, p99 });
}
