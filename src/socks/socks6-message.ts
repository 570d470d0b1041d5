/**
 * The messages of SOCKS6, draft-olteanu-intarea-socks-6-11: request, authentication reply, operation reply, and the
 * options that client and server here know. docs/socks6.md says what is left out.
 *
 * Pure, as message.ts is: octets and offsets, no state. A `…Need` function tells how long the message that begins at
 * `start` is as far as [start, end) shows, and -1 when it cannot be one; a message that is whole by it can be read without
 * looking at its end again. Options that are unknown are passed over (§8).
 */

import type { Endpoint } from "../stack/wire/address.ts";
import {
  AddressType,
  MAX_TEXT,
  Method,
  PASSWORD_VERSION,
  readWord,
  writeCredentials,
  writePort as writeShort,
  writeWord,
} from "./message.ts";

/** VER of every message. */
export const VERSION_6 = 0x06;

/** CMD beside those of SOCKS5, whose numbers are the same (§4). */
export const NOOP = 0x00;

/** Reply code beside those of SOCKS5, whose numbers are the same (§7). */
export const ATTEMPT_TIMED_OUT = 0x09;

/** Type of an authentication reply (§6). */
export const AuthType = { SUCCESSFUL: 0x00, FAILED: 0x01 } as const;

/** Option kinds (§15). */
const Kind = { METHOD_SELECTION: 3, AUTH_DATA: 4 } as const;

/** Octets of options at most (§4). */
export const MAX_OPTIONS = 16_384;
/** Octets before the address of a request or an operation reply. */
const HEADER = 8;
/** Octets of an authentication reply without options. */
const AUTH_HEADER = 4;
/** Octets of an option without data. */
const OPTION_HEADER = 4;
/** Octets of the longest request that {@link writeRequest6} writes: the longest name, user and password. */
export const MAX_REQUEST_6: number =
  HEADER + 1 + MAX_TEXT + padded(OPTION_HEADER + 1 + 3 + 2 * MAX_TEXT);

function padded(length: number): number {
  return (length + 3) & ~3;
}

// ---- requests and operation replies: VER, CMD or code, options' length, port, 0, ATYP, address, options ----------

/**
 * Writes a request; `user` and `password` of at most 255 octets each travel with it (§9), or are both null. Returns the
 * offset behind it, -1 if there can be no such name.
 */
export function writeRequest6(
  bytes: Uint8Array,
  at: number,
  command: number,
  name: string | null,
  endpoint: Endpoint,
  user: Uint8Array | null,
  password: Uint8Array | null,
): number {
  const options = writeHeader(bytes, at, command, name, endpoint);
  if (options < 0) return -1;
  if (user === null || password === null) return options;
  const end = writeCredentialsOption(bytes, options, user, password);
  writeShort(bytes, at + 2, end - options);
  return end;
}

/** Writes an operation reply without options. */
export function writeOperationReply(
  bytes: Uint8Array,
  at: number,
  code: number,
  bound: Endpoint,
): number {
  return writeHeader(bytes, at, code, null, bound);
}

/** Octets of the request or operation reply at `start` as far as known; -1: unknown ATYP, or options that cannot be. */
export function messageNeed6(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < HEADER) return HEADER;
  const options = readShort(bytes, start + 2);
  if (options > MAX_OPTIONS || options % 4 !== 0) return -1;
  const at = start + HEADER;
  switch (bytes[start + 7]) {
    case AddressType.IPV4:
      return HEADER + 4 + options;
    case AddressType.IPV6:
      return HEADER + 16 + options;
    case AddressType.NAME:
      return end <= at ? HEADER + 1 : HEADER + 1 + (bytes[at] as number) + options;
    default:
      return -1;
  }
}

/** CMD of the request, or the code of the operation reply, at `start`. */
export function codeOf(bytes: Uint8Array, start: number): number {
  return bytes[start + 1] as number;
}

/** Reads address and port of a whole message into `into`; a name leaves the address zero. */
export function readAddress6(bytes: Uint8Array, start: number, into: Endpoint): void {
  const port = readShort(bytes, start + 4);
  const at = start + HEADER;
  switch (bytes[start + 7]) {
    case AddressType.IPV4:
      into.set(0, 0, 0xffff, readWord(bytes, at), port);
      break;
    case AddressType.IPV6:
      into.set(
        readWord(bytes, at),
        readWord(bytes, at + 4),
        readWord(bytes, at + 8),
        readWord(bytes, at + 12),
        port,
      );
      break;
    default:
      into.set(0, 0, 0, 0, port);
  }
}

/** The name of a whole message without the NULs that pad it; null if it has an address. */
export function readName6(bytes: Uint8Array, start: number): string | null {
  if (bytes[start + 7] !== AddressType.NAME) return null;
  const at = start + HEADER + 1;
  let end = at + (bytes[start + HEADER] as number);
  while (end > at && bytes[end - 1] === 0) end--;
  return decoder.decode(bytes.subarray(at, end));
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Everything but options. Returns the offset behind it, -1 if the name is empty or too long. */
function writeHeader(
  bytes: Uint8Array,
  at: number,
  code: number,
  name: string | null,
  endpoint: Endpoint,
): number {
  bytes[at] = VERSION_6;
  bytes[at + 1] = code;
  writeShort(bytes, at + 2, 0);
  writeShort(bytes, at + 4, endpoint.port);
  bytes[at + 6] = 0;
  const address = at + HEADER;
  if (name !== null) {
    bytes[at + 7] = AddressType.NAME;
    return writeName(bytes, address, name);
  }
  if (endpoint.isV4) {
    bytes[at + 7] = AddressType.IPV4;
    return writeWord(bytes, address, endpoint.w3);
  }
  bytes[at + 7] = AddressType.IPV6;
  const { w0, w1, w2, w3 } = endpoint;
  return [w0, w1, w2, w3].reduce((next, word) => writeWord(bytes, next, word), address);
}

/** Its length, the name, and NULs up to a multiple of four octets, which the length counts. */
function writeName(bytes: Uint8Array, at: number, name: string): number {
  if (name.length === 0 || name.length > MAX_TEXT) return -1;
  const { read, written } = encoder.encodeInto(name, bytes.subarray(at + 1, at + 1 + MAX_TEXT));
  if (read < name.length) return -1;
  const end = at + padded(1 + written);
  bytes.fill(0, at + 1 + written, end);
  bytes[at] = end - at - 1;
  return end;
}

// ---- authentication replies: VER, type, options' length, options -------------------------------------------------

/** Writes an authentication reply; `status` is RFC 1929's for credentials that came in an option, null without. */
export function writeAuthReply(
  bytes: Uint8Array,
  at: number,
  type: number,
  status: number | null,
): number {
  bytes[at] = VERSION_6;
  bytes[at + 1] = type;
  writeShort(bytes, at + 2, status === null ? 0 : 8);
  if (status === null) return at + AUTH_HEADER;
  const option = at + AUTH_HEADER;
  writeShort(bytes, option, Kind.AUTH_DATA);
  writeShort(bytes, option + 2, 8);
  bytes[option + 4] = Method.PASSWORD;
  bytes[option + 5] = PASSWORD_VERSION;
  bytes[option + 6] = status;
  bytes[option + 7] = 0;
  return option + 8;
}

/** Octets of the authentication reply at `start` as far as known; -1: options that cannot be. */
export function authReplyNeed(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < AUTH_HEADER) return AUTH_HEADER;
  const options = readShort(bytes, start + 2);
  return options > MAX_OPTIONS || options % 4 !== 0 ? -1 : AUTH_HEADER + options;
}

/** The method that the whole authentication reply [start, end) selects, -1 if none. */
export function selectedMethod(bytes: Uint8Array, start: number, end: number): number {
  const at = findOption(bytes, start + AUTH_HEADER, end, Kind.METHOD_SELECTION);
  return at < 0 ? -1 : (bytes[at + OPTION_HEADER] as number);
}

// ---- options: kind, length, data ---------------------------------------------------------------------------------

/** True if the options of a whole message, [start, end), divide into options. */
export function areOptions(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start;
  while (at < end) {
    const length = optionLength(bytes, at, end);
    if (length < 0) return false;
    at += length;
  }
  return true;
}

/** Where the options of a whole request or operation reply begin. */
export function optionsOf(bytes: Uint8Array, start: number, end: number): number {
  return end - readShort(bytes, start + 2);
}

/**
 * Where RFC 1929's request stands in the options [start, end) of a whole request, as [from, to) in `range`. False: there
 * is none, or it is cut short.
 */
export function findCredentials(
  bytes: Uint8Array,
  start: number,
  end: number,
  range: { start: number; end: number },
): boolean {
  for (let at = start; at < end; ) {
    const length = optionLength(bytes, at, end);
    if (length < 0) return false;
    if (
      readShort(bytes, at) === Kind.AUTH_DATA &&
      length > OPTION_HEADER &&
      bytes[at + OPTION_HEADER] === Method.PASSWORD
    ) {
      range.start = at + OPTION_HEADER + 1;
      range.end = at + length;
      return isWhole(bytes, range.start, range.end);
    }
    at += length;
  }
  return false;
}

/** VER, ULEN, UNAME, PLEN, PASSWD in [start, end), padding allowed behind them. */
function isWhole(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start < 3) return false;
  const second = start + 2 + (bytes[start + 1] as number);
  return second < end && second + 1 + (bytes[second] as number) <= end;
}

/** The option of `kind` with data in [start, end); -1 if there is none. */
function findOption(bytes: Uint8Array, start: number, end: number, kind: number): number {
  for (let at = start; at < end; ) {
    const length = optionLength(bytes, at, end);
    if (length < 0) return -1;
    if (readShort(bytes, at) === kind && length > OPTION_HEADER) return at;
    at += length;
  }
  return -1;
}

/** Octets of the option at `at`; -1: not one that ends before `end`. */
function optionLength(bytes: Uint8Array, at: number, end: number): number {
  if (end - at < OPTION_HEADER) return -1;
  const length = readShort(bytes, at + 2);
  return length < OPTION_HEADER || length % 4 !== 0 || length > end - at ? -1 : length;
}

function writeCredentialsOption(
  bytes: Uint8Array,
  at: number,
  user: Uint8Array,
  password: Uint8Array,
): number {
  const end = at + padded(OPTION_HEADER + 1 + 3 + user.length + password.length);
  writeShort(bytes, at, Kind.AUTH_DATA);
  writeShort(bytes, at + 2, end - at);
  bytes[at + 4] = Method.PASSWORD;
  bytes.fill(0, writeCredentials(bytes, at + 5, user, password), end);
  return end;
}

function readShort(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
}
