/** Flows through a proxy that grants before it knows, and closes when the destination refuses. */

import { expect, test } from "vitest";
import { createLog } from "../../src/log.ts";
import { ProxyHonesty } from "../../src/socks/honesty.ts";
import { Reply } from "../../src/socks/message.ts";
import { pattern } from "../../src/testing/pattern.ts";
import { RelayWorld, type TcpPeer } from "../support/relay-world.ts";
import { reply, type ScriptedStream } from "../support/scripted-upstream.ts";

const SHAPES = ["direct", "layered"] as const;
type Shape = (typeof SHAPES)[number];

class LyingWorld extends RelayWorld {
  #port = 40_000;

  constructor(shape: Shape) {
    super();
    this.upstream.shape = shape;
    this.upstream.honesty = new ProxyHonesty(
      this.upstream.label,
      this.driver.time,
      createLog("warn", (line) => this.lines.push(line.trimEnd())),
    );
  }

  open(host: number): { client: TcpPeer; stream: ScriptedStream } {
    const client = this.openTcp(`93.184.216.${host}:80`, this.#port++);
    return { client, stream: this.upstream.stream };
  }

  /** What a client sees of a host whose connection is granted and closed. */
  granted(host: number, end: (stream: ScriptedStream) => void = (stream) => stream.end()): string {
    const { client, stream } = this.open(host);
    this.act(() => end(stream));
    return client.finReceived ? "end" : client.state;
  }
}

test.each(SHAPES)(
  "an end without an octet is an end, until the proxy is known to lie (%s)",
  (shape) => {
    const world = new LyingWorld(shape);
    expect([1, 2, 3, 4].map((host) => world.granted(host))).toEqual([
      "end",
      "end",
      "reset",
      "reset",
    ]);
    expect(world.relay.stats).toMatchObject({ tcpUnheard: 4, tcpRefusedLate: 2, tcpFlows: 2 });
    expect(world.lines.filter((line) => line.includes("says yes before it knows")).length).toBe(1);
  },
);

test.each(SHAPES)("resets count as ends do, and are resets (%s)", (shape) => {
  const world = new LyingWorld(shape);
  for (const host of [1, 2, 3]) {
    expect(world.granted(host, (stream) => stream.breakOff())).toBe("reset");
  }
  expect(world.granted(4)).toBe("reset");
  expect(world.relay.stats).toMatchObject({ tcpUnheard: 4, tcpFlows: 0 });
});

test.each(SHAPES)("flows that carried an octet end as they ended (%s)", (shape) => {
  const world = new LyingWorld(shape);
  for (const host of [1, 2, 3]) world.granted(host);
  const { client, stream } = world.open(4);
  world.act(() => stream.deliver(pattern(1, 0, 1)));
  world.act(() => stream.end());
  expect(client).toMatchObject({ finReceived: true, state: "open" });
  expect(world.relay.stats.tcpUnheard).toBe(3);
});

test.each(SHAPES)(
  "a client that has finished is answered by an end, which proves nothing (%s)",
  (shape) => {
    const world = new LyingWorld(shape);
    for (let host = 1; host < 6; host++) {
      const { client, stream } = world.open(host);
      client.send(pattern(0, 0, 10));
      client.fin();
      world.act(() => stream.end());
      expect(client.finReceived).toBe(true);
    }
    expect(world.relay.stats).toMatchObject({ tcpUnheard: 0, tcpRefusedLate: 0 });
  },
);

test("a refusal by one who waited speaks for the proxy", () => {
  const world = new LyingWorld("direct");
  world.granted(1);
  world.granted(2);
  world.tcp("93.184.216.9:80", 50_000).syn();
  world.act(() => world.upstream.stream.refuse(reply(Reply.CONNECTION_REFUSED)));
  expect(world.granted(3)).toBe("end");
  expect(world.lines).toEqual([]);
});

test("the host's own loopback and a proxy known to be honest are never suspected", () => {
  const world = new LyingWorld("direct");
  world.upstream.honesty = null;
  for (const host of [1, 2, 3, 4, 5]) expect(world.granted(host)).toBe("end");
  expect(world.relay.stats).toMatchObject({ tcpUnheard: 5, tcpRefusedLate: 0 });
});
