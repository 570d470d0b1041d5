import { describe, expect, test } from "vitest";
import { drill, established, TcpFlag } from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver } from "../../support/raw-client.ts";

describe("an established flow", () => {
  test("ends with RST after 2 h 4 min of silence (RFC 5382 REQ-5)", () => {
    const { driver } = drill(
      established(),
      `
      +7440  > R. 1:1(0) ack 1
      +0     * closed timeout
      `,
    );
    expect(driver.stack.stats.tcpIdle).toBe(1);
    expect(driver.stack.stats.tcpFlows).toBe(0);
    driver.drain(10_000);
  });

  test("lives 2 h 4 min on from the last octets of its client", () => {
    drill(
      established(),
      `
      +7000  < P. 1:101(100) ack 1
      +0     * data 100
      +0     > . 1 ack 101
      +7440  > R. 1:1(0) ack 101
      +0     * closed timeout
      `,
    );
  });

  test("lives on by the client's acknowledgement of what the upstream sends", () => {
    drill(
      established(),
      `
      +7000  write(100)
      +0     > P. 1:101(100) ack 1
      +.1    < . 1 ack 101
      +7440  > R. 101:101(0) ack 1
      +0     * closed timeout
      `,
    );
  });

  test("lives on by the client's keep-alives, which are answered (RFC 5382 §5, RFC 9293 §3.8.4)", () => {
    drill(
      established(),
      `
      +7200  < . 0 ack 1
      +0     > . 1 ack 1
      +7200  < . 0:1(1) ack 1 junk
      +0     > . 1 ack 1
      +7440  > R. 1:1(0) ack 1
      +0     * closed timeout
      `,
    );
  });

  test("may be given less", () => {
    drill(
      { stack: { tcpIdle: 5000 } },
      established(),
      `
      +4   < P. 1:101(100) ack 1
      +0   * data 100
      +0   > . 1 ack 101
      +5   > R. 1:1(0) ack 101
      +0   * closed timeout
      `,
    );
  });

  test("that holds octets for an upstream that takes none gives them back", () => {
    const driver = new RecordingDriver({ stack: { tcpIdle: 60_000 } });
    const client = new RawClient(driver);
    const handler = client.open();
    handler.autoconsume = false;
    client.send(1000);
    expect(driver.stack.pages.inUse).toBeGreaterThan(0);
    driver.advance(60_010);
    expect(handler.closed).toBe("timeout");
    expect(driver.stack.pages.inUse).toBe(0);
    driver.drain(10_000);
  });
});

describe("a flow that is half closed", () => {
  test("by its client ends with RST after ten minutes of silence (RFC 5382 REQ-5)", () => {
    drill(
      established(),
      `
      +3600  < F. 1:1(0) ack 1
      +0     * fin
      +0     > . 1 ack 2
      +599   write(10)
      +0     > P. 1:11(10) ack 2
      +0     < . 2 ack 11
      +600   > R. 11:11(0) ack 2
      +0     * closed timeout
      `,
    );
  });

  test("by its upstream, in FIN-WAIT-2, too (RFC 5382 REQ-5)", () => {
    drill(
      established(),
      `
      +3600  shutdown()
      +0     > F. 1:1(0) ack 1
      +.1    < . 1 ack 2
      +500   < P. 1:101(100) ack 2
      +0     * data 100
      +0     > . 2 ack 101
      +600   > R. 2:2(0) ack 101
      +0     * closed timeout
      `,
    );
  });

  test("may be given less", () => {
    drill(
      { stack: { tcpHalfClosed: 3000 } },
      established(),
      `
      +60  < F. 1:1(0) ack 1
      +0   * fin
      +0   > . 1 ack 2
      +3   > R. 1:1(0) ack 2
      +0   * closed timeout
      `,
    );
  });
});

describe("once both FINs have left", () => {
  test("a client that says nothing is given up by R2 (RFC 9293 §3.8.3)", () => {
    const { driver } = drill(
      established(),
      `
      +60     < F. 1:1(0) ack 1
      +0      * fin
      +0      > . 1 ack 2
      +0      shutdown()
      +0      > F. 1:1(0) ack 2
      +0      mute(on)
      +100~180 * closed timeout
      `,
    );
    expect(driver.stack.stats.tcpFlows).toBe(0);
    driver.drain(10_000);
  });

  test("one that keeps its window closed for ever has four minutes in LAST-ACK (RFC 5382 REQ-5)", () => {
    const driver = new RecordingDriver();
    const client = new RawClient(driver);
    const handler = client.open();
    driver.inject(client.segment(TcpFlag.FIN | TcpFlag.ACK, 1));
    handler.flow.write(1000);
    handler.flow.connection.shutdown();
    driver.turn();
    driver.take();
    // It answers whatever comes, and takes nothing.
    const answer = client.segment(TcpFlag.ACK, 2, 0, 0);
    for (let second = 0; second < 239; second++) {
      driver.inject(answer);
      driver.advance(1000);
      driver.take();
    }
    expect(handler.closed).toBeNull();
    driver.advance(1100);
    expect(handler.closed).toBe("timeout");
    expect(driver.takeTcp().some(({ flags }) => (flags & TcpFlag.RST) !== 0)).toBe(true);
    driver.drain(10_000);
  });
});

test("a busy flow costs its idle timer nothing but to look once per limit", () => {
  const driver = new RecordingDriver({ stack: { tcpIdle: 100_000 } });
  const client = new RawClient(driver);
  const handler = client.open();
  let looks = 0;
  for (let second = 0; second < 1000; second++) {
    client.send(10);
    const end = driver.time.now() + 1000;
    while (driver.time.step(end)) {
      looks++;
      driver.flush();
    }
    driver.take();
  }
  expect(handler.closed).toBeNull();
  // The delayed ACK of every segment, and the idle timer: levels of the wheel count too.
  expect(looks).toBeLessThan(1000 + 60);
  driver.advance(100_010);
  expect(handler.closed).toBe("timeout");
});
