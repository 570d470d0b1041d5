/**
 * The name that a client's first octets tell: server_name of a TLS ClientHello (RFC 6066 §3 in RFC 8446 §4.1.2), or Host of
 * an HTTP/1 request (RFC 9112 §3.2).
 *
 * A pure function of what has come so far; hostile octets never throw. What is encrypted (ECH, RFC 9849) tells the outer
 * name, which is what the client asks a stranger for.
 */

import { parseAddress } from "../stack/wire/address.ts";
import { parseNamePattern } from "./name-patterns.ts";

/** Octets at most that are looked at: a ClientHello with post-quantum keys has two thousand. */
export const MAX_SNIFFED = 16_384;

/** In lower case, without the last dot; null: it tells none; "more": too little has come to know. */
export type Sniffed = { readonly name: string | null } | "more";

/** Looks at octets [0, length) of a flow. */
export function sniffName(bytes: Uint8Array, length: number): Sniffed {
  if (length === 0) return "more";
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  const sniffed = view.getUint8(0) === HANDSHAKE ? sniffTls(view) : sniffHttp(bytes, length);
  return sniffed === "more" && length >= MAX_SNIFFED ? NOTHING : sniffed;
}

const NOTHING = { name: null } as const;

/** ContentType, RFC 8446 §5.1. */
const HANDSHAKE = 22;
const RECORD_HEADER = 5;
/** TLSPlaintext.length, RFC 8446 §5.1. */
const MAX_RECORD = 1 << 14;
/** HandshakeType, RFC 8446 §4. */
const CLIENT_HELLO = 1;
/** ExtensionType and NameType, RFC 6066 §3. */
const SERVER_NAME = 0;
const HOST_NAME = 0;

/** Puts together what records carry of the first message, as far as it has come. */
function sniffTls(view: DataView): Sniffed {
  const message = new Uint8Array(view.byteLength);
  let length = 0;
  for (let at = 0; ; ) {
    if (at + RECORD_HEADER > view.byteLength) return readHello(message, length);
    const size = view.getUint16(at + 3);
    const isRecord = view.getUint8(at) === HANDSHAKE && view.getUint8(at + 1) === 3;
    if (!isRecord || size === 0 || size > MAX_RECORD) return NOTHING;
    at += RECORD_HEADER;
    const end = Math.min(at + size, view.byteLength);
    message.set(new Uint8Array(view.buffer, view.byteOffset + at, end - at), length);
    length += end - at;
    at += size;
  }
}

/** Of the octets [0, length) of a message that may go on. */
function readHello(message: Uint8Array, length: number): Sniffed {
  if (length >= 1 && message[0] !== CLIENT_HELLO) return NOTHING;
  const reader = new Reader(new DataView(message.buffer, 0, length));
  const end = 4 + reader.skip(1).uint24();
  // legacy_version, random; legacy_session_id; cipher_suites; legacy_compression_methods
  reader.skip(2 + 32);
  reader.skip(reader.uint8());
  reader.skip(reader.uint16());
  reader.skip(reader.uint8());
  if (reader.at >= end && reader.isWhole) return NOTHING;
  const stop = Math.min(end, reader.uint16() + reader.at);
  while (reader.isWhole && reader.at + 4 <= stop) {
    const type = reader.uint16();
    const size = reader.uint16();
    if (type !== SERVER_NAME) {
      reader.skip(size);
      continue;
    }
    const last = reader.skip(2).at + size - 2;
    while (reader.isWhole && reader.at + 3 <= last) {
      const kind = reader.uint8();
      const text = reader.text(reader.uint16());
      if (reader.isWhole && kind === HOST_NAME) return { name: hostName(text) };
    }
    return reader.isWhole ? NOTHING : "more";
  }
  return reader.isWhole ? NOTHING : "more";
}

/** Reads on; what lies behind the end is 0, and `isWhole` false from then on. */
class Reader {
  at = 0;
  readonly #view: DataView;

  constructor(view: DataView) {
    this.#view = view;
  }

  get isWhole(): boolean {
    return this.at <= this.#view.byteLength;
  }

  skip(octets: number): this {
    this.at += octets;
    return this;
  }

  uint8(): number {
    this.at++;
    return this.isWhole ? this.#view.getUint8(this.at - 1) : 0;
  }

  uint16(): number {
    return (this.uint8() << 8) | this.uint8();
  }

  uint24(): number {
    return (this.uint16() << 8) | this.uint8();
  }

  text(octets: number): string {
    const { buffer, byteOffset } = this.#view;
    const start = this.at;
    this.at += octets;
    return this.isWhole ? latin1(new Uint8Array(buffer, byteOffset + start, octets)) : "";
  }
}

/** "GET / HTTP/1.1", its headers up to an empty line. */
function sniffHttp(bytes: Uint8Array, length: number): Sniffed {
  const text = latin1(bytes.subarray(0, Math.min(length, MAX_SNIFFED)));
  if (!/^[A-Z]{1,20}(?: |$)/.test(text)) return NOTHING;
  const end = /\r?\n\r?\n/.exec(text)?.index;
  const head = end === undefined ? text.slice(0, text.lastIndexOf("\n") + 1) : text.slice(0, end);
  const [requestLine = "", ...lines] = head.split(/\r?\n/);
  if (requestLine !== "" && !/ HTTP\/1\.[01]$/.test(requestLine)) return NOTHING;
  for (const line of lines) {
    if (!/^host:/i.test(line)) continue;
    const host = withoutBlanks(line.slice("host:".length));
    return { name: hostName(host.replace(/:\d*$/, "")) };
  }
  return end === undefined ? "more" : NOTHING;
}

/** Null for an address, and for what is no name. */
function hostName(text: string): string | null {
  if (parseAddress(text.replace(/^\[|\]$/g, "")) !== null) return null;
  if (!/^[\x21-\x7e]+$/.test(text)) return null;
  const pattern = parseNamePattern(text);
  return pattern === null || pattern.isGlob ? null : pattern.text;
}

/** OWS of RFC 9110 §5.6.3 at both ends; a pattern would go back again and again over a long run in between. */
function withoutBlanks(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isBlank(text[start])) start++;
  while (end > start && isBlank(text[end - 1])) end--;
  return text.slice(start, end);
}

function isBlank(letter: string | undefined): boolean {
  return letter === " " || letter === "\t";
}

function latin1(octets: Uint8Array): string {
  return Buffer.from(octets.buffer, octets.byteOffset, octets.length).toString("latin1");
}
