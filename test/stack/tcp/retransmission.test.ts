import { expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";

test("an unacknowledged segment is sent again after the RTO, which doubles (RFC 6298 §5.5)", () => {
  const { trace } = drill(
    established({ mss: 1000, sack: false }),
    `
    +0       send(1000)
    +0       > P. 1:1001(1000) ack 1
    +.2~1    > P. 1:1001(1000) ack 1
    +.4~2.1  > P. 1:1001(1000) ack 1
    +.8~4.2  > P. 1:1001(1000) ack 1
    +1.6~8.3 > P. 1:1001(1000) ack 1
    +.1      < . 1 ack 1001 win 512
    +300     send(10)
    +0       > P. 1001:1011(10) ack 1
    `,
  );
  const times = trace.slice(1, 6).map(({ at }) => at);
  const gaps = times.slice(1).map((at, index) => at - times[index]!);
  for (const [index, gap] of gaps.slice(1).entries()) {
    expect(gap / gaps[index]!).toBeGreaterThan(1.85);
    expect(gap / gaps[index]!).toBeLessThan(2.15);
  }
});

test("the RTO follows the measured round trip (RFC 6298 §2)", () => {
  let script = "";
  for (let n = 0; n < 8; n++) {
    script += `
    +0   send(1000)
    +0   > P. ${1000 * n + 1}:${1000 * n + 1001}(1000) ack 1
    +.4  < . 1 ack ${1000 * n + 1001} win 512
    `;
  }
  drill(
    `
    0    < S 0:0(0) win 65535 <mss 1000,sackOK,nop,wscale 7>
    +0   * open
    +0   accept()
    +0   > S. 0:0(0) ack 1
    +.4  < . 1 ack 1 win 512
    `,
    script,
    `
    +0       send(1000)
    +0       > P. 8001:9001(1000) ack 1
    +.4~1.3  > P. 8001:9001(1000) ack 1
    `,
  );
});

test("after a timeout only the first segment is sent again, and the rest as room is acknowledged (RFC 6298 §5.4, RFC 5681 §3.1)", () => {
  const { trace } = drill(
    established({ mss: 1000, sack: false }),
    `
    +0     send(4000)
    +0     > P. 1:4001(4000) ack 1
    +.2~1  > . 1:1001(1000) ack 1
    +0     mute(on)
    +.1    < . 1 ack 1001 win 512
    +.05   < . 1 ack 2001 win 512
    +.05   < . 1 ack 4001 win 512
    +0     mute(off)
    +10    send(10)
    +0     > P. 4001:4011(10) ack 1
    `,
  );
  expect(trace.length).toBeGreaterThan(4);
});

test("an acknowledgement stops the timer (RFC 6298 §5.2)", () => {
  drill(
    established(),
    `
    +0    send(1000)
    +0    > P. 1:1001(1000) ack 1
    +.1   < . 1 ack 1001 win 512
    +120  send(1000)
    +0    > P. 1001:2001(1000) ack 1
    `,
  );
});

test("a partly acknowledged super-segment is sent again from its first missing octet", () => {
  drill(
    established({ mss: 1000, sack: false }),
    `
    +0     send(3000)
    +0     > P. 1:3001(3000) ack 1
    +.01   < . 1 ack 1501 win 512
    +.2~1  > . 1501:2501(1000) ack 1
    `,
  );
});

test("three SACKed duplicates retransmit the first hole, and only it (RFC 6675 §5)", () => {
  drill(
    established({ mss: 1000 }),
    `
    +0    send(4000)
    +0    > P. 1:4001(4000) ack 1
    +.001 < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +0    < . 1 ack 1 win 512 <nop,nop,sack 1001:3001>
    +0    < . 1 ack 1 win 512 <nop,nop,sack 1001:4001>
    +0    > . 1:1001(1000) ack 1
    +.001 < . 1 ack 4001 win 512
    +60   send(10)
    +0    > P. 4001:4011(10) ack 1
    `,
  );
});

test("a loss found in one batch with acknowledgements shrinks the window from what it was (RFC 9438 §4.6)", () => {
  drill(
    established({ mss: 1000 }),
    `
    +0    send(30000)
    +0    > . 1:10001(10000) ack 1
    +.05  < . 1 ack 5001 win 512
    &     < . 1 ack 5001 win 512 <nop,nop,sack 6001:7001>
    &     < . 1 ack 5001 win 512 <nop,nop,sack 6001:8001>
    &     < . 1 ack 5001 win 512 <nop,nop,sack 6001:9001>
    &     < . 1 ack 5001 win 512 <nop,nop,sack 6001:10001>
    +0    > . 5001:6001(1000) ack 1
    +0    > . 10001:19001(9000) ack 1
    +.05  < . 1 ack 19001 win 512
    +0    > . 19001:29001(10000) ack 1
    +.05  < . 1 ack 29001 win 512
    +0    > P. 29001:30001(1000) ack 1
    +.05  < . 1 ack 30001 win 512
    `,
  );
});

test("three duplicates without SACK retransmit the first segment (RFC 5681 §3.2)", () => {
  drill(
    established({ mss: 1000, sack: false }),
    `
    +0    send(4000)
    +0    > P. 1:4001(4000) ack 1
    +.001 < . 1 ack 1 win 512
    +0    < . 1 ack 1 win 512
    +0    < . 1 ack 1 win 512
    +0    > . 1:1001(1000) ack 1
    +.001 < . 1 ack 4001 win 512
    +60   send(10)
    +0    > P. 4001:4011(10) ack 1
    `,
  );
});

test("two duplicates are reordering, not loss (RFC 5681 §3.2)", () => {
  drill(
    established({ mss: 1000, sack: false }),
    `
    +0    send(4000)
    +0    > P. 1:4001(4000) ack 1
    +.001 < . 1 ack 1 win 512
    +0    < . 1 ack 1 win 512
    +.01  < . 1 ack 4001 win 512
    +60   send(10)
    +0    > P. 4001:4011(10) ack 1
    `,
  );
});

test("window updates and segments with data are no duplicates (RFC 5681 §2)", () => {
  drill(
    established({ mss: 1000, sack: false }),
    `
    +0    send(2000)
    +0    > P. 1:2001(2000) ack 1
    +.001 < . 1 ack 1 win 513
    +0    < . 1 ack 1 win 514
    +0    < . 1 ack 1 win 515
    +0    < . 1 ack 1 win 516
    +.01  < . 1 ack 2001 win 512
    `,
  );
});

test("a partial acknowledgement retransmits the next hole at once (RFC 6582 §3.2)", () => {
  drill(
    established({ mss: 1000, sack: false }),
    `
    +0    send(5000)
    +0    > P. 1:5001(5000) ack 1
    +.001 < . 1 ack 1 win 512
    +0    < . 1 ack 1 win 512
    +0    < . 1 ack 1 win 512
    +0    > . 1:1001(1000) ack 1
    +.001 < . 1 ack 3001 win 512
    +0    > . 3001:4001(1000) ack 1
    +.001 < . 1 ack 5001 win 512
    `,
  );
});

test("every hole below three SACKed segments is lost at once (RFC 8985 §6.2 step 5)", () => {
  drill(
    established({ mss: 1000 }),
    `
    +0    send(5000)
    +0    > P. 1:5001(5000) ack 1
    +.001 < . 1 ack 1 win 512 <nop,nop,sack 1001:2001 3001:5001>
    +0    > . 1:1001(1000) ack 1
    +0    > . 2001:3001(1000) ack 1
    +.01  < . 1 ack 5001 win 512
    `,
  );
});

test("a client that has gone is given up after many retransmissions (RFC 1122 §4.2.3.5, RFC 9293 §3.8.3)", () => {
  const { driver, trace } = drill(
    established(),
    `
    +0       send(1000)
    +0       > P. 1:1001(1000) ack 1
    +0       mute(on)
    +100~1200 * closed timeout
    `,
  );
  expect(trace.length).toBeGreaterThan(7);
  driver.drain();
});

test("an acknowledgement of what was never sent changes nothing (RFC 9293 §3.10.7.4)", () => {
  drill(
    established(),
    `
    +0     send(1000)
    +0     > P. 1:1001(1000) ack 1
    +.01   < . 1 ack 5001 win 512
    +0     > . 1001 ack 1
    +.19~1 > P. 1:1001(1000) ack 1
    `,
  );
});

test("a new acknowledgement resets the back-off (RFC 6298 §5.7)", () => {
  drill(
    established({ mss: 1000, sack: false }),
    `
    +0       send(1000)
    +0       > P. 1:1001(1000) ack 1
    +.2~1    > P. 1:1001(1000) ack 1
    +.4~2.1  > P. 1:1001(1000) ack 1
    +.01     < . 1 ack 1001 win 512
    +0       send(1000)
    +0       > P. 1001:2001(1000) ack 1
    +.01     < . 1 ack 2001 win 512
    +0       send(1000)
    +0       > P. 2001:3001(1000) ack 1
    +.2~.3   > P. 2001:3001(1000) ack 1
    `,
  );
});

test("the ACK of what was sent twice measures nothing and does not end the back-off (RFC 6298 §3, §5.5)", () => {
  drill(
    established({ mss: 1000, sack: false }),
    `
    +0       send(1000)
    +0       > P. 1:1001(1000) ack 1
    +.2      > P. 1:1001(1000) ack 1
    +.4      > P. 1:1001(1000) ack 1
    +.05     < . 1 ack 1001 win 512
    +0       send(1000)
    +0       > P. 1001:2001(1000) ack 1
    +.8      > P. 1001:2001(1000) ack 1
    +.05     < . 1 ack 2001 win 512
    `,
  );
});

test("what lies behind a retransmission measures nothing, it may have waited there (RFC 6298 §3)", () => {
  drill(
    established({ mss: 1000, sack: false }),
    `
    +0       send(4000)
    +0       > P. 1:4001(4000) ack 1
    +.001    < . 1 ack 1 win 512
    +0       < . 1 ack 1 win 512
    +0       < . 1 ack 1 win 512
    +0       > . 1:1001(1000) ack 1
    +.19     < . 1 ack 4001 win 512
    +0       send(1000)
    +0       > P. 4001:5001(1000) ack 1
    +.2      > P. 4001:5001(1000) ack 1
    +.05     < . 1 ack 5001 win 512
    `,
  );
});

test("an ACK of what left while the window was full makes it grow, though nothing waits now (RFC 7661 §4.3)", () => {
  drill(
    established({ mss: 1000 }),
    `
    +0       send(12000)
    +0       > . 1:10001(10000) ack 1
    +.01     < . 1 ack 5001 win 512
    +0       > P. 10001:12001(2000) ack 1
    +.01     < . 1 ack 10001 win 512
    +0       send(40000)
    +0       > . 12001:30001(18000) ack 1
    +.01     < . 1 ack 30001 win 512
    +0       > P. 30001:52001(22000) ack 1
    `,
  );
});

test("a timestamp tells which of two transmissions is acknowledged, and ends the back-off (RFC 7323 §4.1)", () => {
  drill(
    established({ mss: 1012, sack: false, timestamps: true }),
    `
    +0       send(1000)
    +0       > P. 1:1001(1000) ack 1
    +.2      > P. 1:1001(1000) ack 1
    +.4      > P. 1:1001(1000) ack 1
    +.05     < . 1 ack 1001 win 512 <nop,nop,TS val 3 ecr last>
    +0       send(1000)
    +0       > P. 1001:2001(1000) ack 1
    +.2~.3   > P. 1001:2001(1000) ack 1
    +.05     < . 1 ack 2001 win 512 <nop,nop,TS val 3 ecr last>
    `,
  );
});

test.each([
  ["cubic", 7000],
  ["newreno", 5000],
] as const)(
  "%s decides what is left of the window after a loss (RFC 9438 §4.6, RFC 5681 §3.1)",
  (congestion, window) => {
    drill(
      { stack: { congestion } },
      established({ mss: 1000, sack: false }),
      `
    +0    send(30000)
    +0    > . 1:10001(10000) ack 1
    +.01  < . 1 ack 1 win 512
    +0    > . 10001:11001(1000) ack 1
    +0    < . 1 ack 1 win 512
    +0    > . 11001:12001(1000) ack 1
    +0    < . 1 ack 1 win 512
    +0    > . 1:1001(1000) ack 1
    +.01  < . 1 ack 12001 win 512
    +0    > . 12001:${12001 + window}(${window}) ack 1
    `,
    );
  },
);

test("a SYN-ACK that answered the SYN twice measures nothing (RFC 6298 §3)", () => {
  drill(`
    0      < S 0:0(0) win 65535 <mss 1000,sackOK>
    +0     * open
    +0     accept()
    +0     > S. 0:0(0) ack 1
    +.5    < S 0:0(0) win 65535 <mss 1000,sackOK>
    +0     > S. 0:0(0) ack 1
    +.01   < . 1 ack 1 win 65535
    +0     send(1000)
    +0     > P. 1:1001(1000) ack 1
    // 10 ms would be the round trip of neither, were it taken for one.
    +1     > P. 1:1001(1000) ack 1
  `);
});

test("half of FlightSize is half of what a client with a full window let be sent (RFC 5681 §3.1, RFC 7661 §4.2)", () => {
  drill(
    { stack: { congestion: "newreno" } },
    `
    0    < S 0:0(0) win 65535 <mss 1000,sackOK,nop,wscale 0>
    +0   * open
    +0   accept()
    +0   > S. 0:0(0) ack 1
    +.05 < . 1 ack 1 win 10000
    +0   send(60000)
    +0   > . 1:10001(10000) ack 1
    // It takes its time to read: the edge stays where it is.
    +.05 < . 1 ack 6001 win 4000
    +.01 < . 1 ack 6001 win 4000 <nop,nop,sack 7001:10001>
    +0   > . 6001:7001(1000) ack 1
    +.05 < . 1 ack 10001 win 20000
    +0   > . 10001:15001(5000) ack 1
    `,
  );
});

test("what was in flight two round trips ago does not count any more (RFC 5681 §3.1, RFC 7661 §4.2)", () => {
  drill(
    { stack: { congestion: "newreno" } },
    `
    0    < S 0:0(0) win 65535 <mss 1000,sackOK,nop,wscale 0>
    +0   * open
    +0   accept()
    +0   > S. 0:0(0) ack 1
    +.05 < . 1 ack 1 win 40000
    +0   send(10000)
    +0   > P. 1:10001(10000) ack 1
    +.05 < . 1 ack 10001 win 40000
    +0   send(6000)
    +0   > P. 10001:16001(6000) ack 1
    +.05 < . 1 ack 16001 win 40000
    +0   send(6000)
    +0   > P. 16001:22001(6000) ack 1
    +.05 < . 1 ack 22001 win 40000
    +0   send(6000)
    +0   > P. 22001:28001(6000) ack 1
    +.05 < . 1 ack 22001 win 40000 <nop,nop,sack 23001:28001>
    +0   > . 22001:23001(1000) ack 1
    +.05 < . 1 ack 28001 win 40000
    +0   send(20000)
    +0   > . 28001:31001(3000) ack 1
    `,
  );
});
