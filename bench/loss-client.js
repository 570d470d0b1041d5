// One transfer of OCTETS with the web fixture of the tests, its hash checked. Usage: loss-client.js HOST PORT OCTETS down|up.
// Prints the milliseconds from the request to the last octet (down) or to the server's answer (up).

import { createHash } from "node:crypto";
import { request } from "node:http";

const [host, port, octetsText, direction] = process.argv.slice(2);
const octets = Number(octetsText);
const body = direction === "up" ? pattern(octets) : undefined;
const started = performance.now();
const answer = body === undefined ? await ask("GET", `/${octets}`) : await ask("PUT", "/", body);
const milliseconds = performance.now() - started;
const expected =
  body === undefined
    ? String(await ask("GET", `/sha256/${octets}`))
    : createHash("sha256").update(body).digest("hex");
const seen =
  body === undefined ? createHash("sha256").update(answer).digest("hex") : String(answer);
if (seen !== expected) {
  console.error(`${octets} octets ${direction} from ${host}: wrong hash ${seen}`);
  process.exit(1);
}
console.log(milliseconds.toFixed(0));

function ask(method, path, data) {
  return new Promise((resolve, reject) => {
    const parts = [];
    request({ host, port, path, method, agent: false }, (response) => {
      response.on("data", (chunk) => parts.push(chunk));
      response.on("end", () => resolve(Buffer.concat(parts)));
      response.on("error", reject);
    })
      .on("error", reject)
      .end(data);
  });
}

function pattern(length) {
  const bytes = Buffer.alloc(length);
  for (let i = 0, state = 1; i < length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) | 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}
