/**
 * The messages of the GSSAPI method (RFC 1961 §3.7, §3.8, §4.3, §5): VER, MTYP, LEN, TOKEN, whatever the token is.
 *
 * Pure. A reader takes octets in any split, never more than its message has, and holds one token at most.
 */

/** VER of RFC 1961's messages. */
export const GSS_VERSION = 0x01;

/** MTYP. ABORT ends the message: no LEN, no TOKEN. */
export const GssMessage = { TOKEN: 0x01, LEVEL: 0x02, DATA: 0x03, ABORT: 0xff } as const;

/** VER, MTYP and LEN. */
export const GSS_HEADER = 4;
/** Octets of a token at most: LEN has two. */
export const MAX_GSS_TOKEN = 0xffff;

const EMPTY = new Uint8Array(0);

/** Writes the header of a token of `length` octets; returns the offset behind it. */
export function writeGssHeader(
  bytes: Uint8Array,
  at: number,
  type: number,
  length: number,
): number {
  bytes[at] = GSS_VERSION;
  bytes[at + 1] = type;
  bytes[at + 2] = length >>> 8;
  bytes[at + 3] = length;
  return at + GSS_HEADER;
}

/** A whole message. `token` has at most {@link MAX_GSS_TOKEN} octets. */
export function gssMessage(type: number, token: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(GSS_HEADER + token.length);
  bytes.set(token, writeGssHeader(bytes, 0, type, token.length));
  return bytes;
}

/** The token of a message that fills [start, end) and has MTYP `type`; null: it is none. A view. */
export function gssToken(
  bytes: Uint8Array,
  start: number,
  end: number,
  type: number,
): Uint8Array | null {
  if (end - start < GSS_HEADER) return null;
  if (bytes[start] !== GSS_VERSION || bytes[start + 1] !== type) return null;
  const length = ((bytes[start + 2] as number) << 8) | (bytes[start + 3] as number);
  return length === end - start - GSS_HEADER ? bytes.subarray(start + GSS_HEADER, end) : null;
}

export class GssReader {
  /** A whole message was read: `type` and `token` until `next`. */
  isWhole = false;
  /** VER of the message as soon as it has been read; -1 before. */
  version = -1;
  /** MTYP of the message as soon as it has been read; -1 before. */
  type = -1;
  token: Uint8Array = EMPTY;
  readonly #header = new Uint8Array(GSS_HEADER);
  /** Octets of the message read. */
  #length = 0;

  /** Takes octets of [start, end); returns the offset behind the last one taken. */
  read(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    while (at < end && !this.isWhole && this.#length < GSS_HEADER) {
      this.#readHeader(bytes[at++] as number);
    }
    if (this.isWhole || this.#length < GSS_HEADER) return at;
    const filled = this.#length - GSS_HEADER;
    const taken = Math.min(end - at, this.token.length - filled);
    this.token.set(bytes.subarray(at, at + taken), filled);
    this.#length += taken;
    this.isWhole = filled + taken === this.token.length;
    return at + taken;
  }

  /** Forgets the message. */
  next(): void {
    this.isWhole = false;
    this.version = -1;
    this.type = -1;
    this.token = EMPTY;
    this.#length = 0;
  }

  /** Nothing of a further message was read. */
  get isBetween(): boolean {
    return this.#length === 0;
  }

  #readHeader(octet: number): void {
    const header = this.#header;
    header[this.#length++] = octet;
    if (this.#length === 1) this.version = octet;
    else if (this.#length === 2) {
      this.type = octet;
      this.isWhole = octet === GssMessage.ABORT;
    } else if (this.#length === GSS_HEADER) {
      const length = ((header[2] as number) << 8) | (header[3] as number);
      this.token = length === 0 ? EMPTY : new Uint8Array(length);
      this.isWhole = length === 0;
    }
  }
}
