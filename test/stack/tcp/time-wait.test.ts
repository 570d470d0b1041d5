import { describe, expect, test } from "vitest";
import { drill, established, TcpFlag } from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver } from "../../support/raw-client.ts";

const CLOSED_BY_US = `
    +0   shutdown()
    +0   > F. 1:1(0) ack 1
    +0   < . 1 ack 2 win 512
    +0   < F. 1:1(0) ack 2 win 512
    +0   * fin
    +0   * closed closed
    +0   > . 2 ack 2
`;

describe.each([
  ["IPv4", {}],
  ["IPv6", { v6: true }],
])("TIME-WAIT over %s", (_, family) => {
  test.each([
    ["above", 9_000_000],
    ["below", 5],
    ["just above", 100_003],
    ["half the sequence space away from", 0x80018000],
  ])(
    "a SYN with an ISN %s the old numbers opens a new connection at once (RFC 9293 §3.6.1 MAY-2)",
    (_name, isn) => {
      drill(
        family,
        established(),
        CLOSED_BY_US,
        `
      +.1  isn(${isn})
      +0   < S 0:0(0) win 65535 <mss 1460,sackOK,nop,wscale 7>
      +0   * open 10.0.0.2:40000 93.184.216.34:443
      +0   accept()
      +0   > S. 0:0(0) ack 1
      +0   < P. 1:101(100) ack 1 win 512
      +0   * data 100
      +0   > . 1 ack 101
      `,
      );
    },
  );

  test("a SYN equal to IRS is a ghost of the old one and is answered with ACK (RFC 9293 §3.10.7.4, RFC 5961 §4.2)", () => {
    drill(
      family,
      established(),
      CLOSED_BY_US,
      `
      +.1  < S 0:0(0) win 65535 <mss 1460,sackOK,nop,wscale 7>
      +0   > . 2 ack 2
      `,
    );
  });
});

test("a repeated FIN is acknowledged again (RFC 9293 §3.10.7.4)", () => {
  drill(
    established(),
    CLOSED_BY_US,
    `
    +5   < F. 1:1(0) ack 2 win 512
    +0   > . 2 ack 2
    `,
  );
});

test("a repeated FIN starts the ten seconds anew (RFC 9293 §3.10.7.4)", () => {
  drill(
    established(),
    CLOSED_BY_US,
    `
    +8   < F. 1:1(0) ack 2 win 512
    +0   > . 2 ack 2
    +8   < F. 1:1(0) ack 2 win 512
    +0   > . 2 ack 2
    `,
  );
});

test("it ends after ten seconds (RFC 9293 §3.6.1 MUST-13)", () => {
  const { driver } = drill(
    established(),
    CLOSED_BY_US,
    `
    +10.1 < F. 1:1(0) ack 2 win 512
    +0    > R 2:2(0)
    `,
  );
  driver.drain();
});

test("an RST at RCV.NXT ends it (RFC 1337 §3)", () => {
  drill(
    established(),
    CLOSED_BY_US,
    `
    +1   < R 2:2(0)
    +1   < F. 1:1(0) ack 2 win 512
    +0   > R 2:2(0)
    `,
  );
});

test("an old RST does not end it (RFC 1337 §3, RFC 5961 §3.2)", () => {
  drill(
    established(),
    CLOSED_BY_US,
    `
    +1   < R 1:1(0)
    +1   < F. 1:1(0) ack 2 win 512
    +0   > . 2 ack 2
    `,
  );
});

test("with timestamps, a SYN with another ISN opens at once too (RFC 9293 §3.6.1 SHLD-4)", () => {
  drill(
    established({ timestamps: true }),
    `
    +0   shutdown()
    +0   > F. 1:1(0) ack 1
    +0   < F. 1:1(0) ack 2 win 512 <nop,nop,TS val 3 ecr last>
    +0   * fin
    +0   * closed closed
    +0   > . 2 ack 2
    +.1  isn(77)
    +0   < S 0:0(0) win 65535 <mss 1460,TS val 2 ecr 0>
    +0   * open
    +0   accept()
    +0   > S. 0:0(0) ack 1 <mss own,TS val * ecr 2>
    `,
  );
});

test("it is bounded: the oldest gives way", () => {
  const driver = new RecordingDriver({ stack: { maxTimeWait: 16 } });
  const clients: RawClient[] = [];
  for (let port = 1000; port < 1040; port++) {
    const client = new RawClient(driver, { port });
    const handler = client.open();
    handler.flow.connection.shutdown();
    driver.turn();
    client.hearAll();
    client.received = 1;
    driver.inject(client.segment(TcpFlag.FIN | TcpFlag.ACK, 1));
    client.hearAll();
    driver.advance(1);
    clients.push(client);
  }
  const answers = clients.map((client) => {
    driver.inject(client.segment(TcpFlag.FIN | TcpFlag.ACK, 1));
    return driver.takeTcp()[0]!.flags & TcpFlag.RST ? "gone" : "there";
  });
  expect(answers.slice(0, 24)).toEqual(Array(24).fill("gone"));
  expect(answers.slice(24)).toEqual(Array(16).fill("there"));
  driver.drain();
});
