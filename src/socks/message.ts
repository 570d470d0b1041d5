/**
 * Every message of SOCKS5 (RFC 1928), of its password sub-negotiation (RFC 1929) and the header of its datagrams.
 *
 * Pure: octets of a `Uint8Array` and offsets, no state. Writers put a message at an offset and return the offset
 * behind it; the caller provides room (no message is longer than {@link MAX_MESSAGE}). A `…Need` function tells how
 * long a message that begins at `start` is as far as [start, end) shows: while that is more than `end - start`,
 * read on; a reader that never asks for more than that never reads beyond the message.
 */

import type { Endpoint } from "../stack/wire/address.ts";

/** VER of every message but those of RFC 1929. */
export const VERSION = 0x05;
/** VER of RFC 1929's messages. */
export const PASSWORD_VERSION = 0x01;

/** Octets of the longest message: the credentials of RFC 1929. */
export const MAX_MESSAGE: number = 3 + 255 + 255;
/** Octets of a name, of a user or of a password at most: each has one octet of length. */
export const MAX_TEXT = 255;
/** Octets of the longest header of a datagram (RFC 1928 §7). */
export const MAX_UDP_HEADER: number = 3 + 1 + 1 + MAX_TEXT + 2;

/** METHOD of RFC 1928 §3. */
export const Method = { NONE: 0x00, GSSAPI: 0x01, PASSWORD: 0x02, UNACCEPTABLE: 0xff } as const;

/** CMD of RFC 1928 §4. */
export const Command = { CONNECT: 0x01, BIND: 0x02, UDP_ASSOCIATE: 0x03 } as const;

/** ATYP of RFC 1928 §5. */
export const AddressType = { IPV4: 0x01, NAME: 0x03, IPV6: 0x04 } as const;

/** REP of RFC 1928 §6. */
export const Reply = {
  SUCCEEDED: 0x00,
  GENERAL_FAILURE: 0x01,
  NOT_ALLOWED: 0x02,
  NETWORK_UNREACHABLE: 0x03,
  HOST_UNREACHABLE: 0x04,
  CONNECTION_REFUSED: 0x05,
  TTL_EXPIRED: 0x06,
  COMMAND_NOT_SUPPORTED: 0x07,
  ADDRESS_TYPE_NOT_SUPPORTED: 0x08,
} as const;

/** RFC 1928 §6, and Tor's extensions (its proposal 304). */
const REPLY_NAMES: ReadonlyMap<number, string> = new Map([
  [0x00, "succeeded"],
  [0x01, "general failure"],
  [0x02, "not allowed by the ruleset"],
  [0x03, "network unreachable"],
  [0x04, "host unreachable"],
  [0x05, "connection refused"],
  [0x06, "TTL expired"],
  [0x07, "command not supported"],
  [0x08, "address type not supported"],
  [0xf0, "onion service descriptor not found"],
  [0xf1, "onion service descriptor invalid"],
  [0xf2, "onion service introduction failed"],
  [0xf3, "onion service rendezvous failed"],
  [0xf4, "onion service needs client authorization"],
  [0xf5, "onion service refused the client authorization"],
  [0xf6, "onion service address invalid"],
  [0xf7, "onion service introduction timed out"],
]);

/** REP for a log: its meaning and number. */
export function replyName(reply: number): string {
  return `${REPLY_NAMES.get(reply) ?? "unknown reply"} (${hex(reply)})`;
}

/** METHOD for a message to the user. */
export function methodName(method: number): string {
  switch (method) {
    case Method.NONE:
      return "no authentication";
    case Method.GSSAPI:
      return "GSSAPI";
    case Method.PASSWORD:
      return "user and password";
    default:
      return `method ${hex(method)}`;
  }
}

function hex(octet: number): string {
  return octet.toString(16).padStart(2, "0").toUpperCase();
}

// ---- addresses: ATYP, address, port -----------------------------------------------------------------------------

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Octets of `endpoint` as ATYP, address and port. */
export function addressLength(endpoint: Endpoint): number {
  return endpoint.isV4 ? 7 : 19;
}

/** Writes `endpoint`; a v4-mapped address as IPv4, which is what servers expect. */
export function writeAddress(bytes: Uint8Array, at: number, endpoint: Endpoint): number {
  let next = at;
  if (endpoint.isV4) {
    bytes[next++] = AddressType.IPV4;
  } else {
    bytes[next++] = AddressType.IPV6;
    next = writeWord(bytes, next, endpoint.w0);
    next = writeWord(bytes, next, endpoint.w1);
    next = writeWord(bytes, next, endpoint.w2);
  }
  next = writeWord(bytes, next, endpoint.w3);
  return writePort(bytes, next, endpoint.port);
}

/** Writes a name as it is, in UTF-8, and `port`. Returns -1 if the name is empty or longer than 255 octets. */
export function writeName(bytes: Uint8Array, at: number, name: string, port: number): number {
  // UTF-8 is never shorter than UTF-16 has units; the slot is big enough for what passes.
  if (name.length === 0 || name.length > MAX_TEXT) return -1;
  const { read, written } = encoder.encodeInto(name, bytes.subarray(at + 2, at + 2 + MAX_TEXT));
  if (read < name.length) return -1;
  bytes[at] = AddressType.NAME;
  bytes[at + 1] = written;
  return writePort(bytes, at + 2 + written, port);
}

/** Writes `name`, or the address of `endpoint` when it is null; the port is the endpoint's. -1: no such name. */
export function writeDestination(
  bytes: Uint8Array,
  at: number,
  name: string | null,
  endpoint: Endpoint,
): number {
  return name === null
    ? writeAddress(bytes, at, endpoint)
    : writeName(bytes, at, name, endpoint.port);
}

/** Octets of the ATYP, address and port that begin at `start` as far as known, 0 < n; -1: an unknown ATYP. */
export function addressNeed(bytes: Uint8Array, start: number, end: number): number {
  if (end <= start) return 1;
  switch (bytes[start]) {
    case AddressType.IPV4:
      return 7;
    case AddressType.IPV6:
      return 19;
    case AddressType.NAME:
      return end - start < 2 ? 2 : 4 + (bytes[start + 1] as number);
    default:
      return -1;
  }
}

/**
 * Reads ATYP, address and port into `into` (a name leaves the address zero; see {@link readName}). Returns the
 * offset behind it, -1 if [start, end) is too short or the ATYP unknown.
 */
export function readAddress(bytes: Uint8Array, start: number, end: number, into: Endpoint): number {
  const length = addressNeed(bytes, start, end);
  if (length < 0 || length > end - start) return -1;
  const after = start + length;
  const port = ((bytes[after - 2] as number) << 8) | (bytes[after - 1] as number);
  switch (bytes[start]) {
    case AddressType.IPV4:
      into.set(0, 0, 0xffff, readWord(bytes, start + 1), port);
      break;
    case AddressType.IPV6:
      into.set(
        readWord(bytes, start + 1),
        readWord(bytes, start + 5),
        readWord(bytes, start + 9),
        readWord(bytes, start + 13),
        port,
      );
      break;
    default:
      into.set(0, 0, 0, 0, port);
  }
  return after;
}

/** The name of a whole address of type NAME that begins at `start`, null if it is of another type. May be empty. */
export function readName(bytes: Uint8Array, start: number): string | null {
  if (bytes[start] !== AddressType.NAME) return null;
  const length = bytes[start + 1] as number;
  return decoder.decode(bytes.subarray(start + 2, start + 2 + length));
}

/** A word in network byte order; returns the offset behind it. */
export function writeWord(bytes: Uint8Array, at: number, word: number): number {
  bytes[at] = word >>> 24;
  bytes[at + 1] = word >>> 16;
  bytes[at + 2] = word >>> 8;
  bytes[at + 3] = word;
  return at + 4;
}

/** Two octets in network byte order; returns the offset behind them. */
export function writePort(bytes: Uint8Array, at: number, port: number): number {
  bytes[at] = port >>> 8;
  bytes[at + 1] = port;
  return at + 2;
}

/** An int32 in network byte order. */
export function readWord(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  );
}

// ---- method negotiation (RFC 1928 §3) ----------------------------------------------------------------------------

/** VER, NMETHODS, METHODS. */
export function writeGreeting(bytes: Uint8Array, at: number, methods: readonly number[]): number {
  bytes[at] = VERSION;
  bytes[at + 1] = methods.length;
  for (let i = 0; i < methods.length; i++) bytes[at + 2 + i] = methods[i] as number;
  return at + 2 + methods.length;
}

export function greetingNeed(bytes: Uint8Array, start: number, end: number): number {
  return end - start < 2 ? 2 : 2 + (bytes[start + 1] as number);
}

/** True if the whole greeting at `start` offers `method`. */
export function greetingOffers(bytes: Uint8Array, start: number, method: number): boolean {
  const count = bytes[start + 1] as number;
  for (let i = 0; i < count; i++) if (bytes[start + 2 + i] === method) return true;
  return false;
}

/** VER, METHOD: two octets. */
export function writeMethod(bytes: Uint8Array, at: number, method: number): number {
  bytes[at] = VERSION;
  bytes[at + 1] = method;
  return at + 2;
}

// ---- user and password (RFC 1929 §2) -----------------------------------------------------------------------------

/** VER, ULEN, UNAME, PLEN, PASSWD; each text at most 255 octets. */
export function writeCredentials(
  bytes: Uint8Array,
  at: number,
  user: Uint8Array,
  password: Uint8Array,
): number {
  bytes[at] = PASSWORD_VERSION;
  bytes[at + 1] = user.length;
  bytes.set(user, at + 2);
  const second = at + 2 + user.length;
  bytes[second] = password.length;
  bytes.set(password, second + 1);
  return second + 1 + password.length;
}

/** The user is at [start + 2, start + 2 + ULEN), the password behind the octet of its length. */
export function credentialsNeed(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < 2) return 2;
  const second = 2 + (bytes[start + 1] as number);
  return end - start < second + 1 ? second + 1 : second + 1 + (bytes[start + second] as number);
}

/** VER, STATUS: two octets. STATUS 0 is success. */
export function writeCredentialsStatus(bytes: Uint8Array, at: number, status: number): number {
  bytes[at] = PASSWORD_VERSION;
  bytes[at + 1] = status;
  return at + 2;
}

// ---- request and reply (RFC 1928 §4, §6): VER, CMD or REP, RSV, address ------------------------------------------

/** Returns -1 if the name does not fit. */
export function writeRequest(
  bytes: Uint8Array,
  at: number,
  command: number,
  name: string | null,
  endpoint: Endpoint,
): number {
  bytes[at] = VERSION;
  bytes[at + 1] = command;
  bytes[at + 2] = 0;
  return writeDestination(bytes, at + 3, name, endpoint);
}

export function writeReply(bytes: Uint8Array, at: number, reply: number, bound: Endpoint): number {
  bytes[at] = VERSION;
  bytes[at + 1] = reply;
  bytes[at + 2] = 0;
  return writeAddress(bytes, at + 3, bound);
}

/** Octets of the request (or successful reply) at `start` as far as known; -1: an unknown ATYP. */
export function requestNeed(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < 4) return 4;
  const address = addressNeed(bytes, start + 3, end);
  return address < 0 ? -1 : 3 + address;
}

// ---- datagrams (RFC 1928 §7): RSV, RSV, FRAG, address, data -------------------------------------------------------

/** Octets of the header that {@link writeUdpHeader} writes: 10, 22, or 7 and those of the name. */
export function udpHeaderLength(name: string | null, endpoint: Endpoint): number {
  return 3 + (name === null ? addressLength(endpoint) : 4 + Buffer.byteLength(name));
}

/** Returns -1 if the name does not fit. */
export function writeUdpHeader(
  bytes: Uint8Array,
  at: number,
  name: string | null,
  endpoint: Endpoint,
): number {
  bytes[at] = 0;
  bytes[at + 1] = 0;
  bytes[at + 2] = 0;
  return writeDestination(bytes, at + 3, name, endpoint);
}

/** FRAG of a datagram of at least three octets: 0 when it stands alone. */
export function udpFragment(bytes: Uint8Array, start: number): number {
  return bytes[start + 2] as number;
}

/** Reads the address into `into` as {@link readAddress} does; returns where the data begins, -1 if malformed. */
export function readUdpHeader(
  bytes: Uint8Array,
  start: number,
  end: number,
  into: Endpoint,
): number {
  return readAddress(bytes, start + 3, end, into);
}
