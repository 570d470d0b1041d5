import { expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";

test("Nagle is off: a relay must not add the delay (RFC 9293 §3.7.4 SHLD-7)", () => {
  const { flow } = drill(
    established({ mss: 1000 }),
    `
    +0   send(10)
    +0   > P. 1:11(10) ack 1
    +0   send(10)
    +0   > P. 11:21(10) ack 1
    `,
  );
  expect(flow?.connection.nagle).toBe(false);
});

test("with Nagle a small segment waits until nothing is in flight (RFC 9293 §3.7.4 MUST-17)", () => {
  drill(
    established({ mss: 1000 }),
    `
    +0   nagle(on)
    +0   send(10)
    +0   > P. 1:11(10) ack 1
    +0   send(10)
    +0   send(20)
    +.05 < . 1 ack 11 win 512
    +0   > P. 11:41(30) ack 1
    `,
  );
});

test("with Nagle whole segments leave at once, their rest does not (RFC 9293 §3.7.4)", () => {
  drill(
    established({ mss: 1000 }),
    `
    +0   nagle(on)
    +0   send(3500)
    +0   > . 1:3001(3000) ack 1
    +0   send(500)
    +0   > P. 3001:4001(1000) ack 1
    +0   send(10)
    +.05 < . 1 ack 4001 win 512
    +0   > P. 4001:4011(10) ack 1
    `,
  );
});

test("with Nagle what precedes a FIN does not wait, nor what waits when it is switched off (RFC 9293 §3.7.4)", () => {
  drill(
    established({ mss: 1000 }),
    `
    +0   nagle(on)
    +0   send(10)
    +0   > P. 1:11(10) ack 1
    +0   send(10)
    +.01 nagle(off)
    +0   send(10)
    +0   > P. 11:31(20) ack 1
    +0   nagle(on)
    +0   send(10)
    +.01 shutdown()
    +0   > F. 31:41(10) ack 1
    `,
  );
});
