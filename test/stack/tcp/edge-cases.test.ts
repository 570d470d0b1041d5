import { expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver } from "../../support/raw-client.ts";

const KIB = 1024;

test("pages that come free without a packet wake a connection that waits for them", () => {
  const driver = new RecordingDriver({ pages: 64 * KIB });
  const uploader = new RawClient(driver, { port: 1 });
  const upload = uploader.open();
  upload.autoconsume = false;
  const downloader = new RawClient(driver, { port: 2 });
  const download = downloader.open();
  for (let n = 0; n < 4; n++) uploader.send(16 * KIB - 100);
  driver.advance(1000);
  expect(driver.stack.pages.inUse).toBe(64 * KIB);
  // Upstream has octets while the TUN is silent.
  download.flow.unsent = 1000;
  expect(download.flow.fill()).toBe(false);
  expect(upload.flow.take(64 * KIB)).toBeGreaterThan(0);
  driver.turn();
  expect(driver.stack.pages.inUse).toBe(0);
  driver.advance(100);
  downloader.hearAll();
  expect(downloader.received).toBe(1000);
});

test("a connection that waits for pages leaves no timer behind when it goes", () => {
  const driver = new RecordingDriver({ pages: 64 * KIB });
  const uploader = new RawClient(driver, { port: 1 });
  const upload = uploader.open();
  upload.autoconsume = false;
  const download = new RawClient(driver, { port: 2 }).open();
  for (let n = 0; n < 4; n++) uploader.send(16 * KIB - 100);
  download.flow.unsent = 1000;
  expect(download.flow.fill()).toBe(false);
  upload.flow.connection.abort();
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
