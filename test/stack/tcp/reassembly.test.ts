import { expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";

test("octets out of order wait, and the newest block is reported first (RFC 2018 §4)", () => {
  const { flow } = drill(
    established(),
    `
    +0   < . 1001:2001(1000) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 1001:2001>
    +0   < . 3001:4001(1000) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 3001:4001 1001:2001>
    +0   < . 5001:6001(1000) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 5001:6001 3001:4001 1001:2001>
    +0   < . 1:1001(1000) ack 1 win 512
    +0   * data 2000
    +0   > . 1 ack 2001 <nop,nop,sack 5001:6001 3001:4001>
    +0   < . 2001:3001(1000) ack 1 win 512
    +0   * data 2000
    +0   > . 1 ack 4001 <nop,nop,sack 5001:6001>
    +0   < . 4001:5001(1000) ack 1 win 512
    +0   * data 2000
    +0   > . 1 ack 6001 exact
    `,
  );
  expect(flow?.consumed).toBe(6000);
});

test("neighbouring blocks join (RFC 2018 §3)", () => {
  drill(
    established(),
    `
    +0   < . 1001:2001(1000) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 1001:2001>
    +0   < . 3001:4001(1000) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 3001:4001 1001:2001>
    +0   < . 2001:3001(1000) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 1001:4001>
    `,
  );
});

test("with timestamps there is room for three blocks (RFC 2018 §3)", () => {
  drill(
    established({ timestamps: true }),
    `
    +0   < . 1001:1101(100) ack 1 win 512 <nop,nop,TS val 2 ecr last>
    +0   > . 1 ack 1 <nop,nop,TS val * ecr 2,nop,nop,sack 1001:1101>
    +0   < . 2001:2101(100) ack 1 win 512 <nop,nop,TS val 2 ecr last>
    +0   > . 1 ack 1 <nop,nop,TS val * ecr 2,nop,nop,sack 2001:2101 1001:1101>
    +0   < . 3001:3101(100) ack 1 win 512 <nop,nop,TS val 2 ecr last>
    +0   > . 1 ack 1 <nop,nop,TS val * ecr 2,nop,nop,sack 3001:3101 2001:2101 1001:1101>
    +0   < . 4001:4101(100) ack 1 win 512 <nop,nop,TS val 2 ecr last>
    +0   > . 1 ack 1 <nop,nop,TS val * ecr 2,nop,nop,sack 4001:4101 3001:3101 2001:2101>
    `,
  );
});

test("each place at which a batch brought octets has an ACK that begins with it (RFC 2018 §4)", () => {
  drill(
    established({ timestamps: true }),
    `
    +0   < . 1001:1101(100) ack 1 win 512 <nop,nop,TS val 2 ecr last>
    &    < . 2001:2101(100) ack 1 win 512 <nop,nop,TS val 2 ecr last>
    // What follows a segment before it, or precedes it, is of its place.
    &    < . 1101:1201(100) ack 1 win 512 <nop,nop,TS val 2 ecr last>
    &    < . 1901:2001(100) ack 1 win 512 <nop,nop,TS val 2 ecr last>
    &    < . 3001:3101(100) ack 1 win 512 <nop,nop,TS val 2 ecr last>
    &    < . 4001:4101(100) ack 1 win 512 <nop,nop,TS val 2 ecr last>
    +0   > . 1 ack 1 <nop,nop,TS val * ecr 2,nop,nop,sack 1001:1201 1901:2101 3001:3101>
    +0   > . 1 ack 1 <nop,nop,TS val * ecr 2,nop,nop,sack 1901:2101 1001:1201 3001:3101>
    +0   > . 1 ack 1 <nop,nop,TS val * ecr 2,nop,nop,sack 3001:3101 1901:2101 1001:1201>
    +0   > . 1 ack 1 <nop,nop,TS val * ecr 2,nop,nop,sack 4001:4101 3001:3101 1901:2101>
    // The next batch repeats them.
    +0   < . 5001:5101(100) ack 1 win 512 <nop,nop,TS val 2 ecr last>
    +0   > . 1 ack 1 <nop,nop,TS val * ecr 2,nop,nop,sack 5001:5101 4001:4101 3001:3101>
    `,
  );
});

test("what a batch fills behind itself needs no ACK of its own (RFC 5681 §4.2)", () => {
  drill(
    established(),
    `
    +0   < . 1001:2001(1000) ack 1 win 512
    &    < . 3001:4001(1000) ack 1 win 512
    &    < . 1:1001(1000) ack 1 win 512
    &    < . 2001:3001(1000) ack 1 win 512
    &    < . 5001:6001(1000) ack 1 win 512
    &    < . 7001:8001(1000) ack 1 win 512
    &    < . 9001:9101(100) ack 1 win 512
    &    < . 9201:9301(100) ack 1 win 512
    +0   * data 4000
    +0   > . 1 ack 4001 <nop,nop,sack 5001:6001 7001:8001 9001:9101 9201:9301>
    +0   > . 1 ack 4001 <nop,nop,sack 7001:8001 5001:6001 9001:9101 9201:9301>
    +0   > . 1 ack 4001 <nop,nop,sack 9001:9101 7001:8001 5001:6001 9201:9301>
    +0   > . 1 ack 4001 <nop,nop,sack 9201:9301 9001:9101 7001:8001 5001:6001>
    `,
  );
});

test("one ACK is enough while all blocks fit, and octets that go out carry it (RFC 2018 §4)", () => {
  drill(
    established(),
    `
    +0   < . 1001:2001(1000) ack 1 win 512
    &    < . 3001:4001(1000) ack 1 win 512
    &    send(10)
    +0   > P. 1:11(10) ack 1 <nop,nop,sack 1001:2001 3001:4001>
    +0   < . 5001:6001(1000) ack 11 win 512
    &    < . 7001:8001(1000) ack 11 win 512
    &    send(10)
    +0   > P. 11:21(10) ack 1 <nop,nop,sack 5001:6001 3001:4001 1001:2001 7001:8001>
    +0   > . 21 ack 1 <nop,nop,sack 7001:8001 5001:6001 3001:4001 1001:2001>
    `,
  );
});

test("a batch has at most sixty reports; the oldest give way, and are counted (RFC 2018 §4)", () => {
  const segments = Array.from({ length: 62 }, (_, n) => {
    const left = 1001 + 200 * n;
    return `${n === 0 ? "+0" : "&"} < . ${left}:${left + 100}(100) ack 1 win 512`;
  });
  const { driver, trace } = drill(established(), "0 mute(on)", segments.join("\n"));
  expect(driver.stack.stats.tcpSackReportsForgotten).toBe(2);
  const blocks = trace.flatMap(({ packet }) =>
    packet.options.flatMap((option) => (option.kind === "sack" ? [option.blocks] : [])),
  );
  expect(blocks.length).toBe(60);
  // Those that gave way are told as ones before the oldest.
  const isn = blocks[0]![0]![0] - 1401;
  expect(blocks[0]!.map(([left]) => left - isn)).toEqual([1401, 1201, 1001, 1601]);
  expect(blocks.at(-1)![0]![0] - isn).toBe(1001 + 200 * 61);
});

test("a client without SACK gets plain duplicates (RFC 5681 §4.2)", () => {
  drill(
    established({ sack: false }),
    `
    +0   < . 1001:2001(1000) ack 1 win 512
    +0   > . 1 ack 1 exact
    +0   < . 2001:3001(1000) ack 1 win 512
    +0   > . 1 ack 1 exact
    +0   < . 1:1001(1000) ack 1 win 512
    +0   * data 3000
    +0   > . 1 ack 3001 exact
    `,
  );
});

test("overlapping segments deliver every octet once (RFC 9293 §3.10.7.4)", () => {
  const { flow } = drill(
    established(),
    `
    +0   < . 501:1501(1000) ack 1 win 512
    +0   > . 1 ack 1
    +0   < . 2001:2501(500) ack 1 win 512
    +0   > . 1 ack 1
    +0   < . 1001:2301(1300) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 1001:1501 501:2501>
    +0   < . 1:801(800) ack 1 win 512
    +0   * data 2500
    +0   > . 1 ack 2501
    `,
  );
  expect(flow?.consumed).toBe(2500);
});

test("a segment half old and half new delivers its new half (RFC 9293 §3.10.7.4)", () => {
  drill(
    established(),
    `
    +0   < . 1:1001(1000) ack 1 win 512
    +0   * data 1000
    +0   > . 1 ack 1001
    +0   < . 501:1501(1000) ack 1 win 512
    +0   * data 500
    +0   > . 1 ack 1501
    `,
  );
});

test("a segment that covers a held one and more", () => {
  drill(
    established(),
    `
    +0   < . 1001:1101(100) ack 1 win 512
    +0   > . 1 ack 1
    +0   < . 1:3001(3000) ack 1 win 512 gso 1000
    +0   * data 3000
    +0   > . 1 ack 3001 <nop,nop,sack 1001:1101> exact
    `,
  );
});

test.each([
  ["in the first data", 0xfffffff0],
  ["in the SYN itself", 0xffffffff],
  ["later", 0xfffff000],
])("the client's numbers wrap %s (RFC 9293 §3.4)", (_, clientIsn) => {
  const { flow } = drill(
    { clientIsn },
    established(),
    `
    +0   < . 1:1001(1000) ack 1 win 512
    +0   * data 1000
    +0   > . 1 ack 1001
    +0   < . 3001:5001(2000) ack 1 win 512 gso 1000
    +0   > . 1 ack 1001 <nop,nop,sack 3001:5001>
    +0   < . 5001:6001(1000) ack 1 win 512
    +0   > . 1 ack 1001 <nop,nop,sack 3001:6001>
    +0   < . 1001:3001(2000) ack 1 win 512 gso 1000
    +0   * data 5000
    +0   > . 1 ack 6001
    +0   < F. 6001:6001(0) ack 1 win 512
    +0   * fin
    +0   > . 1 ack 6002
    `,
  );
  expect(flow?.consumed).toBe(6000);
});

test("our numbers wrap (RFC 9293 §3.4)", () => {
  const open = (at: number): string => `
    ${at}  < S 0:0(0) win 65535 <mss 1000,sackOK,nop,wscale 7>
    +0   * open
    +0   accept()
    +0   > S. 0:0(0) ack 1
    +0   < . 1 ack 1 win 512
  `;
  // RFC 6528: the ISN runs with a 4 µs clock, so waiting chooses it.
  const isn = drill(open(0)).trace[0]!.packet.seq;
  const wait = Math.floor((2 ** 32 - 2000 - isn) / 250) / 1000;
  const { trace } = drill(
    open(wait),
    `
    +0    send(4000)
    +0    > P. 1:4001(4000) ack 1
    +.001 < . 1 ack 1 win 512 <nop,nop,sack 1001:2001>
    +0    < . 1 ack 1 win 512 <nop,nop,sack 1001:3001>
    +0    < . 1 ack 1 win 512 <nop,nop,sack 1001:4001>
    +0    > . 1:1001(1000) ack 1
    +.001 < . 1 ack 4001 win 512
    +0    send(1000)
    &     shutdown()
    +0    > F. 4001:5001(1000) ack 1
    +.001 < . 1 ack 5002 win 512
    `,
  );
  expect(trace[0]!.packet.seq).toBeGreaterThan(2 ** 32 - 4000);
});

test("ISNs of one pair of endpoints move forward with time and differ between pairs (RFC 6528 §3)", () => {
  const open = (at: number, clientPort: number): number =>
    drill(
      { clientPort },
      `
      ${at}  < S 0:0(0) win 65535 <mss 1000>
      +0   * open
      +0   accept()
      +0   > S. 0:0(0) ack 1
      `,
    ).trace[0]!.packet.seq;
  const first = open(0, 40000);
  expect((open(4, 40000) - first) >>> 0).toBe(1_000_000);
  const others = new Set(Array.from({ length: 20 }, (_, n) => open(0, 40000 + n) >>> 12));
  expect(others.size).toBe(20);
});
