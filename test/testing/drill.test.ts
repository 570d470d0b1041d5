import { describe, expect, test } from "vitest";
import { drill, established } from "../../src/testing/index.ts";

describe("a drill fails when", () => {
  test("another packet comes than the line expects, in the notation of the drill", () => {
    expect(() =>
      drill(
        established({ mss: 1000 }),
        `
        +0     send(2000)
        +.020  < . 1 ack 2001 win 512
        `,
      ),
    ).toThrow(
      /^drill: before line 3, at 0 ms\n {2}expected {2}nothing\n {2}received {2}> P\. 1:2001\(2000\) ack 1 win/,
    );
    expect(() =>
      drill(
        established({ mss: 1000 }),
        `
        +.010  send(2000)
        +0     > P. 1:1001(1000) ack 1
        `,
      ),
    ).toThrow(
      /^drill: line 3, at 10 ms\n {2}expected {2}> P\. 1:1001\(1000\) ack 1\n {2}received {2}> P\. 1:2001\(2000\) ack 1 win/,
    );
  });

  test("an expected packet does not come", () => {
    expect(() =>
      drill(
        established(),
        `
        +1  > . 1 ack 1
        `,
      ),
    ).toThrow(/^drill: line 2, at \d+ ms\n {2}expected {2}> \. 1 ack 1\n {2}received {2}nothing$/);
  });

  test("a packet is left over at the end", () => {
    expect(() => drill(established(), "+0 send(10)")).toThrow("expected  nothing");
  });

  test("an event other than data and writable is not expected, or does not come", () => {
    expect(() => drill("0 < S 0:0(0) win 1000\n+1 accept()")).toThrow(
      "received  * open 10.0.0.2:40000",
    );
    expect(() => drill(established(), "+0 * fin")).toThrow("received  nothing");
    expect(() => drill("0 < S 0:0(0) win 1000\n+0 * open 10.0.0.3:40000")).toThrow(
      "received  * open",
    );
  });

  test("a packet comes too early or too late for its line", () => {
    const script = (time: string): string => `
      0      < S 0:0(0) win 65535 <mss 1460>
      +0     * open
      +0     accept()
      +0     > S. 0:0(0) ack 1
      ${time} > S. 0:0(0) ack 1
    `;
    drill(script("+.9~1.1"));
    expect(() => drill(script("+.1~.5"))).toThrow("received  nothing");
    expect(() => drill(script("+3~5"))).toThrow("due at 3000 ms");
  });

  test("options differ where they are written", () => {
    const script = (options: string): string => `
      0      < S 0:0(0) win 65535 <mss 1460,sackOK>
      +0     * open
      +0     accept()
      +0     > S. 0:0(0) ack 1 ${options}
    `;
    drill(script(""));
    drill(script("<sackOK,mss own>"));
    for (const wrong of ["<mss own>", "<mss 1459,sackOK>", "<mss own,sackOK,nop,wscale *>"]) {
      expect(() => drill(script(wrong))).toThrow("received  > S. 0:0(0) ack 1");
    }
  });

  test("octets are not those of the stream", () => {
    expect(() =>
      drill(
        established(),
        `
        +0  < P. 1:101(100) ack 1 win 512 junk
        +0  * data 100
        +0  > . 1 ack 101
        `,
      ),
    ).toThrow("octet 0 is not the client's");
  });

  test("a line asks for what there is not", () => {
    expect(() => drill("0 accept()")).toThrow("no connection yet");
    expect(() => drill(established(), "+0 dance()")).toThrow('no verb "dance"');
    expect(() => drill(established(), "+0 consume(5)")).toThrow("only 0 octets are readable");
  });
});

test("a script runs the same over IPv6", () => {
  const { trace } = drill(
    { v6: true },
    `
    0   < S 0:0(0) win 65535 <mss 1440>
    +0  * open 10.0.0.2:40000 93.184.216.34:443
    +0  accept()
    +0  > S. 0:0(0) ack 1 <mss 1440>
    `,
  );
  expect(trace[0]?.packet).toMatchObject({
    version: 6,
    source: "fd00::5db8:d822",
    destination: "fd00::a00:2",
  });
});

test("time passes without waiting", () => {
  const start = process.hrtime.bigint();
  drill(
    established(),
    `
    +3600  < P. 1:11(10) ack 1 win 512
    +0     * data 10
    +0     > . 1 ack 11
    `,
  );
  expect(Number(process.hrtime.bigint() - start) / 1e6).toBeLessThan(5000);
});
