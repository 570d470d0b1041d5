// Prints the clock (CLOCK_MONOTONIC, nanoseconds) at the first octet of every connection, answers and closes.

import { createServer } from "node:net";

const [, , host, port] = process.argv;

createServer((socket) => {
  socket.on("error", () => {});
  socket.once("data", () => {
    process.stdout.write(`${process.hrtime.bigint()}\n`);
    socket.end("HTTP/1.0 204 No Content\r\n\r\n");
  });
}).listen(Number(port), host);
