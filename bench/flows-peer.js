// The other processes of bench/flows.js.
//   server ADDRESS PORT     a SOCKS5 server that grants every CONNECT and says nothing more
//   client ADDRESS COUNT    opens COUNT connections, prints a line, closes them when its input ends

import { connect, createServer } from "node:net";

const [role, address, number] = process.argv.slice(2);
if (role === "server") serve(Number(number));
else await open(Number(number));

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

async function open(count) {
  const sockets = [];
  // As many at a time as the tunnel may have pending from one source.
  const AT_A_TIME = 200;
  for (let n = 0; n < count; n += AT_A_TIME) {
    const batch = Array.from({ length: Math.min(AT_A_TIME, count - n) }, () => one());
    sockets.push(...(await Promise.all(batch)));
  }
  console.log(count);
  await new Promise((resolve) => process.stdin.resume().once("end", resolve));
  for (const socket of sockets) socket.end();
  await Promise.all(sockets.map((s) => new Promise((resolve) => s.once("close", resolve))));
}

function one() {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port: 80 });
    socket.once("connect", () => resolve(socket));
    socket.once("error", reject);
    socket.resume();
  });
}
