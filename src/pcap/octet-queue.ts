/**
 * The octets of a stream that are not decoded yet, with their offset in it.
 *
 * Octets handed out are never overwritten, so a view into `bytes` stays good as long as its holder wants. It holds
 * what one record needs and one chunk, if the reader takes whole records and lets `wanted` octets come at most.
 */

export class OctetQueue {
  /** What waits lies at [start, end). */
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(this.bytes.buffer);
  start = 0;
  end = 0;
  /** Offset in the stream of the octet at `start`. */
  offset = 0;

  get length(): number {
    return this.end - this.start;
  }

  /** Takes a chunk, which must not change afterwards: it is not copied when nothing waits. */
  push(chunk: Uint8Array): void {
    const waiting = this.end - this.start;
    if (waiting === 0) {
      this.#use(chunk, chunk.length);
      return;
    }
    // Behind a chunk of the source there is no room: what is written to is ours.
    if (this.bytes.length - this.end < chunk.length) {
      // Twice the need: a stream in small chunks costs a copy per doubling, not per chunk.
      const grown = new Uint8Array(2 * (waiting + chunk.length));
      grown.set(this.bytes.subarray(this.start, this.end));
      this.#use(grown, waiting);
    }
    this.bytes.set(chunk, this.end);
    this.end += chunk.length;
  }

  /** Drops the first `octets`, of which at most `length` are there. */
  take(octets: number): void {
    this.start += octets;
    this.offset += octets;
  }

  #use(bytes: Uint8Array, end: number): void {
    // A Buffer would hand out Buffers, whose `slice` does not copy.
    this.bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.start = 0;
    this.end = end;
  }
}
