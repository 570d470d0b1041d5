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

test("old data comes again: acknowledged, not delivered", () => {
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
  test("an older one is a ghost: answered, not taken (RFC 7323 §5.3, PAWS)", () => {
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
    "%s is soft: the connection lives on (RFC 5927 §4.1)",
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
