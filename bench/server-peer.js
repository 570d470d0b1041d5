// The other processes of bench/server.js.
//   targets                    an echo, and a server that sends a megabyte to whoever comes; prints both ports
//   clients PORT ECHO FLOOD    SOCKS5 clients; reads what to do, a line each, and answers with a line:
//     open N    until there are N, each with a flow that has echoed an octet
//     echo      every one of them sends an octet more and gets it back
//     time N    N newcomers, one after the other: CONNECT and an octet back
//     slow N    N that do not read what comes, and N that stop after an octet; they stay

import { once } from "node:events";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { quantile } from "./statistics.js";

const [role, ...ports] = process.argv.slice(2);
if (role === "targets") await serve();
else await obey(...ports.map(Number));

async function serve() {
  const echo = createServer((socket) =>
    socket.on("error", () => {}).on("data", (d) => socket.write(d)),
  );
  const flood = createServer((socket) => socket.on("error", () => {}).write(Buffer.alloc(1 << 20)));
  const ports = [];
  for (const server of [echo, flood]) {
    server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 });
    await once(server, "listening");
    ports.push(server.address().port);
  }
  console.log(ports.join(" "));
}

async function obey(proxy, echo, flood) {
  const open = [];
  const slow = [];
  for await (const line of createInterface({ input: process.stdin })) {
    const [what, number] = line.split(" ");
    const count = Number(number);
    if (what === "open") {
      while (open.length < count) {
        const wanted = Math.min(200, count - open.length);
        open.push(...(await Promise.all(Array.from({ length: wanted }, () => flow(proxy, echo)))));
      }
      console.log(`${open.length} clients, each with a flow`);
    } else if (what === "echo") {
      await Promise.all(open.map((socket) => exchange(socket)));
      console.log(`all ${open.length} still carry octets`);
    } else if (what === "time") {
      const times = [];
      for (let i = 0; i < count; i++) {
        const begin = performance.now();
        const socket = await flow(proxy, echo);
        times.push(performance.now() - begin);
        socket.resetAndDestroy();
      }
      const sorted = times.sort((a, b) => a - b);
      const figure = (q) => quantile(sorted, q).toFixed(2);
      console.log(`${figure(0.5)} ms (median), ${figure(0.99)} ms (99 %)`);
    } else {
      for (let i = 0; i < count; i++) {
        slow.push((await request(proxy, flood)).pause());
        slow.push(connect({ port: proxy, host: "127.0.0.1" }).on("error", fail));
        slow.at(-1).write(Uint8Array.of(5));
      }
      console.log(`${slow.length} slow clients`);
    }
  }
  process.exit(0);
}

/** A socket whose CONNECT was granted, with nothing read beyond the reply. */
async function request(proxy, target) {
  const socket = connect({ port: proxy, host: "127.0.0.1", noDelay: true }).on("error", fail);
  const to = [5, 1, 0, 1, 127, 0, 0, 1, target >> 8, target & 255];
  socket.write(Uint8Array.of(5, 1, 0, ...to));
  let reply = Buffer.alloc(0);
  while (reply.length < 12) {
    await once(socket, "readable");
    reply = Buffer.concat([
      reply,
      socket.read(Math.min(12 - reply.length, socket.readableLength)) ?? reply.subarray(0, 0),
    ]);
  }
  if (reply[3] !== 0) throw new Error(`refused: ${reply.toString("hex")}`);
  return socket;
}

async function flow(proxy, target) {
  const socket = await request(proxy, target);
  await exchange(socket);
  return socket;
}

/** An octet there and back. */
async function exchange(socket) {
  socket.write("x");
  if (socket.readableLength === 0) await once(socket, "readable");
  if (socket.read()?.length !== 1) throw new Error("no echo");
}

function fail(error) {
  throw error;
}
