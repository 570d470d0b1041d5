/**
 * Decodes a capture of either format from chunks. Pure: no file, no decompression.
 */

import {
  type CapturedPacket,
  type CaptureFormat,
  captureError,
  notCaptureError,
} from "./captured-packet.ts";
import { OctetQueue } from "./octet-queue.ts";
import { isPcapMagic, PcapReader } from "./pcap-reader.ts";
import { PCAPNG_MAGIC, PcapngReader } from "./pcapng-reader.ts";

/** After it threw, only `offset` is of use. */
export class CaptureDecoder {
  readonly #input: OctetQueue = new OctetQueue();
  #format: CaptureFormat | null = null;

  /** Octets decoded so far. */
  get offset(): number {
    return this.#input.offset;
  }

  /** Takes a chunk, which must not change afterwards. Call `next` until null, or they pile up. */
  push(chunk: Uint8Array): void {
    this.#input.push(chunk);
  }

  /** The next packet; null: more octets are needed. Throws ERR_CAPTURE where the capture is damaged. */
  next(): CapturedPacket | null {
    if (this.#format === null) {
      if (this.#input.length < 4) return null;
      this.#format = formatOf(this.#input.view.getUint32(this.#input.start));
      if (this.#format === null) throw notCaptureError();
    }
    return this.#format.next(this.#input);
  }

  /** To be called when the octets end and `next` gave null. Throws ERR_CAPTURE if that cut a record. */
  finish(): void {
    if (this.#format === null) throw notCaptureError();
    if (this.#input.length > 0 || !this.#format.isBetweenRecords) {
      throw captureError(this.#input.offset, "it ends within a record");
    }
  }
}

function formatOf(magic: number): CaptureFormat | null {
  if (magic === PCAPNG_MAGIC) return new PcapngReader();
  return isPcapMagic(magic) ? new PcapReader() : null;
}
