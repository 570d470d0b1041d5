import { describe, expect, test } from "vitest";
import {
  drill,
  established,
  FULL_OFFLOAD,
  NO_OFFLOAD,
  TcpFlag,
} from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver } from "../../support/raw-client.ts";

describe.each([
  ["IPv4", {}],
  ["IPv6", { v6: true }],
])("data over %s", (_, family) => {
  test("octets pass both ways, and an answer carries the acknowledgement", () => {
    const { flow } = drill(
      family,
      established(),
      `
      +.1  < P. 1:101(100) ack 1 win 512
      &    send(300)
      +0   * data 100
      +0   > P. 1:301(300) ack 101
      +.1  < . 101 ack 301 win 512
      +0   < P. 101:201(100) ack 301 win 512
      +0   * data 100
      +0   > . 301 ack 201
      `,
    );
    expect(flow?.consumed).toBe(200);
  });

  test("a large send leaves as one super-segment of whole segments (GSO)", () => {
    drill(
      family,
      established({ mss: 1000 }),
      `
      +0   send(4000)
      +0   > P. 1:4001(4000) ack 1 gso 1000
      +.01 < . 1 ack 4001 win 512
      `,
    );
  });

  test("a super-segment spans pages without a runt", () => {
    drill(
      family,
      established({ mss: 1400 }),
      `
      +0   send(9000)
      +0   > P. 1:9001(9000) ack 1 gso 1400
      +.01 < . 1 ack 9001 win 512
      +0   send(9000)
      +0   > P. 9001:18001(9000) ack 1 gso 1400
      `,
    );
  });

  test("a super-segment from the client is one event and one acknowledgement", () => {
    drill(
      family,
      established(),
      `
      +0   < P. 1:14601(14600) ack 1 win 512 gso 1460
      +0   * data 14600
      +0   > . 1 ack 14601
      `,
    );
  });

  test("checksums the kernel left open (NEEDS_CSUM) are not held against a packet (RFC 9293 §3.1 MUST-3)", () => {
    drill(
      family,
      established(),
      `
      +0   < P. 1:101(100) ack 1 win 512 offload
      +0   * data 100
      +0   > . 1 ack 101
      `,
    );
  });

  test("a device without offload gets whole checksums and segments of the MSS (RFC 9293 §3.1 MUST-2)", () => {
    drill(
      { ...family, offload: NO_OFFLOAD },
      established({ mss: 1000 }),
      `
      +0   send(3500)
      +0   > . 1:1001(1000) ack 1 gso 0
      &    > . 1001:2001(1000) ack 1 gso 0
      &    > . 2001:3001(1000) ack 1 gso 0
      &    > P. 3001:3501(500) ack 1 gso 0
      +.01 < . 1 ack 3501 win 512
      `,
    );
  });

  test("a device with checksum offload alone gets segments of the MSS", () => {
    drill(
      { ...family, offload: { ...NO_OFFLOAD, checksum: true } },
      established({ mss: 1000 }),
      `
      +0   send(2001)
      +0   > . 1:1001(1000) ack 1
      &    > . 1001:2001(1000) ack 1
      &    > P. 2001:2002(1) ack 1
      `,
    );
  });
});

test("TSO of one family only is used for that family only", () => {
  const offload = { ...FULL_OFFLOAD, tso6: false };
  const script = `
      +0   send(2000)
      +0   > any
  `;
  expect(drill({ offload }, established({ mss: 1000 }), script).trace.at(-1)?.gso).toBe(1000);
  expect(() => drill({ offload, v6: true }, established({ mss: 1000 }), script)).toThrow(
    "expected  nothing",
  );
});

test("our segments never exceed the MTU, whatever MSS the client claims (RFC 9293 §3.7.1 MUST-16)", () => {
  drill(
    { mtu: 1280 },
    established({ mss: 9000 }),
    `
    +0   send(3000)
    +0   > P. 1:3001(3000) ack 1 gso 1240
    `,
  );
});

test("copied octets (write) follow those filled in place (commit) in order", () => {
  drill(
    established(),
    `
    +0   send(100)
    &    write(50)
    &    send(100)
    +0   > P. 1:251(250) ack 1
    `,
  );
});

test("a segment with a damaged checksum is dropped without an answer (RFC 9293 §3.1 MUST-3)", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  client.open();
  const damaged = client.segment(TcpFlag.ACK, 1, 100);
  damaged[damaged.length - 1]! ^= 1;
  driver.inject(damaged);
  driver.advance(1000);
  expect(driver.take()).toEqual([]);
  expect(driver.stack.stats.tcpBadChecksum).toBe(1);
});

test("several segments of one batch are one event and one acknowledgement (RFC 9293 §3.10.7.4 MUST-58, MUST-59)", () => {
  drill(
    established(),
    `
    +0   < . 1:1001(1000) ack 1 win 512
    &    < . 1001:2001(1000) ack 1 win 512
    &    < P. 2001:2501(500) ack 1 win 512
    +0   * data 2500
    +0   > . 1 ack 2501
    `,
  );
});

test("PSH is on the last octets written, and on none before (RFC 9293 §3.9.1.2 MUST-60, MUST-61)", () => {
  drill(
    established({ mss: 1000, wscale: false, win: 2500 }),
    `
    +0   send(4000)
    +0   > . 1:2001(2000) ack 1 exact
    +.01 < . 1 ack 2001 win 2500
    +0   > P. 2001:4001(2000) ack 1 exact
    `,
  );
});

test("an urgent pointer to nowhere, or with nothing, does no harm (RFC 9293 §3.8.5 MUST-30)", () => {
  drill(
    established(),
    `
    +0   < U. 1 ack 1 win 512 urg 500
    +0   < U. 1:11(10) ack 1 win 512 urg 65535
    +0   * data 10
    +0   > . 1 ack 11
    `,
  );
});

test("urgent data is taken in line (RFC 6093 §6, RFC 9293 §3.8.5 MUST-30, MUST-31)", () => {
  drill(
    established(),
    `
    +0   < PU. 1:101(100) ack 1 win 512 urg 50
    +0   * data 100
    +0   > . 1 ack 101
    `,
  );
});

test("octets nobody consumes stay readable, and pass when they are consumed", () => {
  const { flow } = drill(
    established(),
    `
    +0   autoconsume(off)
    +0   < . 1:1001(1000) ack 1 win 512
    +0   * data 1000
    +0   > . 1 ack 1001
    +.1  < . 1001:2001(1000) ack 1 win 512
    +0   * data 1000
    +0   > . 1 ack 2001
    +1   consume(1500)
    +0   < P. 2001:2101(100) ack 1 win 512
    +0   * data 100
    +0   > . 1 ack 2101
    +1   consume(600)
    `,
  );
  expect(flow?.consumed).toBe(2100);
  expect(flow?.connection.readableOctets).toBe(0);
});
