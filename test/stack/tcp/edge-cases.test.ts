import { expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver, type RecordingHandler } from "../../support/raw-client.ts";

const KIB = 1024;

/** Sixteen flows whose upstreams take nothing hold a page each: all of a memory of 64 KiB. */
function fillMemory(driver: RecordingDriver): RecordingHandler[] {
  const handlers = Array.from({ length: 16 }, (_, n) => {
    const client = new RawClient(driver, { port: 1000 + n });
    const handler = client.open();
    handler.autoconsume = false;
    client.send(1000);
    return handler;
  });
  expect(driver.stack.pages.inUse).toBe(64 * KIB);
  return handlers;
}

test("pages that come free without a packet wake a connection that waits for them", () => {
  const driver = new RecordingDriver({ pages: 64 * KIB });
  const downloader = new RawClient(driver, { port: 2 });
  const download = downloader.open();
  const uploads = fillMemory(driver);
  driver.advance(1000);
  driver.take();
  // Upstream has octets while the TUN is silent.
  download.flow.unsent = 1000;
  expect(download.flow.fill()).toBe(false);
  for (const upload of uploads) expect(upload.flow.take(64 * KIB)).toBe(1000);
  driver.turn();
  expect(driver.stack.pages.inUse).toBe(0);
  driver.advance(100);
  downloader.hearAll();
  expect(downloader.received).toBe(1000);
});

test("a connection that waits for pages leaves no timer behind when it goes", () => {
  const driver = new RecordingDriver({ pages: 64 * KIB });
  const download = new RawClient(driver, { port: 2 }).open();
  const uploads = fillMemory(driver);
  download.flow.unsent = 1000;
  expect(download.flow.fill()).toBe(false);
  for (const upload of uploads) upload.flow.connection.abort();
  download.flow.connection.abort();
  driver.turn();
  driver.drain();
  expect(driver.stack.pages.inUse).toBe(0);
  expect(driver.stack.stats.tcpFlows).toBe(0);
});

test("abort in TIME-WAIT sends nothing: both directions have ended (RFC 9293 §3.10.5)", () => {
  drill(
    established(),
    `
    +0 shutdown()
    +0 > F. 1:1(0) ack 1
    +0 < F. 1:1(0) ack 2
    +0 * fin
    +0 > . 2 ack 2
    +0 * closed closed
    +0 abort()
    +1 < F. 1:1(0) ack 2
    +0 > . 2 ack 2
    `,
  );
});

test("an open that was refused is not evicted before its RST has left", () => {
  const driver = new RecordingDriver({ stack: { maxPending: 1 } });
  const first = new RawClient(driver, { port: 1 });
  const second = new RawClient(driver, { port: 2 });
  driver.inject(first.syn());
  driver.opened[0]!.flow.connection.refuse("reset");
  driver.inject(second.syn());
  expect(driver.takeTcp().map((packet) => packet.destinationPort)).toEqual([1]);
  expect(driver.opened[1]!.closed).toBeNull();
});

test("the timestamp of a segment outside the window is not taken (RFC 7323 §5.3 R2, R3)", () => {
  drill(
    established({ timestamps: true }),
    `
    +0 < P. 1:101(100) ack 1 win 512 <nop,nop,TS val 3 ecr last>
    +0 * data 100
    +0 > . 1 ack 101 <nop,nop,TS val * ecr 3>
    // All of it is old, however new its timestamp.
    +0 < P. 1:51(50) ack 1 win 512 <nop,nop,TS val 1000000 ecr last>
    +0 > . 1 ack 101 <nop,nop,TS val * ecr 3,nop,nop,sack 1:51>
    +0 < P. 101:201(100) ack 1 win 512 <nop,nop,TS val 4 ecr last>
    +0 * data 100
    +0 > . 1 ack 201 <nop,nop,TS val * ecr 4>
    `,
  );
});

test("octets dropped behind a closed window are repeated when it opens, not when the timer comes round", () => {
  drill(
    established({ mss: 1000, wscale: false, win: 1000 }),
    `
    +0       send(1000)
    +0       > P. 1:1001(1000) ack 1
    +.01     < . 1 ack 1 win 0
    +.1~.3   > P. 1:1001(1000) ack 1
    +0       < . 1 ack 1 win 0
    +.3~.5   > P. 1:1001(1000) ack 1
    +0       < . 1 ack 1 win 0
    +.7~.9   > P. 1:1001(1000) ack 1
    +0       < . 1 ack 1 win 0
    +1.5~1.7 > P. 1:1001(1000) ack 1
    +0       < . 1 ack 1 win 0
    +.01     < . 1 ack 1 win 1000
    +0       > P. 1:1001(1000) ack 1
    +.01     < . 1 ack 1001 win 1000
    `,
  );
});
