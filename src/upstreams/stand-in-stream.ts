/**
 * A stream in the place of another that is found later, or of several that are tried in turn: calls go to it and its
 * events come from it. What it stands for may have either shape; from onOpen on it stays the same.
 */

import type { DirectStream, Honesty, Refusal, Stream, StreamHandler } from "../socks/ports.ts";

export abstract class StandInStream implements StreamHandler {
  protected readonly handler: StreamHandler;
  /** What it stands for now. */
  protected stream: Stream | null = null;
  #ended = false;

  constructor(handler: StreamHandler) {
    this.handler = handler;
  }

  /** Called once, when the stream is closed, reset, refused for good or broken: no event follows. */
  protected abstract release(): void;

  abstract onRefused(refusal: Refusal): void;

  /** Ends: true for the first who says so. */
  protected end(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    this.release();
    return true;
  }

  protected refuse(refusal: Refusal): void {
    if (this.end()) this.handler.onRefused(refusal);
    this.stream = null;
  }

  // ---- events ----------------------------------------------------------------------------------------------------

  onOpen(): void {
    this.handler.onOpen();
  }

  onReadable(): void {
    this.handler.onReadable();
  }

  onBytes(bytes: Uint8Array, start: number, end: number): void {
    this.handler.onBytes(bytes, start, end);
  }

  onEnd(): void {
    this.handler.onEnd();
  }

  onWritable(): void {
    this.handler.onWritable();
  }

  onReset(errno: number): void {
    if (this.end()) this.handler.onReset(errno);
    this.stream = null;
  }

  // ---- calls -----------------------------------------------------------------------------------------------------

  get shape(): Stream["shape"] {
    return this.stream?.shape ?? "direct";
  }

  /** Of whoever granted it, refused it or broke it; until that has been told. */
  get honesty(): Honesty | null {
    return this.stream?.honesty ?? null;
  }

  recv(rows: Int32Array, count: number): number {
    return (this.stream as DirectStream).recv(rows, count);
  }

  /** With the arguments of its shape. */
  send(octets: Int32Array | Uint8Array, from: number, to?: number): number {
    const stream = this.stream as Stream;
    return stream.shape === "direct"
      ? stream.send(octets as Int32Array, from)
      : stream.send(octets as Uint8Array, from, to as number);
  }

  pause(): void {
    this.stream?.pause();
  }

  resume(): void {
    this.stream?.resume();
  }

  shutdown(): void {
    this.stream?.shutdown();
  }

  reset(): void {
    const { stream } = this;
    this.stream = null;
    stream?.reset();
    this.end();
  }

  close(): void {
    const { stream } = this;
    this.stream = null;
    stream?.close();
    this.end();
  }
}
