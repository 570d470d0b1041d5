/**
 * The handshake of SOCKS5 (RFC 1928 §3, §4, §6; RFC 1929).
 *
 * Every message is written whole, one at a time: some servers take each recv(2) for one message. `ahead`: all of them
 * in one write, for servers known to read message after message.
 *
 * Methods offered are exactly those we can do: "user and password" with credentials, "none" without. So there is one
 * answer that goes on, and speaking ahead guesses nothing but that the server will have us.
 */

import { Endpoint } from "../stack/wire/address.ts";
import {
  Command,
  MAX_TEXT,
  Method,
  methodName,
  PASSWORD_VERSION,
  Reply,
  readAddress,
  readName,
  replyName,
  requestNeed,
  VERSION,
  writeCredentials,
  writeGreeting,
  writeRequest,
} from "./message.ts";
import type { Refusal } from "./ports.ts";
import { type Credentials, NO_COMMAND, type ProxyHandshake } from "./proxy-handshake.ts";
import { SocksRefusal } from "./refusal.ts";

const Step = {
  GREETING: 0,
  METHOD: 1,
  CREDENTIALS: 2,
  STATUS: 3,
  REQUEST: 4,
  REPLY: 5,
  GRANTED: 6,
  REFUSED: 7,
} as const;
type Step = (typeof Step)[keyof typeof Step];

/** The shortest reply that grants: an empty name (RFC 1928 has none, servers do). */
const MIN_REPLY = 7;
const MAX_REPLY: number = 3 + 1 + 1 + MAX_TEXT + 2;

export class Handshake implements ProxyHandshake {
  need = 0;
  refusal: Refusal | null = null;
  /** BND.ADDR and BND.PORT. */
  readonly bound: Endpoint = new Endpoint();
  boundName: string | null = null;
  #step: Step = Step.GREETING;
  #label = "";
  #credentials: Credentials | null = null;
  #command: number = NO_COMMAND;
  #name: string | null = null;
  #ahead = false;
  readonly #endpoint = new Endpoint();
  /** The connection below has negotiated the method already (RFC 1961): the request comes first. */
  readonly #isAuthenticated: boolean;
  readonly #message = new Uint8Array(MAX_REPLY);
  /** Octets of the message being read. */
  #length = 0;

  constructor(isAuthenticated = false) {
    this.#isAuthenticated = isAuthenticated;
  }

  /** Credentials have at most 255 octets each (RFC 1929 §2). */
  begin(
    label: string,
    credentials: Credentials | null,
    command: number,
    name: string | null,
    endpoint: Endpoint,
    ahead = false,
  ): void {
    this.#ahead = ahead && command !== NO_COMMAND;
    this.#label = label;
    this.#credentials = credentials;
    this.#command = command;
    this.#name = name;
    this.#endpoint.copy(endpoint);
    this.boundName = null;
    this.refusal = null;
    this.#length = 0;
    this.need = 0;
    if (this.#isAuthenticated) this.#authenticated();
    else this.#step = Step.GREETING;
  }

  get granted(): boolean {
    return this.#step === Step.GRANTED;
  }

  get awaitsReply(): boolean {
    return this.#step === Step.REPLY;
  }

  get awaitsDestination(): boolean {
    return this.awaitsReply && this.#command === Command.CONNECT;
  }

  get awaited(): string {
    return this.awaitsReply ? "to the request" : "to the negotiation";
  }

  write(bytes: Uint8Array, at: number): number {
    switch (this.#step) {
      case Step.GREETING:
        return this.#writeGreeting(bytes, at);
      case Step.CREDENTIALS:
        return this.#writeCredentials(bytes, at);
      case Step.REQUEST: {
        const end = writeRequest(bytes, at, this.#command, this.#name, this.#endpoint);
        if (end >= 0) return end;
        // No such name can exist: DNS ends at 255 octets, too.
        this.#refuse("reply", "the name is longer than 255 octets", Reply.HOST_UNREACHABLE);
        return at;
      }
      default:
        return at;
    }
  }

  #writeGreeting(bytes: Uint8Array, at: number): number {
    const credentials = this.#credentials;
    const end = writeGreeting(bytes, at, credentials === null ? OFFER_NONE : OFFER_PASSWORD);
    if (!this.#ahead) return end;
    const authenticated = credentials === null ? end : this.#writeCredentials(bytes, end);
    const whole = writeRequest(bytes, authenticated, this.#command, this.#name, this.#endpoint);
    if (whole >= 0) return whole;
    // The request will say so when its turn comes.
    this.#ahead = false;
    return end;
  }

  #writeCredentials(bytes: Uint8Array, at: number): number {
    const { user, password } = this.#credentials as Credentials;
    return writeCredentials(bytes, at, user, password);
  }

  written(): void {
    if (this.#step === Step.GREETING) this.#await(Step.METHOD);
    else if (this.#step === Step.CREDENTIALS) this.#await(Step.STATUS);
    else if (this.#step === Step.REQUEST) this.#await(Step.REPLY);
  }

  read(bytes: Uint8Array, start: number, end: number): number {
    let next = start;
    while (next < end && this.need > 0) {
      const stop = Math.min(end, next + this.need);
      while (next < stop) this.#message[this.#length++] = bytes[next++] as number;
      this.need = 0;
      if (this.#step === Step.REPLY) this.#readReply();
      else this.#readPair();
    }
    return next - start;
  }

  /**
   * After a CONNECT that is this destination's failure, said rudely: the server has proved to speak SOCKS5. After an
   * ASSOCIATE it is how OpenSSH says that it has no UDP, and after credentials how some say that they are wrong.
   */
  end(): void {
    if (this.#step >= Step.GRANTED) return;
    if (this.#step === Step.REPLY && this.#command === Command.CONNECT) {
      this.#refuse("reply", "it closed the connection instead of a reply", Reply.GENERAL_FAILURE);
    } else if (this.#step === Step.REPLY) {
      const what = this.#command === Command.BIND ? "BIND" : "UDP";
      const why = `it closed the connection instead of a reply; does it do ${what}?`;
      this.#refuse("reply", why, Reply.COMMAND_NOT_SUPPORTED);
    } else if (this.#step === Step.STATUS) {
      this.#refuse(
        "auth",
        "it closed the connection after the credentials; check user and password",
      );
    } else {
      this.#refuse("protocol", "it closed the connection; is it a SOCKS5 server?");
    }
  }

  fail(refusal: Refusal): void {
    this.#step = Step.REFUSED;
    this.need = 0;
    this.refusal = refusal;
  }

  #await(step: Step): void {
    this.#step = step;
    this.#length = 0;
    this.need = step === Step.REPLY ? MIN_REPLY : 2;
  }

  /** The answers of two octets. */
  #readPair(): void {
    const message = this.#message;
    const version = message[0] as number;
    const inStatus = this.#step === Step.STATUS;
    // Servers that put SOCKS5's version into RFC 1929's status are common.
    if (version !== VERSION && !(inStatus && version === PASSWORD_VERSION)) {
      this.#refuse("protocol", wrongVersion(version));
    } else if (this.#length < 2) {
      this.need = 2 - this.#length;
    } else if (inStatus) {
      this.#readStatus(message[1] as number);
    } else {
      this.#readMethod(message[1] as number);
    }
  }

  #readMethod(method: number): void {
    const offered = this.#credentials === null ? Method.NONE : Method.PASSWORD;
    if (method === offered) {
      if (method !== Method.PASSWORD) this.#authenticated();
      else if (this.#ahead) this.#await(Step.STATUS);
      else this.#step = Step.CREDENTIALS;
      return;
    }
    const advice =
      this.#credentials === null
        ? "give credentials, socks5://user:password@host:port"
        : "try the proxy URL without credentials";
    const offer = methodName(offered);
    if (method === Method.UNACCEPTABLE) {
      this.#refuse("auth", `it accepts no method that we offer (${offer}); ${advice}`);
    } else if (method === Method.PASSWORD || method === Method.GSSAPI) {
      this.#refuse("auth", `it wants ${methodName(method)}, we offer ${offer}; ${advice}`);
    } else {
      this.#refuse("protocol", `it chose ${methodName(method)}, we offer ${offer}; ${advice}`);
    }
  }

  #readStatus(status: number): void {
    if (status === 0) this.#authenticated();
    else this.#refuse("auth", "it refused user and password; check them");
  }

  #authenticated(): void {
    if (this.#ahead) this.#await(Step.REPLY);
    else this.#step = this.#command === NO_COMMAND ? Step.GRANTED : Step.REQUEST;
  }

  #readReply(): void {
    const message = this.#message;
    const length = this.#length;
    if (message[0] !== VERSION) {
      this.#refuse("protocol", wrongVersion(message[0] as number));
      return;
    }
    // A refusal may end here, or after an ATYP of zero: nothing behind REP is waited for.
    const reply = message[1] as number;
    if (length >= 2 && reply !== Reply.SUCCEEDED) {
      this.#refuse("reply", `it refused: ${replyName(reply)}`, reply);
      return;
    }
    const whole = requestNeed(message, 0, length);
    if (whole < 0) {
      this.#refuse("protocol", `its reply has an unknown address type (${message[3]})`);
      return;
    }
    this.need = Math.max(MIN_REPLY, whole) - length;
    if (this.need > 0) return;
    readAddress(message, 3, length, this.bound);
    this.boundName = readName(message, 3);
    this.#step = Step.GRANTED;
  }

  #refuse(kind: Refusal["kind"], why: string, reply = 0): void {
    this.fail(new SocksRefusal(kind, this.#label, why, reply));
  }
}

const OFFER_NONE: readonly number[] = [Method.NONE];
const OFFER_PASSWORD: readonly number[] = [Method.PASSWORD];

/** What a server probably is that begins its answer with `octet`. */
function wrongVersion(octet: number): string {
  if (octet === 0x48) return "it answers in HTTP, not in SOCKS5; check the port";
  if (octet === 0x00 || octet === 0x04) return "it answers in SOCKS4, not in SOCKS5";
  if (octet === 0x15 || octet === 0x16) return "it answers in TLS, not in plain SOCKS5";
  return `it does not answer in SOCKS5 (first octet ${octet}); check the port`;
}
