// The other processes of bench/flows.js.
//   server ADDRESS PORT     a SOCKS5 server that grants every CONNECT and says nothing more
//   client ADDRESS COUNTS   opens so many connections, prints how many there are, closes them when its input ends; of several
//                           COUNTS ("1000,4000") it goes on to the next at each line of its input. If they stop to open it
//                           prints how many did, and goes no further

import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";

const [role, address, number] = process.argv.slice(2);
if (role === "server") serve(Number(number));
else await open(number.split(",").map(Number));

function serve(port) {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write(Uint8Array.of(5, 0));
      socket.once("data", () => {
        socket.write(Uint8Array.of(5, 0, 0, 1, 0, 0, 0, 0, 0, 0));
        socket.resume();
      });
    });
  });
  server.listen({ port, host: address, backlog: 4096 });
}

async function open(counts) {
  // As many at a time as the tunnel may have pending from one source.
  const AT_A_TIME = 200;
  const lines = createInterface({ input: process.stdin });
  const ended = new Promise((resolve) => lines.once("close", resolve));
  const sockets = [];
  for (const count of counts) {
    if (sockets.length > 0) await new Promise((resolve) => lines.once("line", resolve));
    while (sockets.length < count) {
      const wanted = Math.min(AT_A_TIME, count - sockets.length);
      const batch = await Promise.all(Array.from({ length: wanted }, one));
      const opened = batch.filter((socket) => socket !== null);
      sockets.push(...opened);
      if (opened.length < wanted) break;
    }
    console.log(sockets.length);
    if (sockets.length < count) break;
  }
  await ended;
  for (const socket of sockets) socket.end();
  await Promise.all(sockets.map((s) => new Promise((resolve) => s.once("close", resolve))));
  process.exit(0);
}

/** A connection, or null. */
function one() {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port: 80 });
    const late = setTimeout(() => socket.destroy(), 5000);
    socket.once("connect", () => {
      clearTimeout(late);
      resolve(socket);
    });
    socket.on("error", () => {});
    socket.once("close", () => resolve(null));
    socket.resume();
  });
}
