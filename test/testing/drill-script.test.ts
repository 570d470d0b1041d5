import { expect, test } from "vitest";
import { parseDrill } from "../../src/testing/drill-script.ts";

test("a segment line is read with flags, numbers, window and options", () => {
  const [step] = parseDrill("+.020 < FP. 1:101(100) ack 7 win 512 <nop,sack 1:2 3:4> // why", "");
  expect(step?.time).toEqual({ same: false, relative: true, from: 20, to: 20 });
  expect(step?.action).toMatchObject({
    kind: "inject",
    segment: {
      flags: 0x19,
      seq: 1,
      octets: 100,
      ack: 7,
      window: 512,
      options: [
        { kind: "nop" },
        {
          kind: "sack",
          blocks: [
            [1, 2],
            [3, 4],
          ],
        },
      ],
      exact: false,
    },
  });
});

test("an expectation may be about a span of time, a GSO size, and every option", () => {
  const [step] = parseDrill("+.2~1 > P. 1:4001(4000) ack 1 gso 1000 exact", "");
  expect(step?.time).toMatchObject({ from: 200, to: 1000 });
  expect(step?.action).toMatchObject({ kind: "expect", segment: { gso: 1000, exact: true } });
});

test("events, verbs, ICMP lines and lines of the same turn are read; comments and blanks are not", () => {
  const steps = parseDrill(
    `
    // a comment
    1.5  * open 10.0.0.2:40000 192.0.2.1:443
    &    refuse(host-unreachable)
    +0   > icmp host-unreachable quoting S 0:0(0)
  `,
    "",
  );
  expect(steps.map(({ action }) => action)).toMatchObject([
    { kind: "event", name: "open", args: ["10.0.0.2:40000", "192.0.2.1:443"] },
    { kind: "verb", name: "refuse", args: ["host-unreachable"] },
    { kind: "expectIcmp", reason: "host-unreachable" },
  ]);
  expect(steps.map(({ time, place }) => [time.relative, time.same, time.from, place])).toEqual([
    [false, false, 1500, "line 3"],
    [true, true, 0, "line 4"],
    [true, false, 0, "line 5"],
  ]);
});

test.each([
  ["+0 > P. 1:101(99) ack 1", "line 1: P. 1:101(99) ack 1: count again"],
  ["+0 > P 1:2(1) ack 1", 'line 1: "." and "ack" belong together in "P 1:2(1) ack 1"'],
  ["+0 < S 0:0(0) <mess 1>", 'line 1: cannot read the option "mess 1"'],
  ["< S 0:0(0)", 'line 1: no time before "< S 0:0(0)"'],
  ["+0 accept", 'line 1: cannot read "accept"'],
  ["+0 > X 0:0(0)", 'line 1: cannot read the segment "X 0:0(0)"'],
])("%s is an error that names the line", (script, message) => {
  expect(() => parseDrill(script, "")).toThrow(`drill: ${message}`);
});
