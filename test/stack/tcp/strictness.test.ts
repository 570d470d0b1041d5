/** What the receiver takes and what it does not, at the edges of the window, of the stream and of the numbers. */

import { describe, expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";

describe("a segment that is not acceptable", () => {
  test("acknowledges nothing (RFC 9293 §3.10.7.4)", () => {
    drill(
      established(),
      `
      +0      < P. 1:101(100) ack 1 win 512
      +0      * data 100
      +0      > . 1 ack 101
      +0      send(1000)
      +0      > P. 1:1001(1000) ack 101
      +.01    < P. 1:101(100) ack 1001 win 512
      +0      > . 1001 ack 101
      +.1~.22 > P. 1:1001(1000) ack 101
      +.01    < . 101 ack 1001 win 512
      `,
    );
  });

  test("is not one at the very edge of the window without octets: its client has filled it (RFC 9293 §3.10.7.4)", () => {
    drill(
      established({ wscale: false }),
      `
      +0   send(1000)
      +0   > P. 1:1001(1000) ack 1
      +.01 < . 65536 ack 1001 win 512
      +9   < . 1 ack 1001 win 512
      `,
    );
  });
});

describe("octets behind the client's FIN", () => {
  test("are not taken (RFC 9293 §3.10.7.4)", () => {
    drill(
      established(),
      `
      +0 < F. 1:101(100) ack 1 win 512
      +0 * data 100
      +0 * fin
      +0 > . 1 ack 102
      +0 < P. 102:202(100) ack 1 win 512
      +1 shutdown()
      +0 > F. 1:1(0) ack 102
      +0 < . 102 ack 2 win 512
      +0 * closed closed
      `,
    );
  });

  test("are not taken either when the FIN itself waits for what precedes it", () => {
    drill(
      established(),
      `
      +0 < F. 101:201(100) ack 1 win 512
      +0 > . 1 ack 1 <nop,nop,sack 101:201>
      +0 < . 201:301(100) ack 1 win 512
      +0 > . 1 ack 1 <nop,nop,sack 101:201>
      +0 < . 1:101(100) ack 1 win 512
      +0 * data 200
      +0 * fin
      +0 > . 1 ack 202
      `,
    );
  });

  test("are its own when it lies beyond the window (RFC 9293 §3.10.7.4)", () => {
    const { flow } = drill(
      established({ wscale: false }),
      `
      +0 < F. 65500:65600(100) ack 1 win 512
      +0 > . 1 ack 1
      +0 < . 1:60001(60000) ack 1 win 512 gso 1000
      +0 * data 60000
      +0 > . 1 ack 60001
      +0 < . 60001:65500(5499) ack 1 win 512 gso 1000
      +0 * data 5535
      +0 > . 1 ack 65536
      +0 < . 65536:65600(64) ack 1 win 512
      +0 * data 64
      +.02~.04 > . 1 ack 65600
      `,
    );
    expect(flow?.consumed).toBe(65_599);
  });
});

test("without SACK every segment of a batch behind a hole is a duplicate (RFC 5681 §4.2)", () => {
  drill(
    established({ sack: false }),
    `
    +0 < P. 101:201(100) ack 1 win 512
    &  < P. 201:301(100) ack 1 win 512
    &  < P. 301:401(100) ack 1 win 512
    +0 > . 1 ack 1
    &  > . 1 ack 1
    &  > . 1 ack 1
    +0 < P. 1:101(100) ack 1 win 512
    +0 * data 400
    +0 > . 1 ack 401
    `,
  );
});

describe("our window", () => {
  test("is not scaled in the SYN-ACK (RFC 7323 §2.2)", () => {
    drill(`
      0  < S 0:0(0) win 65535 <mss 1460,nop,wscale 7>
      +0 * open
      +0 accept()
      +0 > S. 0:0(0) ack 1 win 65535
    `);
  });

  test("does not follow every octet that is consumed (RFC 9293 §3.8.6.2.2)", () => {
    drill(
      established({ wscale: false }),
      `
      +0 autoconsume(off)
      +0 < P. 1:1001(1000) ack 1 win 512
      +0 > . 1 ack 1001 win 64535
      +0 consume(100)
      +0 < P. 1001:1101(100) ack 1 win 512
      +0 > . 1 ack 1101 win 64435
      `,
    );
  });
});

describe("numbers that wrap as int32 (RFC 9293 §3.4)", () => {
  test("of the client, out of order", () => {
    const { flow } = drill(
      { clientIsn: 0x7ffffc00 },
      established(),
      `
      +0 < . 1001:1101(100) ack 1 win 512
      +0 > . 1 ack 1 <nop,nop,sack 1001:1101>
      +0 < . 501:1201(700) ack 1 win 512
      +0 > . 1 ack 1 <nop,nop,sack 1001:1101 501:1201>
      +0 < . 1:501(500) ack 1 win 512
      +0 * data 1200
      +0 > . 1 ack 1201
      `,
    );
    expect(flow?.consumed).toBe(1200);
  });

  test("of ours, with a hole and a retransmission", () => {
    const open = (at: number): string => `
      ${at} < S 0:0(0) win 65535 <mss 1000,sackOK,nop,wscale 7>
      +0    * open
      +0    accept()
      +0    > S. 0:0(0) ack 1
      +0    < . 1 ack 1 win 512
    `;
    const isn = drill(open(0)).trace[0]!.packet.seq;
    const left = (0x80000000 - 2000 - isn + 2 ** 32) % 2 ** 32;
    const { trace } = drill(
      open(Math.floor(left / 250) / 1000),
      `
      +0   send(4000)
      +0   > P. 1:4001(4000) ack 1
      +.01 < . 1 ack 1 win 512 <sack 1001:4001>
      +0   > . 1:1001(1000) ack 1
      +.01 < . 1 ack 4001 win 512
      `,
    );
    expect(trace[0]!.packet.seq).toBeLessThan(0x80000000);
    expect(trace[0]!.packet.seq).toBeGreaterThan(0x80000000 - 4000);
  });
});
