import { expect, test } from "vitest";
import { drill } from "../../../src/testing/index.ts";

const ANSWERED = `
    0   < S 0:0(0) win 65535 <mss 1460>
    +0  * open
    +0  accept()
    +0  > S. 0:0(0) ack 1
`;

test("a segment outside the window is answered with ACK, not with another SYN-ACK (RFC 9293 §3.10.7.4)", () => {
  drill(
    ANSWERED,
    `
    +.1  < . 90000:90100(100) ack 1 win 512 junk
    +0   > . 1 ack 1
    +.1  < . 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > . 1 ack 101
    `,
  );
});

test("a repeated SYN is answered by the same SYN-ACK, which echoes the first (RFC 9293 §3.10.7.4, RFC 7323 §4.3)", () => {
  drill(`
    0   < S 0:0(0) win 65535 <mss 1460,TS val 100 ecr 0>
    +0  * open
    +0  accept()
    +0  > S. 0:0(0) ack 1 <mss own,TS val * ecr 100>
    +.5 < S 0:0(0) win 65535 <mss 1460,TS val 600 ecr 0>
    +0  > S. 0:0(0) ack 1 <mss own,TS val * ecr 100>
  `);
});

test("an RST elsewhere in the window is challenged, one outside is dropped (RFC 5961 §3.2)", () => {
  drill(
    ANSWERED,
    `
    +.1  < R 100:100(0)
    +0   > . 1 ack 1
    +.1  < R 90000:90000(0)
    +.1  < . 1 ack 1 win 512
    `,
  );
});

test("an RST at RCV.NXT returns it to LISTEN: the next SYN opens anew (RFC 9293 §3.10.7.4, second)", () => {
  const { driver } = drill(
    ANSWERED,
    `
    +.1  < R 1:1(0)
    +0   * closed reset
    +.1  < S 0:0(0) win 65535 <mss 1460>
    +0   * open
    +0   accept()
    +0   > S. 0:0(0) ack 1
    `,
  );
  expect(driver.stack.stats.tcpFlows).toBe(1);
});

test("a SYN with another number returns it to LISTEN, where it is the first (RFC 9293 §3.10.7.4, fourth)", () => {
  drill(
    ANSWERED,
    `
    +.1  isn(5000000)
    +0   < S 0:0(0) win 65535 <mss 1460>
    +0   * closed replaced
    +0   * open
    +0   accept()
    +0   > S. 0:0(0) ack 1
    `,
  );
});

test("a segment without ACK is dropped (RFC 9293 §3.10.7.4, fifth)", () => {
  drill(
    ANSWERED,
    `
    +.1  < P 1:101(100) win 512
    +.1  < . 1 ack 1 win 512
    +.1  < P. 1:101(100) ack 1 win 512
    +0   * data 100
    +0   > . 1 ack 101
    `,
  );
});

test("the acknowledgement of the SYN-ACK sets SND.WND, which is scaled from then on (RFC 9293 §3.10.7.4, RFC 7323 §2.2)", () => {
  drill(`
    0   < S 0:0(0) win 1000 <mss 1000,nop,wscale 3>
    +0  * open
    +0  accept()
    +0  > S. 0:0(0) ack 1
    +0  send(5000)
    +0  < . 1 ack 1 win 500
    +0  > . 1:4001(4000) ack 1
  `);
});

test("FIN with the acknowledgement of the SYN-ACK leads to CLOSE-WAIT (RFC 9293 §3.10.7.4, eighth)", () => {
  drill(
    ANSWERED,
    `
    +.1  < F. 1:1(0) ack 1 win 512
    +0   * fin
    +0   > . 1 ack 2
    +0   send(10)
    +0   > P. 1:11(10) ack 2
    `,
  );
});
