/**
 * The worker behind demo-targets.ts. GET /N answers N octets, GET /sha256/N what they hash to, PUT /upload the SHA-256 of
 * what came.
 */

import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { parentPort } from "node:worker_threads";
import type { DemoPorts } from "./demo-targets.ts";

/** One block of the pattern: no two of its 64 KiB are alike, so misplaced octets change the hash. */
const BLOCK: Buffer = pattern(1 << 20);

function pattern(octets: number): Buffer {
  const words = new Uint32Array(octets / 4);
  let state = 0x9e3779b9;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return Buffer.from(words.buffer);
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const path = request.url ?? "/";
  if (request.method === "PUT") {
    const hash = createHash("sha256");
    request.on("data", (chunk) => hash.update(chunk));
    request.on("end", () => response.end(hash.digest("hex")));
    return;
  }
  const octets = Number(path.split("/").at(-1));
  if (path.startsWith("/sha256/")) {
    const hash = createHash("sha256");
    for (let left = octets; left > 0; left -= BLOCK.length) hash.update(BLOCK.subarray(0, left));
    response.end(hash.digest("hex"));
    return;
  }
  response.writeHead(200, { "content-length": octets });
  let left = octets;
  const more = (): void => {
    while (left > 0) {
      const block = BLOCK.subarray(0, left);
      left -= block.length;
      if (!response.write(block)) {
        response.once("drain", more);
        return;
      }
    }
    response.end();
  };
  more();
}

function listen(server: Server, host: string): Promise<number> {
  return new Promise((resolve) => {
    server.once("error", () => resolve(0));
    server.listen(0, host, () => resolve((server.address() as AddressInfo).port));
  });
}

function echo(): Promise<number> {
  const socket = createSocket("udp4");
  socket.on("message", (message, from) => socket.send(message, from.port, from.address));
  return new Promise((resolve) => {
    socket.bind(0, "127.0.0.1", () => resolve(socket.address().port));
  });
}

/** A port that was free a moment ago. */
function closedPort(): Promise<number> {
  const server = createTcpServer();
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

const ports: DemoPorts = {
  http: await listen(createServer(answer), "127.0.0.1"),
  http6: await listen(createServer(answer), "::1"),
  udp: await echo(),
  closed: await closedPort(),
};
parentPort?.postMessage(ports);
