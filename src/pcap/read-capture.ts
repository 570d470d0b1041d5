/**
 * Captures from a stream of octets, decompressed if need be, or from a file.
 */

import { createReadStream } from "node:fs";
import { TunnelError } from "../errors.ts";
import { CaptureDecoder } from "./capture-decoder.ts";
import { type CapturedPacket, captureError } from "./captured-packet.ts";
import { gunzip, isGzip } from "./gzip.ts";

/**
 * The packets of a pcap or pcapng capture, plain or gzip, in bounded memory. A damaged capture gives the packets
 * before the damage, then throws ERR_CAPTURE with the offset. Errors of `source` pass through. Chunks must not
 * change after they were handed out: packets are views into them.
 */
export async function* readCapture(
  source: AsyncIterable<Uint8Array>,
): AsyncGenerator<CapturedPacket, void, void> {
  const decoder = new CaptureDecoder();
  for await (const chunk of plain(source, decoder)) {
    decoder.push(chunk);
    for (let packet = decoder.next(); packet !== null; packet = decoder.next()) yield packet;
  }
  decoder.finish();
}

/** The packets of a file, as `readCapture`. A file that cannot be read is ERR_CAPTURE too. */
export async function* readCaptureFile(path: string): AsyncGenerator<CapturedPacket, void, void> {
  yield* readCapture(fileChunks(path));
}

async function* fileChunks(path: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(path, { highWaterMark: FILE_CHUNK });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new TunnelError("ERR_CAPTURE", `cannot read ${path}: ${why}`, { cause: error });
  }
}

/** The source without its gzip wrapping, if it has one: the first two octets tell. */
async function* plain(
  source: AsyncIterable<Uint8Array>,
  decoder: CaptureDecoder,
): AsyncGenerator<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  try {
    let head: Uint8Array = new Uint8Array(0);
    while (head.length < 2) {
      const { done, value } = await chunks.next();
      if (done === true) break;
      head = head.length === 0 ? value : Buffer.concat([head, value]);
    }
    const whole = prepend(head, chunks);
    if (!isGzip(head)) {
      yield* whole;
      return;
    }
    yield* decompressed(whole, decoder);
  } finally {
    await chunks.return?.();
  }
}

async function* prepend(
  head: Uint8Array,
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield head;
  for (;;) {
    const { done, value } = await rest.next();
    if (done === true) return;
    yield value;
  }
}

/** Only errors of zlib become ours, which have a code of their own (Z_DATA_ERROR); those of the source do not. */
async function* decompressed(
  source: AsyncIterable<Uint8Array>,
  decoder: CaptureDecoder,
): AsyncGenerator<Uint8Array> {
  try {
    yield* gunzip(source);
  } catch (error) {
    if (!(error instanceof Error) || !isZlibError(error)) throw error;
    throw captureError(decoder.offset, `gzip is damaged (${error.message})`, error);
  }
}

function isZlibError(error: NodeJS.ErrnoException): boolean {
  return error.code?.startsWith("Z_") ?? false;
}

const FILE_CHUNK = 262_144;
