import { describe, expect, test } from "vitest";
import { drill } from "../../../src/testing/index.ts";

describe.each([
  ["IPv4", {}],
  ["IPv6", { v6: true }],
])("handshake over %s", (_, family) => {
  test("no SYN-ACK leaves before accept, however long the dial takes", () => {
    drill(
      family,
      `
      0     < S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>
      +0    * open 10.0.0.2:40000 93.184.216.34:443
      +25   accept()
      +0    > S. 0:0(0) ack 1 <mss own,sackOK,TS val * ecr 100,nop,wscale *>
      +0    < . 1 ack 1 win 512 <nop,nop,TS val 25100 ecr last>
      `,
    );
  });

  test("duplicates of a pending SYN are absorbed, and the SYN-ACK echoes the first TSval", () => {
    drill(
      family,
      `
      0     < S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>
      +0    * open
      +1    < S 0:0(0) win 65535 <mss 1460,sackOK,TS val 1100 ecr 0,nop,wscale 7>
      +2    < S 0:0(0) win 65535 <mss 1460,sackOK,TS val 3100 ecr 0,nop,wscale 7>
      +.1   accept()
      +0    > S. 0:0(0) ack 1 <mss own,sackOK,TS val * ecr 100,nop,wscale *>
      `,
    );
  });

  test("a connection opens, both ends may speak at once (RFC 9293 §3.5, §3.9.1.1 MUST-45)", () => {
    drill(
      family,
      `
      0     < S 0:0(0) win 65535 <mss 1000>
      +0    * open
      +0    accept()
      +0    > S. 0:0(0) ack 1
      +0    < P. 1:11(10) ack 1 win 65535
      +0    * data 10
      +0    > . 1 ack 11
      +0    send(10)
      +0    > P. 1:11(10) ack 11
      +0    < . 11 ack 11 win 65535
      `,
    );
  });
});

describe("options are the intersection with the SYN's (RFC 7323 §2.2, §3.2, RFC 2018 §2)", () => {
  test.each([
    ["<mss 1460>", "<mss own>"],
    ["<mss 1460,sackOK>", "<mss own,sackOK>"],
    ["<mss 1460,nop,wscale 3>", "<mss own,nop,wscale *>"],
    ["<mss 1460,TS val 7 ecr 0>", "<mss own,TS val * ecr 7>"],
    ["<mss 1460,sackOK,TS val 7 ecr 0>", "<mss own,sackOK,TS val * ecr 7>"],
    ["<nop,wscale 0>", "<mss own,nop,wscale *>"],
  ])(
    "a SYN with %s is answered with %s (RFC 9293 §3.7.1 MUST-14, MUST-67, RFC 7323 §2.2, §3.2, RFC 2018 §2)",
    (offered, answered) => {
      drill(`
      0   < S 0:0(0) win 65535 ${offered}
      +0  * open
      +0  accept()
      +0  > S. 0:0(0) ack 1 ${answered}
    `);
    },
  );

  test.each([
    ["mss 1300, sackOK, TS, wscale 3", "<mss 1300,sackOK,TS val * ecr 7,nop,wscale 3>"],
    ["mss 1460, wscale 0", "<mss 1460,nop,wscale 0>"],
    ["sackOK", "<sackOK>"],
    ["none", "<eol>"],
  ])("a profile of %s is answered with %s, and so the connection behaves", (profile, answered) => {
    const stamp = profile.includes("TS") ? " <nop,nop,TS val 8 ecr last>" : "";
    // The window of 2 counts by the shift if both ends offered one.
    const octets = profile.includes("wscale") ? 256 : 2;
    const { trace } = drill(`
      0   < S 0:0(0) win 65535 <mss 1400,sackOK,TS val 7 ecr 0,nop,wscale 7>
      +0  * open
      +0  accept(${profile})
      +0  > S. 0:0(0) ack 1 win 65535 ${answered}
      +0  < . 1 ack 1 win 2${stamp}
      +0  send(${octets})
      +0  > P. 1:${octets + 1}(${octets}) ack 1
    `);
    const last = trace.at(-1)?.packet;
    expect(last?.options.some(({ kind }) => kind === "TS")).toBe(profile.includes("TS"));
    const shift = Number(/wscale (\d)/.exec(profile)?.[1] ?? 0);
    expect((last?.window ?? 0) << shift).toBeGreaterThanOrEqual(65_535 - 8);
  });

  test("a profile offers nothing that the SYN had not (RFC 7323 §2.2, §3.2, RFC 2018 §2)", () => {
    drill(`
      0   < S 0:0(0) win 65535 <mss 1000>
      +0  * open
      +0  accept(mss 1300, sackOK, TS, wscale 3)
      +0  > S. 0:0(0) ack 1 <mss 1300>
      +0  < . 1 ack 1 win 3000
      +0  send(4000)
      +0  > . 1:3001(3000) ack 1 gso 1000
    `);
  });

  test("a profile without timestamps leaves their room to the segments", () => {
    drill(`
      0   < S 0:0(0) win 65535 <mss 1000,TS val 7 ecr 0>
      +0  * open
      +0  accept(mss 1460)
      +0  > S. 0:0(0) ack 1 <mss 1460>
      +0  < . 1 ack 1 win 2000
      +0  send(4000)
      +0  > . 1:2001(2000) ack 1 gso 1000
    `);
  });

  test("without scaling our window fits sixteen bits (RFC 7323 §2.2)", () => {
    const { trace } = drill(`
      0   < S 0:0(0) win 65535 <mss 1460>
      +0  * open
      +0  accept()
      +0  > S. 0:0(0) ack 1 <mss own>
      +0  < . 1:1001(1000) ack 1 win 65535
      +0  * data 1000
      +0  > . 1 ack 1001
    `);
    for (const { packet } of trace) expect(packet.window).toBeGreaterThan(60_000);
  });

  test("scaling of a peer that offered none is not applied to its window (RFC 7323 §2.2)", () => {
    drill(`
      0   < S 0:0(0) win 65535 <mss 1000>
      +0  * open
      +0  accept()
      +0  > S. 0:0(0) ack 1
      +0  < . 1 ack 1 win 2000
      +0  send(4000)
      +0  > . 1:2001(2000) ack 1
    `);
  });

  test("a shift above 14 counts as 14 (RFC 7323 §2.3)", () => {
    drill(`
      0   < S 0:0(0) win 65535 <mss 1000,nop,wscale 15>
      +0  * open
      +0  accept()
      +0  > S. 0:0(0) ack 1
      +0  < . 1 ack 1 win 1
      +0  send(4000)
      +0  > P. 1:4001(4000) ack 1
    `);
  });

  test.each([
    ["IPv4", {}, 536],
    ["IPv6", { v6: true }, 1220],
  ])(
    "a SYN without MSS means the default MSS of %s (RFC 9293 §3.7.1 MUST-15)",
    (_, family, mss) => {
      drill(
        family,
        `
      0   < S 0:0(0) win 65535
      +0  * open
      +0  accept()
      +0  > S. 0:0(0) ack 1 <mss own>
      +0  < . 1 ack 1 win 65535
      +0  send(3000)
      +0  > P. 1:3001(3000) ack 1 gso ${mss}
      `,
      );
    },
  );

  test("timestamps take their twelve octets from every segment (RFC 6691 §2, RFC 9293 §3.7.1 MUST-16)", () => {
    drill(`
      0   < S 0:0(0) win 65535 <mss 1000,TS val 1 ecr 0>
      +0  * open
      +0  accept()
      +0  > S. 0:0(0) ack 1
      +0  < . 1 ack 1 win 65535 <nop,nop,TS val 2 ecr last>
      +0  send(3000)
      +0  > P. 1:3001(3000) ack 1 <nop,nop,TS val * ecr 2> gso 988
    `);
  });
});

describe("while the open is pending", () => {
  test("a SYN with another ISN replaces it (RFC 9293 §3.10.7.2)", () => {
    drill(`
      0   < S 0:0(0) win 65535 <mss 1460>
      +0  * open
      +0  isn(5000000)
      +.1 < S 0:0(0) win 65535 <mss 1460>
      +0  * closed replaced
      +0  * open 10.0.0.2:40000 93.184.216.34:443
      +.1 accept()
      +0  > S. 0:0(0) ack 1
      +0  < . 1 ack 1 win 512
    `);
  });

  test("the client's RST cancels it (RFC 9293 §3.5.3)", () => {
    drill(`
      0   < S 0:0(0) win 65535 <mss 1460>
      +0  * open
      +.1 < R 1:1(0)
      +0  * closed refused-by-client
    `);
  });

  test("an RST outside the window does not cancel it (RFC 5961 §3.2)", () => {
    drill(`
      0   < S 0:0(0) win 65535 <mss 1460>
      +0  * open
      +.1 < R -5000:-5000(0)
      +.1 accept()
      +0  > S. 0:0(0) ack 1
    `);
  });

  test("data on a SYN is not acknowledged, and is taken when it comes again (RFC 9293 §3.10.7.2)", () => {
    drill(`
      0   < S 0:100(100) win 65535 <mss 1460>
      +0  * open
      +.1 accept()
      +0  > S. 0:0(0) ack 1
      +.1 < P. 1:101(100) ack 1 win 65535
      +0  * data 100
      +0  > . 1 ack 101
    `);
  });

  test("a forgotten open stays silent and absorbs duplicates; another ISN opens anew", () => {
    drill(`
      0   < S 0:0(0) win 65535 <mss 1460>
      +0  * open
      +1  < S 0:0(0) win 65535 <mss 1460>
      +29 forget()
      +1  < S 0:0(0) win 65535 <mss 1460>
      +2  < S 0:0(0) win 65535 <mss 1460>
      +0  isn(7000)
      +1  < S 0:0(0) win 65535 <mss 1460>
      +0  * open
      +0  accept()
      +0  > S. 0:0(0) ack 1
    `);
  });

  test("a forgotten open does not live for ever", () => {
    const { driver } = drill(`
      0   < S 0:0(0) win 65535 <mss 1460>
      +0  * open
      +30 forget()
    `);
    driver.drain();
  });
});

describe("after the SYN-ACK", () => {
  const answered = `
      0   < S 0:0(0) win 65535 <mss 1460>
      +0  * open
      +0  accept()
      +0  > S. 0:0(0) ack 1
  `;

  test("it is sent again, with back-off, until the client answers (RFC 6298 §5, RFC 9293 §3.8.3 MUST-22)", () => {
    drill(
      answered,
      `
      +.9~1    > S. 0:0(0) ack 1
      +1.8~2.1 > S. 0:0(0) ack 1
      +3.6~4.2 > S. 0:0(0) ack 1
      +1       < . 1 ack 1 win 512
      +60      send(10)
      +0       > P. 1:11(10) ack 1
      `,
    );
  });

  test("a client that never answers is given up (RFC 9293 §3.8.3 MUST-22)", () => {
    const { driver } = drill(
      answered,
      `
      +0       mute(on)
      +10~300  * closed timeout
      `,
    );
    driver.drain();
  });

  test("a duplicate of the SYN is answered at once and opens nothing (RFC 9293 §3.10.7.4)", () => {
    drill(
      answered,
      `
      +.5  < S 0:0(0) win 65535 <mss 1460>
      +0   > S. 0:0(0) ack 1
      +0   < . 1 ack 1 win 512
      `,
    );
  });

  test("an acknowledgement of something never sent is answered with RST (RFC 9293 §3.10.7.4)", () => {
    drill(
      answered,
      `
      +.1  < . 1 ack 77 win 512
      +0   > R 77:77(0)
      +.1  < . 1 ack 1 win 512
      `,
    );
  });

  test("the client's RST ends it (RFC 9293 §3.10.7.4, second)", () => {
    drill(
      answered,
      `
      +.1  < R 1:1(0)
      +0   * closed
      `,
    );
  });

  test.each(["port-unreachable", "prohibited"])(
    "ICMP %s from the client ends it (RFC 1122 §4.2.3.9, RFC 5461 §4.1, RFC 5927 §4.1)",
    (reason) => {
      drill(
        answered,
        `
      +.1  < icmp ${reason} quoting S. 0:0(0)
      +0   * closed refused-by-client
      `,
      );
    },
  );

  test("data may come with the acknowledgement of the SYN-ACK, and FIN too (RFC 9293 §3.10.7.4)", () => {
    drill(
      answered,
      `
      +.1  < FP. 1:101(100) ack 1 win 512
      +0   * data 100
      +0   * fin
      +0   > . 1 ack 102
      `,
    );
  });

  test("data that overtakes it is not lost (RFC 9293 §3.10.7.4 SHLD-31)", () => {
    drill(
      answered,
      `
      +.1  < P. 101:201(100) ack 1 win 512
      +0   > . 1 ack 1
      +0   < . 1:101(100) ack 1 win 512
      +0   * data 200
      +0   > . 1 ack 201
      `,
    );
  });
});

describe("a segment of no connection", () => {
  test.each([
    ["an acknowledgement", "< . 5 ack 77 win 512", "+0 > R 77:77(0)"],
    ["data", "< P. 5:15(10) ack 77 win 512", "+0 > R 77:77(0)"],
    ["a SYN-ACK", "< S. 0:0(0) ack 9 win 512", "+0 > R 9:9(0)"],
    ["a FIN without ACK", "< F 1:1(0) win 512", "+0 > R. 0:0(0) ack 2"],
  ])("%s of no connection is answered with RST (RFC 9293 §3.10.7.1)", (_, segment, answer) => {
    drill(`
      0   ${segment}
      ${answer}
    `);
  });

  test("an RST is not answered (RFC 9293 §3.10.7.1, §3.5.2)", () => {
    drill(`
      0   < R 5:5(0)
      +1  < R. 5:5(0) ack 7
    `);
  });
});
