import { expect, test } from "vitest";
import { drill } from "../../../src/testing/index.ts";

/** A client 50 ms away whose first 10,000 octets are in flight. `stamps`: it uses timestamps. */
function open(stamps: boolean): string {
  const offer = stamps ? "sackOK,TS val 1 ecr 0" : "sackOK";
  const stamp = stamps ? "<nop,nop,TS val 2 ecr last>" : "";
  // 12 octets of timestamps leave 1,000 of payload.
  return `
    0    < S 0:0(0) win 65535 <mss ${stamps ? 1012 : 1000},${offer},nop,wscale 7>
    +0   * open
    +0   accept()
    +0   > S. 0:0(0) ack 1
    +.05 < . 1 ack 1 win 512 ${stamp}
    +0   send(60000)
    +0   > . 1:10001(10000) ack 1
  `;
}

test("an ACK that answers the first transmission undoes fast recovery (RFC 3522 §3.2, RFC 4015 §3.2)", () => {
  const stamp = "nop,nop,TS val 2 ecr last,nop,nop";
  const { driver, trace } = drill(
    open(true),
    `
    +.05  < . 1 ack 1 win 512 <${stamp},sack 3001:10001>
    +0    > . 1:3001(3000) ack 1
    +0    > . 10001:14001(4000) ack 1
    `,
  );
  expect(driver.stack.stats.tcpFastRecoveries).toBe(1);
  const options = trace[1]!.packet.options.find((option) => option.kind === "TS");
  const first = options?.kind === "TS" ? options.value : 0;
  const { driver: undone } = drill(
    open(true),
    `
    +.05  < . 1 ack 1 win 512 <${stamp},sack 3001:10001>
    +0    > . 1:3001(3000) ack 1
    +0    > . 10001:14001(4000) ack 1
    // The echo is that of the first transmission: all of it was late. A window of 10,000 is in flight again.
    +.005 < . 1 ack 10001 win 512 <nop,nop,TS val 3 ecr ${first}>
    +0    > . 14001:20001(6000) ack 1
    // It was reordering: from now on three SACKed segments have to wait as well (RFC 8985 §6.2 step 4).
    +.05  < . 1 ack 10001 win 512 <nop,nop,TS val 4 ecr last,nop,nop,sack 11001:20001>
    +0    > . 20001:29001(9000) ack 1
    +.008 > . 10001:11001(1000) ack 1
    `,
  );
  expect(undone.stack.stats.tcpReductionsUndone).toBe(1);
});

test("the same ACK with the echo of the second transmission undoes nothing (RFC 3522 §3.2)", () => {
  const { driver } = drill(
    open(true),
    `
    +.05  < . 1 ack 1 win 512 <nop,nop,TS val 2 ecr last,nop,nop,sack 3001:10001>
    +0    > . 1:3001(3000) ack 1
    +0    > . 10001:14001(4000) ack 1
    +.05  < . 1 ack 10001 win 512 <nop,nop,TS val 3 ecr last>
    +0    > . 14001:17001(3000) ack 1
    `,
  );
  expect(driver.stack.stats.tcpReductionsUndone).toBe(0);
});

test("an ACK that was only late undoes a timeout, and nothing more is sent again (RFC 3522 §3.2, RFC 4015 §3)", () => {
  const { trace } = drill(open(true), "+.12 > any", "+.25 > any");
  const stamps = trace.map(({ packet }) => packet.options.find((option) => option.kind === "TS"));
  const first = stamps[1]?.kind === "TS" ? stamps[1].value : 0;
  const { driver } = drill(
    open(true),
    `
    +.12  > . 10001:11001(1000) ack 1
    +.25  > . 1:1001(1000) ack 1
    +.01  < . 1 ack 5001 win 512 <nop,nop,TS val 3 ecr ${first}>
    +0    > . 11001:20001(9000) ack 1
    +.01  < . 1 ack 10001 win 512 <nop,nop,TS val 3 ecr ${first}>
    +0    > . 20001:30001(10000) ack 1
    `,
  );
  expect(driver.stack.stats.tcpTimeouts).toBe(1);
  expect(driver.stack.stats.tcpReductionsUndone).toBe(1);
});

test("when all that was sent again arrived twice the window is what it was (RFC 3708 §3)", () => {
  const { driver } = drill(
    open(false),
    `
    +.05  < . 1 ack 1 win 512 <nop,nop,sack 2001:10001>
    +0    > . 1:2001(2000) ack 1
    +0    > . 10001:15001(5000) ack 1
    +.005 < . 1 ack 10001 win 512
    +0    > . 15001:17001(2000) ack 1
    // Half of it is not all.
    +.045 < . 1 ack 10001 win 512 <nop,nop,sack 1:1001>
    +0    < . 1 ack 10001 win 512 <nop,nop,sack 1001:2001>
    +0    > . 17001:20001(3000) ack 1
    `,
  );
  expect(driver.stack.stats.tcpReductionsUndone).toBe(1);
});

test("a timeout without timestamps is undone by duplicates (RFC 3708 §3)", () => {
  const { driver } = drill(
    open(false),
    `
    +.12  > . 10001:11001(1000) ack 1
    +.25  > . 1:1001(1000) ack 1
    +.01  < . 1 ack 11001 win 512
    +0    > . 11001:18001(7000) ack 1
    +.05  < . 1 ack 11001 win 512 <nop,nop,sack 1:1001>
    +0    > . 18001:21001(3000) ack 1
    `,
  );
  expect(driver.stack.stats.tcpReductionsUndone).toBe(1);
});

test.each([
  ["", 1],
  ["E", 0],
])(
  "a recovery that an echo of congestion meets is not taken back: ECE %j (RFC 3168 §6.1.2, RFC 3708 §3)",
  (ece, undone) => {
    const { driver } = drill(
      `
    0     < SEW 0:0(0) win 65535 <mss 1000,sackOK,nop,wscale 7>
    +0    * open
    +0    accept()
    +0    > SE. 0:0(0) ack 1
    +.05  < . 1 ack 1 win 512
    +0    send(60000)
    +0    > . 1:10001(10000) ack 1
    +.05  < . 1 ack 1 win 512 <nop,nop,sack 2001:10001>
    +0    > . 1:2001(2000) ack 1
    +0    > W. 10001:15001(5000) ack 1
    +.005 < ${ece}. 1 ack 10001 win 512
    +0    > . 15001:17001(2000) ack 1
    // All that was sent again arrived twice.
    +.045 < . 1 ack 10001 win 512 <nop,nop,sack 1:1001>
    +0    < . 1 ack 10001 win 512 <nop,nop,sack 1001:2001>
    ${undone ? "+0    > . 17001:20001(3000) ack 1" : ""}
    `,
    );
    expect(driver.stack.stats.tcpReductionsUndone).toBe(undone);
  },
);

test("a late first transmission is known by its echo: nothing is lost anew (RFC 7323 §4.1, RFC 8985 §6.2 step 2)", () => {
  const stamp = "nop,nop,TS val 2 ecr last,nop,nop";
  const repaired = `
    +.05  < . 1 ack 1 win 512 <${stamp},sack 3001:10001>
    +0    > . 1:3001(3000) ack 1
    +0    > . 10001:14001(4000) ack 1
  `;
  const { trace } = drill(open(true), repaired);
  const options = trace[1]!.packet.options.find((option) => option.kind === "TS");
  const first = options?.kind === "TS" ? options.value : 0;
  drill(
    open(true),
    repaired,
    `
    // 60 ms are a round trip, but 2001:3001 was on its way for longer.
    +.06  < . 1 ack 1 win 512 <nop,nop,TS val 2 ecr ${first},nop,nop,sack 2001:10001>
    +0    > . 14001:15001(1000) ack 1
    `,
  );
});

test("what arrives before it could be sent again was not lost: the window is what it was (RFC 4015 §3.2)", () => {
  const { driver } = drill(
    open(false),
    `
    +.05  < . 1 ack 1 win 512 <nop,nop,sack 3001:10001>
    &     < . 1 ack 10001 win 512
    +0    > . 10001:20001(10000) ack 1
    `,
  );
  expect(driver.stack.stats.tcpFastRecoveries).toBe(1);
  expect(driver.stack.stats.tcpReductionsUndone).toBe(1);
});
