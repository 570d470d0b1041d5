import { expect, test } from "vitest";
import { Pair, pattern, TcpFlag } from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver } from "../../support/raw-client.ts";

const MIB = 1 << 20;

test("10,000 flows with 300 unacknowledged octets each stay below 60 MB of pages", () => {
  const driver = new RecordingDriver({ pages: 64 * MIB });
  const clients: RawClient[] = [];
  for (let n = 0; n < 10_000; n++) {
    const client = new RawClient(driver, { address: `10.1.${n >> 8}.${n & 255}` });
    const handler = client.open();
    handler.flow.unsent = 300;
    handler.flow.fill();
    driver.turn();
    client.hearAll();
    expect(client.received).toBe(300);
    clients.push(client);
  }
  expect(driver.stack.pages.held).toBeLessThan(60_000_000);
  for (const client of clients) driver.inject(client.segment(TcpFlag.ACK, 1));
  expect(driver.stack.pages.inUse).toBe(0);
}, 30_000);

test("an idle flow holds no page", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  const handler = client.open();
  client.send(1000);
  handler.flow.unsent = 1000;
  handler.flow.fill();
  driver.turn();
  client.hearAll();
  driver.inject(client.segment(TcpFlag.ACK, 1 + client.sent));
  driver.advance(1000);
  expect(driver.stack.pages.inUse).toBe(0);
});

test("an upstream that is faster than the client waits: the send buffer is bounded", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  const handler = client.open();
  handler.flow.unsent = 100 * MIB;
  expect(handler.flow.fill()).toBe(false);
  driver.turn();
  client.hearAll();
  const held = handler.flow.sent;
  expect(held).toBeGreaterThan(60_000);
  expect(held).toBeLessThanOrEqual(4 * MIB);
  expect(driver.stack.pages.inUse).toBeLessThan(held + 256 * 1024);
  // What the client acknowledges makes room, and the stack says so.
  for (let n = 0; n < 20 && client.received < held; n++) {
    driver.inject(client.segment(TcpFlag.ACK, 1, 0, 65535));
    client.hearAll();
  }
  expect(client.received).toBeGreaterThanOrEqual(held);
  expect(handler.flow.sent).toBeGreaterThan(held);
});

test("octets out of order are bounded, whatever holes a client leaves", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  client.open();
  for (let seq = 3; seq < 60_000; seq += 2) {
    driver.inject(client.segment(TcpFlag.ACK, seq, 1));
    driver.take();
  }
  expect(driver.stack.pages.inUse).toBeLessThan(2 * MIB);
});

test("a whole window behind one lost segment is kept, however small its segments", () => {
  const driver = new RecordingDriver();
  const options = [
    { kind: "mss", value: 1460 },
    { kind: "sackOK" },
    { kind: "wscale", value: 7 },
  ] as const;
  const client = new RawClient(driver, { options });
  const handler = client.open();
  // The window grows with what the upstream takes.
  for (let n = 0; n < 6000; n++) {
    client.send(1460);
    driver.take();
  }
  const lost = 1 + client.sent;
  const end = lost + 2500 * 1460;
  for (let seq = lost + 1460; seq < end; seq += 1460) {
    driver.inject(client.segment(TcpFlag.ACK, seq, 1460));
    driver.take();
  }
  expect(driver.stack.stats.tcpReassemblyNoMemory).toBe(0);
  driver.inject(client.segment(TcpFlag.ACK, lost, 1460));
  expect(handler.flow.consumed).toBe(end - 1);
});

test("without pages nothing that was acknowledged is lost, and the rest is taken later", () => {
  const driver = new RecordingDriver({ pages: 3 * MIB });
  const region = driver.memory.pagesEnd - driver.memory.pagesStart;
  const clients = Array.from({ length: 100 }, (_, n) => {
    const client = new RawClient(driver, { port: 1024 + n });
    const handler = client.open();
    handler.autoconsume = false;
    return { client, handler };
  });
  for (let round = 0; round < 40; round++) {
    for (const { client } of clients) {
      if (client.room < 1460) continue;
      client.send(1460);
      driver.advance(1);
    }
    driver.advance(50);
    for (const packet of driver.takeTcp()) for (const { client } of clients) client.hear([packet]);
    // A client that is not acknowledged sends the same octets again.
    for (const { client } of clients) client.sent = client.acknowledged;
  }
  expect(driver.stack.pages.held).toBeLessThanOrEqual(region);
  let total = 0;
  for (const { client, handler } of clients) {
    expect(handler.closed).toBeNull();
    expect(handler.flow.connection.readableOctets).toBeGreaterThanOrEqual(client.acknowledged);
    const octets = handler.flow.connection.readableOctets;
    expect(handler.flow.take(octets)).toBe(octets);
    total += octets;
  }
  // The memory was truly short, and was truly used.
  expect(total).toBeLessThan(100 * 40 * 1460);
  expect(total).toBeGreaterThan(region / 4);
  driver.turn();
  driver.take();
  for (const { client, handler } of clients.slice(0, 10)) {
    handler.autoconsume = true;
    const before = handler.flow.consumed;
    client.sent = before;
    client.send(1460);
    expect(handler.flow.consumed).toBe(before + 1460);
  }
});

test("without pages out-of-order octets that were SACKed are kept (RFC 2018 §8 allows less)", () => {
  const driver = new RecordingDriver({ pages: 3 * MIB });
  const options = [
    { kind: "mss", value: 1460 },
    { kind: "sackOK" },
    { kind: "wscale", value: 7 },
  ] as const;
  const clients = Array.from({ length: 100 }, (_, n) => {
    const client = new RawClient(driver, { port: 1024 + n, options });
    return { client, handler: client.open(), sacked: 0 };
  });
  for (const entry of clients) {
    for (let seq = 1461; seq + 1460 < 60_000; seq += 1460) {
      driver.inject(entry.client.segment(TcpFlag.ACK, seq, 1460));
      for (const packet of driver.takeTcp()) {
        for (const option of packet.options) {
          if (option.kind !== "sack") continue;
          entry.sacked = Math.max(
            entry.sacked,
            ...option.blocks.map(([, right]) => (right - entry.client.isn - 1) | 0),
          );
        }
      }
    }
  }
  expect(Math.max(...clients.map(({ sacked }) => sacked))).toBeGreaterThan(1460);
  for (const { client, handler, sacked } of clients) {
    driver.inject(client.segment(TcpFlag.ACK, 1, 1460));
    expect(handler.flow.consumed).toBeGreaterThanOrEqual(Math.max(1460, sacked));
    driver.take();
  }
});

test("a reset gives everything back", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  const handler = client.open();
  handler.autoconsume = false;
  for (let n = 0; n < 20; n++) client.send(1460);
  driver.inject(client.segment(TcpFlag.ACK, 1 + client.sent + 5000, 1000));
  handler.flow.unsent = MIB;
  handler.flow.fill();
  expect(driver.stack.pages.inUse).toBeGreaterThan(0);
  driver.inject(client.segment(TcpFlag.RST, 1 + client.sent));
  expect(handler.closed).toBe("reset");
  expect(driver.stack.pages.inUse).toBe(0);
  driver.drain();
});

test("ten megabytes pass through a small memory in both directions", () => {
  const octets = 10 * MIB;
  const pair = new Pair({
    seed: 3,
    pages: 3 * MIB,
    clientOctets: octets,
    upstreamOctets: octets,
    client: { gsoSegments: 20, buffer: 4 * MIB },
  });
  pair.drive();
  expect(pair.upstream.received).toBe(octets);
  expect(Buffer.compare(pair.client.received, pattern(1, 0, octets))).toBe(0);
  expect(pair.driver.stack.pages.inUse).toBe(0);
}, 30_000);
