/** The composition root and its turn, with a device in memory. */

import { expect, test } from "vitest";
import { SILENT } from "../src/log.ts";
import { Loop } from "../src/loop.ts";
import { plainMemory } from "../src/memory.ts";
import { Relay } from "../src/relay/relay.ts";
import { MemoryDevice } from "../src/testing/memory-device.ts";
import { buildTcp, decodePacket, TcpFlag, type TcpPacket } from "../src/testing/packet-builder.ts";
import { Tunnel } from "../src/tunnel.ts";
import { ScriptedUpstream } from "./support/scripted-upstream.ts";

interface World {
  readonly loop: Loop;
  readonly device: MemoryDevice;
  readonly tunnel: Tunnel;
  readonly upstream: ScriptedUpstream;
}

function start(): World {
  const memory = plainMemory();
  const loop = new Loop(null, memory);
  const upstream = new ScriptedUpstream(memory);
  const relay = new Relay(
    {
      upstream,
      direct: null,
      dns: { mode: "off", server: null, addresses: [] },
      hostLoopback: { enabled: false, addresses: [], name: "host.internal" },
      reserved: [],
      nofile: 1024,
      udpTimeout: 300_000,
    },
    { memory, timers: loop.timers, log: SILENT },
  );
  const device = new MemoryDevice(memory);
  const secret = Uint32Array.of(1, 2, 3, 4);
  const tunnel = new Tunnel({
    device,
    loop,
    relay,
    stack: { secret, ownAddresses: [], icmp: "own", udpTimeout: 300_000 },
    onDeviceError: () => {},
  });
  tunnel.start();
  return { loop, device, tunnel, upstream };
}

function syn(device: MemoryDevice): void {
  device.inject(
    buildTcp({
      source: "10.0.0.2",
      destination: "192.0.2.1",
      sourcePort: 40000,
      destinationPort: 80,
      flags: TcpFlag.SYN,
      seq: 1,
    }),
  );
}

test("closing the tunnel tells clients: the device still carries their resets", () => {
  const { device, tunnel, loop, upstream } = start();
  syn(device);
  expect(upstream.stream.target).toBe("192.0.2.1:80");
  tunnel.close();
  loop.close();
  const written = device.take().map(({ bytes }) => decodePacket(bytes) as TcpPacket);
  expect(written.map(({ flags }) => flags & TcpFlag.RST)).toEqual([TcpFlag.RST]);
});

test("an event handler that throws does not leave the loop inside its turn", async () => {
  const { device, tunnel, loop, upstream } = start();
  upstream.connect = () => {
    throw new Error("a bug");
  };
  expect(() => syn(device)).toThrow("a bug");
  const flushed = new Promise<void>((resolve) => loop.add({ flush: resolve }));
  loop.schedule();
  await flushed;
  tunnel.close();
  loop.close();
});
