import { describe, expect, test } from "vitest";
import { drill, TcpFlag } from "../../../src/testing/index.ts";
import { RawClient, RecordingDriver } from "../../support/raw-client.ts";

/** A client and a stack that both speak ECN; MSS 1000. */
const ECN = `
  0   < SEW 0:0(0) win 65535 <mss 1000,sackOK,nop,wscale 7>
  +0  * open
  +0  accept()
  +0  > [noecn] SE. 0:0(0) ack 1 <mss own,sackOK,nop,wscale *>
  +0  < . 1 ack 1 win 512
`;

describe.each([
  ["IPv4", {}],
  ["IPv6", { v6: true }],
])("over %s", (_, family) => {
  test("ECE and CWR on the SYN are answered by ECE on the SYN-ACK, which is not ECT itself (RFC 3168 §6.1.1, RFC 9293 §3.8.2 SHLD-8)", () => {
    drill(family, ECN);
  });

  test("octets are ECT(0) the first time; acknowledgements are not (RFC 3168 §6.1.2, §6.1.4)", () => {
    drill(
      family,
      ECN,
      `
      +0   send(500)
      +0   > [ect0] P. 1:501(500) ack 1
      +.01 < [ect0] P. 1:101(100) ack 501 win 512
      +0   * data 100
      +0   > [noecn] . 501 ack 101
      `,
    );
  });
});

test("an AccECN SYN, which sets the last reserved bit too, is one of classic ECN (RFC 9768 §3.1.2, RFC 9293 §3.1)", () => {
  const driver = new RecordingDriver();
  const client = new RawClient(driver);
  const syn = client.segment(TcpFlag.SYN | TcpFlag.ECE | TcpFlag.CWR, 0);
  syn[32]! |= 1;
  // One more in the checksum's word.
  const view = new DataView(syn.buffer);
  view.setUint16(36, view.getUint16(36) - 0x100);
  driver.inject(syn);
  driver.opened[0]!.flow.connection.accept();
  driver.turn();
  const [answer] = driver.takeTcp();
  expect(answer?.flags).toBe(TcpFlag.SYN | TcpFlag.ACK | TcpFlag.ECE);
});

test.each([
  ["neither bit", "S"],
  ["ECE alone", "SE"],
  ["CWR alone", "SW"],
])("a SYN with %s is none that sets up ECN (RFC 3168 §6.1.1)", (_, syn) => {
  drill(`
    0    < ${syn} 0:0(0) win 65535 <mss 1000>
    +0   * open
    +0   accept()
    +0   > S. 0:0(0) ack 1
    +0   < . 1 ack 1 win 65535
    +0   send(10)
    +0   > [noecn] P. 1:11(10) ack 1
    +.01 < [ce] P. 1:11(10) ack 11 win 65535
    +0   * data 10
    +0   > . 11 ack 11
    +0   send(1000)
    +0   > P. 11:1011(1000) ack 11
    +.01 < E. 11 ack 1011 win 65535
    +0   send(10)
    +0   > [noecn] P. 1011:1021(10) ack 11
  `);
});

test("a client that repeats its SYN without ECN is answered without (RFC 3168 §6.1.1)", () => {
  drill(`
    0    < SEW 0:0(0) win 65535 <mss 1000>
    +0   * open
    +1   < S 0:0(0) win 65535 <mss 1000>
    +1   accept()
    +0   > S. 0:0(0) ack 1
    +0   < . 1 ack 1 win 512
    +0   send(10)
    +0   > [noecn] P. 1:11(10) ack 1
  `);
});

test("a repeated SYN-ACK says ECE as the first did (RFC 3168 §6.1.1)", () => {
  drill(`
    0       < SEW 0:0(0) win 65535 <mss 1000>
    +0      * open
    +0      accept()
    +0      > SE. 0:0(0) ack 1
    +.9~1.1 > [noecn] SE. 0:0(0) ack 1
  `);
});

test("a mark is echoed by every segment until the client says CWR (RFC 3168 §6.1.3)", () => {
  const { driver } = drill(
    ECN,
    `
    +0   < [ce] P. 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > E. 1 ack 101
    +.01 < [ect0] P. 101:201(100) ack 1 win 512
    +0   * data 100
    +0   > E. 1 ack 201
    +0   send(10)
    +0   > [ect0] PE. 1:11(10) ack 201
    +.01 < [ect0] PW. 201:301(100) ack 11 win 512
    +0   * data 100
    +0   > . 11 ack 301
    `,
  );
  expect(driver.stack.stats.tcpCongestionMarks).toBe(1);
});

test("the first mark is echoed at once, not by a delayed acknowledgement (RFC 3168 §6.1.3)", () => {
  let script = "";
  for (let seq = 1; seq < 1600; seq += 100) {
    script += `
      +0   < [ect0] P. ${seq}:${seq + 100}(100) ack 1 win 512
      +0   * data 100
      +0   > . 1 ack ${seq + 100}
    `;
  }
  drill(
    ECN,
    script,
    `
    +0       < [ect0] P. 1601:1701(100) ack 1 win 512
    +0       * data 100
    +.02~.04 > . 1 ack 1701
    +.1      < [ce] P. 1701:1801(100) ack 1 win 512
    +0       * data 100
    +0       > E. 1 ack 1801
    `,
  );
});

test("CWR without octets ends no echo: it may be of another connection (RFC 3168 §6.1.3)", () => {
  drill(
    ECN,
    `
    +0   < [ce] P. 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > E. 1 ack 101
    +.01 < W. 101 ack 1 win 512
    +.01 < [ect0] P. 101:201(100) ack 1 win 512
    +0   * data 100
    +0   > E. 1 ack 201
    `,
  );
});

test("a segment that says CWR and is marked anew begins another echo (RFC 3168 §6.1.3)", () => {
  drill(
    ECN,
    `
    +0   < [ce] P. 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > E. 1 ack 101
    +.01 < [ce] PW. 101:201(100) ack 1 win 512
    +0   * data 100
    +0   > E. 1 ack 201
    `,
  );
});

test("a mark on an acknowledgement alone means nothing (RFC 3168 §6.1.4)", () => {
  drill(
    ECN,
    `
    +0   < [ce] . 1 ack 1 win 512
    +.01 < [ect0] P. 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > . 1 ack 101
    `,
  );
});

test("a marked super-segment is a mark (RFC 3168 §6.1.3)", () => {
  drill(
    ECN,
    `
    +0   < [ce] P. 1:5001(5000) ack 1 win 512 gso 1000
    +0   * data 5000
    +0   > E. 1 ack 5001
    +.01 < [ect0] PW. 5001:10001(5000) ack 1 win 512 gso 1000
    +0   * data 5000
    +0   > . 1 ack 10001
    `,
  );
});

test("an echo shrinks the window once per round trip, and the next new octets say CWR (RFC 3168 §6.1.2)", () => {
  const { driver } = drill(
    ECN,
    `
    +0   send(20000)
    +0   > [ect0] . 1:10001(10000) ack 1 gso 1000
    +.05 < E. 1 ack 1001 win 512
    // 7,000 of the ten may be in flight now: nothing until two more are acknowledged.
    +0   < E. 1 ack 3001 win 512
    +0   < E. 1 ack 4001 win 512
    +0   > [ect0] W. 10001:11001(1000) ack 1
    +0   < E. 1 ack 5001 win 512
    +0   > [ect0] . 11001:12001(1000) ack 1
    +0   < E. 1 ack 10001 win 512
    +0   > [ect0] . 12001:17001(5000) ack 1
    `,
  );
  expect(driver.stack.stats.tcpCongestionEchoes).toBe(1);
});

test("an echo of what was sent after CWR shrinks the window again, and an ACK with ECE never widens it (RFC 3168 §6.1.2)", () => {
  const { driver } = drill(
    ECN,
    `
    +0   send(30000)
    +0   > [ect0] . 1:10001(10000) ack 1
    +.05 < E. 1 ack 10001 win 512
    +0   > [ect0] W. 10001:17001(7000) ack 1 gso 1000
    +.05 < E. 1 ack 17001 win 512
    +0   > [ect0] W. 17001:21001(4000) ack 1 gso 1000
    `,
  );
  expect(driver.stack.stats.tcpCongestionEchoes).toBe(2);
});

test("an echo while a loss is being repaired shrinks nothing twice (RFC 3168 §6.1.2)", () => {
  const { driver } = drill(
    ECN,
    `
    +0   send(10000)
    +0   > [ect0] P. 1:10001(10000) ack 1
    +.05 < . 1 ack 1 win 512 <nop,nop,sack 1001:10001>
    +0   > [noecn] . 1:1001(1000) ack 1
    +.01 < E. 1 ack 1 win 512 <nop,nop,sack 1001:10001>
    +.01 < . 1 ack 10001 win 512
    `,
  );
  expect(driver.stack.stats).toMatchObject({ tcpFastRecoveries: 1, tcpCongestionEchoes: 0 });
});

test("what an echo shrank stays so when a loss before it turns out to be none (RFC 3168 §6.1.2)", () => {
  const { driver } = drill(
    ECN,
    `
    +0   send(10000)
    +0   > [ect0] P. 1:10001(10000) ack 1
    +.05 < . 1 ack 1 win 512 <nop,nop,sack 1001:10001>
    +0   > [noecn] . 1:1001(1000) ack 1
    +.01 < . 1 ack 10001 win 512
    +0   send(2000)
    +0   > [ect0] PW. 10001:12001(2000) ack 1
    +.05 < E. 1 ack 11001 win 512
    +0   < . 1 ack 11001 win 512 <nop,nop,sack 1:1001>
    +.01 < . 1 ack 12001 win 512
    `,
  );
  expect(driver.stack.stats).toMatchObject({
    tcpCongestionEchoes: 1,
    tcpDuplicatesReported: 1,
    tcpReductionsUndone: 0,
  });
});

test("an echo with nothing in flight is of the past", () => {
  const { driver } = drill(
    ECN,
    `
    +0   < E. 1 ack 1 win 512
    +0   send(10000)
    +0   > [ect0] P. 1:10001(10000) ack 1
    `,
  );
  expect(driver.stack.stats.tcpCongestionEchoes).toBe(0);
});

test("retransmissions are not ECT, and the first new octets after a loss say CWR (RFC 3168 §6.1.2, §6.1.5)", () => {
  drill(
    ECN,
    `
    +0     send(1000)
    +0     > [ect0] P. 1:1001(1000) ack 1
    // the probe of the tail, which blames nobody, then the time-out
    +.2~1  > [noecn] P. 1:1001(1000) ack 1
    +.2~1  > [noecn] P. 1:1001(1000) ack 1
    +.01   < . 1 ack 1001 win 512
    +0     send(100)
    +0     > [ect0] PW. 1001:1101(100) ack 1
    +.01   < . 1 ack 1101 win 512
    +0     send(100)
    +0     > [ect0] P. 1101:1201(100) ack 1
    `,
  );
});

test("a loss that the probe of a tail repaired says CWR as well (RFC 3168 §6.1.2, RFC 8985 §7.4.2)", () => {
  drill(
    ECN,
    `
    +0     send(1000)
    +0     > [ect0] P. 1:1001(1000) ack 1
    +.2~1  > [noecn] P. 1:1001(1000) ack 1
    +.001  send(100)
    +0     > [ect0] P. 1001:1101(100) ack 1
    +.01   < . 1 ack 1101 win 512
    +0     send(100)
    +0     > [ect0] PW. 1101:1201(100) ack 1
    `,
  );
});

test("a window probe is not ECT (RFC 3168 §6.1.6)", () => {
  drill(
    ECN,
    `
    +0     < . 1 ack 1 win 0
    +0     send(100)
    +.2~1  > [noecn] . 1:2(1) ack 1
    `,
  );
});

test("octets that a probe carried are not ECT when they leave again, those behind them are (RFC 3168 §6.1.5)", () => {
  drill(
    ECN,
    `
    +0     < . 1 ack 1 win 0
    +0     send(100)
    +.2~1  > [noecn] . 1:2(1) ack 1
    +.01   < . 1 ack 1 win 512
    +0     > [noecn] P. 1:101(100) ack 1
    +0     send(100)
    +0     > [ect0] P. 101:201(100) ack 1
    `,
  );
});

test("so it is when the window stays small for a while after the probe (RFC 3168 §6.1.5)", () => {
  drill(
    ECN,
    `
    +0     < . 1 ack 1 win 1
    +0     send(1000)
    +.2~1  > [noecn] . 1:129(128) ack 1
    +.01   < . 1 ack 1 win 1
    +.01   < . 1 ack 1 win 512
    +0     > [noecn] P. 1:1001(1000) ack 1
    `,
  );
});

test("a FIN alone is not ECT, one that ends octets is (RFC 3168 §6.1.4)", () => {
  drill(ECN, "+0 shutdown()\n+0 > [noecn] F. 1:1(0) ack 1");
  drill(ECN, "+0 send(10)\n& shutdown()\n+0 > [ect0] F. 1:11(10) ack 1");
});
