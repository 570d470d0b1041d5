/** The composition root and its turn, with a device in memory. */

import { expect, test, vi } from "vitest";
import { SILENT } from "../src/log.ts";
import { Loop } from "../src/loop.ts";
import { plainMemory } from "../src/memory.ts";
import { Relay } from "../src/relay/relay.ts";
import { MemoryDevice } from "../src/testing/memory-device.ts";
import { buildTcp, decodePacket, TcpFlag, type TcpPacket } from "../src/testing/packet-builder.ts";
import { Tunnel, type TunnelNeighbours } from "../src/tunnel.ts";
import { shareState } from "../src/workers/shared-state.ts";
import { WorkerNeighbours } from "../src/workers/worker-neighbours.ts";
import { ScriptedUpstream } from "./support/scripted-upstream.ts";

interface World {
  readonly loop: Loop;
  readonly device: MemoryDevice;
  readonly tunnel: Tunnel;
  readonly upstream: ScriptedUpstream;
}

function start(neighbours?: (bytes: Uint8Array) => TunnelNeighbours): World {
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
    ...(neighbours === undefined ? {} : { neighbours: neighbours(memory.bytes) }),
    stack: { secret, ownAddresses: [], icmp: "own", udpTimeout: 300_000 },
    onDeviceError: () => {},
  });
  tunnel.start();
  return { loop, device, tunnel, upstream };
}

function syn(device: MemoryDevice, port?: number, seq?: number): void {
  device.inject(synPacket(port, TcpFlag.SYN, seq));
}

function synPacket(sourcePort = 40000, flags: number = TcpFlag.SYN, seq = 1): Uint8Array {
  return buildTcp({
    source: "10.0.0.2",
    destination: "192.0.2.1",
    sourcePort,
    destinationPort: 80,
    flags,
    seq,
  });
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

/** Two tunnels on two queues of a device, each with a loop, in one thread; a ping is a task of its own. */
function pair(): readonly [World, World] {
  const state = shareState(2, Uint32Array.of(1, 2, 3, 4));
  const all: WorkerNeighbours[] = [];
  const ping = (worker: number): void => void setImmediate(() => all[worker]!.pinged());
  const make = (own: number): World =>
    start((bytes) => {
      const neighbours = new WorkerNeighbours(state, own, bytes, ping);
      all.push(neighbours);
      return neighbours;
    });
  return [make(0), make(1)];
}

function close(...worlds: readonly World[]): void {
  for (const { tunnel, loop } of worlds) {
    tunnel.close();
    loop.close();
  }
}

test("what a worker is handed it reads and answers in a turn of its own, however much it is", async () => {
  const [here, there] = pair();
  // Opens that wait at one queue, and two batches of their duplicates at the other.
  for (let port = 1; port <= 100; port++) syn(here.device, port);
  expect(here.tunnel.stack.stats.tcpOpens).toBe(100);
  for (let port = 1; port <= 100; port++) {
    there.device.queue(synPacket(port));
    if (port % 64 === 0) there.device.deliver();
  }
  there.device.deliver();
  expect(there.tunnel.stack.stats.handedOver).toBe(100);
  expect(here.tunnel.stack.stats.tcpDuplicateSyns).toBe(0);
  // Of a batch 64 are read; the rest waits for turns that follow by themselves.
  await vi.waitFor(() => expect(here.tunnel.stack.stats.tcpDuplicateSyns).toBe(100));
  close(here, there);
});

test("what a worker is handed comes before the batch of its own queue", () => {
  const [here, there] = pair();
  syn(here.device, 1);
  // A reset of the open, and before anybody is woken the next open from the same port.
  there.device.inject(synPacket(1, TcpFlag.RST, 2));
  syn(here.device, 1, 500);
  expect(here.tunnel.stack.stats).toMatchObject({ tcpOpens: 2, tcpResetsIn: 1 });
  close(here, there);
});

test("a tunnel that is closed reads nothing that it is handed", async () => {
  const [here, there] = pair();
  syn(here.device, 1);
  there.device.inject(synPacket(1));
  here.tunnel.close();
  await new Promise((resolve) => setImmediate(resolve));
  expect(here.tunnel.stack.stats.tcpDuplicateSyns).toBe(0);
  close(here, there);
});

test("the time of a loop counts from the origin that it shares with others", () => {
  const loop = new Loop(null, plainMemory(), performance.timeOrigin + performance.now() - 60_000);
  loop.enter();
  expect(loop.timers.now()).toBeGreaterThanOrEqual(60_000);
  expect(loop.timers.now()).toBeLessThan(70_000);
  loop.leave();
  loop.close();
});
