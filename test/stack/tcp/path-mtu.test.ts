import { describe, expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";

describe.each([
  ["IPv4", {}, 1360, 1348],
  ["IPv6", { v6: true }, 1340, 1328],
])("a path of 1,400 octets, over %s", (_, family, mss, mssWithTimestamps) => {
  const own = mss + 100;

  test("what was too big is sent again in shorter segments, at once and all of it (RFC 1191 §6.4, RFC 8201 §5.4)", () => {
    const { driver } = drill(
      family,
      established(),
      `
      +0   send(${4 * own})
      +0   > P. 1:${4 * own + 1}(${4 * own}) ack 1 gso ${own}
      +.01 < icmp too-big mtu 1400 quoting P. 1:${4 * own + 1}(${4 * own})
      +0   > P. 1:${4 * own + 1}(${4 * own}) ack 1 gso ${mss}
      +.01 < . 1 ack ${4 * own + 1} win 512
      +0   send(${2 * mss})
      +0   > P. ${4 * own + 1}:${4 * own + 1 + 2 * mss}(${2 * mss}) ack 1 gso ${mss}
      `,
    );
    expect(driver.stack.stats.tcpPathMtuLowered).toBe(1);
  });

  test("options of every segment take their part (RFC 6691 §2)", () => {
    const sent = 2 * (own - 12);
    drill(
      family,
      established({ timestamps: true }),
      `
      +0   send(${sent})
      +0   > P. 1:${sent + 1}(${sent}) ack 1 gso ${own - 12}
      +.01 < icmp too-big mtu 1400 quoting P. 1:${sent + 1}(${sent})
      +0   > P. 1:${sent + 1}(${sent}) ack 1 gso ${mssWithTimestamps}
      `,
    );
  });
});

test("segments that were SACKed are not sent again (RFC 1191 §6.4)", () => {
  drill(
    established(),
    `
    +0   send(5840)
    +0   > P. 1:5841(5840) ack 1
    +.01 < . 1 ack 1 win 512 <sack 2921:4381>
    +0   < icmp too-big mtu 1400 quoting P. 1:5841(5840)
    +0   > . 1:2921(2920) ack 1 gso 1360
    +0   > P. 4381:5841(1460) ack 1 gso 1360
    +.01 < . 1 ack 5841 win 512
    `,
  );
});

test("it is no congestion: the window stays what it was (RFC 1191 §6.4, RFC 8201 §5.4)", () => {
  drill(
    established(),
    `
    +0   send(30000)
    +0   > . 1:14601(14600) ack 1
    +.01 < icmp too-big mtu 1400 quoting . 1:14601(14600)
    +0   > . 1:13601(13600) ack 1 gso 1360
    // What remains of the ten segments is less than one of the new.
    +.01 < . 1 ack 13601 win 512
    +0   > . 13601:14601(1000) ack 1
    +0   > P. 14601:30001(15400) ack 1 gso 1360
    `,
  );
});

test("other errors about the same octets, or with a larger MTU, say nothing new (RFC 8201 §4)", () => {
  const { driver } = drill(
    established(),
    `
    +0   send(2920)
    +0   > P. 1:2921(2920) ack 1
    +.01 < icmp too-big mtu 1400 quoting P. 1:2921(2920)
    +0   > P. 1:2921(2920) ack 1 gso 1360
    +0   < icmp too-big mtu 1400 quoting P. 1:2921(2920)
    +0   < icmp too-big mtu 1480 quoting P. 1:2921(2920)
    +.01 < . 1 ack 2921 win 512
    `,
  );
  expect(driver.stack.stats.tcpPathMtuLowered).toBe(1);
  expect(driver.stack.stats.tcpIcmpIgnored).toBe(2);
});

test("an error about octets that are not in flight is not believed (RFC 5927 §4.1, §7.2)", () => {
  const { driver } = drill(
    established(),
    `
    +0   send(2920)
    +0   > P. 1:2921(2920) ack 1
    +.01 < . 1 ack 2921 win 512
    +0   < icmp too-big mtu 600 quoting P. 1:2921(2920)
    +0   send(2920)
    +0   > P. 2921:5841(2920) ack 1 gso 1460
    +0   < icmp too-big mtu 600 quoting P. 1:2921(2920)
    +.01 < . 1 ack 5841 win 512
    `,
  );
  expect(driver.stack.stats.tcpIcmpIgnored).toBe(2);
});

test.each([
  ["IPv4, 68", {}, 68, 536],
  ["IPv4, 0 of an old router (RFC 1191 §5)", {}, 0, 536],
  ["IPv6, 68", { v6: true }, 68, 1220],
  ["IPv6, 0", { v6: true }, 0, 1220],
])(
  "no error makes segments shorter than the minimum: %s (RFC 5927 §7.1, RFC 8201 §4)",
  (_, family, mtu, mss) => {
    drill(
      family,
      established(),
      `
    +0   send(4000)
    +0   > P. 1:4001(4000) ack 1
    +.01 < icmp too-big mtu ${mtu} quoting P. 1:4001(4000)
    +0   > P. 1:4001(4000) ack 1 gso ${mss}
    `,
    );
  },
);

test("a FIN that was in flight is sent again behind its octets", () => {
  drill(
    established(),
    `
    +0   send(2000)
    &    shutdown()
    +0   > F. 1:2001(2000) ack 1
    +.01 < icmp too-big mtu 1000 quoting FP. 1:2001(2000)
    +0   > F. 1:2001(2000) ack 1 gso 960
    +.01 < . 1 ack 2002 win 512
    `,
  );
});

test("nothing is told to a client that speaks ECN: the window is the same (RFC 3168 §6.1.2)", () => {
  drill(`
    0    < SEW 0:0(0) win 65535 <mss 1460,sackOK,nop,wscale 7>
    +0   * open
    +0   accept()
    +0   > SE. 0:0(0) ack 1
    +0   < . 1 ack 1 win 512
    +0   send(2920)
    +0   > [ect0] P. 1:2921(2920) ack 1
    +.01 < icmp too-big mtu 1400 quoting P. 1:2921(2920)
    +0   > [noecn] P. 1:2921(2920) ack 1
    +.01 < . 1 ack 2921 win 512
    +0   send(100)
    +0   > [ect0] P. 2921:3021(100) ack 1
  `);
});
