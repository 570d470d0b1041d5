import { expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";

const TWO_HOURS = { stack: { tcpKeepAlive: 7_200_000 } };
const MINUTE = { stack: { tcpKeepAlive: 60_000 } };

test("is off by default: a silent flow hears nothing until it ends (RFC 9293 §3.8.4 MUST-25)", () => {
  const { driver } = drill(
    established(),
    `
    +7440  > R. 1:1(0) ack 1
    +0     * closed timeout
    `,
  );
  expect(driver.stack.stats.tcpKeepAlives).toBe(0);
});

test("asks after the interval without data, one octet before SND.NXT (RFC 9293 §3.8.4 SHLD-12)", () => {
  drill(
    TWO_HOURS,
    established(),
    `
    +1     write(100)
    +0     > P. 1:101(100) ack 1
    +0     < . 1 ack 101
    +7200  > . 100:100(0) ack 1
    +0     < . 1 ack 101
    `,
  );
});

test("a client that answers lives on, beyond the idle limit (RFC 5382 §5)", () => {
  const { driver } = drill(
    TWO_HOURS,
    established(),
    `
    +7200  > . 0:0(0) ack 1
    +.1    < . 1 ack 1
    +7200  > . 0:0(0) ack 1
    +.1    < . 1 ack 1
    +7200  > . 0:0(0) ack 1
    +.1    < P. 1:101(100) ack 1
    +0     * data 100
    +0     > . 1 ack 101
    `,
  );
  expect(driver.stack.stats.tcpKeepAlives).toBe(3);
});

test("a client that is gone is given up at the idle limit, four minutes later (RFC 5382 REQ-5)", () => {
  drill(
    TWO_HOURS,
    established(),
    `
    +7200  > . 0:0(0) ack 1
    +75    > . 0:0(0) ack 1
    +75    > . 0:0(0) ack 1
    +75    > . 0:0(0) ack 1
    +15    > R. 1:1(0) ack 1
    +0     * closed timeout
    `,
  );
});

test("no single answer that is missing proves anything: the ninth counts, and then they count anew (RFC 9293 §3.8.4 MUST-29)", () => {
  const nine = "+75 > . 0:0(0) ack 1\n".repeat(8);
  drill(
    MINUTE,
    established(),
    `
    +60  > . 0:0(0) ack 1
    ${nine}
    +1   < . 1 ack 1
    +74  > . 0:0(0) ack 1
    ${nine}
    +75  > R. 1:1(0) ack 1
    +0   * closed timeout
    `,
  );
});

test("is not sent while data is in flight, which asks by itself (RFC 9293 §3.8.4 MUST-26)", () => {
  const { trace, driver } = drill(
    { stack: { tcpKeepAlive: 10_000 } },
    established(),
    `
    +1       write(100)
    +0       > P. 1:101(100) ack 1
    +0       mute(on)
    +100~180 * closed timeout
    `,
  );
  expect(trace.filter(({ packet }) => packet.payload.length === 0 && packet.flags === 16)).toEqual(
    [],
  );
  expect(driver.stack.stats.tcpKeepAlives).toBe(0);
});

test("is not sent on a flow that is half closed, which ends earlier", () => {
  const { driver } = drill(
    MINUTE,
    established(),
    `
    +0    < F. 1:1(0) ack 1
    +0    * fin
    +0    > . 1 ack 2
    +600  > R. 1:1(0) ack 2
    +0    * closed timeout
    `,
  );
  expect(driver.stack.stats.tcpKeepAlives).toBe(0);
});
