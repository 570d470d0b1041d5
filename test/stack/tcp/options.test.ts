import { describe, expect, test } from "vitest";
import {
  buildTcp,
  drill,
  established,
  TcpFlag,
  type TcpOption,
} from "../../../src/testing/index.ts";
import { RecordingDriver } from "../../support/raw-client.ts";

/** What the SYN-ACK to a SYN with these options says. */
function answer(...options: TcpOption[]): readonly TcpOption[] {
  const driver = new RecordingDriver();
  driver.inject(
    buildTcp({
      source: "10.0.0.2",
      destination: "192.0.2.1",
      sourcePort: 1,
      destinationPort: 2,
      seq: 1,
      flags: TcpFlag.SYN,
      options,
    }),
  );
  driver.opened[0]!.flow.connection.accept();
  driver.turn();
  return driver.takeTcp()[0]!.options.filter(({ kind }) => kind !== "nop");
}

const raw = (type: number, ...data: number[]): TcpOption => ({
  kind: "raw",
  type,
  data: Uint8Array.from(data),
});
const NOP = { kind: "nop" } as const;
const SACK_OK = { kind: "sackOK" } as const;
const OWN_MSS = { kind: "mss", value: 1460 } as const;

describe("of a SYN", () => {
  test("unknown options are passed over by their length (RFC 9293 §3.1 MUST-6, MUST-68)", () => {
    expect(answer(raw(253, 1, 2, 3), raw(34), SACK_OK)).toEqual([OWN_MSS, SACK_OK]);
  });

  test("options count wherever they begin (RFC 9293 §3.2 MUST-4, MUST-64)", () => {
    for (let pad = 0; pad < 4; pad++) {
      const nops = new Array<TcpOption>(pad).fill(NOP);
      const scale = answer(...nops, SACK_OK, { kind: "wscale", value: 3 });
      expect(scale).toEqual([OWN_MSS, SACK_OK, { kind: "wscale", value: 7 }]);
    }
  });

  test("what follows the end of the list is no option (RFC 9293 §3.1)", () => {
    expect(answer({ kind: "eol" }, SACK_OK)).toEqual([OWN_MSS]);
  });

  test.each([
    ["SACK permitted of length 3", raw(4, 0)],
    ["a window scale of length 4", raw(3, 1, 1)],
    ["timestamps of length 9", raw(8, 1, 2, 3, 4, 5, 6, 7)],
    ["an MSS of length 3", raw(2, 9)],
  ])("%s is as good as none (RFC 9293 §3.1 MUST-7)", (_, option) => {
    expect(answer(option)).toEqual([OWN_MSS]);
  });

  test("an MSS below 64 counts as 64 (RFC 9293 §3.7.1)", () => {
    drill(`
      0   < S 0:0(0) win 65535 <mss 1>
      +0  * open
      +0  accept()
      +0  > S. 0:0(0) ack 1 <mss own>
      +0  < . 1 ack 1 win 65535
      +0  send(200)
      +0  > P. 1:201(200) ack 1 gso 64
    `);
  });
});

describe("of other segments", () => {
  test("unknown options do no harm (RFC 9293 §3.1 MUST-5, MUST-6)", () => {
    drill(
      established(),
      `
      +0   < P. 1:11(10) ack 1 win 512 <nop,sackOK,nop>
      +0   * data 10
      +0   > . 1 ack 11
      `,
    );
  });

  test("MSS and window scale mean nothing there (RFC 9293 §3.7.1 MUST-65, RFC 7323 §2.2)", () => {
    drill(
      established({ mss: 1000 }),
      `
      +0   < P. 1:11(10) ack 1 win 512 <mss 100,nop,wscale 0>
      +0   * data 10
      +0   > . 1 ack 11
      +0   send(5000)
      +0   > P. 1:5001(5000) ack 11 gso 1000
      `,
    );
  });

  test("ours carry none of a SYN's (RFC 9293 §3.7.1 MUST-65, RFC 7323 §2.2, RFC 2018 §2)", () => {
    const { trace } = drill(
      established({ timestamps: true }),
      `
      +0   send(10)
      +0   > P. 1:11(10) ack 1
      +0   < P. 1:11(10) ack 11 win 512 <nop,nop,TS val 3 ecr last>
      +0   * data 10
      +0   > . 11 ack 11
      `,
    );
    for (const { packet } of trace.slice(1)) {
      const kinds = packet.options.map(({ kind }) => kind);
      expect(kinds).toEqual(["nop", "nop", "TS"]);
    }
  });

  test("SACK blocks of a client that did not offer SACK are ignored (RFC 2018 §2)", () => {
    // With SACK the first segment would be lost, and leave again at once.
    drill(
      established({ mss: 1000, sack: false }),
      `
      +0    send(5000)
      +0    > P. 1:5001(5000) ack 1
      +.01  < P. 1:2(1) ack 1 win 512 <nop,nop,sack 1001:5001>
      +0    * data 1
      +0    > . 5001 ack 2
      +.1   < . 2 ack 5001 win 512
      `,
    );
    // With SACK only the first would be missing.
    drill(
      established({ mss: 1000, sack: false }),
      `
      +0    send(5000)
      +0    > P. 1:5001(5000) ack 1
      +.01  < . 1 ack 1 win 512 <nop,nop,sack 1001:5001>
      +0    < . 1 ack 1 win 512
      +0    < . 1 ack 1 win 512
      +0    < . 1 ack 1 win 512
      +0    > . 1:1001(1000) ack 1
      +.01  < . 1 ack 1001 win 512
      +0    > . 1001:2001(1000) ack 1
      +.01  < . 1 ack 5001 win 512
      `,
    );
  });
});
