// Requests one after another on one keep-alive HTTP connection, through SOCKS5 if asked to.
// Usage: keepalive-client.js HOST:PORT REQUESTS [SOCKS_HOST:PORT]. Prints p50 and p99 in microseconds.

import { connect } from "node:net";

const [target, count, socks] = process.argv.slice(2);
const [host, port] = target.split(":");
const [dialHost, dialPort] = (socks ?? target).split(":");
const requests = Number(count);
const request = Buffer.from("GET / HTTP/1.1\r\nHost: bench\r\n\r\n");
const times = [];
let phase = socks === undefined ? 2 : 0;
let wanted = 0;
let sent = 0;

const socket = connect({ host: dialHost, port: Number(dialPort), noDelay: true });
socket.on("error", (error) => {
  console.error(error.message);
  process.exit(1);
});
socket.on("connect", () => (phase === 0 ? socket.write(Buffer.from([5, 1, 0])) : ask()));
socket.on("data", (chunk) => {
  if (phase === 0) {
    phase = 1;
    socket.write(
      Buffer.from([
        5,
        1,
        0,
        1,
        ...host.split(".").map(Number),
        Number(port) >> 8,
        Number(port) & 255,
      ]),
    );
  } else if (phase === 1) {
    phase = 2;
    ask();
  } else {
    if (wanted === 0) {
      const text = chunk.toString("latin1");
      const head = text.indexOf("\r\n\r\n") + 4;
      wanted = head + Number(/content-length: (\d+)/i.exec(text)[1]);
    }
    wanted -= chunk.length;
    if (wanted === 0) answered();
  }
});

function ask() {
  sent = performance.now();
  socket.write(request);
}

function answered() {
  times.push((performance.now() - sent) * 1000);
  if (times.length < requests) return ask();
  times.splice(0, Math.min(200, requests / 10));
  times.sort((a, b) => a - b);
  const at = (share) => Math.round(times[Math.floor(times.length * share)]);
  console.log(`${at(0.5)} ${at(0.99)}`);
  process.exit(0);
}
