// The client of bench/udp.js; prints one line of JSON.
//
//   udp-client.js up    ADDRESS:PORT SIZE RATE MILLISECONDS [gso]   sent, received
//   udp-client.js down  ADDRESS:PORT SIZE RATE MILLISECONDS [gso]   the same, from the server
//   udp-client.js echo  ADDRESS:PORT SIZE MILLISECONDS              answers a second on one socket, p50 and p99 in µs
//   udp-client.js ports ADDRESS:PORT SIZE COUNT                     the same, each with a socket of its own
//
// `gso`: equal datagrams leave by UDP_SEGMENT, as QUIC's do.

import { HEADER, Kind, UdpSocket } from "./udp-socket.js";

const [mode, target, ...rest] = process.argv.slice(2);
const [size, second, third] = rest.map(Number);
const gso = rest.includes("gso");
/** Of a query, ms. It is not asked again: that would hide what was lost. */
const PATIENCE = 2000;
/** Lost in a row, after which the rest is given up. */
const HOPELESS = 5;
const run = ((process.pid << 8) | (Date.now() & 0xff)) >>> 0;

/** A socket that waits for one message at a time. */
class Client {
  received = 0;
  #done = null;
  #kind = 0;
  #number = 0;
  #socket = new UdpSocket({ target, onMessage: (message) => this.#onMessage(message) });

  #onMessage({ kind, run: of, a }) {
    if (of !== run) return;
    if (kind === Kind.DATA) this.received++;
    else if (kind === this.#kind && (kind !== Kind.ECHO || a === this.#number)) this.#done?.(a);
  }

  /** Sends a message; resolves with the number in the first one of kind `kind` that comes back, or null. */
  ask(kind, message, length, patience, wanted = kind) {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#done(null), patience);
      this.#done = (a) => {
        this.#done = null;
        clearTimeout(timer);
        resolve(a);
      };
      this.#kind = wanted;
      this.#number = message[0];
      this.#socket.send(kind, run, message, length);
    });
  }

  flood() {
    return this.#socket.flood(run, size, second, third, null, !gso);
  }

  /** Until the path exists: the first datagrams may wait for an association. */
  async warm() {
    for (let i = 0; i < 8; i++) {
      if ((await this.ask(Kind.ECHO, [i], HEADER, 250)) !== null) return this;
    }
    throw new Error("no answer from the target");
  }

  close() {
    this.#socket.close();
  }
}

const modes = { up, down, echo, ports };
const report = await modes[mode]();
process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));

async function up() {
  const client = await new Client().warm();
  const sent = client.flood();
  await new Promise((resolve) => setTimeout(resolve, 300));
  for (let i = 0; i < 10; i++) {
    const received = await client.ask(Kind.REPORT, [0], HEADER, 200);
    if (received !== null) return { sent, received };
  }
  return { sent, received: 0 };
}

async function down() {
  const client = await new Client().warm();
  const wanted = [size, second, third, gso ? 1 : 0];
  const sent = await client.ask(Kind.FLOOD, wanted, HEADER, 2 * third + 1000, Kind.REPORT);
  return { sent: sent ?? Math.round((second * third) / 1000), received: client.received };
}

async function echo() {
  const client = await new Client().warm();
  const times = [];
  let lost = 0;
  const started = performance.now();
  for (let i = 100; performance.now() - started < second; i++) {
    const from = performance.now();
    if ((await client.ask(Kind.ECHO, [i], size, PATIENCE)) === null) lost++;
    else times.push((performance.now() - from) * 1000);
  }
  return summary(times, lost, performance.now() - started);
}

async function ports() {
  const times = [];
  let inRow = 0;
  const started = performance.now();
  for (let i = 0; i < second && inRow < HOPELESS; i++) {
    const client = new Client();
    const from = performance.now();
    const answer = await client.ask(Kind.ECHO, [i], size, PATIENCE);
    client.close();
    inRow = answer === null ? inRow + 1 : 0;
    if (answer !== null) times.push((performance.now() - from) * 1000);
  }
  return summary(times, second - times.length, performance.now() - started);
}

function summary(times, lost, milliseconds) {
  times.sort((a, b) => a - b);
  const at = (share) => Math.round(times[Math.floor(times.length * share)] ?? 0);
  const perSecond = Math.round((times.length * 1000) / milliseconds);
  return { answered: times.length, lost, perSecond, p50: at(0.5), p99: at(0.99) };
}
