import { describe, expect, test } from "vitest";
import { MAX_RESETS } from "../../src/stack/tcp/resets.ts";
import { TcpFlag } from "../../src/testing/index.ts";
import { RawClient, RecordingDriver } from "../support/raw-client.ts";

test("RSTs to strangers are bounded per flush, and counted beyond", () => {
  const driver = new RecordingDriver();
  for (let n = 0; n < MAX_RESETS + 50; n++) {
    driver.device.queue(new RawClient(driver, { port: 1000 + n }).segment(TcpFlag.ACK, 1));
    if (n % 60 === 59) driver.device.deliver();
  }
  driver.turn();
  expect(driver.takeTcp().length).toBe(MAX_RESETS);
  expect(driver.stack.stats.tcpResetsDropped).toBe(50);
});

test("a thousand forgotten opens are remembered, the oldest gives way", () => {
  const driver = new RecordingDriver();
  const clients = Array.from({ length: 1100 }, (_, n) => new RawClient(driver, { port: 1000 + n }));
  for (const client of clients) {
    driver.inject(client.syn());
    driver.opened.at(-1)?.flow.connection.forget();
  }
  expect(driver.stack.stats.tcpFlows).toBe(1024);
  driver.inject((clients.at(-1) as RawClient).syn());
  expect(driver.opened.length).toBe(1100);
  driver.inject((clients[0] as RawClient).syn());
  expect(driver.opened.length).toBe(1101);
});

describe("a full table", () => {
  test("refuses a new flow by silence, counted", () => {
    const driver = new RecordingDriver({ stack: { maxTcpFlows: 4 } });
    for (let n = 0; n < 6; n++) driver.inject(new RawClient(driver, { port: 1000 + n }).syn());
    expect(driver.opened.length).toBe(4);
    expect(driver.stack.stats.tcpTableFull).toBe(2);
    expect(driver.take()).toEqual([]);
  });

  test("gives up a TIME-WAIT for a new flow", () => {
    const driver = new RecordingDriver({ stack: { maxTcpFlows: 1 } });
    const first = new RawClient(driver);
    const handler = first.open();
    handler.flow.connection.shutdown();
    driver.turn();
    driver.take();
    // Its FIN, and the acknowledgement of ours.
    first.received = 1;
    driver.inject(first.segment(TcpFlag.FIN | TcpFlag.ACK, 1));
    expect(handler.closed).toBe("closed");
    expect(driver.stack.stats.tcpFlows).toBe(1);
    driver.inject(new RawClient(driver, { port: 2 }).syn());
    expect(driver.opened.length).toBe(2);
  });
});

test("challenge ACKs of a connection are at most ten in five seconds (RFC 5961 §7)", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  client.open();
  for (let n = 0; n < 30; n++) driver.inject(client.segment(TcpFlag.RST, 100));
  expect(driver.takeTcp().length).toBe(10);
  driver.advance(5000);
  driver.inject(client.segment(TcpFlag.RST, 100));
  expect(driver.takeTcp().length).toBe(1);
  // The five seconds begin with the first of the ten.
  driver.advance(4000);
  for (let n = 0; n < 10; n++) driver.inject(client.segment(TcpFlag.RST, 100));
  expect(driver.takeTcp().length).toBe(9);
  expect(driver.stack.stats.tcpChallengesSuppressed).toBe(21);
});

test("a flood of SYNs outside the window is challenged no more often than others (RFC 5961 §4.2, §7)", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  client.open();
  for (let n = 0; n < 30; n++) driver.inject(client.segment(TcpFlag.SYN, -100_000 - n));
  expect(driver.takeTcp().length).toBe(10);
});

test("a flood of acknowledgements outside the window is answered no more often either (RFC 5961 §7)", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  client.open();
  for (let n = 0; n < 30; n++) driver.inject(client.segment(TcpFlag.ACK, -100_000 - n));
  expect(driver.takeTcp().length).toBe(10);
});

test("challenge ACKs of all connections are at most a thousand a second, and how many nobody can foretell (RFC 5961 §7)", () => {
  const driver = new RecordingDriver();
  const clients = Array.from({ length: 600 }, (_, n) => new RawClient(driver, { port: n + 1 }));
  for (const client of clients) client.open();
  driver.advance(1000 - (driver.time.now() % 1000));
  driver.take();
  const counts = [0, 200, 400].map((first) => {
    let answers = 0;
    for (const client of clients.slice(first, first + 200)) {
      for (let n = 0; n < 10; n++) driver.inject(client.segment(TcpFlag.RST, 100));
      answers += driver.takeTcp().length;
    }
    driver.advance(1000);
    return answers;
  });
  for (const count of counts) {
    expect(count).toBeGreaterThan(500);
    expect(count).toBeLessThanOrEqual(1000);
  }
  expect(new Set(counts).size).toBe(3);
  expect(driver.stack.stats.tcpChallengesSuppressed).toBe(
    6000 - counts.reduce((sum, count) => sum + count),
  );
});

test("keep-alives of 1,500 clients in one second are all answered, ten of each in five (RFC 9293 §3.8.4, RFC 5961 §7)", () => {
  const driver = new RecordingDriver();
  const clients = Array.from({ length: 1500 }, (_, n) => new RawClient(driver, { port: n + 1 }));
  for (const client of clients) client.open();
  driver.take();
  let answers = 0;
  for (const client of clients) {
    driver.inject(client.segment(TcpFlag.ACK, -1));
    answers += driver.takeTcp().length;
  }
  expect(answers).toBe(1500);
  const [first] = clients;
  for (let n = 0; n < 30; n++) driver.inject(first!.segment(TcpFlag.ACK, -1));
  expect(driver.takeTcp().length).toBe(9);
});

test("closed is not told before the last octet is consumed, whatever ended first", () => {
  for (const clientFirst of [true, false]) {
    const driver = new RecordingDriver();
    const client = new RawClient(driver);
    const handler = client.open();
    handler.autoconsume = false;
    const { connection } = handler.flow;
    if (!clientFirst) connection.shutdown();
    client.send(1000);
    if (!clientFirst) client.received = 1;
    driver.inject(client.segment(TcpFlag.FIN | TcpFlag.ACK, 1001));
    if (clientFirst) connection.shutdown();
    driver.turn();
    driver.take();
    client.received = 1;
    driver.inject(client.segment(TcpFlag.ACK, 1002));
    driver.advance(60_000);
    expect([handler.fin, handler.closed]).toEqual([true, null]);
    // The flow is over, and its ports are free for another.
    expect(driver.stack.stats.tcpFlows).toBe(0);
    const again = new RawClient(driver, { isn: 5 });
    again.open();
    expect(handler.flow.take(1000)).toBe(1000);
    expect(handler.closed).toBeNull();
    driver.advance(10);
    expect(handler.closed).toBe("closed");
    expect(driver.stack.pages.inUse).toBe(0);
  }
});

test("an abort while octets wait behind both FINs gives everything back", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  const handler = client.open();
  handler.autoconsume = false;
  client.send(1000);
  driver.inject(client.segment(TcpFlag.FIN | TcpFlag.ACK, 1001));
  handler.flow.connection.shutdown();
  driver.turn();
  driver.take();
  client.received = 1;
  driver.inject(client.segment(TcpFlag.ACK, 1002));
  expect(driver.stack.pages.inUse).toBeGreaterThan(0);
  handler.flow.connection.abort();
  driver.turn();
  expect(driver.take()).toEqual([]);
  expect(driver.stack.pages.inUse).toBe(0);
  expect(handler.closed).toBeNull();
  driver.drain();
});
