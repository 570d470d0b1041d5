import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import { MAX_DIALS } from "../../src/relay/dial-queue.ts";
import { buildTcp, TcpFlag } from "../../src/testing/index.ts";
import { RelayWorld } from "../support/relay-world.ts";
import { reply } from "../support/scripted-upstream.ts";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

const MIB = 1 << 20;

/** The `n`th of a sequence of addresses that looks random and has no repetition. */
function address(n: number): string {
  const bits = Math.imul(n, 0x9e3779b1) >>> 8;
  return `10.${bits >>> 16}.${(bits >>> 8) & 255}.${bits & 255}`;
}

/** 20,000 SYNs from as many sources in two seconds; `each` runs after every fifty. */
function flood(world: RelayWorld, each: () => void): void {
  for (let n = 1; n <= 20_000; n++) {
    world.inject(
      buildTcp({
        source: address(n),
        destination: "198.51.100.1",
        sourcePort: 1024 + (n % 50_000),
        destinationPort: 80,
        seq: n,
        flags: TcpFlag.SYN,
        window: 65535,
      }),
    );
    if (n % 50 > 0) continue;
    world.driver.turn();
    each();
    world.driver.take();
    world.driver.advance(5);
  }
}

const dialing = (world: RelayWorld): number =>
  world.upstream.streams.filter(({ state }) => state === "dialing").length;

describe("20,000 SYNs from random sources", () => {
  test.each([
    ["hang at the proxy", () => {}],
    [
      "are granted",
      (world: RelayWorld) => {
        for (const s of world.upstream.streams) if (s.state === "dialing") s.open();
      },
    ],
    [
      "are refused",
      (world: RelayWorld) => {
        for (const s of world.upstream.streams) if (s.state === "dialing") s.refuse(reply(5));
      },
    ],
  ])(
    "that %s: an honest client opens within 2 s, the proxy has 256 dials at most, memory comes back",
    (_, answer) => {
      const world = new RelayWorld();
      collect();
      const before = process.memoryUsage().heapUsed;
      flood(world, () => {
        expect(dialing(world)).toBeLessThanOrEqual(MAX_DIALS);
        answer(world);
        world.upstream.streams.splice(
          0,
          world.upstream.streams.length,
          ...world.upstream.streams.filter(({ state }) => state === "dialing" || state === "open"),
        );
      });
      const { stats } = world.driver.stack;
      expect(stats.tcpOpens).toBe(20_000);
      // What hangs and what nobody acknowledges is bounded.
      expect(stats.tcpFlows).toBeLessThanOrEqual(2 * 1024);
      const honest = world.tcp("93.184.216.34:80", 40000);
      honest.syn();
      world.advance(1000);
      // The proxy answers the honest one, and what else it answered before.
      for (const stream of world.upstream.streams) {
        if (stream.target === "93.184.216.34:80" && stream.state === "dialing") stream.open();
      }
      world.advance(1000);
      expect(honest.state).toBe("open");
      honest.send(new Uint8Array(100));
      honest.rst();
      // Nobody answers the SYN-ACKs that left; what still hangs the proxy ends.
      for (let rounds = 0; rounds < 100 && stats.tcpFlows > 0; rounds++) {
        for (const s of [...world.upstream.streams]) if (s.state === "dialing") s.refuse(reply(4));
        world.advance(1000);
      }
      expect(stats.tcpFlows).toBe(0);
      expect(world.relay.stats.tcpFlows).toBe(0);
      world.upstream.streams.length = 0;
      world.driver.drain();
      collect();
      expect(process.memoryUsage().heapUsed - before).toBeLessThan(10 * MIB);
      expect(world.driver.stack.pages.inUse).toBe(0);
    },
    60_000,
  );
});
