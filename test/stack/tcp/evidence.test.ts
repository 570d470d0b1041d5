/** What the sender may conclude from an acknowledgement: about the round trip, losses and the window. */

import { describe, expect, test } from "vitest";
import { Cubic } from "../../../src/stack/tcp/congestion.ts";
import { drill, established, NO_OFFLOAD } from "../../../src/testing/index.ts";

describe("a round trip", () => {
  test("of a segment that was sent twice is not measured (RFC 6298 §3)", () => {
    drill(
      established(),
      `
      +0       send(1000)
      +0       > P. 1:1001(1000) ack 1
      +.2~.22  > P. 1:1001(1000) ack 1
      // Of which of the two?
      +.15     < . 1 ack 1001 win 512
      +0       send(1000)
      +0       > P. 1001:2001(1000) ack 1
      +.2~.22  > P. 1001:2001(1000) ack 1
      +.01     < . 1 ack 2001 win 512
      `,
    );
  });

  test("is measured from the echo, also of what was sent twice (RFC 7323 §4)", () => {
    const { driver } = drill(
      established({ timestamps: true }),
      `
      +0       send(1000)
      +0       > P. 1:1001(1000) ack 1
      // a loss probe, then the RTO
      +.2~.22  > P. 1:1001(1000) ack 1
      +.2~.22  > P. 1:1001(1000) ack 1
      +.3      < . 1 ack 1001 win 512 <nop,nop,TS val 3 ecr last>
      +0       send(1000)
      +0       > P. 1001:2001(1000) ack 1
      // SRTT + 4 RTTVAR is above 300 ms now.
      +.3~.42  > P. 1001:2001(1000) ack 1
      +.01     < . 1 ack 2001 win 512 <nop,nop,TS val 4 ecr last>
      `,
    );
    expect(driver.stack.stats).toMatchObject({ tcpTimeouts: 1, tcpLossProbes: 2 });
  });
});

describe("a duplicate", () => {
  test("lets one more segment leave, at most two of them (RFC 3042 §2)", () => {
    drill(
      established({ sack: false, mss: 1000, wscale: false }),
      `
      +0 send(13000)
      +0 > . 1:10001(10000) ack 1
      +0 < . 1 ack 1 win 65535
      +0 > . 10001:11001(1000) ack 1
      +0 < . 1 ack 1 win 65535
      +0 > . 11001:12001(1000) ack 1
      +0 < . 1 ack 1 win 65535
      +0 > . 1:1001(1000) ack 1
      +0 < . 1 ack 12001 win 65535
      +0 > P. 12001:13001(1000) ack 1
      +0 < . 1 ack 13001 win 65535
      `,
    );
  });

  test("that tells no news does not count when SACK was agreed (RFC 6675 §2)", () => {
    drill(
      established({ mss: 1000 }),
      `
      +0   send(4000)
      +0   > P. 1:4001(4000) ack 1
      +0   < . 1 ack 1 win 512
      +0   < . 1 ack 1 win 512
      +0   < . 1 ack 1 win 512
      +0   < . 1 ack 1 win 512
      +.01 < . 1 ack 4001 win 512
      `,
    );
  });
});

describe("the congestion window", () => {
  const GROWN = `
    +0   send(11000)
    +0   > . 1:10001(10000) ack 1
    +.01 < . 1 ack 10001 win 1000
    +0   > P. 10001:11001(1000) ack 1
    +.01 < . 1 ack 11001 win 1000
  `;

  test("is an initial one again after a pause of more than an RTO (RFC 5681 §4.1)", () => {
    drill(
      established({ mss: 1000 }),
      GROWN,
      `
      +1   send(20000)
      +0   > . 11001:21001(10000) ack 1
      +.01 < . 1 ack 21001 win 1000
      +0   > P. 21001:31001(10000) ack 1
      +.01 < . 1 ack 31001 win 1000
      `,
    );
  });

  test("is kept over a shorter one", () => {
    drill(
      established({ mss: 1000 }),
      GROWN,
      `
      +.1  send(20000)
      +0   > P. 11001:31001(20000) ack 1
      +.01 < . 1 ack 31001 win 1000
      `,
    );
  });

  test("does not grow while something else held the sender back (RFC 7661 §4.3)", () => {
    drill(
      established({ mss: 1000 }),
      `
      +0   send(9000)
      +0   > P. 1:9001(9000) ack 1
      +.01 < . 1 ack 9001 win 1000
      +0   send(9000)
      +0   > P. 9001:18001(9000) ack 1
      +.01 < . 1 ack 18001 win 1000
      +0   send(20000)
      +0   > . 18001:28001(10000) ack 1
      +.01 < . 1 ack 28001 win 1000
      +0   > P. 28001:38001(10000) ack 1
      +.01 < . 1 ack 38001 win 1000
      `,
    );
  });

  test("aims lower when losses come closer: fast convergence (RFC 9438 §4.7)", () => {
    const mss = 1000;
    const cubic = new Cubic(mss);
    cubic.acked(90_000, mss, 500, 0);
    cubic.lost(100_000, mss);
    expect(cubic.cwnd).toBe(70_000);
    cubic.lost(70_000, mss);
    expect(cubic.cwnd).toBe(49_000);
    // The plateau is at 0.85 · 70,000, where it would have been at 70,000.
    for (let now = 0; now <= 3500; now += 500) cubic.acked(cubic.cwnd, mss, 500, now);
    expect(cubic.cwnd).toBeGreaterThan(57_000);
    expect(cubic.cwnd).toBeLessThan(63_000);
  });
});

test("progress restarts the timer for what is left (RFC 6298 §5.3)", () => {
  drill(
    established(),
    `
    +0      send(1000)
    +0      > P. 1:1001(1000) ack 1
    +.1     send(1000)
    +0      > P. 1001:2001(1000) ack 1
    +.05    < . 1 ack 1001 win 512
    +.2~.22 > P. 1001:2001(1000) ack 1
    +.01    < . 1 ack 2001 win 512
    `,
  );
});

// One of the two is of the future, the other of weeks ago.
test.each([0, 2 ** 31])(
  "an echo of %d that cannot be ours is no measurement (RFC 7323 §4)",
  (echo) => {
    drill(
      established({ timestamps: true }),
      `
    +0      send(1000)
    +0      > P. 1:1001(1000) ack 1
    // Of what was sent twice only the echo could tell.
    +.2~.22 > P. 1:1001(1000) ack 1
    +.01    < . 1 ack 1001 win 512 <nop,nop,TS val 3 ecr ${echo}>
    +0      send(1000)
    +0      > P. 1001:2001(1000) ack 1
    +.2~.22 > P. 1001:2001(1000) ack 1
    +.01    < . 1 ack 2001 win 512 <nop,nop,TS val 4 ecr last>
    `,
    );
  },
);

test("a SYN-ACK that was sent twice measures nothing (RFC 6298 §3)", () => {
  drill(`
    0       < S 0:0(0) win 65535 <mss 1460>
    +0      * open
    +0      accept()
    +0      > S. 0:0(0) ack 1
    +1~1.02 > S. 0:0(0) ack 1
    +.5     < . 1 ack 1 win 65535
    +0      send(1000)
    +0      > P. 1:1001(1000) ack 1
    +1~1.02 > P. 1:1001(1000) ack 1
    +.01    < . 1 ack 1001 win 65535
  `);
});

test("an acknowledgement short of our FIN does not end our side (RFC 9293 §3.10.7.4)", () => {
  drill(
    established(),
    `
    +0      send(1000)
    &       shutdown()
    +0      > F. 1:1001(1000) ack 1
    +.01    < . 1 ack 501 win 512
    +0      < F. 1:1(0) ack 501 win 512
    +0      * fin
    +0      > . 1002 ack 2
    +.1~.22 > F. 501:1001(500) ack 2
    +.01    < . 2 ack 1002 win 512
    +0      * closed closed
    `,
  );
});

test("after a time-out, duplicates of what was repeated start no fast retransmit (RFC 6582 §3.2 step 2)", () => {
  drill(
    established({ mss: 1000, sack: false, wscale: false }),
    `
    +0      send(3000)
    +0      > P. 1:3001(3000) ack 1
    +.2~.22 > . 1:1001(1000) ack 1
    +.01    < . 1 ack 3001 win 65535
    +0      send(1000)
    +0      > P. 3001:4001(1000) ack 1
    +0      < . 1 ack 3001 win 65535
    +0      < . 1 ack 3001 win 65535
    +0      < . 1 ack 3001 win 65535
    +.01    < . 1 ack 4001 win 65535
    `,
  );
});

test("what was SACKed has left the network: as much may leave anew (RFC 6675 §4)", () => {
  drill(
    established({ mss: 1000 }),
    `
    +0   send(13000)
    +0   > . 1:10001(10000) ack 1
    +.01 < . 1 ack 1 win 512 <sack 1001:4001>
    +0   > . 1:1001(1000) ack 1
    +0   < . 1 ack 1 win 512 <sack 1001:6001>
    +0   > . 10001:12001(2000) ack 1
    +.01 < . 1 ack 12001 win 512
    +0   > P. 12001:13001(1000) ack 1
    +.01 < . 1 ack 13001 win 512
    `,
  );
});

test("SACK of octets that were never sent is not believed (RFC 2018 §4)", () => {
  drill(
    established({ mss: 1000 }),
    `
    +0   send(3000)
    +0   > P. 1:3001(3000) ack 1
    +.01 < . 1 ack 1 win 512 <sack 1001:9001>
    +0   < . 1 ack 1 win 512 <sack 2001:9001>
    +.01 < . 1 ack 3001 win 512
    `,
  );
});

test("SACK blocks take their octets from the segment, not from the MTU (RFC 6691 §3)", () => {
  drill(
    { offload: NO_OFFLOAD },
    established(),
    `
    +0   < . 101:201(100) ack 1 win 512
    +0   > . 1 ack 1 <nop,nop,sack 101:201>
    +0   send(2000)
    +0   > . 1:1449(1448) ack 1 <nop,nop,sack 101:201>
    &    > P. 1449:2001(552) ack 1 <nop,nop,sack 101:201>
    +.01 < . 1 ack 2001 win 512
    `,
  );
});

test("of a probed window the first octet leaves again when it opens (RFC 9293 §3.8.6.1)", () => {
  drill(
    established(),
    `
    +0      < . 1 ack 1 win 0
    +0      send(1000)
    +.2~.22 > . 1:2(1) ack 1
    +.01    < . 1 ack 1 win 512
    +0      > P. 1:1001(1000) ack 1
    +.01    < . 1 ack 1001 win 512
    `,
  );
});

test("the first lost segment is repeated whatever is in the network (RFC 6675 §5)", () => {
  drill(
    established({ mss: 1000 }),
    `
    +0   send(30000)
    +0   > . 1:10001(10000) ack 1
    +.01 < . 1 ack 10001 win 512
    +0   > P. 10001:30001(20000) ack 1
    +.01 < . 1 ack 10001 win 512 <sack 11001:14001>
    +0   > . 10001:11001(1000) ack 1
    +.01 < . 1 ack 30001 win 512
    `,
  );
});
