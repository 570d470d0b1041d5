#!/usr/bin/env node
// @ts-check
// Connects again and again until an octet comes back, and prints when: ms on the clock of sockets.js.
// Usage: first-octet.js HOST MILLISECONDS. Prints "ready" first, and "never" if it takes longer than that.

import { PORTS } from "./port-numbers.js";
import { allocate, now, Stream, Way } from "./sockets.js";

const [host, longest] = process.argv.slice(2);
const way = new Way({ host: String(host), port: PORTS.octet }, null);
const octet = allocate(1);
/** Attempts may be dropped before there is somebody to take them, and TCP repeats no sooner than after a second. */
const EVERY = 2;
const MAX_OPEN = 64;
/** @type {Stream[]} */
const open = [];

const handler = {
  /** @param {Stream} stream */
  onOpen: (stream) => void stream.send(octet, 1),
  onData: () => end(now().toFixed(3)),
  onEnd: () => {},
  onError: () => {},
};
const started = now();
process.stdout.write("ready\n");
setInterval(() => {
  if (now() - started > Number(longest)) return end("never");
  if (open.length === MAX_OPEN) open.shift()?.close();
  const stream = new Stream(way, handler);
  if (stream.connect() === 0) open.push(stream);
}, EVERY);

/** @param {string} text */
function end(text) {
  process.stdout.write(`${text}\n`, () => process.exit(0));
}
