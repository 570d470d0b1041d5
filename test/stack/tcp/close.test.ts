import { describe, expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";

describe.each([
  ["IPv4", {}],
  ["IPv6", { v6: true }],
])("close over %s", (_, family) => {
  test("a client that closes first still receives the answer (RFC 9293 §3.6.1)", () => {
    drill(
      family,
      established(),
      `
      +0     < F. 1:1(0) ack 1 win 512
      +0     * fin
      +0     > . 1 ack 2
      +.050  send(300)
      +0     > P. 1:301(300) ack 2
      +0     < . 2 ack 301 win 512
      +60    send(300)
      +0     > P. 301:601(300) ack 2
      +0     < . 2 ack 601 win 512
      +0     shutdown()
      +0     > F. 601:601(0) ack 2
      +0     < . 2 ack 602 win 512
      +0     * closed closed
      `,
    );
  });

  test("an upstream that closes first still hears the client (RFC 9293 §3.6)", () => {
    drill(
      family,
      established(),
      `
      +0     shutdown()
      +0     > F. 1:1(0) ack 1
      +0     < . 1 ack 2 win 512
      +60    < P. 1:101(100) ack 2 win 512
      +0     * data 100
      +0     > . 2 ack 101
      +.1    < F. 101:101(0) ack 2 win 512
      +0     * fin
      +0     * closed closed
      +0     > . 2 ack 102
      `,
    );
  });
});

test("FIN rides on the last octets (RFC 9293 §3.9.1.2 MUST-61, §3.10.4)", () => {
  drill(
    established(),
    `
    +0     send(300)
    &      shutdown()
    +0     > F. 1:301(300) ack 1
    +0     < . 1 ack 302 win 512
    `,
  );
});

test("FIN leaves after everything committed, not before the window allows it (RFC 9293 §3.10.4)", () => {
  drill(
    established({ mss: 1000, wscale: false, win: 2000 }),
    `
    +0     send(3000)
    &      shutdown()
    +0     > . 1:2001(2000) ack 1
    +.1    < . 1 ack 2001 win 2000
    +0     > F. 2001:3001(1000) ack 1
    +.1    < . 1 ack 3002 win 2000
    `,
  );
});

test("a FIN with data delivers the data first (RFC 9293 §3.10.7.4, eighth)", () => {
  const { flow } = drill(
    established(),
    `
    +0     < FP. 1:101(100) ack 1 win 512
    +0     * data 100
    +0     * fin
    +0     > . 1 ack 102
    `,
  );
  expect(flow?.consumed).toBe(100);
});

test("a FIN is told although octets before it wait to be consumed", () => {
  const { flow } = drill(
    established(),
    `
    +0     autoconsume(off)
    +0     < FP. 1:101(100) ack 1 win 512
    +0     * data 100
    +0     * fin
    +0     > . 1 ack 102
    +1     consume(100)
    `,
  );
  expect(flow?.connection.readableOctets).toBe(0);
});

test("a FIN that overtakes its data waits for them (RFC 9293 §3.10.7.4)", () => {
  drill(
    established(),
    `
    +0     < FP. 101:201(100) ack 1 win 512
    +0     > . 1 ack 1
    +0     < . 1:101(100) ack 1 win 512
    +0     * data 200
    +0     * fin
    +0     > . 1 ack 202
    `,
  );
});

test("a FIN alone that overtakes its data is kept, and told once (RFC 9293 §3.10.7.4 SHLD-31)", () => {
  drill(
    established(),
    `
    +0     < F. 101:101(0) ack 1 win 512
    +0     > . 1 ack 1
    +0     < . 1:101(100) ack 1 win 512
    +0     * data 100
    +0     * fin
    +0     > . 1 ack 102
    `,
  );
});

test("a repeated FIN is acknowledged again and told once (RFC 9293 §3.10.7.4)", () => {
  drill(
    established(),
    `
    +0     < F. 1:1(0) ack 1 win 512
    +0     * fin
    +0     > . 1 ack 2
    +.3    < F. 1:1(0) ack 1 win 512
    +0     > . 1 ack 2
    +.6    < F. 1:1(0) ack 1 win 512
    +0     > . 1 ack 2
    `,
  );
});

test("our FIN is sent again until it is acknowledged (RFC 9293 §3.6, RFC 6298 §5)", () => {
  drill(
    established({ sack: false }),
    `
    +0       shutdown()
    +0       > F. 1:1(0) ack 1
    +.2~1    > F. 1:1(0) ack 1
    +.4~2.1  > F. 1:1(0) ack 1
    +.1      < . 1 ack 2 win 512
    +30      < F. 1:1(0) ack 2 win 512
    +0       * fin
    +0       * closed closed
    +0       > . 2 ack 2
    `,
  );
});

test("simultaneous close passes through CLOSING (RFC 9293 figure 13)", () => {
  drill(
    established(),
    `
    +0     shutdown()
    +0     > F. 1:1(0) ack 1
    +0     < F. 1:1(0) ack 1 win 512
    +0     * fin
    +0     > . 2 ack 2
    +.1    < . 2 ack 2 win 512
    +0     * closed closed
    +1     < F. 1:1(0) ack 2 win 512
    +0     > . 2 ack 2
    `,
  );
});

test("FIN and the acknowledgement of ours in one segment skip FIN-WAIT-2 (RFC 9293 §3.10.7.4)", () => {
  drill(
    established(),
    `
    +0     shutdown()
    +0     > F. 1:1(0) ack 1
    +.1    < F. 1:1(0) ack 2 win 512
    +0     * fin
    +0     * closed closed
    +0     > . 2 ack 2
    `,
  );
});

test("both sides close with data in flight in both directions", () => {
  const { flow } = drill(
    established({ mss: 1000 }),
    `
    +0     send(2000)
    &      shutdown()
    +0     > F. 1:2001(2000) ack 1
    +0     < FP. 1:501(500) ack 1 win 512
    +0     * data 500
    +0     * fin
    +0     > . 2002 ack 502
    +.1    < . 502 ack 2002 win 512
    +0     * closed closed
    `,
  );
  expect(flow?.consumed).toBe(500);
});

test("after LAST-ACK nothing remains: the next segment is answered with RST (RFC 9293 §3.10.7.4, §3.10.7.1)", () => {
  const { driver } = drill(
    established(),
    `
    +0     < F. 1:1(0) ack 1 win 512
    +0     * fin
    +0     > . 1 ack 2
    +0     shutdown()
    +0     > F. 1:1(0) ack 2
    +0     < . 2 ack 2 win 512
    +0     * closed closed
    +.1    < . 2 ack 2 win 512
    +0     > R 2:2(0)
    `,
  );
  driver.drain();
});

test("a client that vanishes in LAST-ACK is given up (RFC 9293 §3.8.3 MUST-20)", () => {
  const { driver } = drill(
    established(),
    `
    +0       < F. 1:1(0) ack 1 win 512
    +0       * fin
    +0       > . 1 ack 2
    +0       shutdown()
    +0       > F. 1:1(0) ack 2
    +0       mute(on)
    +10~1200 * closed timeout
    `,
  );
  driver.drain();
});
