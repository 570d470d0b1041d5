/**
 * The built-in server on loopback for tests: real sockets, virtual time.
 *
 * One memory and one poller per test process, as in a worker.
 */

import { once } from "node:events";
import { readdirSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { SILENT } from "../../src/log.ts";
import { type MemoryLayout, mapMemory } from "../../src/memory.ts";
import { addon } from "../../src/native/binding.ts";
import { Poller } from "../../src/native/poller.ts";
import type { Lookup } from "../../src/socks/name-resolver.ts";
import { SocksServer, type SocksServerOptions } from "../../src/socks/server.ts";
import { TimerWheel } from "../../src/stack/timer-wheel.ts";

export const memory: MemoryLayout = mapMemory(addon());
export const timers = new TimerWheel();
const poller = new Poller(addon());
let polled = 0;
poller.start(
  () => {
    polled++;
  },
  () => memory.datagrams.clear(),
);

export interface Opened {
  readonly server: SocksServer;
  readonly address: string;
  readonly port: number;
}

const servers: SocksServer[] = [];
const peers: Server[] = [];
const sockets: Socket[] = [];

/** A server on 127.0.0.1 that allows loopback targets, unless said otherwise. */
export function openServer(
  options: Partial<SocksServerOptions> = {},
  environment: { lookup?: Lookup; pagesEnd?: number } = {},
): Opened {
  const { pagesEnd = memory.pagesEnd, ...others } = environment;
  const server = new SocksServer(
    {
      address: "127.0.0.1",
      port: 0,
      credentials: null,
      allowPrivate: true,
      open: false,
      ...options,
    },
    {
      addon: addon(),
      poller,
      memory: { ...memory, pagesEnd },
      timers,
      log: SILENT,
      turn: { enter: () => {}, leave: () => {} },
      ...others,
    },
  );
  servers.push(server);
  const { port } = server.listen();
  return { server, address: options.address ?? "127.0.0.1", port };
}

/** How often the poller had something to tell. */
export function wakeUps(): number {
  return polled;
}

/** Moves virtual time. */
export function advance(milliseconds: number): void {
  timers.advance(timers.now() + milliseconds);
}

/** A TCP server of the test. */
export async function listen(
  onSocket: (socket: Socket) => void,
  host = "127.0.0.1",
): Promise<number> {
  const peer = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket);
    socket.on("error", () => {});
    onSocket(socket);
  });
  peers.push(peer);
  peer.listen(0, host);
  await once(peer, "listening");
  return (peer.address() as { port: number }).port;
}

/** A port of loopback where nothing listens. */
export async function closedPort(): Promise<number> {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, "close");
  return port;
}

/**
 * A port that leaves SYNs unanswered: a listening socket of the addon whose queue is full (tcp_v4_conn_request
 * drops them when sk_acceptq_is_full).
 */
export async function deafPort(): Promise<{ readonly port: number; close(): void }> {
  const address = new Int32Array([0, 0, 0xffff, 0x7f000001, 0]);
  const fd = addon().tcpListen(address, 0);
  addon().localAddress(fd, address);
  const port = address[4] as number;
  const fillers = [connect(port, "127.0.0.1")];
  await once(fillers[0] as Socket, "connect");
  return {
    port,
    close: () => {
      for (const filler of fillers) filler.destroy();
      addon().close(fd);
    },
  };
}

/** A raw client: what came so far, and promises for more. */
export class Client {
  readonly socket: Socket;
  received: Buffer = Buffer.alloc(0);
  ended = false;
  error: NodeJS.ErrnoException | null = null;
  closed = false;
  readonly #waiting: Array<() => void> = [];

  constructor(port: number, host = "127.0.0.1", localAddress?: string) {
    const from = localAddress === undefined ? {} : { localAddress };
    this.socket = connect({ port, host, ...from, allowHalfOpen: true, noDelay: true });
    sockets.push(this.socket);
    this.socket.on("data", (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.#wake();
    });
    this.socket.on("end", () => {
      this.ended = true;
      this.#wake();
    });
    this.socket.on("error", (error) => {
      this.error = error;
      this.#wake();
    });
    this.socket.on("close", () => {
      this.closed = true;
      this.#wake();
    });
  }

  /** Sends octets. */
  write(...octets: number[]): void {
    this.socket.write(Uint8Array.from(octets));
  }

  /** Takes `count` octets; null if the stream ended or broke before. */
  async take(count: number): Promise<number[] | null> {
    while (this.received.length < count) {
      if (this.ended || this.closed) return null;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    const taken = [...this.received.subarray(0, count)];
    this.received = this.received.subarray(count);
    return taken;
  }

  /** "end" or the error's code. */
  async outcome(): Promise<string> {
    while (!this.ended && this.error === null && !this.closed) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    return this.error?.code ?? "end";
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

export const GREETING: readonly number[] = [5, 1, 0];

/** A request for an IPv4 address of loopback. */
export function request(port: number, command = 1): number[] {
  return [5, command, 0, 1, 127, 0, 0, 1, port >> 8, port & 255];
}

/** A client whose CONNECT to 127.0.0.1:`target` was granted. */
export async function connected(proxy: number, target: number): Promise<Client> {
  const client = new Client(proxy);
  client.write(...GREETING, ...request(target));
  const reply = await client.take(12);
  if (reply?.[3] !== 0) throw new Error(`not granted: ${reply}`);
  return client;
}

/** Waits, turn by turn of the event loop, until `claim` holds. The kernel's own timers may have to run meanwhile. */
export async function until(claim: () => boolean): Promise<void> {
  for (const end = performance.now() + PATIENCE; performance.now() < end; ) {
    if (claim()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error(`never came true: ${claim}`);
}

/** After so long, ms, nothing will come. */
const PATIENCE = 15_000;

/** Lets the event loop turn. */
export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Closes what the test opened, and waits until every client's connection has been noticed. */
export async function closeAll(): Promise<void> {
  for (const server of servers.splice(0)) server.close();
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const peer of peers.splice(0)) {
    peer.close();
    await once(peer, "close");
  }
}

/** Descriptors of this process that are sockets. */
export function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}
