// A small client of iperf3's protocol that speaks SOCKS5 first: what one stream gets through a SOCKS server
// without a TUN, or several. Usage: iperf3-client.js SOCKS_HOST:PORT SERVER:PORT SECONDS up|down [STREAMS]. Prints Gbit/s.
//
// States as in iperf3's src/iperf_api.h.

import { randomBytes } from "node:crypto";
import { connect } from "node:net";

const TEST_START = 1;
const TEST_RUNNING = 2;
const TEST_END = 4;
const PARAM_EXCHANGE = 9;
const CREATE_STREAMS = 10;
const EXCHANGE_RESULTS = 13;
const DISPLAY_RESULTS = 14;
const IPERF_DONE = 16;
/** -1. */
const ACCESS_DENIED = 255;
const BLOCK = 128 * 1024;

const [socks, server, secondsText, direction, streamsText = "1"] = process.argv.slice(2);
const seconds = Number(secondsText);
const parallel = Number(streamsText);
const down = direction === "down";
const [serverHost, serverPort] = server.split(":");
const cookie = Buffer.from(`${randomBytes(18).toString("hex")}\0`);
let received = 0;

const { socket: control, reader } = await dial();
control.write(cookie);
for (let streams = [], started, elapsed; ; ) {
  const state = (await reader.take(1))[0];
  if (state === PARAM_EXCHANGE) {
    sendJson({
      tcp: true,
      omit: 0,
      time: seconds,
      num: 0,
      blockcount: 0,
      parallel,
      len: BLOCK,
      pacing_timer: 1000,
      client_version: "3.12",
      ...(down ? { reverse: true } : {}),
    });
  } else if (state === CREATE_STREAMS) {
    // One after another: the server takes them in order.
    while (streams.length < parallel) {
      const { socket } = await dial(down);
      streams.push(socket);
      socket.write(cookie);
    }
  } else if (state === TEST_START) {
    // The next state starts the clock.
  } else if (state === TEST_RUNNING) {
    started = performance.now();
    if (!down) for (const stream of streams) blast(stream);
    setTimeout(() => {
      elapsed = (performance.now() - started) / 1000;
      let octets = received;
      if (!down) for (const one of streams) octets += one.bytesWritten - one.writableLength;
      console.log(((octets * 8) / elapsed / 1e9).toFixed(3));
      for (const stream of streams) {
        stream.pause();
        stream.finished = true;
      }
      control.write(Buffer.from([TEST_END]));
    }, seconds * 1000);
  } else if (state === EXCHANGE_RESULTS) {
    sendJson({
      cpu_util_total: 0,
      cpu_util_user: 0,
      cpu_util_system: 0,
      sender_has_retransmits: 0,
      streams: streams.map((_stream, i) => ({
        // iperf3 numbers its streams 1, 3, 4, 5 and so on.
        id: i === 0 ? 1 : i + 2,
        bytes: received / parallel,
        retransmits: 0,
        jitter: 0,
        errors: 0,
        packets: 0,
        start_time: 0,
        end_time: seconds,
      })),
    });
    const length = (await reader.take(4)).readUInt32BE(0);
    await reader.take(length);
  } else if (state === DISPLAY_RESULTS) {
    control.write(Buffer.from([IPERF_DONE]), () => process.exit(0));
  } else {
    console.error(state === ACCESS_DENIED ? "the server is busy" : `unexpected state ${state}`);
    process.exit(1);
  }
}

function sendJson(value) {
  const text = Buffer.from(JSON.stringify(value));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  control.write(Buffer.concat([length, text]));
}

function blast(stream) {
  const block = Buffer.alloc(1 << 20);
  const more = () => {
    while (!stream.finished && stream.write(block));
  };
  stream.on("drain", more);
  more();
}

/** A connection through the SOCKS server; `counting` reads into one buffer and counts. */
async function dial(counting = false) {
  const [host, port] = socks.split(":");
  const socket = connect({
    host,
    port: Number(port),
    noDelay: true,
    highWaterMark: 1 << 20,
    ...(counting
      ? {
          onread: {
            buffer: Buffer.alloc(512 * 1024),
            callback: (octets) => {
              if (socket.granted) received += octets;
              else socket.replied += octets;
              return true;
            },
          },
        }
      : {}),
  });
  socket.replied = 0;
  socket.on("error", (error) => {
    // The server cuts the stream off once the test is over.
    if (socket.finished) return;
    console.error(error.message);
    process.exit(1);
  });
  const request = Buffer.from([
    5,
    1,
    0,
    1,
    ...serverHost.split(".").map(Number),
    Number(serverPort) >> 8,
    Number(serverPort) & 255,
  ]);
  const reader = counting ? null : new Reader(socket);
  const replied = async (octets) => {
    if (counting)
      while (socket.replied < octets) await new Promise((resolve) => setImmediate(resolve));
    else await reader.take(octets);
  };
  socket.write(Buffer.from([5, 1, 0]));
  await replied(2);
  socket.write(request);
  await replied(counting ? 12 : 10);
  socket.granted = true;
  return { socket, reader };
}

/** Takes exact numbers of octets from a socket, one taker at a time. */
function Reader(socket) {
  let held = Buffer.alloc(0);
  let wake = () => {};
  socket.on("data", (chunk) => {
    held = Buffer.concat([held, chunk]);
    wake();
  });
  this.take = async (octets) => {
    while (held.length < octets) {
      await new Promise((resolve) => {
        wake = resolve;
      });
    }
    const taken = held.subarray(0, octets);
    held = held.subarray(octets);
    return taken;
  };
}
