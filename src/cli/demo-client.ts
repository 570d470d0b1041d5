/**
 * The demo's own client: an ordinary program that knows nothing of proxies.
 *
 *     get URL FILE             prints octets per second
 *     put URL FILE             prints the answer and octets per second
 *     echo HOST PORT COUNT     prints how many datagrams came back, and the median in ms
 *     refused HOST PORT COUNT  prints what connect() fails with, every time, and the median in ms
 */

import { createSocket } from "node:dgram";
import { createReadStream, createWriteStream, statSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { connect } from "node:net";
import { pipeline } from "node:stream/promises";

const [verb, ...args] = process.argv.slice(2) as [string, string, string, string];
const started = performance.now();

function elapsed(): number {
  return performance.now() - started;
}

function rate(octets: number): string {
  return String(Math.round((octets / elapsed()) * 1000));
}

async function get(url: string, file: string): Promise<void> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request(url, resolve).on("error", reject).end();
  });
  await pipeline(response, createWriteStream(file));
  console.log(rate(statSync(file).size));
}

async function put(url: string, file: string): Promise<void> {
  const octets = statSync(file).size;
  const answer = await new Promise<string>((resolve, reject) => {
    const outgoing = request(
      url,
      { method: "PUT", headers: { "content-length": octets } },
      (response) => {
        let text = "";
        response.on("data", (chunk) => {
          text += chunk;
        });
        response.on("end", () => resolve(text));
      },
    );
    outgoing.on("error", reject);
    createReadStream(file, { highWaterMark: 1 << 20 }).pipe(outgoing);
  });
  console.log(`${answer} ${rate(octets)}`);
}

/** One datagram at a time; one that is not back within a second is lost. */
async function echo(host: string, port: number, count: number): Promise<void> {
  const socket = createSocket("udp4");
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const sent = performance.now();
    socket.send(Buffer.from(`datagram ${i}`), port, host);
    const answered = await new Promise<boolean>((resolve) => {
      const timeout = setTimeout(() => resolve(false), 1000);
      socket.once("message", (message) => {
        clearTimeout(timeout);
        resolve(message.toString() === `datagram ${i}`);
      });
    });
    if (answered) times.push(performance.now() - sent);
  }
  socket.close();
  console.log(`${times.length} ${median(times)}`);
}

/** One connect() after the other: the first one pays for starting up Node.js' sockets. */
async function refused(host: string, port: number, count: number): Promise<void> {
  const codes = new Set<string>();
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const begun = performance.now();
    codes.add(
      await new Promise<string>((resolve) => {
        const socket = connect({ host, port });
        socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
        socket.on("connect", () => {
          socket.destroy();
          resolve("success");
        });
      }),
    );
    times.push(performance.now() - begun);
  }
  console.log(`${[...codes].join(",")} ${median(times)}`);
}

function median(times: number[]): string {
  times.sort((a, b) => a - b);
  return (times[times.length >> 1] ?? 0).toFixed(2);
}

if (verb === "get") await get(args[0], args[1]);
else if (verb === "put") await put(args[0], args[1]);
else if (verb === "echo") await echo(args[0], Number(args[1]), Number(args[2]));
else await refused(args[0], Number(args[1]), Number(args[2]));
