import { describe, expect, test } from "vitest";
import { drill, TcpFlag } from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver, type RecordingHandler } from "../../support/raw-client.ts";

const KIB = 1 << 10;
const MIB = 1 << 20;
const MSS = 1460;

const WITH_SACK = [
  { kind: "mss", value: MSS },
  { kind: "sackOK" },
  { kind: "wscale", value: 7 },
] as const;

interface Flow {
  readonly client: RawClient;
  readonly handler: RecordingHandler;
}

function open(driver: RecordingDriver, port: number, consumes: boolean = true): Flow {
  const client = new RawClient(driver, { port, options: WITH_SACK });
  const handler = client.open();
  handler.autoconsume = consumes;
  return { client, handler };
}

/** Opens flows whose upstreams take nothing until they hold `octets` of pages. */
function hold(driver: RecordingDriver, octets: number, firstPort: number = 10_000): Flow[] {
  const flows: Flow[] = [];
  for (let port = firstPort; driver.stack.pages.inUse < octets; port++) {
    const flow = open(driver, port, false);
    flows.push(flow);
    while (flow.client.room >= MSS && driver.stack.pages.inUse < octets) flow.client.send(MSS);
  }
  return flows;
}

/** Lets the upstream of every flow take what it holds. */
function release(driver: RecordingDriver, flows: readonly Flow[]): void {
  for (const { handler } of flows) handler.flow.take(handler.flow.connection.readableOctets);
  driver.turn();
  driver.take();
}

describe("the first window", () => {
  test("is 64 KiB while the budget is worth it, then B / (4 × flows), at least two segments", () => {
    const driver = new RecordingDriver({ stack: { memoryBudget: MIB } });
    const windows = Array.from({ length: 200 }, (_, n) => {
      const client = new RawClient(driver, { port: 1000 + n });
      driver.inject(client.syn());
      driver.opened.at(-1)!.flow.connection.accept();
      driver.turn();
      const [synAck] = client.hearAll();
      driver.inject(client.segment(TcpFlag.ACK, 1));
      return synAck!.window;
    });
    for (const [n, window] of windows.entries()) {
      const share = Math.floor(MIB / (4 * (n + 1)));
      expect(window).toBe(Math.max(Math.min(share, 65535), 2 * MSS));
    }
    expect([windows[0], windows[7], windows[199]]).toEqual([65535, 32 * KIB, 2 * MSS]);
  });

  test("is at least what the scale of a profile can say twice: a window that rounds to nothing never opens", () => {
    const { trace } = drill(
      { stack: { memoryBudget: 8192 } },
      `
      0   < S 0:0(0) win 65535 <mss 1460,nop,wscale 7>
      +0  * open
      +0  accept(mss 1460, wscale 14)
      +0  > S. 0:0(0) ack 1 win 32768 <mss 1460,nop,wscale 14>
      +0  < . 1 ack 1 win 512
      +0  < . 1:1461(1460) ack 1 win 512
      +0  * data 1460
      +0  > . 1 ack 1461
      +0  < . 1461:2921(1460) ack 1 win 512
      +0  * data 1460
      +0  > . 1 ack 2921
      `,
    );
    expect(trace.map(({ packet }) => packet.window)).toEqual([32_768, 2, 2]);
  });

  test("does not count flows in TIME-WAIT", () => {
    const driver = new RecordingDriver({ stack: { memoryBudget: MIB } });
    for (let n = 0; n < 100; n++) {
      const { client, handler } = open(driver, 1000 + n);
      handler.flow.connection.shutdown();
      driver.turn();
      client.hearAll();
      client.received = 1;
      driver.inject(client.segment(TcpFlag.FIN | TcpFlag.ACK, 1));
      driver.take();
    }
    expect(driver.stack.stats.tcpFlows).toBe(100);
    expect(open(driver, 2000).client.window).toBe(65535);
  });

  test("is two segments above three quarters of the budget", () => {
    const driver = new RecordingDriver({ stack: { memoryBudget: 4 * MIB } });
    const held = hold(driver, 3 * MIB);
    const before = open(driver, 1);
    held.push(...hold(driver, 3 * MIB + 64 * KIB, 20_000));
    const after = open(driver, 2);
    expect(before.client.window).toBeGreaterThan(2 * MSS);
    expect(after.client.window).toBe(2 * MSS);
    // It works all the same, and grows once there is room.
    release(driver, held);
    for (let n = 0; n < 50; n++) after.client.send(MSS);
    expect(after.handler.flow.consumed).toBe(50 * MSS);
    expect(after.client.window).toBeGreaterThan(20 * KIB);
  });
});

describe("windows", () => {
  /** The window after `octets` that the upstream took at once. */
  function windowAfter(flow: Flow, octets: number): number {
    for (let sent = 0; sent < octets; sent += MSS) flow.client.send(MSS);
    return flow.client.window;
  }

  test("grow up to 4 MiB with what the upstream takes, and no memory stays behind", () => {
    const driver = new RecordingDriver();
    const flow = open(driver, 1);
    expect(windowAfter(flow, 12 * MIB)).toBe(4 * MIB);
    expect(driver.stack.pages.inUse).toBe(0);
  });

  test("of the send buffer grow up to 4 MiB with what the client acknowledges, and no memory stays behind", () => {
    const driver = new RecordingDriver();
    const { client, handler } = open(driver, 1);
    let most = 0;
    // Slow start takes it there in nine rounds, and no further in the tenth and eleventh.
    for (let round = 0; round < 11; round++) {
      handler.flow.unsent = 8 * MIB;
      handler.flow.fill();
      most = Math.max(most, driver.stack.pages.inUse);
      driver.turn();
      client.hearAll();
      driver.inject(client.segment(TcpFlag.ACK, 1, 0, 65535));
    }
    expect(most).toBeGreaterThan(3.9 * MIB);
    expect(most).toBeLessThanOrEqual(4 * MIB + 128 * KIB);
    handler.flow.unsent = 0;
    for (let round = 0; driver.stack.pages.inUse > 0 && round < 100; round++) {
      driver.turn();
      client.hearAll();
      driver.inject(client.segment(TcpFlag.ACK, 1, 0, 65535));
    }
    expect(client.received).toBe(handler.flow.sent);
    expect(driver.stack.pages.inUse).toBe(0);
  });

  test("stop growing while half of the budget is held", () => {
    const driver = new RecordingDriver({ stack: { memoryBudget: 4 * MIB } });
    const flow = open(driver, 1);
    const held = hold(driver, 2 * MIB);
    const before = flow.client.window;
    expect(windowAfter(flow, MIB)).toBeLessThanOrEqual(before);
    release(driver, held);
    expect(windowAfter(flow, MIB)).toBeGreaterThan(2 * before);
  });

  test("never move their right edge left, whatever others hold", () => {
    const driver = new RecordingDriver({ stack: { memoryBudget: MIB } });
    const flows = Array.from({ length: 40 }, (_, n) => open(driver, 1000 + n, n % 2 === 0));
    const edges = flows.map(({ client }) => client.acknowledged + client.window);
    for (let round = 0; round < 60; round++) {
      for (const [n, { client, handler }] of flows.entries()) {
        if (client.room >= MSS) client.send(MSS);
        if (round % 20 === 19) handler.flow.take(handler.flow.connection.readableOctets);
        driver.advance(1);
        for (const packet of driver.takeTcp()) {
          for (const other of flows) other.client.hear([packet]);
        }
        const edge = client.acknowledged + client.window;
        expect(edge).toBeGreaterThanOrEqual(edges[n]!);
        edges[n] = edge;
        // What was not acknowledged comes again.
        client.sent = client.acknowledged;
      }
    }
    expect(driver.stack.pages.held).toBeLessThanOrEqual(MIB);
  });

  test("of two segments keep their right edge as well when small segments fill them (RFC 9293 §3.8.6 SHLD-14)", () => {
    const driver = new RecordingDriver({ stack: { memoryBudget: MIB } });
    const flows = Array.from({ length: 200 }, (_, n) => open(driver, 1000 + n, false));
    const { client } = flows.at(-1)!;
    let edge = client.acknowledged + client.window;
    expect(edge).toBeLessThan(3 * MSS);
    for (let n = 0; n < 60; n++) {
      client.send(20);
      driver.advance(50);
      client.hearAll();
      expect(client.acknowledged + client.window).toBeGreaterThanOrEqual(edge);
      edge = client.acknowledged + client.window;
    }
  });
});

describe("at the budget", () => {
  test("octets that were not acknowledged are dropped and counted; none that was is lost", () => {
    const driver = new RecordingDriver({ stack: { memoryBudget: MIB } });
    const flows = hold(driver, MIB);
    const last = open(driver, 1, false);
    last.client.send(MSS);
    driver.advance(50);
    last.client.hearAll();
    expect(last.client.acknowledged).toBe(0);
    expect(driver.stack.stats.tcpReceiveNoMemory).toBeGreaterThan(0);
    expect(driver.stack.pages.held).toBe(MIB);
    for (const { client, handler } of flows) {
      const { flow } = handler;
      expect(flow.connection.readableOctets).toBeGreaterThanOrEqual(client.acknowledged);
      expect(flow.take(client.acknowledged)).toBe(client.acknowledged);
    }
    driver.turn();
    driver.take();
    driver.inject(last.client.segment(TcpFlag.ACK, 1, MSS));
    expect(last.handler.flow.take(MSS)).toBe(MSS);
  });

  test("octets pass all the same where the upstream takes them at once", () => {
    const driver = new RecordingDriver({ stack: { memoryBudget: MIB } });
    hold(driver, MIB);
    const flow = open(driver, 1);
    for (let n = 0; n < 100; n++) flow.client.send(MSS);
    expect(flow.handler.flow.consumed).toBe(100 * MSS);
  });

  test("octets out of order are not SACKed, and counted (RFC 2018 §3)", () => {
    const driver = new RecordingDriver({ stack: { memoryBudget: MIB } });
    hold(driver, MIB);
    const { client } = open(driver, 1);
    driver.inject(client.segment(TcpFlag.ACK, 1 + MSS, MSS));
    const [ack] = driver.takeTcp();
    expect(ack!.options.filter(({ kind }) => kind === "sack")).toEqual([]);
    expect(driver.stack.stats.tcpReassemblyNoMemory).toBe(1);
  });

  test("upstreams wait, and go on when clients acknowledge", () => {
    const driver = new RecordingDriver({ stack: { memoryBudget: MIB } });
    const flows = Array.from({ length: 60 }, (_, n) => open(driver, 1000 + n));
    // Sixty downloads that could fill the memory four times; nobody acknowledges.
    for (const { handler } of flows) {
      handler.flow.unsent = 70_000;
      handler.flow.fill();
    }
    driver.turn();
    expect(driver.stack.pages.held).toBeLessThanOrEqual(MIB);
    const taken = flows.map(({ handler }) => handler.flow.sent);
    // Those that came first took 64 KiB each; above B/2 nobody takes more than a share, and everybody has some.
    expect(Math.max(...taken)).toBeGreaterThan(60_000);
    expect(Math.min(...taken)).toBeGreaterThanOrEqual(4 * KIB);
    for (let round = 0; round < 2000; round++) {
      const packets = driver.takeTcp();
      for (const { client } of flows) client.hear(packets);
      for (const { client } of flows) {
        if (client.received < 70_000) driver.inject(client.segment(TcpFlag.ACK, 1, 0, 65535));
      }
      driver.advance(20);
      if (flows.every(({ client }) => client.received === 70_000)) break;
    }
    expect(flows.map(({ client }) => client.received)).toEqual(Array(60).fill(70_000));
    for (const { client } of flows) driver.inject(client.segment(TcpFlag.ACK, 1, 0, 65535));
    expect(driver.stack.pages.inUse).toBe(0);
  });
});
