/**
 * Drives the stack without root, kernel, sockets or a clock: an in-memory device, a scripted client, and an
 * upstream that echoes. Run it after `npm run build` with `node examples/in-memory.js`.
 */

import assert from "node:assert/strict";
import { buildTcp, decodePacket, StackDriver, TcpFlag } from "tun2socks/testing";

const { SYN, ACK, PSH, FIN } = TcpFlag;

/** The upstream: says yes at once, sends back what it gets, closes when the client has closed. */
class Echo {
  #connection;
  #memory;
  #rows = new Int32Array(32);

  constructor(connection, memory) {
    this.#connection = connection;
    this.#memory = memory;
    connection.accept();
  }

  onReadable() {
    const connection = this.#connection;
    const rows = connection.readable(this.#rows);
    for (let row = 0; row < rows; row++) {
      const start = this.#rows[2 * row];
      const taken = connection.write(this.#memory, start, start + this.#rows[2 * row + 1]);
      connection.consume(taken);
      // The rest waits for onWritable; meanwhile the client's window closes.
      if (taken < this.#rows[2 * row + 1]) break;
    }
  }

  onWritable() {
    this.onReadable();
  }

  onFin() {
    this.#connection.shutdown();
  }

  onClosed(reason) {
    console.log(`upstream: ${reason}`);
  }
}

const driver = new StackDriver({
  onTcpOpen: (connection) => new Echo(connection, driver.memory.bytes),
});

const client = {
  source: "10.0.0.2",
  destination: "198.51.100.7",
  sourcePort: 40000,
  destinationPort: 7,
};

/** Gives one segment to the stack and returns what it answers. */
function exchange(fields) {
  driver.inject(buildTcp({ ...client, ...fields }));
  const answers = driver.take().map(({ bytes }) => decodePacket(bytes));
  for (const { seq, ack, flags, payload } of answers) {
    const names = Object.keys(TcpFlag).filter((name) => flags & TcpFlag[name]);
    console.log(`stack: ${names.join(" ")} seq ${seq} ack ${ack}, ${payload.length} octets`);
  }
  return answers;
}

const hello = new TextEncoder().encode("hello, stack");

// Three-way handshake.
const [synAck] = exchange({ seq: 1000, flags: SYN, options: [{ kind: "mss", value: 1460 }] });
assert.equal(synAck.ack, 1001);
const next = (synAck.seq + 1) >>> 0;

// The acknowledgement carries data; the echo carries its acknowledgement.
const [echo] = exchange({ seq: 1001, ack: next, flags: ACK | PSH, payload: hello });
assert.deepEqual(echo.payload, hello);

// We close, the upstream follows.
const answers = exchange({ seq: 1013, ack: (next + 12) >>> 0, flags: ACK | FIN });
const fin = answers.find(({ flags }) => flags & FIN);
assert.ok(fin, "the stack has closed its side too");
exchange({ seq: 1014, ack: (fin.seq + 1) >>> 0, flags: ACK });

// Time passes only when told, however long: nothing is left.
driver.drain();
console.log(`idle at ${driver.time.now()} ms of virtual time`);
