/**
 * The little of RFC 1035 a forwarder needs: is it a query, is it its answer, and answers of our own.
 *
 * Messages pass through unchanged but for their id. Hostile octets never throw: every walk is bounded by the message.
 */

import type { Packet } from "dns-packet";
import { dnsPacket } from "./dns-packet.ts";

/** RCODE of RFC 1035 §4.1.1. */
export const Rcode = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3 } as const;
export type Rcode = (typeof Rcode)[keyof typeof Rcode];

/** Octets of the header. */
export const HEADER = 12;

/** Size a client takes that advertises none (RFC 1035 §4.2.1). */
export const MIN_UDP_SIZE = 512;

/** QTYPE and QCLASS. */
const QUESTION_TAIL = 4;
/** RFC 1035 §3.1. */
const MAX_NAME = 255;
const MAX_LABEL = 63;

const QR = 0x80;
const TC = 0x02;
const RA = 0x80;
const OPCODE = 0x78;
const CLASS_IN = 1;
/** Opcode and RD, which an answer repeats. */
const REPEATED = 0x79;

/** True when [start, end) is a query with exactly one question. */
export function isQuery(bytes: Uint8Array, start: number, end: number): boolean {
  return (
    end - start >= HEADER &&
    ((bytes[start + 2] as number) & QR) === 0 &&
    bytes[start + 4] === 0 &&
    bytes[start + 5] === 1 &&
    questionEnd(bytes, start, end) > 0
  );
}

/** The offset behind the first question of a message, -1 when it has none that can be read. */
export function questionEnd(bytes: Uint8Array, start: number, end: number): number {
  const nameStart = start + HEADER;
  let at = nameStart;
  while (at < end && at - nameStart < MAX_NAME) {
    const length = bytes[at] as number;
    if (length === 0) {
      const stop = at + 1 + QUESTION_TAIL;
      return stop <= end ? stop : -1;
    }
    if (length > MAX_LABEL) return -1;
    at += 1 + length;
  }
  return -1;
}

/**
 * True when the message [start, end) is an answer whose question is that of `query`, an id apart.
 *
 * Names compare without case (RFC 4343). A server that does not understand a query at all may answer FORMERR
 * with a header alone (RFC 6891 §7 speaks of such servers).
 */
export function answers(query: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start < HEADER || ((bytes[start + 2] as number) & QR) === 0) return false;
  if (end - start === HEADER) return ((bytes[start + 3] as number) & 15) === Rcode.FORMERR;
  const stop = questionEnd(bytes, start, end);
  const length = stop - start;
  if (stop < 0 || length !== questionEnd(query, 0, query.length)) return false;
  for (let i = HEADER; i < length - QUESTION_TAIL; i++) {
    if (lowerCase(bytes[start + i] as number) !== lowerCase(query[i] as number)) return false;
  }
  for (let i = length - QUESTION_TAIL; i < length; i++) {
    if (bytes[start + i] !== query[i]) return false;
  }
  return true;
}

/** True when the name asked for by a query is `name`, which is in wire form and lower case. */
export function asksFor(bytes: Uint8Array, start: number, name: Uint8Array): boolean {
  for (let i = 0; i < name.length; i++) {
    if (lowerCase(bytes[start + HEADER + i] as number) !== name[i]) return false;
  }
  return true;
}

/** The host name asked for, in lower case and one character an octet; null for one that no text can carry. */
export function questionHost(bytes: Uint8Array): string | null {
  let name = "";
  for (let at = HEADER; bytes[at] !== 0; at += 1 + (bytes[at] as number)) {
    const end = at + 1 + (bytes[at] as number);
    if (name !== "") name += ".";
    for (let i = at + 1; i < end; i++) {
      const octet = lowerCase(bytes[i] as number);
      if (!isHostOctet(octet)) return null;
      name += String.fromCharCode(octet);
    }
  }
  return name;
}

/** Letters, digits, hyphen (RFC 1123 §2.1), the underscore of custom, and octets of names in UTF-8 (RFC 2181 §11). */
function isHostOctet(octet: number): boolean {
  return (
    (octet >= 0x61 && octet <= 0x7a) ||
    (octet >= 0x30 && octet <= 0x39) ||
    octet === 0x2d ||
    octet === 0x5f ||
    octet >= 0x80
  );
}

/** QTYPE of a query. */
export function questionType(query: Uint8Array): number {
  const at = questionEnd(query, 0, query.length) - QUESTION_TAIL;
  return ((query[at] as number) << 8) | (query[at + 1] as number);
}

/** True for a standard query about the Internet: OPCODE and QCLASS are what they nearly always are. */
export function isStandard(query: Uint8Array): boolean {
  const at = questionEnd(query, 0, query.length) - 2;
  return ((query[2] as number) & OPCODE) === 0 && query[at] === 0 && query[at + 1] === CLASS_IN;
}

/** A name in wire form and lower case. */
export function wireName(name: string): Uint8Array {
  const octets: number[] = [];
  for (const label of name.toLowerCase().split(".")) {
    octets.push(label.length, ...new TextEncoder().encode(label));
  }
  octets.push(0);
  return Uint8Array.from(octets);
}

/** The name and type of a query, for a log line. */
export function questionText(bytes: Uint8Array, start: number, end: number): string {
  const stop = questionEnd(bytes, start, end) - QUESTION_TAIL;
  let text = "";
  for (let at = start + HEADER; at < stop - 1; ) {
    const length = bytes[at] as number;
    for (let i = at + 1; i <= at + length; i++) {
      const octet = bytes[i] as number;
      text += octet > 32 && octet < 127 ? String.fromCharCode(octet) : "?";
    }
    text += ".";
    at += 1 + length;
  }
  return `${text || "."} type ${((bytes[stop] as number) << 8) | (bytes[stop + 1] as number)}`;
}

/**
 * An answer without records: header and question of `query` with `rcode`; `truncated` tells the client to ask again
 * over TCP (RFC 2181 §9). Returns a new array.
 */
export function emptyAnswer(query: Uint8Array, rcode: Rcode, truncated = false): Uint8Array {
  const answer = query.slice(0, questionEnd(query, 0, query.length));
  answer[2] = QR | ((query[2] as number) & REPEATED) | (truncated ? TC : 0);
  answer[3] = RA | rcode;
  // One question, and no record in any other section.
  answer.fill(0, 6, HEADER);
  return answer;
}

/** The largest answer over UDP the sender of `query` takes (RFC 6891 §6.2.3). */
export function advertisedSize(query: Uint8Array): number {
  const packet = tryDecode(query);
  for (const record of packet?.additionals ?? []) {
    if (record.type === "OPT") return Math.max(MIN_UDP_SIZE, record.udpPayloadSize);
  }
  return MIN_UDP_SIZE;
}

/** The message, or null when the library cannot read it. */
export function tryDecode(message: Uint8Array): Packet | null {
  try {
    return dnsPacket().decode(Buffer.from(message.buffer, message.byteOffset, message.length));
  } catch {
    return null;
  }
}

function lowerCase(octet: number): number {
  return octet >= 0x41 && octet <= 0x5a ? octet | 0x20 : octet;
}
