import { expect, test } from "vitest";
import { RX_ROW } from "../../../src/native/binding.ts";
import type { TcpConnection, TcpHandler } from "../../../src/stack/ports.ts";
import {
  buildTcp,
  buildUdp,
  decodePacket,
  StackDriver,
  TcpFlag,
} from "../../../src/testing/index.ts";

const { ACK, RST, SYN } = TcpFlag;
/** More than there have to be for the stack to look ahead. */
const FLOWS = 600;

class Sink implements TcpHandler {
  readonly connection: TcpConnection;

  constructor(connection: TcpConnection) {
    this.connection = connection;
  }

  onReadable(): void {
    this.connection.consume(this.connection.readableOctets);
  }

  onFin(): void {}
  onWritable(): void {}
  onClosed(): void {}
}

/** A batch is what a device gives; without looking ahead the stack sees the same packets. */
class Blind extends StackDriver {
  override onBatch(rows: Int32Array, count: number): void {
    for (let i = 0; i < count * RX_ROW; i += RX_ROW) {
      this.stack.input(rows[i], rows[i] + rows[i + 1], 0, 0, 0, 0);
    }
    this.stack.endBatch();
  }
}

function pair(flow: number) {
  const ports = { sourcePort: 1024 + flow, destinationPort: 80 };
  return flow % 2 === 0
    ? { source: "10.0.0.2", destination: "192.0.2.1", ...ports }
    : { source: "fd00::2", destination: "2001:db8::1", ...ports };
}

/** Opens the flows, gives the batches, returns all that the stack sent and counted. */
function run(driver: StackDriver, batches: (acks: number[]) => Uint8Array[][]): unknown {
  const acks: number[] = [];
  for (let flow = 0; flow < FLOWS; flow++) {
    driver.inject(buildTcp({ ...pair(flow), seq: 999, flags: SYN }));
    const answer = decodePacket(driver.take()[0].bytes);
    if (answer.kind !== "tcp") throw new Error("no SYN-ACK");
    acks.push((answer.seq + 1) >>> 0);
    driver.inject(buildTcp({ ...pair(flow), seq: 1000, ack: acks[flow], flags: ACK }));
  }
  for (const batch of batches(acks)) driver.inject(...batch);
  return { sent: driver.take(), stats: driver.stack.stats };
}

function listener() {
  return {
    onTcpOpen: (connection: TcpConnection) => {
      connection.accept();
      return new Sink(connection);
    },
  };
}

function data(flow: number, seq: number, ack: number): Uint8Array {
  return buildTcp({ ...pair(flow), seq, ack, flags: ACK, payload: new Uint8Array(100) });
}

/** Packets of many flows, of none, of no protocol of ours, and of a flow that ends and begins anew meanwhile. */
function mixed(acks: number[]): Uint8Array[][] {
  const whole = Array.from({ length: 64 }, (_, i) => data(7 * i, 1000, acks[7 * i]));
  const reset = buildTcp({ ...pair(500), seq: 1000, ack: acks[500], flags: RST });
  const opening = buildTcp({ ...pair(500), seq: 77_777, flags: SYN });
  const stray = data(FLOWS + 1, 1000, 5);
  const udp = buildUdp({ ...pair(4), payload: new Uint8Array(10) });
  const others = [
    udp,
    stray,
    data(499, 1000, acks[499]).subarray(0, 50),
    data(501, 1000, acks[501]),
    reset,
    opening,
    data(500, 1000, acks[500]),
    data(502, 1000, acks[502]),
    Uint8Array.of(0x45),
  ];
  return [whole, others, whole.map((_, i) => data(i, i % 7 === 0 ? 1100 : 1000, acks[i]))];
}

test("with many flows a batch is worked on as it would be packet by packet", () => {
  const ahead = run(new StackDriver(listener()), mixed);
  expect(ahead).toEqual(run(new Blind(listener()), mixed));
});

test("packets that were announced and never come, or more than a device gives at once, do no harm", () => {
  const driver = new StackDriver(listener());
  const rows = new Int32Array(200 * RX_ROW).map((_, i) => i * 31);
  const result = run(driver, (acks) => {
    driver.stack.lookAhead(rows, 200, RX_ROW);
    return mixed(acks);
  });
  expect(result).toEqual(run(new Blind(listener()), mixed));
});
