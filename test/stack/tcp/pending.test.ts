import { describe, expect, test } from "vitest";
import { TcpFlag } from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver } from "../../support/raw-client.ts";

/** `count` SYNs from one source, a port each. */
function flood(driver: RecordingDriver, address: string, count: number): RawClient[] {
  return Array.from({ length: count }, (_, n) => {
    const client = new RawClient(driver, { address, port: 1024 + n });
    driver.inject(client.syn());
    driver.advance(1);
    return client;
  });
}

const evicted = (driver: RecordingDriver): number[] =>
  driver.opened.flatMap((handler, index) => (handler.closed === "evicted" ? [index] : []));

describe("opens that wait for an answer are bounded", () => {
  test("256 of one source: its oldest gives way, but for the half that is older", () => {
    const driver = new RecordingDriver();
    flood(driver, "10.0.0.2", 256);
    expect(evicted(driver)).toEqual([]);
    flood(driver, "10.0.0.3", 1);
    expect(evicted(driver)).toEqual([]);
    const client = new RawClient(driver, { address: "10.0.0.2", port: 60000 });
    driver.inject(client.syn());
    expect(evicted(driver)).toEqual([128]);
    expect(driver.opened.at(-1)?.closed).toBeNull();
  });

  test("1,024 in all: one of the heaviest source gives way, not the newcomer's", () => {
    const driver = new RecordingDriver();
    flood(driver, "10.0.0.2", 200);
    flood(driver, "10.0.0.3", 250);
    for (let n = 0; n < 574; n++) flood(driver, `10.1.${n >> 8}.${n & 255}`, 1);
    expect(driver.opened).toHaveLength(1024);
    expect(evicted(driver)).toEqual([]);
    flood(driver, "10.2.0.1", 3);
    expect(evicted(driver)).toEqual([324, 325, 326]);
  });

  test("an evicted open can come again", () => {
    const driver = new RecordingDriver({ stack: { maxPendingPerSource: 2 } });
    const [, second] = flood(driver, "10.0.0.2", 3);
    expect(evicted(driver)).toEqual([1]);
    driver.inject(second!.syn());
    expect(driver.opened).toHaveLength(4);
    expect(evicted(driver)).toEqual([1, 2]);
  });

  test("a source that opens a little faster than it is answered has its opens answered, most of them", () => {
    const driver = new RecordingDriver();
    // 300 ms each, 256 at a time: 853 in a second. 1,000 come.
    let answered = 0;
    for (let n = 0; n < 3000; n++) {
      driver.inject(new RawClient(driver, { port: 1024 + n }).syn());
      const due = driver.opened[n - 300];
      if (due?.closed === null) {
        due.flow.connection.accept();
        answered++;
      }
      driver.advance(1);
      driver.take();
    }
    expect(answered).toBeGreaterThan(1000);
  });

  test("answered opens make room: 2,000 one after another evict nothing", () => {
    const driver = new RecordingDriver();
    for (let port = 1024; port < 3024; port++) new RawClient(driver, { port }).open();
    expect(evicted(driver)).toEqual([]);
    expect(driver.opened).toHaveLength(2000);
  });

  test("clients that never answer the SYN-ACK do not shut out others", () => {
    const driver = new RecordingDriver();
    for (let n = 0; n < 3000; n++) {
      const client = new RawClient(driver, { address: `10.9.${n >> 8}.${n & 255}` });
      driver.inject(client.syn());
      driver.opened.at(-1)!.flow.connection.accept();
      driver.turn();
      driver.take();
    }
    const honest = new RawClient(driver, { address: "10.0.0.9" });
    const handler = honest.open();
    honest.send(100);
    expect(handler.flow.consumed).toBe(100);
    // The flow that opened stays until it has been idle for 2 h 4 min.
    driver.drain(7_500_000);
    expect(handler.closed).toBe("timeout");
  });

  test("an open that is granted and aborted before its client answers still gets its RST", () => {
    const driver = new RecordingDriver({ stack: { maxHalfOpen: 1 } });
    const [first] = flood(driver, "10.0.0.2", 1);
    const { connection } = driver.opened[0]!.flow;
    connection.accept();
    driver.turn();
    driver.take();
    connection.abort();
    driver.device.queue(new RawClient(driver, { port: 9 }).syn());
    driver.turn();
    const [reset] = driver.takeTcp();
    expect([reset!.destinationPort, reset!.flags & TcpFlag.RST]).toEqual([
      first!.port,
      TcpFlag.RST,
    ]);
  });

  test("1,024 unanswered SYN-ACKs: the oldest gives way to another open", () => {
    const driver = new RecordingDriver();
    for (let n = 0; n < 1030; n++) {
      flood(driver, `10.9.${n >> 8}.${n & 255}`, 1);
      driver.opened.at(-1)!.flow.connection.accept();
      driver.turn();
      driver.take();
    }
    expect(evicted(driver)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(driver.stack.stats.tcpHalfOpenEvicted).toBe(6);
    expect(driver.stack.stats.tcpFlows).toBe(1024);
    driver.drain();
    expect(driver.stack.stats.tcpFlows).toBe(0);
  });

  test("20,000 SYNs from random sources: an honest client opens, and nothing remains", () => {
    const driver = new RecordingDriver();
    for (let n = 0; n < 20_000; n++) {
      const client = new RawClient(driver, {
        address: `10.${1 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`,
      });
      driver.inject(client.syn());
    }
    const open = driver.opened.filter((handler) => handler.closed === null);
    expect(open).toHaveLength(1024);
    const honest = new RawClient(driver, { address: "10.200.0.9" });
    const handler = honest.open();
    honest.send(100);
    expect(handler.flow.consumed).toBe(100);
    for (const { flow, closed } of driver.opened) {
      if (closed === null && flow !== handler.flow) flow.connection.refuse("reset");
    }
    driver.turn();
    driver.take();
    driver.inject(honest.segment(TcpFlag.RST, 1 + honest.sent));
    expect(handler.closed).toBe("reset");
    driver.drain();
  });
});
