/**
 * The handshake of an HTTP proxy: CONNECT (RFC 9110 §9.3.6) in HTTP/1.1 (RFC 9112), with Basic credentials (RFC 7617).
 *
 * Any 2xx opens, and what follows the empty line is the stream's. Another status refuses as soon as its line is there,
 * by the reply of SOCKS that says the same. The header of a reply is bounded and nothing in it is looked at.
 */

import { formatEndpoint } from "../stack/wire/address.ts";
import { Reply } from "./message.ts";
import { RequestHandshake } from "./request-handshake.ts";

/** Octets of a reply's header at most, those of interim replies included. */
export const MAX_HEADER = 16_384;
/** Octets of a status line that are looked at: "HTTP/1.1 200 ". */
const STATUS_OCTETS = 13;
/** Names that can stand in a request: reg-name of RFC 3986 §3.2.2. */
const REG_NAME = /^[\w.~!$&'()*+,;=%-]{1,255}$/;

const CR = 0x0d;
const LF = 0x0a;

export class HttpHandshake extends RequestHandshake {
  /** Of the reply's header so far. */
  #octets = 0;
  /** The line under way, without its end; of a status line the beginning, in `#start`. */
  #lineOctets = 0;
  #start = "";
  /** 0: its line is under way. */
  #status = 0;

  constructor() {
    super("HTTP CONNECT", 1);
  }

  protected writeRequest(bytes: Uint8Array, at: number): number {
    const { name, endpoint, credentials } = this;
    if (name !== null && !REG_NAME.test(name)) {
      const why = "the name has letters that no URL can have; use its ASCII form";
      this.refuse("reply", why, Reply.HOST_UNREACHABLE);
      return at;
    }
    const authority = name === null ? formatEndpoint(endpoint) : `${name}:${endpoint.port}`;
    let text = `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n`;
    if (credentials !== null) {
      const { user, password } = credentials;
      const pair = Buffer.concat([user, Buffer.from(":"), password]);
      text += `Proxy-Authorization: Basic ${pair.toString("base64")}\r\n`;
    }
    text += "\r\n";
    for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i);
    return at + text.length;
  }

  protected beginReply(): void {
    this.#octets = 0;
    this.#beginStatus();
  }

  #beginStatus(): void {
    this.#status = 0;
    this.#start = "";
    this.#lineOctets = 0;
  }

  protected readOctet(octet: number): void {
    if (++this.#octets > MAX_HEADER) {
      this.refuse("protocol", `the header of its reply has more than ${MAX_HEADER} octets`);
    } else if (octet === LF) {
      this.#endLine();
    } else if (octet !== CR) {
      if (this.#status === 0) this.#readStatus(octet);
      this.#lineOctets++;
    }
  }

  #readStatus(octet: number): void {
    if (this.#lineOctets >= STATUS_OCTETS) return;
    this.#start += String.fromCharCode(octet);
    if (!"HTTP/1.".startsWith(this.#start.slice(0, 7))) {
      this.refuseForeign(this.#start.charCodeAt(0));
    }
  }

  #endLine(): void {
    const isEmpty = this.#lineOctets === 0;
    this.#lineOctets = 0;
    if (this.#status === 0) {
      this.#status = Number(/^HTTP\/1\.\d (\d{3}) ?$/.exec(this.#start)?.[1] ?? 0);
      if (this.#status < 100)
        this.refuse("protocol", "its reply has no status; is it a web proxy?");
      else if (this.#status >= 300) this.#refuseBy(this.#status);
    } else if (isEmpty && this.#status >= 200) {
      this.grant();
    } else if (isEmpty) {
      // An interim reply (RFC 9110 §15.2): the final one follows.
      this.#beginStatus();
    }
  }

  #refuseBy(status: number): void {
    const said = STATUS_NAMES.get(status);
    const what = `it refused: ${said === undefined ? "status" : said} (${status})`;
    if (status === 407 || status === 401) {
      const advice =
        this.credentials === null
          ? "give credentials, http://user:password@host:port"
          : "check user and password; we offer Basic";
      this.refuse("auth", `${what}; ${advice}`);
    } else {
      this.refuse("reply", what, REPLIES.get(status) ?? Reply.GENERAL_FAILURE);
    }
  }
}

/** RFC 9110 §15, where a proxy says it of a CONNECT. */
const STATUS_NAMES: ReadonlyMap<number, string> = new Map([
  [400, "bad request"],
  [401, "unauthorized"],
  [403, "forbidden"],
  [404, "not found"],
  [405, "method not allowed"],
  [407, "proxy authentication required"],
  [429, "too many requests"],
  [500, "internal server error"],
  [501, "not implemented"],
  [502, "bad gateway"],
  [503, "service unavailable"],
  [504, "gateway timeout"],
]);

/** REP of RFC 1928 §6 that says the same. */
const REPLIES: ReadonlyMap<number, number> = new Map([
  [403, Reply.NOT_ALLOWED],
  [404, Reply.HOST_UNREACHABLE],
  [405, Reply.COMMAND_NOT_SUPPORTED],
  [501, Reply.COMMAND_NOT_SUPPORTED],
  [502, Reply.HOST_UNREACHABLE],
  [503, Reply.NETWORK_UNREACHABLE],
  [504, Reply.HOST_UNREACHABLE],
]);
