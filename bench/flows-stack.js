// One round of the second part of bench/flows.js: `node flows-stack.js FLOWS` prints nanoseconds per packet.
//
// The pure stack, no sockets: every packet is a super-segment of 2,920 octets of a random flow, which the handler
// consumes at once and the stack acknowledges at once, so that the work is the same however many flows there are.

import { plainMemory } from "../dist/memory.js";
import { RX_ROW } from "../dist/native/binding.js";
import { Stack } from "../dist/stack/stack.js";
import { TimerWheel } from "../dist/stack/timer-wheel.js";
import { TxBatch } from "../dist/tun/batch.js";

const flows = Number(process.argv[2]);
const BATCH = 64;
const PAYLOAD = 2920;
const MSS = 1460;
const TCPV4 = 1;
const HEADERS = 40;
const WARM_UP = 300_000;
const PACKETS = 2_000_000;

const memory = plainMemory(64 << 20);
const timers = new TimerWheel();
const tx = new TxBatch(memory.headersStart, memory.headersEnd);
const { bytes } = memory;
const view = new DataView(bytes.buffer);
const rows = new Int32Array(64);
/** The packets of a batch, as the device gives them. */
const batch = new Int32Array(BATCH * RX_ROW);

class Handler {
  constructor(connection) {
    this.connection = connection;
  }

  onReadable() {
    const count = this.connection.readable(rows);
    let octets = 0;
    for (let i = 0; i < count; i++) octets += rows[2 * i + 1];
    this.connection.consume(octets);
  }

  onFin() {}
  onWritable() {}
  onClosed() {}
}

let last = null;
const stack = new Stack(
  {
    mtu: 1500,
    offload: { checksum: true, tso4: true, tso6: true, uso4: true, uso6: true },
    secret: crypto.getRandomValues(new Uint32Array(4)),
    ownAddresses: [],
    icmp: "own",
    udpTimeout: 300_000,
  },
  memory,
  timers,
  {
    onTcpOpen: (connection) => (last = new Handler(connection)),
    onUdpOpen: () => null,
    onDirty() {},
  },
);

/**
 * Of each client: next sequence number, acknowledgement, last batch. Side by side, and read for a batch at a time: to wait
 * for memory here is not the stack's.
 */
const clients = new Int32Array(4 * flows);
const SEQ = 0;
const ACKED = 1;
const IN_BATCH = 2;
for (let at = 0; at < clients.length; at += 4) clients[at + IN_BATCH] = -1;

/** The checksum is the device's business: every packet says NEEDS_CSUM. */
function build(row, at, flow, flags, octets) {
  view.setUint32(at, 0x45000000 + HEADERS + octets);
  view.setUint32(at + 4, 0x4000);
  view.setUint32(at + 8, 0x40060000);
  view.setUint32(at + 12, 0x0a000002 + (flow >>> 14));
  view.setUint32(at + 16, 0xc6336401);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) if (i !== 10) sum += view.getUint16(at + i);
  sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(at + 10, ~((sum & 0xffff) + (sum >>> 16)));
  view.setUint16(at + 20, 1024 + (flow & 0x3fff));
  view.setUint16(at + 22, 80);
  view.setInt32(at + 24, clients[4 * flow + SEQ]);
  view.setInt32(at + 28, clients[4 * flow + ACKED]);
  view.setUint16(at + 32, 0x5000 | flags);
  view.setUint16(at + 34, 65535);
  view.setUint32(at + 36, 0);
  const gso = octets > MSS;
  batch[row] = at;
  batch[row + 1] = HEADERS + octets;
  batch[row + 2] = gso ? 1 | (TCPV4 << 8) : 1;
  batch[row + 3] = gso ? MSS : 0;
  batch[row + 4] = 20;
  batch[row + 5] = 16;
}

/** As Tunnel.onBatch. */
function input(count) {
  stack.lookAhead?.(batch, count, RX_ROW);
  for (let i = 0, row = 0; i < count; i++, row += RX_ROW) {
    stack.input(
      batch[row],
      batch[row] + batch[row + 1],
      batch[row + 2],
      batch[row + 3],
      batch[row + 4],
      batch[row + 5],
    );
  }
  stack.endBatch();
}

function flush() {
  while (!stack.flush(tx)) tx.clear();
}

const SYN = 2;
const ACK = 16;
for (let flow = 0; flow < flows; flow++) {
  build(0, memory.rxStart, flow, SYN, 0);
  input(1);
  last.connection.accept();
  flush();
  // The SYN-ACK is the one packet in the batch.
  clients[4 * flow + ACKED] = view.getInt32(memory.headersStart + 24) + 1;
  tx.clear();
  clients[4 * flow + SEQ]++;
  build(0, memory.rxStart, flow, ACK, 0);
  input(1);
  flush();
  tx.clear();
}
if (stack.stats.tcpEstablished !== flows) throw new Error(`${stack.stats.tcpEstablished} flows`);

/** The flows of a batch. */
const chosen = new Int32Array(BATCH);
let state = 12345;
let clock = 0;
function run(packets) {
  // Processor time: other processes may want the core too.
  const started = process.cpuUsage();
  for (let n = 0; n < packets; n += BATCH) {
    let at = memory.rxStart;
    for (let i = 0; i < BATCH; i++) {
      let flow = 0;
      // One packet of a flow in a batch: a first window takes no more where flows are many.
      do {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        flow = Math.floor((state / 2 ** 32) * flows);
      } while (clients[4 * flow + IN_BATCH] === clock);
      clients[4 * flow + IN_BATCH] = clock;
      chosen[i] = flow;
    }
    for (let i = 0; i < BATCH; i++) {
      const flow = chosen[i];
      build(RX_ROW * i, at, flow, ACK, PAYLOAD);
      clients[4 * flow + SEQ] += PAYLOAD;
      at += 4096;
    }
    input(BATCH);
    flush();
    tx.clear();
    clock += BATCH;
    timers.advance(Math.floor(clock / 1000));
  }
  const { user, system } = process.cpuUsage(started);
  return ((user + system) * 1000) / packets;
}

run(WARM_UP);
console.log(run(PACKETS).toFixed(1));
if (stack.stats.tcpOutOfWindow + stack.stats.tcpStray > 0) throw new Error("lost packets");
