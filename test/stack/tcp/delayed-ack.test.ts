import { expect, test } from "vitest";
import { drill, established } from "../../../src/testing/index.ts";

/** The first sixteen segments, each acknowledged at once. */
function sixteen(octets: number): string {
  let script = "";
  for (let n = 0; n < 16; n++) {
    const seq = 1 + n * octets;
    script += `
    +.001 < P. ${seq}:${seq + octets}(${octets}) ack 1 win 512
    +0    * data ${octets}
    +0    > . 1 ack ${seq + octets}
    `;
  }
  return script;
}

test("the first sixteen segments are acknowledged at once", () => {
  const { trace } = drill(established(), sixteen(100));
  expect(trace).toHaveLength(17);
});

test("after them one segment waits, at most 40 ms (RFC 9293 §3.8.6.3 MUST-40, SHLD-18)", () => {
  drill(
    established(),
    sixteen(100),
    `
    +1         < P. 1601:1701(100) ack 1 win 512
    +.001~.030 > . 1 ack 1701
    `,
  );
});

test("what follows within the 40 ms does not put the acknowledgement off (RFC 9293 §3.8.6.3 MUST-40)", () => {
  drill(
    established(),
    sixteen(100),
    `
    +1         < P. 1601:1701(100) ack 1 win 512
    +0         * data 100
    +.02       < P. 1701:1801(100) ack 1 win 512
    +0         * data 100
    +.001~.020 > . 1 ack 1801
    `,
  );
});

test("every second full-sized segment is acknowledged at once (RFC 9293 §3.8.6.3 SHLD-19)", () => {
  drill(
    established({ mss: 1000 }),
    sixteen(1460),
    `
    +1    < . 23361:24821(1460) ack 1 win 512
    +.001 < . 24821:26281(1460) ack 1 win 512
    +0    > . 1 ack 26281
    +.001 < . 26281:27741(1460) ack 1 win 512
    +.001 < . 27741:29201(1460) ack 1 win 512
    +0    > . 1 ack 29201
    `,
  );
});

test("an answer carries the waiting acknowledgement (RFC 9293 §3.8.6.3)", () => {
  drill(
    established(),
    sixteen(100),
    `
    +1    < P. 1601:1701(100) ack 1 win 512
    +.005 send(50)
    +0    > P. 1:51(50) ack 1701
    +.100 < . 1701 ack 51 win 512
    `,
  );
});

test("a segment out of order is answered at once (RFC 5681 §4.2)", () => {
  drill(
    established(),
    sixteen(100),
    `
    +1    < P. 1701:1801(100) ack 1 win 512
    +0    > . 1 ack 1601
    +.001 < P. 1601:1701(100) ack 1 win 512
    +0    > . 1 ack 1801
    `,
  );
});

test("a FIN is acknowledged at once", () => {
  drill(
    established(),
    sixteen(100),
    `
    +1    < F. 1601:1601(0) ack 1 win 512
    +0    * fin
    +0    > . 1 ack 1602
    `,
  );
});
