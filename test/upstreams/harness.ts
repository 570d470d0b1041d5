/** Scripted upstreams in virtual time, and whoever asks them for streams and associations. */

import { createLog, type Log } from "../../src/log.ts";
import { type MemoryLayout, plainMemory } from "../../src/memory.ts";
import type { SocketEnvironment } from "../../src/socks/environment.ts";
import type {
  Association,
  AssociationHandler,
  Destination,
  DirectStream,
  LayeredStream,
  Refusal,
  Stream,
  StreamHandler,
  Upstream,
} from "../../src/socks/ports.ts";
import { type Endpoint, formatEndpoint } from "../../src/stack/wire/address.ts";
import { VirtualTime } from "../../src/testing/virtual-time.ts";
import { endpoint, ScriptedUpstream } from "../support/scripted-upstream.ts";

export const TARGET: Destination = { name: null, endpoint: endpoint("93.184.216.34:80") };

export class UpstreamWorld {
  readonly memory: MemoryLayout = plainMemory();
  readonly time: VirtualTime = new VirtualTime();
  readonly lines: string[] = [];
  readonly log: Log = createLog("info", (line) =>
    this.lines.push(line.trimEnd().replace(/^tun2socks: /, "")),
  );

  upstreams(count: number): ScriptedUpstream[] {
    return Array.from({ length: count }, (_, i) => {
      const name = String.fromCharCode("a".charCodeAt(0) + i);
      return new ScriptedUpstream(this.memory, `socks5://${name}:1080`);
    });
  }

  /** Lets time pass. */
  pass(milliseconds: number): void {
    this.time.advance(this.time.now() + milliseconds);
  }
}

/** Milliseconds that a dial may take. */
export const DEADLINE = 30_000;

/** For upstreams that open no socket. */
export function socketEnvironment({ memory, time, log }: UpstreamWorld): SocketEnvironment {
  return {
    addon: null,
    poller: null,
    memory,
    timers: time,
    turn: { enter: () => {}, leave: () => {} },
    log,
    mark: 0,
    device: "",
    dialDeadline: DEADLINE,
  };
}

/** A stream's owner: reads what comes. */
export class Client implements StreamHandler {
  readonly events: string[] = [];
  readonly stream: Stream;
  refusal: Refusal | null = null;
  text = "";
  readonly #memory: MemoryLayout;

  constructor(upstream: Upstream, memory: MemoryLayout, destination: Destination = TARGET) {
    this.#memory = memory;
    this.stream = upstream.connect(destination, this);
    if (this.events.length > 0) throw new Error("called back from inside connect");
  }

  onOpen(): void {
    this.events.push("open");
  }

  onRefused(refusal: Refusal): void {
    this.events.push("refused");
    this.refusal = refusal;
  }

  onReadable(): void {
    const rows = Int32Array.of(this.#memory.pagesStart, 4096);
    const got = (this.stream as DirectStream).recv(rows, 1);
    if (got > 0) {
      this.onBytes(this.#memory.bytes, this.#memory.pagesStart, this.#memory.pagesStart + got);
      return;
    }
    this.events.push(got === 0 ? "end" : `errno ${-got}`);
    this.stream.pause();
  }

  onBytes(bytes: Uint8Array, start: number, end: number): void {
    this.text += Buffer.from(bytes.subarray(start, end)).toString("latin1");
  }

  onEnd(): void {
    this.events.push("end");
  }

  onWritable(): void {
    this.events.push("writable");
  }

  onReset(errno: number): void {
    this.events.push(`errno ${errno}`);
  }

  send(text: string): number {
    const octets = Buffer.from(text, "latin1");
    if (this.stream.shape === "layered") {
      return (this.stream as LayeredStream).send(octets, 0, octets.length);
    }
    this.#memory.bytes.set(octets, this.#memory.pagesStart);
    return this.stream.send(Int32Array.of(this.#memory.pagesStart, octets.length), 1);
  }
}

/** An association's owner. */
export class UdpClient implements AssociationHandler {
  readonly events: string[] = [];
  readonly association: Association;
  refusal: Refusal | null = null;
  readonly #memory: MemoryLayout;

  constructor(upstream: Upstream, memory: MemoryLayout) {
    this.#memory = memory;
    this.association = upstream.associate(this);
    if (this.events.length > 0) throw new Error("called back from inside associate");
  }

  onOpen(): void {
    this.events.push("open");
  }

  onRefused(refusal: Refusal): void {
    this.events.push("refused");
    this.refusal = refusal;
  }

  onDatagram(from: Endpoint, start: number, end: number): void {
    const text = Buffer.from(this.#memory.bytes.subarray(start, end)).toString("latin1");
    this.events.push(`${formatEndpoint(from)} ${text}`);
  }

  onLost(): void {
    this.events.push("lost");
  }

  send(text: string): void {
    const octets = Buffer.from(text, "latin1");
    const at = this.#memory.datagrams.take(octets.length);
    this.#memory.bytes.set(octets, at);
    if (!this.association.send(TARGET, at, at + octets.length, 0)) throw new Error("not taken");
    this.association.flush();
  }
}
