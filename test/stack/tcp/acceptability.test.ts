import { describe, expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";

describe("a segment outside the window is answered and dropped (RFC 9293 §3.10.7.4)", () => {
  test.each([
    ["beyond it", "< P. 90000000:90000100(100) ack 1 win 512 junk"],
    ["before it", "< P. -500:-400(100) ack 1 win 512 junk"],
    ["a keep-alive", "< . 0 ack 1 win 512"],
    ["a keep-alive with an octet (RFC 1122 §4.2.3.6)", "< . 0:1(1) ack 1 win 512 junk"],
  ])("%s", (_, segment) => {
    drill(
      established(),
      `
      +1   ${segment}
      +0   > . 1 ack 1
      +1   < P. 1:101(100) ack 1 win 512
      +0   * data 100
      +0   > . 1 ack 101
      `,
    );
  });
});

describe("with a window of 65,535 octets from 1 on", () => {
  test.each([
    ["that begins before it and ends in it", "P. -99:101(200) ack 1", 100],
    ["with the last octet of it", "P. 65535:65536(1) ack 1", 0],
    ["that begins in it and ends behind it", ". 60000:70000(10000) ack 1", 0],
    ["without octets in it", ". 65535 ack 1", 0],
    // A client that has used up its window acknowledges from there, while what precedes is on its way.
    ["without octets at its very edge", ". 65536 ack 1", 0],
  ])("a segment %s is acceptable (RFC 9293 §3.4, §3.10.7.4)", (_, segment, octets) => {
    const { driver, flow } = drill(
      established({ wscale: false }),
      `
      +0   mute(on)
      +0   < ${segment} win 65535 junk
      +.1  mute(off)
      `.replace(octets > 0 ? "junk" : "nothing", ""),
    );
    expect(driver.stack.stats.tcpOutOfWindow).toBe(0);
    expect(flow?.consumed).toBe(octets);
  });

  test.each([
    ["that ends where it begins", "P. -99:1(100) ack 1"],
    ["that begins behind it", "P. 65536:65537(1) ack 1"],
    ["without octets behind it", ". 65537 ack 1"],
    ["without octets before it", ". 0 ack 1"],
  ])("a segment %s is not: ACK, and dropped (RFC 9293 §3.4, §3.10.7.4)", (_, segment) => {
    const { driver, flow } = drill(
      established({ wscale: false }),
      `
      +0   < ${segment} win 65535 junk
      +0   > . 1 ack 1
      `,
    );
    expect(driver.stack.stats.tcpOutOfWindow).toBe(1);
    expect(flow?.consumed).toBe(0);
  });
});

test("old data comes again: acknowledged, not delivered (RFC 9293 §3.10.7.4)", () => {
  const { flow } = drill(
    established(),
    `
    +0   < P. 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > . 1 ack 101
    +1   < P. 1:101(100) ack 1 win 512 junk
    +0   > . 1 ack 101
    `,
  );
  expect(flow?.consumed).toBe(100);
});

test("a segment without ACK is dropped (RFC 9293 §3.10.7.4, fifth)", () => {
  drill(
    established(),
    `
    +0   < P 1:101(100) win 512
    +1   < P. 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > . 1 ack 101
    `,
  );
});

test("data that acknowledges the future is not taken (RFC 5961 §5.2)", () => {
  drill(
    established(),
    `
    +0   < P. 1:101(100) ack 70000 win 512 junk
    +0   > . 1 ack 1
    +1   < P. 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > . 1 ack 101
    `,
  );
});

test("data that acknowledges the distant past is not taken (RFC 5961 §5.2)", () => {
  drill(
    established(),
    `
    +0   < P. 1:101(100) ack -1000000 win 512 junk
    +0   > . 1 ack 1
    +1   < P. 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > . 1 ack 101
    `,
  );
});

describe("timestamps", () => {
  test("an older one is a ghost: answered, not taken (RFC 7323 §5.3)", () => {
    drill(
      established({ timestamps: true }),
      `
      +0   < P. 1:101(100) ack 1 win 512 <nop,nop,TS val 1000 ecr last>
      +0   * data 100
      +0   > . 1 ack 101 <nop,nop,TS val * ecr 1000>
      +.1  < P. 101:201(100) ack 1 win 512 <nop,nop,TS val 999 ecr last> junk
      +0   > . 1 ack 101
      +.1  < P. 101:201(100) ack 1 win 512 <nop,nop,TS val 1001 ecr last>
      +0   * data 100
      +0   > . 1 ack 201 <nop,nop,TS val * ecr 1001>
      `,
    );
  });

  test("a segment without those that were agreed on is dropped in silence, and ends nothing (RFC 7323 §3.2)", () => {
    const { driver } = drill(
      established({ timestamps: true }),
      `
      +0   < P. 1:101(100) ack 1 win 512 junk
      +.1  < P. 1:101(100) ack 1 win 512 <nop,nop,TS val 3 ecr last>
      +0   * data 100
      +0   > . 1 ack 101 <nop,nop,TS val * ecr 3>
      `,
    );
    expect(driver.stack.stats.tcpWithoutTimestamps).toBe(1);
  });

  test("nobody gets any who offered none (RFC 7323 §3.2)", () => {
    const { trace } = drill(
      established(),
      `
      +0   < P. 1:101(100) ack 1 win 512 <nop,nop,TS val 3 ecr 0>
      +0   * data 100
      +0   > . 1 ack 101
      `,
    );
    for (const { packet } of trace) {
      expect(packet.options.filter(({ kind }) => kind === "TS")).toEqual([]);
    }
  });

  test("of several segments the echo is that of the first not yet acknowledged (RFC 7323 §4.3 (3))", () => {
    drill(
      established({ timestamps: true }),
      `
      +0   < . 1:101(100) ack 1 win 512 <nop,nop,TS val 50 ecr last>
      &    < P. 101:201(100) ack 1 win 512 <nop,nop,TS val 60 ecr last>
      +0   * data 200
      +0   > . 1 ack 201 <nop,nop,TS val * ecr 50>
      `,
    );
  });

  test("after 24 days without news the old one no longer counts (RFC 7323 §5.5)", () => {
    // The client lives: an octet out of order each hour, which moves no timestamp (RFC 7323 §4.3).
    const hour = "\n+3600 < . 2:3(1) ack 1 win 512 <nop,nop,TS val 1000000000 ecr 0>";
    const old = "< P. 1:101(100) ack 1 win 512 <nop,nop,TS val 999999999 ecr last>";
    drill(
      `
      0   < S 0:0(0) win 65535 <mss 1460,TS val 1000000000 ecr 0>
      +0  * open
      +0  accept()
      +0  > S. 0:0(0) ack 1
      +0  < . 1 ack 1 win 512 <nop,nop,TS val 1000000000 ecr last>
      +0  mute(on)
      ${hour.repeat(23 * 24)}
      +0  mute(off)
      +0  ${old} junk
      +0  > . 1 ack 1
      +0  mute(on)
      ${hour.repeat(25)}
      +0  mute(off)
      +0  ${old}
      +0  * data 100
      +0  > . 1 ack 101 <nop,nop,TS val * ecr 999999999>
      // From here on it counts again.
      +0  < P. 101:201(100) ack 1 win 512 <nop,nop,TS val 999999998 ecr last> junk
      +0  > . 1 ack 101
      `,
    );
  });

  test("they are compared modulo 2^32 (RFC 7323 §5.2)", () => {
    drill(`
      0    < S 0:0(0) win 65535 <mss 1460,TS val 4294967290 ecr 0>
      +0   * open
      +0   accept()
      +0   > S. 0:0(0) ack 1 <mss own,TS val * ecr 4294967290>
      +0   < . 1 ack 1 win 512 <nop,nop,TS val 4294967295 ecr last>
      +0   < P. 1:101(100) ack 1 win 512 <nop,nop,TS val 5 ecr last>
      +0   * data 100
      +0   > . 1 ack 101 <nop,nop,TS val * ecr 5>
    `);
  });

  test("a segment out of order does not move TS.Recent (RFC 7323 §4.3)", () => {
    drill(
      established({ timestamps: true }),
      `
      +0   < P. 101:201(100) ack 1 win 512 <nop,nop,TS val 50 ecr last>
      +0   > . 1 ack 1 <nop,nop,TS val * ecr 2,nop,nop,sack 101:201>
      +0   < P. 1:101(100) ack 1 win 512 <nop,nop,TS val 60 ecr last>
      +0   * data 200
      +0   > . 1 ack 201 <nop,nop,TS val * ecr 60>
      `,
    );
  });

  test("an RST is taken whatever its timestamp (RFC 7323 §5.2)", () => {
    drill(
      established({ timestamps: true }),
      `
      +0   < R 1:1(0)
      +0   * closed reset
      `,
    );
  });

  test("a doubtful RST does not move TS.Recent (RFC 7323 §5.2)", () => {
    drill(
      established({ timestamps: true }),
      `
      +0   < R 100:100(0) <nop,nop,TS val 1000000 ecr 0>
      +0   > . 1 ack 1 <nop,nop,TS val * ecr 2>
      +0   < P. 1:101(100) ack 1 win 512 <nop,nop,TS val 3 ecr last>
      +0   * data 100
      +0   > . 1 ack 101 <nop,nop,TS val * ecr 3>
      `,
    );
  });

  test("ours never run backwards, and advance with time (RFC 7323 §5.4)", () => {
    const { trace } = drill(
      established({ timestamps: true }),
      `
      +0   send(10)
      +0   > P. 1:11(10) ack 1
      +.1  < . 1 ack 11 win 512 <nop,nop,TS val 100 ecr last>
      +1   send(10)
      +0   > P. 11:21(10) ack 1
      `,
    );
    const stamps = trace.map(({ packet }) => {
      const stamp = packet.options.find((option) => option.kind === "TS");
      return stamp?.value ?? 0;
    });
    const steps = stamps.slice(1).map((value, index) => (value - stamps[index]!) | 0);
    for (const step of steps) expect(step).toBeGreaterThanOrEqual(0);
    expect(steps.at(-1)).toBeGreaterThan(0);
  });
});

describe("ICMP errors about an established connection", () => {
  test.each(["net-unreachable", "host-unreachable", "port-unreachable", "ttl-exceeded"])(
    "%s is soft: the connection lives on (RFC 5927 §5.2, RFC 9293 §3.9.2.2 MUST-54, MUST-56)",
    (reason) => {
      drill(
        established(),
        `
        +0     send(1000)
        +0     > P. 1:1001(1000) ack 1
        +.01   < icmp ${reason} quoting P. 1:1001(1000)
        +.01   < . 1 ack 1001 win 512
        +0     < P. 1:101(100) ack 1001 win 512
        +0     * data 100
        +0     > . 1001 ack 101
        `,
      );
    },
  );
});
