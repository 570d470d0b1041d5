/**
 * The client's side against servers scripted by the test: real sockets on loopback, virtual time.
 *
 * One memory and one poller per test process, as in a worker.
 */

import { once } from "node:events";
import { readdirSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { createLog, type Log } from "../../src/log.ts";
import { type MemoryLayout, mapMemory } from "../../src/memory.ts";
import { addon } from "../../src/native/binding.ts";
import { Poller } from "../../src/native/poller.ts";
import { DIAL_DEADLINE, type SocketEnvironment } from "../../src/socks/environment.ts";
import type { Lookup } from "../../src/socks/name-resolver.ts";
import type {
  Destination,
  Refusal,
  Stream,
  StreamHandler,
  Upstream,
} from "../../src/socks/ports.ts";
import { parseProxyUrl } from "../../src/socks/proxy-url.ts";
import { SocksUpstream } from "../../src/socks/upstream.ts";
import { TimerWheel } from "../../src/stack/timer-wheel.ts";
import { Endpoint, parseAddress } from "../../src/stack/wire/address.ts";

export const SHAPES = ["direct", "layered"] as const;
export type Shape = (typeof SHAPES)[number];

export const memory: MemoryLayout = mapMemory(addon());
export const timers = new TimerWheel();
/** Wake-ups of the poll, for tests about spinning. */
export let wakeUps = 0;
export const logged: string[] = [];
const log: Log = createLog("debug", (line) => logged.push(line));
const poller = new Poller(addon());
/** Between enter and leave: where handlers may be called. */
let inTurn = 0;
const turn = {
  enter: (): void => {
    inTurn++;
  },
  leave: (): void => {
    inTurn--;
    memory.datagrams.clear();
  },
};
poller.start(() => {
  wakeUps++;
  turn.enter();
}, turn.leave);

/** Lets virtual time pass, as a turn. */
export function pass(milliseconds: number): void {
  turn.enter();
  timers.advance(timers.now() + milliseconds);
  turn.leave();
}

/** Runs `work` as a turn, as the relay does. */
export function within<T>(work: () => T): T {
  turn.enter();
  try {
    return work();
  } finally {
    turn.leave();
  }
}

export function environment(options: Partial<SocketEnvironment> = {}): SocketEnvironment {
  return {
    addon: addon(),
    poller,
    memory,
    timers,
    turn,
    log,
    mark: 0,
    device: "",
    dialDeadline: DIAL_DEADLINE,
    ...options,
  };
}

/** An upstream of the shape; the layered one has no addon at all. */
export function open(
  shape: Shape,
  url: string,
  options: { readonly lookup?: Lookup } & Partial<SocketEnvironment> = {},
): SocksUpstream {
  const { lookup, ...others } = options;
  const missing = shape === "layered" ? { addon: null, poller: null } : {};
  return new SocksUpstream(
    parseProxyUrl(url),
    environment({ ...missing, ...others }),
    lookup === undefined ? {} : { lookup },
  );
}

export function endpoint(text: string, port: number): Endpoint {
  const address = (parseAddress(text) ?? new Endpoint()).clone();
  address.port = port;
  return address;
}

export function destination(text = "192.0.2.1", port = 80): Destination {
  return { name: null, endpoint: endpoint(text, port) };
}

export const CONNECT = "05010001c00002010050";
export const GRANT = "05000001000000000000";

/** Descriptors of this process that are sockets. */
export function descriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** A few turns of Node's loop: what is on its way on loopback arrives. */
export async function settle(turns = 20): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((done) => setImmediate(done));
}

/** After so long, ms, nothing will come. */
const PATIENCE = 15_000;

/** Waits for `condition`, turn by turn. The kernel's own timers may have to run meanwhile. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  for (const end = performance.now() + PATIENCE; performance.now() < end; ) {
    if (condition()) return;
    await new Promise((done) => setImmediate(done));
  }
  throw new Error(`never came true: ${what}`);
}

/** The server's end of one connection. */
export class Peer {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  ended = false;
  /** "" while open, then "closed" or the error's code. */
  fate = "";

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
    });
    socket.on("end", () => {
      this.ended = true;
    });
    socket.on("error", (error: NodeJS.ErrnoException) => {
      this.fate = error.code ?? "error";
    });
    socket.on("close", () => {
      if (this.fate === "") this.fate = "closed";
    });
  }

  get received(): Buffer {
    return this.#received;
  }

  /** Takes exactly the octets of `hex` off what has come. */
  async expects(hex: string): Promise<void> {
    const wanted = hex.length / 2;
    await until(`${hex} at the server`, () => this.#received.length >= wanted);
    const got = this.#received.subarray(0, wanted).toString("hex");
    if (got !== hex) throw new Error(`expected ${hex}, the client sent ${got}`);
    this.#received = this.#received.subarray(wanted);
  }

  send(hex: string): void {
    this.socket.write(Buffer.from(hex, "hex"));
  }

  /** One octet at a time, each on its own way. */
  async trickle(hex: string): Promise<void> {
    for (let at = 0; at < hex.length; at += 2) {
      this.send(hex.slice(at, at + 2));
      await settle(3);
    }
  }

  /** No credentials, CONNECT to {@link destination}, granted. */
  async grant(glued = ""): Promise<void> {
    await this.expects("050100");
    this.send("0500");
    await this.expects(CONNECT);
    this.send(GRANT + glued);
  }

  async gone(): Promise<string> {
    await until("the server's connection ends", () => this.fate !== "" || this.ended);
    return this.fate === "" ? "ended" : this.fate;
  }
}

/** A server that does what the test says. */
export class ScriptedServer {
  readonly #server: Server;
  readonly #peers: Peer[] = [];
  #taken = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket: Socket) => this.#peers.push(new Peer(socket)));
  }

  static async listen(host = "127.0.0.1"): Promise<ScriptedServer> {
    const server = createServer({ allowHalfOpen: true });
    server.listen(0, host);
    await once(server, "listening");
    const scripted = new ScriptedServer(server);
    opened.push(scripted);
    return scripted;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("not listening");
    return address.port;
  }

  get url(): string {
    return `socks5://127.0.0.1:${this.port}`;
  }

  /** Connections accepted so far. */
  get count(): number {
    return this.#peers.length;
  }

  /** The next connection. */
  async accept(): Promise<Peer> {
    await until("a connection at the server", () => this.#peers.length > this.#taken);
    return this.#peers[this.#taken++] as Peer;
  }

  async close(): Promise<void> {
    for (const peer of this.#peers) peer.socket.destroy();
    await new Promise((done) => this.#server.close(done));
  }
}

const opened: ScriptedServer[] = [];

/** Closes all servers of a test. */
export async function closeServers(): Promise<void> {
  for (const server of opened.splice(0)) await server.close();
}

/** A handler that writes down what it is told, and reads while it is not told to stop. */
export class Recorder implements StreamHandler {
  readonly events: string[] = [];
  refusal: Refusal | null = null;
  stream: Stream | null = null;
  /** What was received. */
  octets = Buffer.alloc(0);
  /** Runs inside onOpen. */
  whenOpen: (stream: Stream) => void = () => {};
  /** False: onReadable reads nothing. */
  reading = true;
  readonly #rows = new Int32Array(2);

  /** Connects; no handler may be called before this returns. */
  connect(upstream: Upstream, to: Destination = destination()): this {
    this.stream = within(() => upstream.connect(to, this));
    if (this.events.length > 0) throw new Error("called back from inside connect");
    return this;
  }

  get text(): string {
    return this.octets.toString("latin1");
  }

  async has(event: string): Promise<void> {
    await until(`${event} (so far: ${this.events})`, () => this.events.includes(event));
  }

  async refused(): Promise<string> {
    await until(`refused (so far: ${this.events})`, () => this.refusal !== null);
    const { kind, reply, error } = this.refusal as Refusal;
    return `${kind} ${reply}: ${error.message}`;
  }

  #note(event: string): void {
    if (inTurn === 0) throw new Error(`${event} outside a turn`);
    this.events.push(event);
  }

  onOpen(): void {
    this.#note("open");
    this.whenOpen(this.stream as Stream);
  }

  onRefused(refusal: Refusal): void {
    this.#note("refused");
    this.refusal = refusal;
  }

  onReadable(): void {
    this.#note("readable");
    if (this.reading) this.read();
  }

  /** One recv of at most `most` octets. */
  read(most = 65536): number {
    if (this.stream?.shape !== "direct") throw new Error("not direct");
    this.#rows[0] = memory.pagesStart;
    this.#rows[1] = most;
    const got = this.stream.recv(this.#rows, 1);
    if (got > 0) {
      const chunk = memory.bytes.subarray(memory.pagesStart, memory.pagesStart + got);
      this.octets = Buffer.concat([this.octets, chunk]);
    } else {
      this.events.push(got === 0 ? "end" : `errno ${-got}`);
    }
    return got;
  }

  onBytes(bytes: Uint8Array, start: number, end: number): void {
    this.#note("bytes");
    this.octets = Buffer.concat([this.octets, bytes.subarray(start, end)]);
  }

  onEnd(): void {
    this.#note("end");
  }

  onWritable(): void {
    this.#note("writable");
  }

  onReset(errno: number): void {
    this.#note(`errno ${errno}`);
  }

  /** Sends text with either shape. */
  send(text: string): number {
    return this.sendOctets(Buffer.from(text, "latin1"));
  }

  sendOctets(octets: Uint8Array): number {
    const { stream } = this;
    if (stream === null) throw new Error("not connected");
    if (stream.shape === "layered") return stream.send(octets, 0, octets.length);
    memory.bytes.set(octets, memory.pagesStart);
    this.#rows[0] = memory.pagesStart;
    this.#rows[1] = octets.length;
    return stream.send(this.#rows, 1);
  }
}
