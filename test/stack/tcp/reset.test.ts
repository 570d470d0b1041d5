import { expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";

test("an RST at RCV.NXT ends the connection, and the relay is told (RFC 5961 §3.2, RFC 9293 §3.5.3 MUST-12)", () => {
  const { driver } = drill(
    established(),
    `
    +.1  < R 1:1(0)
    +0   * closed reset
    +.1  < . 1 ack 1 win 512
    +0   > R 1:1(0)
    `,
  );
  expect(driver.stack.stats.tcpResetsIn).toBe(1);
  driver.drain();
});

test("an RST may carry octets, which are of no stream (RFC 9293 §3.5.3 SHLD-2)", () => {
  const { flow } = drill(
    established(),
    `
    +.1  < R 1:11(10) junk
    +0   * closed reset
    `,
  );
  expect(flow?.consumed).toBe(0);
});

test("data before an RST is delivered", () => {
  const { flow } = drill(
    established(),
    `
    +0   < P. 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > . 1 ack 101
    +0   < R. 101:101(0) ack 1
    +0   * closed reset
    `,
  );
  expect(flow?.consumed).toBe(100);
});

test("data before an RST in the same batch is delivered too", () => {
  const { driver, flow } = drill(
    established(),
    `
    +0   < P. 1:101(100) ack 1 win 512
    &    < R. 101:101(0) ack 1
    +0   * data 100
    +0   * closed reset
    `,
  );
  expect(flow?.consumed).toBe(100);
  driver.drain();
});

test("an RST elsewhere in the window gets a challenge ACK, and the true one follows (RFC 5961 §3.2)", () => {
  drill(
    established(),
    `
    +.1  < R 1000:1000(0)
    +0   > . 1 ack 1
    +.1  < R 1:1(0)
    +0   * closed reset
    `,
  );
});

test("an RST outside the window is dropped in silence (RFC 5961 §3.2)", () => {
  drill(
    established(),
    `
    +.1  < R -10:-10(0)
    +.1  < R 100000000:100000000(0)
    +.1  send(10)
    +0   > P. 1:11(10) ack 1
    `,
  );
});

test("a SYN on a connection gets a challenge ACK, in the window or out of it (RFC 5961 §4.2)", () => {
  drill(
    established(),
    `
    +1   < S 1000:1000(0) win 65535 <mss 1460>
    +0   > . 1 ack 1
    +1   < S -70000:-70000(0) win 65535 <mss 1460>
    +0   > . 1 ack 1
    +1   send(10)
    +0   > P. 1:11(10) ack 1
    `,
  );
});

test("a sweep of guessed RSTs through the window neither closes nor delays the connection (RFC 5961 §3.2, §7)", () => {
  let sweep = "";
  for (let seq = 2; seq < 60_000; seq += 600) sweep += `\n+.001 < R ${seq}:${seq}(0)`;
  const { flow, trace } = drill(
    established(),
    `
    +0   mute(on)
    ${sweep}
    +1   mute(off)
    +0   < P. 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > . 1 ack 101
    `,
  );
  expect(flow?.consumed).toBe(100);
  // RFC 5961 §5: challenge ACKs are limited, or the answer to a flood is a flood.
  expect(trace.length).toBeLessThan(2 + 100 + 1);
});

test("abort is an RST and no event follows (RFC 9293 §3.10.5)", () => {
  const { driver } = drill(
    established(),
    `
    +0   send(1000)
    +0   > P. 1:1001(1000) ack 1
    +.01 abort()
    +0   > R 1001:1001(0)
    +1   < . 1 ack 1001 win 512
    +0   > R 1001:1001(0)
    `,
  );
  driver.drain();
});

test("abort drops what was not sent (RFC 9293 §3.10.5)", () => {
  drill(
    established(),
    `
    +0   send(1000)
    &    abort()
    +0   > R 1:1(0)
    `,
  );
});

test("resetWhenDrained lets everything committed arrive first", () => {
  const { driver } = drill(
    established({ mss: 1000 }),
    `
    +0   send(3000)
    &    resetWhenDrained()
    +0   > P. 1:3001(3000) ack 1
    +.01 < . 1 ack 1001 win 512
    +.01 < . 1 ack 3001 win 512
    +0   > R 3001:3001(0)
    +0   * closed
    `,
  );
  driver.drain();
});

test("resetWhenDrained with nothing in flight resets at once", () => {
  drill(
    established(),
    `
    +0   resetWhenDrained()
    +0   > R 1:1(0)
    +0~.01 * closed
    `,
  );
});

test("resetWhenDrained gives up after ten seconds", () => {
  const { driver, trace } = drill(
    established(),
    `
    +0       send(1000)
    &        resetWhenDrained()
    +0       > P. 1:1001(1000) ack 1
    +0       mute(on)
    +10      * closed
    +0       mute(off)
    `,
  );
  expect(trace.at(-1)?.packet.flags).toSatisfy((flags: number) => (flags & 4) !== 0);
  driver.drain();
});

test("retransmissions go on until resetWhenDrained has drained", () => {
  drill(
    established(),
    `
    +0     send(1000)
    &      resetWhenDrained()
    +0     > P. 1:1001(1000) ack 1
    +.2~1  > P. 1:1001(1000) ack 1
    +.01   < . 1 ack 1001 win 512
    +0     > R 1001:1001(0)
    +0     * closed
    `,
  );
});
