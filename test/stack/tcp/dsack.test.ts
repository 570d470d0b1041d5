import { expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";

test("a segment that came before is reported, once (RFC 2883 §4)", () => {
  drill(
    established(),
    `
    +0   < . 1:1001(1000) ack 1 win 512
    +0   * data 1000
    +0   > . 1 ack 1001
    +0   < . 501:1001(500) ack 1 win 512
    +0   > . 1 ack 1001 <nop,nop,sack 501:1001>
    +0   send(10)
    +0   > P. 1:11(10) ack 1001 exact
    `,
  );
});

test("the old half of a segment is reported (RFC 2883 §4)", () => {
  drill(
    established(),
    `
    +0   < . 1:1001(1000) ack 1 win 512
    +0   * data 1000
    +0   > . 1 ack 1001
    +0   < . 501:1501(1000) ack 1 win 512
    +0   * data 500
    +0   > . 1 ack 1501 <nop,nop,sack 501:1001>
    `,
  );
});

test("a duplicate out of order is followed by the block around it (RFC 2883 §4)", () => {
  drill(
    established(),
    `
    +0   < . 1001:2001(1000) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 1001:2001>
    +0   < . 3001:5001(2000) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 3001:5001 1001:2001>
    +0   < . 1501:1801(300) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 1501:1801 1001:2001 3001:5001> exact
    +0   < . 3001:4001(1000) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 3001:4001 3001:5001 1001:2001> exact
    `,
  );
});

test("what a segment in order repeats of held octets is reported (RFC 2883 §4)", () => {
  drill(
    established(),
    `
    +0   < . 1001:2001(1000) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 1001:2001>
    +0   < . 3001:4001(1000) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 3001:4001 1001:2001>
    +0   < . 1:2001(2000) ack 1 win 512
    +0   * data 2000
    +0   > . 1 ack 2001 <nop,nop,sack 1001:2001 3001:4001>
    `,
  );
});

test("duplicates of one batch that touch are one block, others have an ACK of their own (RFC 2883 §4)", () => {
  drill(
    established(),
    `
    +0   < . 1:6001(6000) ack 1 win 512 gso 1000
    +0   * data 6000
    +0   > . 1 ack 6001
    +0   < . 1001:2001(1000) ack 1 win 512
    &    < . 2001:3001(1000) ack 1 win 512
    &    < . 4001:5001(1000) ack 1 win 512
    +0   > . 1 ack 6001 <nop,nop,sack 1001:3001>
    +0   > . 1 ack 6001 <nop,nop,sack 4001:5001>
    +0   send(10)
    +0   > P. 1:11(10) ack 6001 exact
    `,
  );
});

test("with timestamps a duplicate leaves room for two blocks (RFC 2018 §3)", () => {
  const stamp = "nop,nop,TS val 2 ecr last";
  const answer = "nop,nop,TS val * ecr 2,nop,nop";
  drill(
    established({ timestamps: true }),
    `
    +0   < . 1001:1101(100) ack 1 win 512 <${stamp}>
    +0   > . 1 ack 1 <${answer},sack 1001:1101>
    +0   < . 2001:2101(100) ack 1 win 512 <${stamp}>
    +0   > . 1 ack 1 <${answer},sack 2001:2101 1001:1101>
    +0   < . 3001:3101(100) ack 1 win 512 <${stamp}>
    +0   > . 1 ack 1 <${answer},sack 3001:3101 2001:2101 1001:1101>
    +0   < . 1001:1101(100) ack 1 win 512 <${stamp}>
    +0   > . 1 ack 1 <${answer},sack 1001:1101 1001:1101 3001:3101>
    `,
  );
});

test("a client without SACK is told nothing (RFC 2018 §2)", () => {
  drill(
    established({ sack: false }),
    `
    +0   < . 1:1001(1000) ack 1 win 512
    +0   * data 1000
    +0   > . 1 ack 1001
    +0   < . 1:1001(1000) ack 1 win 512
    +0   > . 1 ack 1001 exact
    `,
  );
});

test("a report above the acknowledgement is one where the second block holds it (RFC 2883 §4)", () => {
  const { driver } = drill(
    established({ mss: 1000 }),
    `
    +0   send(4000)
    +0   > P. 1:4001(4000) ack 1
    +.01 < . 1 ack 1 win 512 <nop,nop,sack 2001:3001>
    &    < . 1 ack 1 win 512 <nop,nop,sack 2001:2501 2001:3001>
    +0~.03 > . 1:1001(1000) ack 1
    +.01 < . 1 ack 4001 win 512
    `,
  );
  expect(driver.stack.stats.tcpDuplicatesReported).toBe(1);
});

test("reports of what was never sent, or is older than any window, are not believed (RFC 2883 §4)", () => {
  const { driver } = drill(
    established(),
    `
    +0   send(1000)
    +0   > P. 1:1001(1000) ack 1
    +.01 < . 1 ack 1001 win 512 <nop,nop,sack 1:1001>
    +0   < . 1 ack 1001 win 512 <nop,nop,sack 2001:3001>
    +0   < . 1 ack 1001 win 512 <nop,nop,sack 4000000000:4000001000>
    `,
  );
  expect(driver.stack.stats.tcpDuplicatesReported).toBe(1);
});

test("octets that come late, behind what was sent after them, are reported (RFC 7323 §5.3, RFC 2883 §4)", () => {
  const stamp = (value: number): string => `<nop,nop,TS val ${value} ecr last>`;
  drill(
    established({ timestamps: true }),
    `
    +0   < . 1:1001(1000) ack 1 win 512 ${stamp(30)}
    +0   * data 1000
    +0   > . 1 ack 1001 <nop,nop,TS val * ecr 30>
    +0   < . 1:1001(1000) ack 1 win 512 ${stamp(20)}
    +0   > . 1 ack 1001 <nop,nop,TS val * ecr 30,nop,nop,sack 1:1001>
    // It is from before the last segment, and is not taken: only what is there already came twice.
    +0   < . 501:1501(1000) ack 1 win 512 ${stamp(20)}
    +0   > . 1 ack 1001 <nop,nop,TS val * ecr 30,nop,nop,sack 501:1001>
    +0   < . 1001:2001(1000) ack 1 win 512 ${stamp(20)}
    +0   > . 1 ack 1001 <nop,nop,TS val * ecr 30>
    `,
  );
});
