/**
 * The handshake of SOCKS4 and SOCKS4a, by their memos: "SOCKS: A protocol for TCP proxy across firewalls" (Ying-Da Lee,
 * NEC) and "SOCKS 4A: A Simple Extension to SOCKS 4 Protocol". One request, one reply of eight octets; IPv4 only; the
 * user's name goes along unproved.
 */

import { Reply } from "./message.ts";
import { RequestHandshake } from "./request-handshake.ts";

/** VN of requests. */
const VERSION = 4;
/** Octets of a reply: VN, CD, DSTPORT, DSTIP. */
const REPLY_OCTETS = 8;
/** Octets of a name at most: DNS ends there, the memo knows no bound. */
const MAX_NAME = 255;

/** CD of replies. */
const Code = { GRANTED: 90, REJECTED: 91, NO_IDENTD: 92, OTHER_USER: 93 } as const;

const encoder = new TextEncoder();

export class Socks4Handshake extends RequestHandshake {
  /** SOCKS4a. */
  readonly #sendsNames: boolean;
  readonly #reply = new Uint8Array(REPLY_OCTETS);
  #length = 0;

  constructor(sendsNames: boolean) {
    super(sendsNames ? "SOCKS4a" : "SOCKS4", REPLY_OCTETS);
    this.#sendsNames = sendsNames;
  }

  protected writeRequest(bytes: Uint8Array, at: number): number {
    const { name, endpoint, credentials } = this;
    // Nobody in particular is zeros in either family.
    if (name === null && !endpoint.isV4 && !endpoint.isUnspecified) {
      this.refuse(
        "reply",
        "SOCKS4 has no IPv6; use a SOCKS5 proxy for it",
        Reply.ADDRESS_TYPE_NOT_SUPPORTED,
      );
      return at;
    }
    if (name !== null && !this.#sendsNames) {
      const why = "SOCKS4 takes no names; use socks4a:// or leave out --dns fake";
      this.refuse("reply", why, Reply.ADDRESS_TYPE_NOT_SUPPORTED);
      return at;
    }
    const octets = name === null ? null : encoder.encode(name);
    if (
      octets !== null &&
      (octets.length === 0 || octets.length > MAX_NAME || octets.includes(0))
    ) {
      // No such name can exist.
      this.refuse("reply", "the name is empty, too long or has a NUL", Reply.HOST_UNREACHABLE);
      return at;
    }
    bytes[at] = VERSION;
    bytes[at + 1] = this.command;
    bytes[at + 2] = endpoint.port >>> 8;
    bytes[at + 3] = endpoint.port;
    // 4A: an address 0.0.0.x, x not 0, says that a name follows.
    const address = octets === null ? endpoint.w3 : 1;
    bytes[at + 4] = address >>> 24;
    bytes[at + 5] = address >>> 16;
    bytes[at + 6] = address >>> 8;
    bytes[at + 7] = address;
    const next = writeText(bytes, at + 8, credentials?.user ?? NOTHING);
    return octets === null ? next : writeText(bytes, next, octets);
  }

  protected beginReply(): void {
    this.#length = 0;
  }

  protected readOctet(octet: number): void {
    const reply = this.#reply;
    reply[this.#length++] = octet;
    this.need = REPLY_OCTETS - this.#length;
    // VN of a reply is 0; servers that put the protocol's number there exist.
    if (this.#length === 1 && octet !== 0 && octet !== VERSION) this.refuseForeign(octet);
    else if (this.#length === 2 && octet !== Code.GRANTED) this.#refuseBy(octet);
    else if (this.need === 0) {
      const address = ((octetAt(reply, 4) << 8) | octetAt(reply, 5)) << 16;
      const low = (octetAt(reply, 6) << 8) | octetAt(reply, 7);
      const port = (octetAt(reply, 2) << 8) | octetAt(reply, 3);
      this.bound.set(0, 0, 0xffff, address | low, port);
      this.grant();
    }
  }

  #refuseBy(code: number): void {
    if (code === Code.NO_IDENTD) {
      this.refuse(
        "auth",
        `it cannot reach identd on this host (${code}); run one, or check its rules`,
      );
    } else if (code === Code.OTHER_USER) {
      this.refuse("auth", `identd names another user than the proxy URL (${code}); check the user`);
    } else {
      const why = code === Code.REJECTED ? "rejected or failed" : "unknown reply";
      this.refuse("reply", `it refused: ${why} (${code})`, Reply.GENERAL_FAILURE);
    }
  }
}

const NOTHING = new Uint8Array(0);

function writeText(bytes: Uint8Array, at: number, text: Uint8Array): number {
  bytes.set(text, at);
  bytes[at + text.length] = 0;
  return at + text.length + 1;
}

function octetAt(bytes: Uint8Array, at: number): number {
  return bytes[at] as number;
}
