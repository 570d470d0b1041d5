/**
 * Decompression of gzip (RFC 1952) in bounded memory, which gives what comes before damage.
 *
 * zlib loses the output of the call that fails. So it gets small pieces: damage costs what follows in its piece and
 * at most PIECE_OCTETS before it; a file that is merely cut costs nothing.
 */

import { createGunzip, type Gunzip } from "node:zlib";

/** True when the octets start as a gzip file does. At least two are needed. */
export function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/**
 * The decompressed octets, then the error of zlib if there is one. Chunks are fresh. Several members follow each
 * other (§2.2); zeros behind the last are padding and end the reading.
 */
export async function* gunzip(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const inflate = new Inflater();
  try {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length; at += PIECE_OCTETS) {
        yield* await inflate.write(chunk.subarray(at, at + PIECE_OCTETS));
        if (inflate.isOver) break;
      }
      if (inflate.isOver) break;
    }
    if (!inflate.isOver) yield* await inflate.finish();
    if (inflate.error !== null) throw inflate.error;
  } finally {
    inflate.close();
  }
}

/** A Gunzip whose calls say what came of them: its callback of a write does not come after an error or an end. */
class Inflater {
  error: Error | null = null;
  /** It takes no more. */
  isOver = false;
  readonly #stream: Gunzip = createGunzip();
  #output: Uint8Array[] = [];
  #wake: () => void = () => {};

  constructor() {
    this.#stream.on("data", (chunk: Uint8Array) => this.#output.push(chunk));
    this.#stream.on("end", () => this.#end(null));
    this.#stream.on("error", (error) => this.#end(error));
  }

  write(piece: Uint8Array): Promise<Uint8Array[]> {
    return this.#outputOf(() => this.#stream.write(piece, () => this.#wake()));
  }

  finish(): Promise<Uint8Array[]> {
    return this.#outputOf(() => this.#stream.end());
  }

  close(): void {
    this.#stream.destroy();
  }

  async #outputOf(call: () => void): Promise<Uint8Array[]> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      call();
    });
    const output = this.#output;
    this.#output = [];
    return output;
  }

  #end(error: Error | null): void {
    this.error = error;
    this.isOver = true;
    this.#wake();
  }
}

/** Compressed; deflate makes at most 1032 times as much of it (zlib's technical notes), 4 MiB. */
const PIECE_OCTETS = 4096;
