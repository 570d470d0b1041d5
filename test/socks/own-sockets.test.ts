import { expect, test } from "vitest";
import { parseEndpoint } from "../../src/cli/values.ts";
import type { Addon } from "../../src/native/binding.ts";
import { OwnSockets } from "../../src/socks/own-sockets.ts";
import { socketMemory, WorkerSockets } from "../../src/workers/shared-sockets.ts";

const HOST = parseEndpoint("192.0.2.1", 0, 0);
const PORT = 40_000;

/** A kernel whose sockets all have one local port: it gives the same to TCP and UDP, and to connections to different peers. */
const kernel = {
  localAddress(_fd: number, words: Int32Array): number {
    words.set([HOST.w0, HOST.w1, HOST.w2, HOST.w3, PORT]);
    return 0;
  },
  hostAddresses(rows: Int32Array): number {
    rows.set([HOST.w0, HOST.w1, HOST.w2, HOST.w3, 0]);
    return 1;
  },
} as unknown as Addon;

const client = parseEndpoint("192.0.2.1", PORT);
const first = parseEndpoint("198.51.100.1", 1080);
const second = parseEndpoint("198.51.100.2", 1080);

function words({ w0, w1, w2, w3, port }: typeof first): Int32Array {
  return Int32Array.of(w0, w1, w2, w3, port);
}

test("connections that share a local port are known apart, and each until it is deleted", () => {
  const own = new OwnSockets(kernel);
  own.addConnecting(10, words(first));
  own.addConnecting(11, words(second));
  expect([own.hasConnection(client, first), own.hasConnection(client, second)]).toEqual([
    true,
    true,
  ]);
  own.delete(10);
  expect([own.hasConnection(client, first), own.hasConnection(client, second)]).toEqual([
    false,
    true,
  ]);
  own.delete(11);
  own.delete(11);
  expect(own.hasConnection(client, second)).toBe(false);
});

test("a connection and a socket for datagrams of one port number do not stand for each other", () => {
  const own = new OwnSockets(kernel);
  own.addDatagrams(12);
  expect([own.hasDatagrams(client), own.hasConnection(client, first)]).toEqual([true, false]);
  own.addConnecting(13, words(first));
  own.delete(13);
  expect([own.hasDatagrams(client), own.hasConnection(client, first)]).toEqual([true, false]);
  own.delete(12);
  expect(own.hasDatagrams(client)).toBe(false);
});

test("a connection is known by both ends, and the kernel is asked for ours only when its peer is a target", () => {
  let asked = 0;
  const counting = {
    ...kernel,
    localAddress(fd: number, row: Int32Array): number {
      asked++;
      kernel.localAddress(fd, row);
      row[4] = PORT + fd;
      return 0;
    },
  } as unknown as Addon;
  const own = new OwnSockets(counting);
  for (let fd = 0; fd < 20; fd++) own.addConnecting(fd, words(fd % 2 === 0 ? first : second));
  for (let fd = 0; fd < 20; fd += 3) own.delete(fd);
  const stranger = parseEndpoint("198.51.100.3", 1080);
  expect(own.hasConnection(parseEndpoint("192.0.2.1", PORT + 2), stranger)).toBe(false);
  expect(asked).toBe(0);
  for (let fd = 0; fd < 20; fd++) {
    const from = parseEndpoint("192.0.2.1", PORT + fd);
    const [peer, other] = fd % 2 === 0 ? [first, second] : [second, first];
    expect(own.hasConnection(from, peer)).toBe(fd % 3 !== 0);
    expect(own.hasConnection(from, other)).toBe(false);
  }
  // Once each: what is known is not asked again.
  expect(asked).toBe(13);
  for (let fd = 0; fd < 20; fd++) own.delete(fd);
  expect(own.hasConnection(parseEndpoint("192.0.2.1", PORT + 1), second)).toBe(false);
});

test("what one worker sends out every worker knows until it is deleted", () => {
  const memory = socketMemory(1);
  const secret = Uint32Array.of(1, 2);
  const [here, there] = [0, 1].map(
    () => new OwnSockets(kernel, new WorkerSockets(memory, secret)),
  ) as [OwnSockets, OwnSockets];
  const knows = (): boolean[] => [there.hasConnection(client, first), there.hasDatagrams(client)];
  expect(knows()).toEqual([false, false]);
  here.addConnecting(10, words(first));
  here.addDatagrams(11);
  there.addDatagrams(12);
  expect(knows()).toEqual([true, true]);
  expect(there.hasConnection(client, second)).toBe(false);
  expect(there.hasDatagrams(parseEndpoint("192.0.2.9", PORT))).toBe(false);
  here.delete(10);
  here.delete(11);
  expect(knows()).toEqual([false, true]);
  there.delete(12);
  expect(knows()).toEqual([false, false]);
});

test("connections beyond the room that workers share are known to their own, and leave nothing", () => {
  const memory = socketMemory(1);
  const [here, there] = [0, 1].map(
    () => new OwnSockets(kernel, new WorkerSockets(memory, Uint32Array.of(1, 2))),
  ) as [OwnSockets, OwnSockets];
  // One bucket of eight.
  const peers = Array.from({ length: 12 }, (_, i) => parseEndpoint(`198.51.100.1:${i + 1}`, 0));
  for (const [i, peer] of peers.entries()) here.addConnecting(20 + i, words(peer));
  expect(peers.every((peer) => here.hasConnection(client, peer))).toBe(true);
  expect(peers.filter((peer) => there.hasConnection(client, peer)).length).toBe(8);
  for (const i of peers.keys()) here.delete(20 + i);
  for (const [i, peer] of peers.slice(0, 8).entries()) there.addConnecting(40 + i, words(peer));
  expect(peers.filter((peer) => here.hasConnection(client, peer)).length).toBe(8);
});
