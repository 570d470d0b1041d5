import { expect, test } from "vitest";
import { parseEndpoint } from "../../src/cli/values.ts";
import type { Addon } from "../../src/native/binding.ts";
import { OwnSockets } from "../../src/socks/own-sockets.ts";

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
