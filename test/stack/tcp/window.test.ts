import { describe, expect, test } from "vitest";
import { type DrillPacket, drill, established } from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver } from "../../support/raw-client.ts";

const SMALL = established({ mss: 1000, wscale: false, win: 0 });

describe("the client's window", () => {
  test("nothing is sent beyond it (RFC 9293 §3.8.6 SHLD-15)", () => {
    drill(
      established({ mss: 1000, wscale: false, win: 3000 }),
      `
      +0   send(5000)
      +0   > . 1:3001(3000) ack 1
      +.01 < . 1 ack 1001 win 2000
      +.01 < . 1 ack 3001 win 2000
      +0   > P. 3001:5001(2000) ack 1
      `,
    );
  });

  test("a closed window is probed, with back-off, for as long as the client answers (RFC 1122 §4.2.2.17, RFC 9293 §3.8.6.1 MUST-35, MUST-36, SHLD-29, SHLD-30)", () => {
    const { trace } = drill(
      SMALL,
      `
      +0       send(1000)
      +.2~1    > any
      +0       < . 1 ack 1 win 0
      +.4~2.1  > any
      +0       < . 1 ack 1 win 0
      +.8~4.2  > any
      +0       < . 1 ack 1 win 0
      +1.6~8.3 > any
      +0       < . 1 ack 1 win 1000
      +0       > P. 1:1001(1000) ack 1
      +0       < . 1 ack 1001 win 1000
      `,
    );
    for (const { packet } of trace.slice(1, 5)) expect(packet.payload.length).toBeLessThan(2);
  });

  test("a window that stays closed for ten minutes does not end the connection (RFC 9293 §3.8.6.1 MUST-37)", () => {
    let script = "";
    for (let n = 0; n < 10; n++) script += "\n+60 < . 1 ack 1 win 0";
    drill(
      SMALL,
      `
      +0   send(1000)
      &    mute(on)
      ${script}
      +0   mute(off)
      +0   < . 1 ack 1 win 1000
      +0   > P. 1:1001(1000) ack 1
      `,
    );
  });

  test.each([100_000, 3_000_000_000])(
    "an update opens a closed window at once, whatever the ISN: %i (RFC 9293 §3.10.7.4)",
    (clientIsn) => {
      drill(
        { clientIsn },
        SMALL,
        `
      +0   send(1000)
      +.1  < . 1 ack 1 win 5000
      +0   > P. 1:1001(1000) ack 1
      `,
      );
    },
  );

  test("a tiny window is not filled with tiny segments, but for the override timeout (RFC 9293 §3.8.6.2.1 MUST-38)", () => {
    const { trace } = drill(
      established({ mss: 1000, wscale: false, win: 2000 }),
      `
      +0     send(2000)
      +0     > P. 1:2001(2000) ack 1
      +.01   < . 1 ack 2001 win 100
      +0     send(1000)
      +.1~1  > any
      +0     mute(on)
      +0     < . 1 ack 2001 win 2000
      +10    mute(off)
      `,
    );
    expect(trace[2]?.packet.payload.length).toBeLessThanOrEqual(100);
  });

  test("an old segment does not take the window back (RFC 9293 §3.10.7.4, SND.WL1 and SND.WL2)", () => {
    drill(
      established({ mss: 1000, wscale: false, win: 10000 }),
      `
      +0   < . 1001:2001(1000) ack 1 win 10000
      +0   > . 1 ack 1
      +0   < . 1:1001(1000) ack 1 win 10
      +0   * data 2000
      +0   > . 1 ack 2001
      +0   send(3000)
      +0   > P. 1:3001(3000) ack 2001
      `,
    );
  });

  test("an acknowledgement of new octets brings its window along, even on a retransmission", () => {
    drill(
      established({ mss: 1000, wscale: false, win: 4000 }),
      `
      +0   send(3000)
      +0   > P. 1:3001(3000) ack 1
      +.01 < . 1001:2001(1000) ack 1 win 4000
      +0   > . 3001 ack 1
      +.01 < . 1:1001(1000) ack 3001 win 500
      +0   * data 2000
      +0   > . 3001 ack 2001
      +0   send(1000)
      +.05 < . 2001 ack 3001 win 4000
      +0   > P. 3001:4001(1000) ack 2001
      `,
    );
  });

  test("a window that shrinks does no harm (RFC 9293 §3.8.6 MUST-34, SHLD-16)", () => {
    drill(
      established({ mss: 1000, wscale: false, win: 4000 }),
      `
      +0     send(4000)
      +0     > P. 1:4001(4000) ack 1
      +.01   < . 1 ack 1001 win 1000
      +.01   < . 1 ack 4001 win 4000
      +0     send(1000)
      +0     > P. 4001:5001(1000) ack 1
      `,
    );
  });
});

describe("our window", () => {
  /** Right edges our packets allowed, relative to the client's ISN, in order. */
  function rightEdges(trace: readonly DrillPacket[], clientIsn: number): number[] {
    let shift = 0;
    return trace.map(({ packet }) => {
      const syn = (packet.flags & 2) !== 0;
      for (const o of packet.options) if (o.kind === "wscale") shift = o.value;
      const window = syn ? packet.window : packet.window * 2 ** shift;
      return ((packet.ack - clientIsn) | 0) + window;
    });
  }

  test.each([
    ["with scaling", established()],
    ["without scaling", established({ wscale: false })],
  ])(
    "its right edge never moves left while nobody consumes, %s (RFC 9293 §3.8.6 SHLD-14)",
    (_, opening) => {
      let script = "+0 autoconsume(off)\n+0 mute(on)";
      for (let seq = 1; seq < 64_000; seq += 999) {
        script += `\n+.001 < . ${seq}:${seq + 999}(999) ack 1 win 512`;
      }
      const { trace } = drill({ clientIsn: 5 }, opening, script);
      const edges = rightEdges(trace, 5);
      expect(edges.length).toBeGreaterThan(20);
      for (const [index, edge] of edges.slice(1).entries()) {
        expect(edge).toBeGreaterThanOrEqual(edges[index]!);
      }
    },
  );

  test("single octets, each acknowledged, move it left by less than the scale's step (RFC 7323 §2.4)", () => {
    let script = "+0 autoconsume(off)\n+0 mute(on)";
    for (let seq = 1; seq < 12_000; seq++)
      script += `\n+.001 < . ${seq}:${seq + 1}(1) ack 1 win 512`;
    const { trace } = drill({ clientIsn: 5 }, established(), script);
    const edges = rightEdges(trace, 5);
    let furthest = edges[0]!;
    for (const edge of edges) {
      expect(edge).toBeGreaterThan(furthest - 128);
      furthest = Math.max(furthest, edge);
    }
    // Rounding up for ever would let a client of single octets fill any memory.
    expect(furthest).toBeLessThan(65_535 * 1.2);
  });

  test("that of a small first window does not move left either, for small segments that fit it (RFC 9293 §3.8.6 SHLD-14)", () => {
    // A quarter of the budget, divided among twelve, is less than two segments.
    const driver = new RecordingDriver({ stack: { memoryBudget: 128 << 10 } });
    const clients = Array.from({ length: 12 }, (_, n) => {
      const options = [{ kind: "wscale", value: 7 }] as const;
      const client = new RawClient(driver, { port: 1000 + n, options });
      client.open().autoconsume = false;
      return client;
    });
    const client = clients[11]!;
    const edges: number[] = [];
    while (edges.length < 25) {
      client.send(100);
      driver.advance(50);
      client.hearAll();
      edges.push(client.acknowledged + client.window);
    }
    expect(edges.toSorted((a, b) => a - b)).toEqual(edges);
  });

  test("an unread stream closes it, and memory stays bounded", () => {
    const driver = new RecordingDriver();
    const client = new RawClient(driver);
    const handler = client.open();
    handler.autoconsume = false;
    for (let n = 0; n < 10_000 && client.room >= 1460; n++) {
      client.send(1460);
      if (client.room < 1460) driver.advance(200);
      client.hearAll();
    }
    expect(client.room).toBeLessThan(1460);
    expect(client.sent).toBeGreaterThan(60_000);
    expect(client.sent).toBeLessThanOrEqual(4 << 20);
    expect(handler.flow.connection.readableOctets).toBe(client.sent);
    handler.flow.take(client.sent);
    driver.turn();
    client.hearAll();
    expect(client.room).toBeGreaterThan(30_000);
  });

  test("octets beyond it are neither taken nor acknowledged (RFC 9293 §3.10.7.4)", () => {
    const driver = new RecordingDriver();
    const client = new RawClient(driver);
    const handler = client.open();
    handler.autoconsume = false;
    for (let n = 0; n < 10_000 && client.room > 0; n++) {
      client.send(Math.min(1460, client.room));
      if (client.room === 0) driver.advance(200);
      client.hearAll();
    }
    const full = client.sent;
    const answer = client.send(1000);
    client.sent = full;
    expect(answer).toHaveLength(1);
    expect(client.acknowledged).toBe(full);
    expect(handler.flow.connection.readableOctets).toBe(full);
  });

  test("a closed window opens in steps worth a segment, not octet by octet (RFC 9293 §3.8.6.2.2 MUST-39)", () => {
    const driver = new RecordingDriver();
    const client = new RawClient(driver);
    const handler = client.open();
    handler.autoconsume = false;
    for (let n = 0; n < 10_000 && client.room > 0; n++) {
      client.send(Math.min(1460, client.room));
      if (client.room === 0) driver.advance(200);
      client.hearAll();
    }
    let updates = 0;
    for (let octets = 0; octets < 30_000; octets += 100) {
      handler.flow.take(100);
      driver.turn();
      driver.advance(100);
      const packets = client.hearAll();
      updates += packets.length;
      if (packets.length > 0) expect(client.room).toBeGreaterThanOrEqual(1460);
    }
    expect(updates).toBeGreaterThan(0);
    expect(updates).toBeLessThan(25);
  });

  test("a probe into our closed window is answered with the window (RFC 9293 §3.10.7.4)", () => {
    const driver = new RecordingDriver();
    const client = new RawClient(driver);
    const handler = client.open();
    handler.autoconsume = false;
    for (let n = 0; n < 10_000 && client.room > 0; n++) {
      client.send(Math.min(1460, client.room));
      if (client.room === 0) driver.advance(200);
      client.hearAll();
    }
    const full = client.sent;
    for (let probe = 0; probe < 3; probe++) {
      driver.advance(1000);
      client.hearAll();
      const [answer] = client.send(1);
      client.sent = full;
      expect(answer?.window).toBe(0);
      expect(client.acknowledged).toBe(full);
    }
    // A little room is not worth a window yet (RFC 9293 §3.8.6.2.2).
    handler.flow.take(100);
    driver.turn();
    const [answer] = client.send(1);
    client.sent = full;
    expect(answer?.window).toBe(0);
    handler.flow.take(full - 100);
    driver.turn();
    client.hearAll();
    client.send(1);
    expect(handler.flow.connection.readableOctets).toBe(1);
  });
});
