import { describe, expect, test } from "vitest";
import {
  autoWorkers,
  parseDevice,
  parseDuration,
  parseEndpoint,
  parseInteger,
  parseInterface,
  parseWorkers,
} from "../../src/cli/values.ts";
import { TunnelError } from "../../src/errors.ts";
import { formatEndpoint } from "../../src/stack/wire/address.ts";

const USAGE = expect.objectContaining({ code: "ERR_USAGE" });

describe("durations", () => {
  test.each([
    ["90", 90_000],
    ["90s", 90_000],
    ["5m", 300_000],
    ["2h", 7_200_000],
    ["250ms", 250],
    ["1.5m", 90_000],
    ["2h4m", 7_440_000],
  ])("%s is %d ms", (text, milliseconds) => expect(parseDuration(text)).toBe(milliseconds));

  test.each(["", "0", "-1", "5d", "m", "4m2", "25h", "23h61m", "1e9", "NaN"])(
    "%j is refused",
    (text) => {
      expect(() => parseDuration(text)).toThrow(USAGE);
    },
  );
});

describe("endpoints", () => {
  test.each([
    ["192.0.2.1", "192.0.2.1:53"],
    ["192.0.2.1:5353", "192.0.2.1:5353"],
    ["2001:db8::1", "[2001:db8::1]:53"],
    ["[2001:db8::1]", "[2001:db8::1]:53"],
    ["[2001:db8::1]:5353", "[2001:db8::1]:5353"],
    ["127.0.0.1:0", "127.0.0.1:0"],
  ])("%s is %s", (text, endpoint) =>
    expect(formatEndpoint(parseEndpoint(text, 53))).toBe(endpoint),
  );

  test.each(["", "example.com", "192.0.2.1:", "192.0.2.1:65536", "[2001:db8::1", "1.2.3.4.5:53"])(
    "%j is refused",
    (text) => expect(() => parseEndpoint(text, 53)).toThrow(USAGE),
  );
});

test("numbers keep their bounds and may be hexadecimal", () => {
  expect(parseInteger("0x22b", 0, 1000)).toBe(555);
  expect(parseInteger("1000", 0, 1000)).toBe(1000);
  for (const text of ["1001", "-1", "1.5", "", "ten"]) {
    expect(() => parseInteger(text, 0, 1000)).toThrow(USAGE);
  }
});

test("devices are names the kernel takes, also as peers write them", () => {
  expect(parseDevice("tun0")).toBe("tun0");
  expect(parseDevice("tun://tun0")).toBe("tun0");
  for (const text of ["", "sixteen-octets-x", "a/b", "a b", "..", "a:b"]) {
    expect(() => parseInterface(text)).toThrow(USAGE);
  }
});

test("auto is one worker for two cores, four at most", () => {
  expect([1, 2, 3, 4, 6, 8, 64].map(autoWorkers)).toEqual([1, 1, 1, 2, 3, 4, 4]);
  expect(parseWorkers("auto")).toBeGreaterThanOrEqual(1);
  expect(parseWorkers("16")).toBe(16);
  for (const text of ["", "0", "17", "1.5", "Auto", "x"]) {
    expect(() => parseWorkers(text)).toThrow(USAGE);
  }
});

test("every message is one line that says what to do", () => {
  for (const parse of [
    () => parseDuration("x"),
    () => parseEndpoint("x", 1),
    () => parseDevice("/"),
  ]) {
    try {
      parse();
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(TunnelError);
      expect((error as Error).message).toMatch(/^[^\n]+; [^\n]+$/);
    }
  }
});
