import { describe, expect, test } from "vitest";
import { drill } from "../../../src/testing/index.ts";

describe.each([
  ["IPv4", {}],
  ["IPv6", { v6: true }],
])("refusal over %s", (_, family) => {
  test("reset is an RST alone (RFC 9293 §3.10.7.1)", () => {
    drill(
      family,
      `
      0     < S 0:0(0) win 65535 <mss 1460,sackOK>
      +0    * open
      +.050 refuse(reset)
      +0    > R. 0:0(0) ack 1
      `,
    );
  });

  test.each([
    "net-unreachable",
    "host-unreachable",
    "prohibited",
    "ttl-exceeded",
    "port-unreachable",
  ])(
    "%s is ICMP from the target quoting the whole SYN, then RST in the same batch (RFC 1122 §3.2.2, RFC 4443 §2.4)",
    (reason) => {
      drill(
        family,
        `
      0     < S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>
      +0    * open
      +.050 refuse(${reason})
      +0    > icmp ${reason} quoting S 0:0(0)
      &     > R. 0:0(0) ack 1
      `,
      );
    },
  );

  test("the first SYN is quoted, and its number refused, after duplicates with other timestamps", () => {
    drill(
      family,
      `
      0     < S 0:0(0) win 65535 <mss 1460,TS val 100 ecr 0>
      +0    * open
      +1    < S 0:0(0) win 65535 <mss 1460,TS val 100 ecr 0>
      +1    refuse(host-unreachable)
      +0    > icmp host-unreachable quoting S 0:0(0)
      &     > R. 0:0(0) ack 1
      `,
    );
  });
});

test("after a refusal the next SYN opens anew (RFC 9293 §3.10.7.2)", () => {
  drill(`
    0     < S 0:0(0) win 65535 <mss 1460>
    +0    * open
    +0    refuse(reset)
    +0    > R. 0:0(0) ack 1
    +.5   < S 0:0(0) win 65535 <mss 1460>
    +0    * open
    +0    accept()
    +0    > S. 0:0(0) ack 1
  `);
});

test("a refusal in the very turn of the SYN leaves in that turn", () => {
  drill(`
    0     < S 0:0(0) win 65535 <mss 1460>
    &     refuse(net-unreachable)
    +0    * open
    +0    > icmp net-unreachable quoting S 0:0(0)
    &     > R. 0:0(0) ack 1
  `);
});

test("a refusal does not acknowledge data on the SYN", () => {
  drill(`
    0     < S 0:10(10) win 65535 <mss 1460>
    +0    * open
    +0    refuse(reset)
    +0    > R. 0:0(0) ack 1
  `);
});

test("a hundred refusals in a row are not rate-limited, and leave nothing behind", () => {
  let script = "";
  for (let n = 0; n < 100; n++) {
    script += `
      +0  isn(${1000 * n + 1})
      +0  < S 0:0(0) win 65535 <mss 1460>
      +0  * open
      +0  refuse(host-unreachable)
      +0  > icmp host-unreachable quoting S 0:0(0)
      &   > R. 0:0(0) ack 1
    `;
  }
  const { driver } = drill(script);
  driver.drain();
  expect(driver.time.next()).toBe(-1);
});
