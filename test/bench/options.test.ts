/** The command line of the bench. */

import { expect, test } from "vitest";
import { fill } from "../../bench/lanes.js";
import { METRICS } from "../../bench/metrics/index.js";
import { help, parsePeer, readOptions, UsageError } from "../../bench/options.js";

test("without options all usual metrics run, three rounds at MTU 1500", () => {
  expect(readOptions([], METRICS)).toMatchObject({
    metrics: METRICS.filter(({ name }) => name !== "client-closes"),
    rounds: 3,
    mtus: [1500],
    offloads: ["on"],
    peers: [],
    socksServer: null,
  });
});

test("metrics, MTUs and offloads are lists", () => {
  const args = ["--metrics", "udp,tcp", "--mtu", "1500,65520", "--offload", "on,none"];
  const options = readOptions(args, METRICS);
  expect(options?.metrics.map(({ name }) => name)).toEqual(["udp", "tcp"]);
  expect(options).toMatchObject({ mtus: [1500, 65520], offloads: ["on", "none"] });
});

test("a peer is a name, MTUs if it has its own, and a command that may hold anything", () => {
  expect(parsePeer("go=x -d tun://{tun} --user a=b@c")).toEqual({
    name: "go",
    mtus: null,
    command: "x -d tun://{tun} --user a=b@c",
  });
  expect(parsePeer("hev@1500,8500=hev {mtu}")).toEqual({
    name: "hev",
    mtus: [1500, 8500],
    command: "hev {mtu}",
  });
});

test("what makes no sense is refused before anything is made", () => {
  for (const args of [
    ["--metrics", "speed"],
    ["--rounds", "0"],
    ["--mtu", "100"],
    ["--offload", "some"],
    ["--congestion-control", "none of these"],
    ["--peer", "no command"],
    ["--unknown"],
    ["argument"],
  ]) {
    expect(() => readOptions(args, METRICS), args.join(" ")).toThrow(UsageError);
  }
});

test("the help names every metric and what it costs", () => {
  const lines = help(METRICS).split("\n");
  for (const { name } of METRICS) {
    const at = lines.findIndex((line) => line.startsWith(`  ${name} `));
    expect(lines[at + 1], name).toMatch(/\d+ s a/);
  }
});

test("placeholders of a command are filled in, other braces are the shell's", () => {
  expect(fill("a {tun} {1,2} {tun} {other}", { tun: "tun3" })).toBe("a tun3 {1,2} tun3 {other}");
});
