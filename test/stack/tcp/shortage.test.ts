/** A device that takes no more packets now, pages that are all in use: what waits is neither lost nor doubled. */

import { expect, test } from "vitest";
import { buildIcmp, decodePacket, drill, TcpFlag } from "../../../src/testing/index.ts";
import { TX_PACKETS } from "../../../src/tun/batch.ts";
import { RawClient, RecordingDriver } from "../../support/raw-client.ts";

const KIB = 1024;
/** More flows than one write holds packets. */
const MANY = TX_PACKETS + 44;

/** How many packets each client's port got. */
function perPort(packets: readonly { destinationPort: number }[]): number[] {
  const counts = new Map<number, number>();
  for (const { destinationPort: port } of packets) counts.set(port, (counts.get(port) ?? 0) + 1);
  return [...counts.values()];
}

test("RSTs and echo replies beyond one write leave with the next, each once", () => {
  const driver = new RecordingDriver({ stack: { icmp: "reply" } });
  const ping = { source: "10.0.0.2", destination: "198.51.100.1", type: 8, code: 0, rest: 0 };
  for (let n = 0; n < 200; n++) {
    const body = new Uint8Array(10);
    driver.device.queue(buildIcmp({ ...ping, body }));
    driver.device.queue(new RawClient(driver, { port: 1000 + n }).segment(TcpFlag.ACK, 1));
    if (n % 20 === 19) driver.device.deliver();
  }
  driver.turn();
  const packets = driver.take().map(({ bytes }) => decodePacket(bytes));
  expect(packets.filter(({ kind }) => kind === "icmp")).toHaveLength(200);
  const resets = packets.filter((packet) => packet.kind === "tcp");
  expect(perPort(resets)).toEqual(new Array(200).fill(1));
});

test("every closed window is probed, also when one write does not hold all probes", () => {
  const driver = new RecordingDriver();
  const clients = Array.from({ length: MANY }, (_, n) => {
    const client = new RawClient(driver, { port: 1000 + n });
    const handler = client.open();
    driver.inject(client.segment(TcpFlag.ACK, 1, 0, 0));
    return { client, handler };
  });
  driver.take();
  for (const { handler } of clients) {
    handler.flow.unsent = 100;
    handler.flow.fill();
  }
  driver.turn();
  expect(driver.take()).toEqual([]);
  driver.advance(290);
  const probes = driver.takeTcp();
  expect(perPort(probes)).toEqual(new Array(MANY).fill(1));
  expect(new Set(probes.map(({ payload }) => payload.length))).toEqual(new Set([1]));
});

test("a SYN-ACK, a segment and an RST of every flow leave, whatever one write holds", () => {
  const driver = new RecordingDriver({ stack: { maxPendingPerSource: MANY } });
  const clients = Array.from({ length: MANY }, (_, n) => new RawClient(driver, { port: 1000 + n }));
  for (const client of clients) driver.inject(client.syn());
  for (const { flow } of driver.opened) flow.connection.accept();
  driver.turn();
  const synAcks = driver.takeTcp();
  expect(perPort(synAcks)).toEqual(new Array(MANY).fill(1));
  for (const client of clients) client.hear(synAcks);
  for (const client of clients) driver.inject(client.segment(TcpFlag.ACK, 1));
  for (const { flow } of driver.opened) {
    flow.unsent = 100;
    flow.fill();
  }
  driver.turn();
  expect(perPort(driver.takeTcp())).toEqual(new Array(MANY).fill(1));
  for (const { flow } of driver.opened) flow.connection.abort();
  driver.turn();
  expect(perPort(driver.takeTcp())).toEqual(new Array(MANY).fill(1));
  expect(driver.stack.stats.tcpFlows).toBe(0);
});

test("two segments of one batch that find no page are not acknowledged, and taken when they come again", () => {
  const driver = new RecordingDriver({ pages: 64 * KIB });
  // The budget leaves each of so many flows two segments, which take a page.
  const hoarders = Array.from({ length: 16 }, (_, n) => new RawClient(driver, { port: 100 + n }));
  const hoards = hoarders.map((hoarder) => hoarder.open());
  for (const hoard of hoards) hoard.autoconsume = false;
  const client = new RawClient(driver, { port: 2 });
  const handler = client.open();
  handler.autoconsume = false;
  for (const hoarder of hoarders) hoarder.send(2800);
  expect(driver.stack.pages.inUse).toBe(64 * KIB);
  const both = [client.segment(TcpFlag.ACK, 1, 1000), client.segment(TcpFlag.ACK, 1001, 500)];
  driver.inject(...both);
  driver.advance(100);
  client.hearAll();
  expect(driver.stack.stats.tcpReceiveNoMemory).toBe(1);
  expect([client.acknowledged, handler.flow.connection.readableOctets]).toEqual([0, 0]);
  for (const hoard of hoards) hoard.flow.take(2800);
  driver.turn();
  driver.inject(...both);
  driver.advance(100);
  client.hearAll();
  expect([client.acknowledged, handler.flow.take(2000)]).toEqual([1500, 1500]);
});

test("an open whose upstream has nothing to drain is refused by RST", () => {
  drill(`
    0  < S 0:0(0) win 65535 <mss 1460>
    +0 * open
    +0 resetWhenDrained()
    +0 > R. 0:0(0) ack 1
  `);
});
