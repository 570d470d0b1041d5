import { expect, test } from "vitest";
import { drill } from "../../../src/testing/index.ts";

/** A client 50 ms away: SRTT and the least round trip are 50 ms, the RTO 250 ms. */
const open = (options = "sackOK,nop,wscale 7", stamp = ""): string => `
  0    < S 0:0(0) win 65535 <mss 1000,${options}>
  +0   * open
  +0   accept()
  +0   > S. 0:0(0) ack 1
  +.05 < . 1 ack 1 win 512 ${stamp}
`;
const OPEN = open();

test("one SACKed segment is enough, once what precedes it has had a quarter of a round trip more (RFC 8985 §6.2 step 5)", () => {
  const { driver } = drill(
    OPEN,
    `
    +0         send(2000)
    +0         > P. 1:2001(2000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +.013      > . 1:1001(1000) ack 1
    +.05       < . 1 ack 2001 win 512
    +10        send(10)
    +0         > P. 2001:2011(10) ack 1
    `,
  );
  expect(driver.stack.stats.tcpTimeouts).toBe(0);
});

test("what arrives within the window was only reordered (RFC 8985 §6.2 step 4)", () => {
  const { driver } = drill(
    OPEN,
    `
    +0         send(2000)
    +0         > P. 1:2001(2000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +.009      < . 1 ack 2001 win 512
    +10        send(10)
    +0         > P. 2001:2011(10) ack 1
    `,
  );
  expect(driver.stack.stats.tcpFastRecoveries).toBe(0);
});

test("after reordering was seen three SACKed segments have to wait as well (RFC 8985 §6.2 steps 3 and 4)", () => {
  drill(
    OPEN,
    `
    +0         send(2000)
    +0         > P. 1:2001(2000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +.009      < . 1 ack 2001 win 512
    +.1        send(5000)
    +0         > P. 2001:7001(5000) ack 1
    +.05       < . 1 ack 2001 win 512 <nop,nop,sack 3001:7001>
    +.013      > . 2001:3001(1000) ack 1
    +.05       < . 1 ack 7001 win 512
    `,
  );
});

test("a retransmission that is lost is found by what was sent after it (RFC 8985 §6.2 step 5)", () => {
  const { driver } = drill(
    OPEN,
    `
    +0         send(20000)
    +0         > . 1:10001(10000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:10001>
    +0         > . 1:1001(1000) ack 1
    +0         > . 10001:16001(6000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:12001>
    +0         > . 1:1001(1000) ack 1
    +0         > . 16001:18001(2000) ack 1
    +.05       < . 1 ack 18001 win 512
    +0         > P. 18001:20001(2000) ack 1
    +.05       < . 1 ack 20001 win 512
    `,
  );
  expect(driver.stack.stats.tcpTimeouts).toBe(0);
});

test("new data that left before a retransmission of the same millisecond says nothing of it (RFC 8985 §6.2 step 2)", () => {
  drill(
    OPEN,
    `
    +0         send(20000)
    +0         > . 1:10001(10000) ack 1
    +.05       < . 1 ack 3001 win 512
    +0         > . 10001:16001(6000) ack 1
    +0         < . 1 ack 3001 win 512 <nop,nop,sack 6001:9001>
    +0         > . 3001:5001(2000) ack 1
    +0         < . 1 ack 3001 win 512 <nop,nop,sack 6001:10001>
    +0         > . 5001:6001(1000) ack 1
    +.05       < . 1 ack 3001 win 512 <nop,nop,sack 6001:16001>
    +0         > P. 16001:20001(4000) ack 1
    +0         < . 1 ack 16001 win 512
    +.05       < . 1 ack 20001 win 512
    `,
  );
});

test("the ACK of a first transmission is not taken for that of the second (RFC 8985 §6.2 step 2)", () => {
  drill(
    OPEN,
    `
    +0         send(5000)
    +0         > P. 1:5001(5000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 2001:5001>
    +0         > . 1:2001(2000) ack 1
    // 1001:2001 was late. 10 ms are less than any round trip: 1:1001 is not lost anew.
    +.01       < . 1 ack 1 win 512 <nop,nop,sack 1001:5001>
    +.04       < . 1 ack 5001 win 512
    `,
  );
});

test("a duplicate widens the window by a quarter of the round trip (RFC 8985 §6.2 step 4)", () => {
  drill(
    OPEN,
    `
    +0         send(2000)
    +0         > P. 1:2001(2000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +.013      > . 1:1001(1000) ack 1
    +.005      < . 1 ack 2001 win 512
    +.05       < . 1 ack 2001 win 512 <nop,nop,sack 1:1001>
    +.2        send(2000)
    +0         > P. 2001:4001(2000) ack 1
    +.05       < . 1 ack 2001 win 512 <nop,nop,sack 3001:4001>
    +.025      > . 2001:3001(1000) ack 1
    +.05       < . 1 ack 4001 win 512
    `,
  );
});

test("a tail that is not acknowledged is probed by its last segment after two round trips, once (RFC 8985 §7.2, §7.3)", () => {
  const { driver } = drill(
    OPEN,
    `
    +0         send(3000)
    +0         > P. 1:3001(3000) ack 1
    +.12       > P. 2001:3001(1000) ack 1
    +.25       > . 1:1001(1000) ack 1
    +.05       < . 1 ack 3001 win 512
    `,
  );
  expect(driver.stack.stats.tcpLossProbes).toBe(1);
  expect(driver.stack.stats.tcpTimeouts).toBe(1);
});

test("a single segment is given time for the delay of its ACK, but not beyond the RTO (RFC 8985 §7.2)", () => {
  drill(
    OPEN,
    `
    +0         send(1000)
    +0         > P. 1:1001(1000) ack 1
    +.25       > P. 1:1001(1000) ack 1
    +.25       > P. 1:1001(1000) ack 1
    +.5        > P. 1:1001(1000) ack 1
    +.05       < . 1 ack 1001 win 512
    `,
  );
});

test("a window that closes takes the probe away, and leaves the RTO its time (RFC 8985 §7.2, RFC 6298 §5.1)", () => {
  const { driver } = drill(
    OPEN,
    `
    +0         send(3000)
    +0         > P. 1:3001(3000) ack 1
    +.05       < . 1 ack 1001 win 512
    +.01       < . 1 ack 1001 win 0
    // not after 120 ms, when the tail would have been probed
    +.235~.28  > . 1001:2001(1000) ack 1
    `,
  );
  expect(driver.stack.stats.tcpLossProbes).toBe(0);
  expect(driver.stack.stats.tcpTimeouts).toBe(1);
});

test("a FIN at the tail is probed too (RFC 8985 §7.3)", () => {
  drill(
    OPEN,
    `
    +0         send(2000)
    &          shutdown()
    +0         > F. 1:2001(2000) ack 1
    +.12       > F. 1001:2001(1000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2002>
    +0         > . 1:1001(1000) ack 1
    +.05       < . 1 ack 2002 win 512
    `,
  );
});

test("data that waits for cwnd is a better probe than the last segment (RFC 8985 §7.3)", () => {
  drill(
    OPEN,
    `
    +0         send(11500)
    +0         > . 1:10001(10000) ack 1
    +.12       > . 10001:11001(1000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 10001:11001>
    +0         > . 1:1001(1000) ack 1
    +.05       < . 1 ack 11001 win 512
    +0         > P. 11001:11501(500) ack 1
    +.05       < . 1 ack 11501 win 512
    `,
  );
});

test("the SACK of a probe shows the loss of all that precedes it (RFC 8985 §7.4)", () => {
  const { driver } = drill(
    OPEN,
    `
    +0         send(3000)
    +0         > P. 1:3001(3000) ack 1
    +.12       > P. 2001:3001(1000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 2001:3001>
    +0         > . 1:1001(1000) ack 1
    +.05       < . 1 ack 1001 win 512 <nop,nop,sack 2001:3001>
    +0         > . 1001:2001(1000) ack 1
    +.05       < . 1 ack 3001 win 512
    `,
  );
  expect(driver.stack.stats.tcpTimeouts).toBe(0);
});

/** Fills the window again after a tail that was probed; how much then leaves tells what became of cwnd. */
const afterProbe = (answer: string, octets: number): string => `
  +0         send(10000)
  +0         > P. 1:10001(10000) ack 1
  +.12       > P. 9001:10001(1000) ack 1
  ${answer}
  +0         send(1000)
  +0         > P. 10001:11001(1000) ack 1
  +.05       < . 1 ack 11001 win 512
  +.01       send(30000)
  +0         > . 11001:${11001 + octets}(${octets}) ack 1
`;

test("a loss that the probe repaired is one of congestion (RFC 8985 §7.4.2)", () => {
  drill(OPEN, afterProbe("+.05 < . 1 ack 10001 win 512", 7000));
});

test("a probe that the client had already costs nothing (RFC 8985 §7.4.2)", () => {
  drill(
    OPEN,
    afterProbe(
      `
      +.001 < . 1 ack 10001 win 512
      +.05  < . 1 ack 10001 win 512 <nop,nop,sack 9001:10001>
      `,
      10000,
    ),
  );
});

test("an ACK that says nothing new answers a probe in vain, from a client without D-SACK (RFC 8985 §7.4.2)", () => {
  drill(
    OPEN,
    afterProbe(
      `
      +.001 < . 1 ack 10001 win 512
      +.05  < . 1 ack 10001 win 512
      `,
      10000,
    ),
  );
});

test("a timeout takes what was sent just before it for being in flight (RFC 8985 §6.3)", () => {
  drill(
    OPEN,
    `
    +0         send(1000)
    +0         > P. 1:1001(1000) ack 1
    +.05       < . 1 ack 1001 win 512
    +0         send(3000)
    +0         > P. 1001:4001(3000) ack 1
    +.12       > P. 3001:4001(1000) ack 1
    +.23       send(1000)
    +0         > P. 4001:5001(1000) ack 1
    +.02       > . 1001:2001(1000) ack 1
    // The window is two segments, and 4001:5001 is one of them.
    +.035      < . 1 ack 2001 win 512
    +0         > . 2001:3001(1000) ack 1
    +.01       < . 1 ack 2001 win 512 <nop,nop,sack 4001:5001>
    +0         > . 3001:4001(1000) ack 1
    +.05       < . 1 ack 5001 win 512
    `,
  );
});

test("a client that forgets what it SACKed gets all of it again after the RTO (RFC 2018 §8)", () => {
  drill(
    OPEN,
    `
    +0         send(4000)
    +0         > P. 1:4001(4000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:4001>
    +0         > . 1:1001(1000) ack 1
    +.05       < . 1 ack 1001 win 512
    +.25       > . 1001:2001(1000) ack 1
    +.05       < . 1 ack 2001 win 512
    +0         > P. 2001:4001(2000) ack 1
    +.05       < . 1 ack 4001 win 512
    `,
  );
});

test("after a time-out the next tail is probed again (RFC 8985 §7.1)", () => {
  const { driver } = drill(
    OPEN,
    `
    +0         send(3000)
    +0         > P. 1:3001(3000) ack 1
    +.12       > P. 2001:3001(1000) ack 1
    +.25       > . 1:1001(1000) ack 1
    +.05       < . 1 ack 3001 win 512
    // The RTO would be 500 ms.
    +0         send(1000)
    +0         > P. 3001:4001(1000) ack 1
    +.32       > P. 3001:4001(1000) ack 1
    +.05       < . 1 ack 4001 win 512
    `,
  );
  expect(driver.stack.stats.tcpLossProbes).toBe(2);
});

test("one wait runs at a time: for reordering, then the RTO of what was sent again, and no probe (RFC 8985 §8)", () => {
  const { driver } = drill(
    OPEN,
    `
    +0         send(2000)
    +0         > P. 1:2001(2000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +.013      > . 1:1001(1000) ack 1
    +.25       > . 1:1001(1000) ack 1
    +.05       < . 1 ack 2001 win 512
    `,
  );
  expect(driver.stack.stats.tcpLossProbes).toBe(0);
  expect(driver.stack.stats.tcpTimeouts).toBe(1);
});

test("a client without SACK is not probed (RFC 8985 §3.1)", () => {
  drill(
    open("nop,wscale 7"),
    `
    +0         send(3000)
    +0         > P. 1:3001(3000) ack 1
    +.25       > . 1:1001(1000) ack 1
    +.05       < . 1 ack 3001 win 512
    `,
  );
});

test("in recovery no more leaves than has arrived, rounded to the new window (RFC 9937 §6)", () => {
  drill(
    OPEN,
    `
    +0         send(40000)
    +0         > . 1:10001(10000) ack 1
    +.05       < . 1 ack 10001 win 512
    +0         > . 10001:30001(20000) ack 1
    // The first six of twenty are lost; 14,000 octets are the new window.
    +.05       < . 1 ack 10001 win 512 <nop,nop,sack 16001:18001>
    +0         > . 30001:32001(2000) ack 1
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 16001:19001>
    +0         > . 10001:11001(1000) ack 1
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 16001:20001>
    +0         > . 11001:12001(1000) ack 1
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 16001:25001>
    +0         > . 12001:16001(4000) ack 1
    +0         > . 32001:33001(1000) ack 1
    +.05       < . 1 ack 33001 win 512
    +0         > P. 33001:40001(7000) ack 1
    +.05       < . 1 ack 40001 win 512
    `,
  );
});

test("in recovery new data leaves in the proportion of the new window to the old (RFC 9937 §6)", () => {
  drill(
    OPEN,
    `
    +0         send(60000)
    +0         > . 1:10001(10000) ack 1
    +.05       < . 1 ack 10001 win 512
    +0         > . 10001:30001(20000) ack 1
    +.05       < . 1 ack 10001 win 512 <nop,nop,sack 11001:12001>
    +0         > . 30001:31001(1000) ack 1
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 11001:13001>
    +0         > . 31001:32001(1000) ack 1
    // From 20,000 octets to 14,000: seven leave for ten that arrive.
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 11001:14001>
    +0         > . 10001:11001(1000) ack 1
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 11001:15001>
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 11001:16001>
    +0         > . 32001:33001(1000) ack 1
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 11001:17001>
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 11001:18001>
    +0         > . 33001:34001(1000) ack 1
    +.04       < . 1 ack 34001 win 512
    +0         > . 34001:48001(14000) ack 1
    `,
  );
});

test("far below the new window each ACK without further loss lets a segment more leave (RFC 9937 §6)", () => {
  drill(
    OPEN,
    `
    +0         send(60000)
    +0         > . 1:10001(10000) ack 1
    +.05       < . 1 ack 10001 win 512
    +0         > . 10001:30001(20000) ack 1
    +.05       < . 1 ack 10001 win 512 <nop,nop,sack 24001:30001>
    +0         > . 10001:16001(6000) ack 1
    +.05       < . 1 ack 16001 win 512 <nop,nop,sack 24001:30001>
    +0         > . 16001:23001(7000) ack 1
    `,
  );
});

test("three SACKed segments are DupThresh however short they are (RFC 8985 §6.2 step 4, RFC 6675 §5)", () => {
  drill(
    OPEN,
    `
    +0         send(100)
    +0         > P. 1:101(100) ack 1
    +0         send(100)
    +0         > P. 101:201(100) ack 1
    +0         send(100)
    +0         > P. 201:301(100) ack 1
    +0         send(100)
    +0         > P. 301:401(100) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 101:201>
    +0         < . 1 ack 1 win 512 <nop,nop,sack 101:301>
    +0         < . 1 ack 1 win 512 <nop,nop,sack 101:401>
    +0         > . 1:101(100) ack 1
    +.05       < . 1 ack 401 win 512
    `,
  );
});

test("the wider window lasts for sixteen recoveries without a duplicate (RFC 8985 §6.2 step 4)", () => {
  const recovery = (n: number, wait: string): string => `
    +.2        send(2000)
    +0         > P. ${n}:${n + 2000}(2000) ack 1
    +.05       < . 1 ack ${n} win 512 <nop,nop,sack ${n + 1000}:${n + 2000}>
    ${wait}    > . ${n}:${n + 1000}(1000) ack 1
    +.05       < . 1 ack ${n + 2000} win 512
  `;
  let script = recovery(1, "+.013");
  script += "+.01 < . 1 ack 2001 win 512 <nop,nop,sack 1:1001>";
  for (let n = 1; n <= 16; n++) script += recovery(2000 * n + 1, "+.025");
  drill(OPEN, script, recovery(34_001, "+.013"));
});

test("with timestamps the ACK of a first transmission is known, however late (RFC 8985 §6.2 step 2)", () => {
  const start = `${open("sackOK,TS val 1 ecr 0,nop,wscale 7", "<nop,nop,TS val 2 ecr last>")}
    +0         send(4940)
    +0         > P. 1:4941(4940) ack 1
  `;
  const option = drill(start).trace[1]!.packet.options.find(({ kind }) => kind === "TS");
  const first = option?.kind === "TS" ? option.value : 0;
  drill(
    start,
    `
    +.05       < . 1 ack 1 win 512 <nop,nop,TS val 3 ecr last,nop,nop,sack 1977:4941>
    +0         > . 1:1977(1976) ack 1
    // 989:1977 as it was sent first, 60 ms after it was sent again: 1:989 is not lost anew.
    +.06       < . 1 ack 1 win 512 <nop,nop,TS val 4 ecr ${first},nop,nop,sack 989:4941>
    +.02       < . 1 ack 4941 win 512 <nop,nop,TS val 5 ecr last>
    `,
  );
});

test.each([
  ["a second", 1],
  ["39 hours, when the times of the flight have wrapped", 140_400],
])(
  "what leaves after %s without a flight is not taken for older than what arrived before (RFC 8985 §6.2 step 2)",
  (_, idle) => {
    drill(
      { stack: { tcpIdle: 200_000_000 } },
      OPEN,
      `
    +0    send(1000)
    +0    > P. 1:1001(1000) ack 1
    +.05  < . 1 ack 1001 win 512
    +${idle} send(5000)
    +0    > P. 1001:6001(5000) ack 1
    +.04  send(1000)
    +0    > P. 6001:7001(1000) ack 1
    +.01  < . 1 ack 1001 win 512 <nop,nop,sack 2001:6001>
    +0    > . 1001:2001(1000) ack 1
    // The last has had a round trip and a half, and nothing that was sent after it has arrived.
    +.075 < . 1 ack 7001 win 512
    `,
    );
  },
);

test("acknowledgements that tell no news do not make it three (RFC 6675 §2)", () => {
  drill(
    OPEN,
    `
    +0         send(2000)
    +0         > P. 1:2001(2000) ack 1
    +.05       < . 1 ack 1 win 512
    +0         < . 1 ack 1 win 512
    +0         < . 1 ack 1 win 512
    +0         < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +.013      > . 1:1001(1000) ack 1
    +.05       < . 1 ack 2001 win 512
    `,
  );
});

test("a block that repeats what is known is no news either (RFC 6675 §2)", () => {
  drill(
    OPEN,
    `
    +0         send(2000)
    +0         > P. 1:2001(2000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +0         < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +0         < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +.013      > . 1:1001(1000) ack 1
    +.05       < . 1 ack 2001 win 512
    `,
  );
});

/** A recovery that was not called for, and the report of what arrived twice: the window is twice as wide. */
const WIDENED = `
  +0         send(2000)
  +0         > P. 1:2001(2000) ack 1
  +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
  +.013      > . 1:1001(1000) ack 1
  +.005      < . 1 ack 2001 win 512
  +.05       < . 1 ack 2001 win 512 <nop,nop,sack 1:1001>
`;

/** 1,000 octets at `seq` are lost, and sent again `wait` seconds after the SACK of what follows them. */
const loss = (seq: number, wait: string): string => `
  +.2        send(2000)
  +0         > P. ${seq}:${seq + 2000}(2000) ack 1
  +.05       < . 1 ack ${seq} win 512 <nop,nop,sack ${seq + 1000}:${seq + 2000}>
  +${wait}   > . ${seq}:${seq + 1000}(1000) ack 1
  +.05       < . 1 ack ${seq + 2000} win 512
`;

test("sixteen recoveries without a duplicate make the window narrow again (RFC 8985 §6.2 step 4)", () => {
  const wide = Array.from({ length: 16 }, (_, n) => loss(2001 + 2000 * n, ".025"));
  drill(OPEN, WIDENED, ...wide, loss(34_001, ".013"));
});

test("duplicates of one round trip widen the window once (RFC 8985 §6.2 step 4)", () => {
  drill(
    OPEN,
    `
    +0         send(2000)
    +0         > P. 1:2001(2000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +.013      > . 1:1001(1000) ack 1
    +.005      < . 1 ack 2001 win 512
    +.01       send(1000)
    +0         > P. 2001:3001(1000) ack 1
    +.035      < . 1 ack 2001 win 512 <nop,nop,sack 1:301>
    +0         < . 1 ack 2001 win 512 <nop,nop,sack 301:501>
    +0         < . 1 ack 2001 win 512 <nop,nop,sack 501:701>
    +0         < . 1 ack 2001 win 512 <nop,nop,sack 701:1001>
    +.005      < . 1 ack 3001 win 512
    `,
    loss(3001, ".025"),
  );
});

test("data that the client's window does not allow is no probe (RFC 8985 §7.3)", () => {
  drill(
    OPEN,
    `
    +0         send(2000)
    +0         > P. 1:2001(2000) ack 1
    +.001      < . 1 ack 1 win 16
    +0         send(1000)
    +.115~.13  > . 1001:2001(1000) ack 1
    +.05       < . 1 ack 2001 win 512
    +0         > P. 2001:3001(1000) ack 1
    +.05       < . 1 ack 3001 win 512
    `,
  );
});

test("data that served as a probe repairs nothing: its ACK tells of no loss (RFC 8985 §7.4.2)", () => {
  drill(
    OPEN,
    `
    +0         send(11500)
    +0         > . 1:10001(10000) ack 1
    +.12       > . 10001:11001(1000) ack 1
    +.001      < . 1 ack 10001 win 512
    +0         > P. 11001:11501(500) ack 1
    +.05       < . 1 ack 11501 win 512
    +.01       send(30000)
    +0         > . 11501:32501(21000) ack 1
    `,
  );
});

test("the probe of a later tail that arrived twice takes no recovery back (RFC 3708 §3)", () => {
  const { driver } = drill(
    OPEN,
    `
    +0         send(2000)
    +0         > P. 1:2001(2000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +.013      > . 1:1001(1000) ack 1
    +.05       < . 1 ack 2001 win 512
    +0         send(1000)
    +0         > P. 2001:3001(1000) ack 1
    +.25       > P. 2001:3001(1000) ack 1
    +.001      < . 1 ack 3001 win 512
    +.05       < . 1 ack 3001 win 512 <nop,nop,sack 2001:3001>
    `,
  );
  expect(driver.stack.stats).toMatchObject({ tcpDuplicatesReported: 1, tcpReductionsUndone: 0 });
});

test("what is acknowledged together with a retransmission measures no round trip (RFC 6298 §3)", () => {
  drill(
    OPEN,
    `
    +0         send(3000)
    +0         > P. 1:3001(3000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +.013      > . 1:1001(1000) ack 1
    // 2001:3001 may have arrived long ago.
    +.2        < . 1 ack 3001 win 512
    +0         send(1000)
    +0         > P. 3001:4001(1000) ack 1
    +.25       > P. 3001:4001(1000) ack 1
    +.05       < . 1 ack 4001 win 512
    `,
  );
});

test("while more is in the network than the new window, seven octets leave for ten that arrive (RFC 9937 §6)", () => {
  drill(
    OPEN,
    `
    +0         send(60000)
    +0         > . 1:10001(10000) ack 1
    +.05       < . 1 ack 10001 win 512
    +0         > . 10001:30001(20000) ack 1
    // One of twenty is lost. 3,000 have arrived, so 2,100 may leave, the lost ones first.
    +.05       < . 1 ack 10001 win 512 <nop,nop,sack 11001:14001>
    +0         > . 10001:11001(1000) ack 1
    +0         > . 30001:31001(1000) ack 1
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 11001:15001>
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 11001:16001>
    +0         > . 31001:32001(1000) ack 1
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 11001:17001>
    +0         > . 32001:33001(1000) ack 1
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 11001:18001>
    +0         < . 1 ack 10001 win 512 <nop,nop,sack 11001:19001>
    +0         > . 33001:34001(1000) ack 1
    `,
  );
});

test("what a loss that the probe repaired took from the window is not given back with an earlier reduction (RFC 8985 §7.4.2, RFC 3708 §3)", () => {
  const { driver } = drill(
    OPEN,
    `
    +0         send(2000)
    +0         > P. 1:2001(2000) ack 1
    +.05       < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +.013      > . 1:1001(1000) ack 1
    +.005      < . 1 ack 2001 win 512
    +0         send(2000)
    +0         > P. 2001:4001(2000) ack 1
    +.1~.13    > P. 3001:4001(1000) ack 1
    +.05       < . 1 ack 4001 win 512
    +0         send(1000)
    +0         > P. 4001:5001(1000) ack 1
    +.05       < . 1 ack 5001 win 512
    +0         < . 1 ack 5001 win 512 <nop,nop,sack 1:1001>
    `,
  );
  expect(driver.stack.stats).toMatchObject({ tcpDuplicatesReported: 1, tcpReductionsUndone: 0 });
});
