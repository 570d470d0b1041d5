/**
 * The client's side of the GSSAPI method (RFC 1961) on one connection, without input and output: method negotiation
 * (RFC 1928 §3), the security context, the level of protection, then the octets of SOCKS and of its stream.
 *
 * Octets may arrive in any split. Between the server's token and our next one the library is waited for (it may ask a
 * KDC); what arrives meanwhile is held, at most {@link MAX_HELD}. Every message leaves whole, one at a time.
 *
 * GSSAPI is the only method offered: whoever asks for it wants the proxy to prove who it is, and no other method does.
 * A level below the one asked for is refused. After the agreement everything is wrapped, SOCKS's request and reply
 * too; at "clear", which the RFC does not know and Dante and curl do, nothing is.
 */

import { GSS_LEVELS, type GssContext, type GssLevelName, type GssOptions } from "./gss-context.ts";
import {
  GSS_HEADER,
  GSS_VERSION,
  GssMessage,
  GssReader,
  gssMessage,
  gssToken,
  MAX_GSS_TOKEN,
} from "./gss-frames.ts";
import { Method, methodName, VERSION, writeGreeting } from "./message.ts";
import type { Refusal } from "./ports.ts";
import { SocksRefusal } from "./refusal.ts";

/** Octets of a message before it is wrapped, of a stream. */
export const MAX_GSS_CHUNK = 32_768;
/** Octets held while the library works: no server sends more than one message unasked. */
export const MAX_HELD: number = GSS_HEADER + MAX_GSS_TOKEN;
/** Tokens of the server until the context must stand. Kerberos needs one. */
export const MAX_ROUNDS = 8;

export interface GssChannelHandler {
  /** Octets for the server. */
  onSend(bytes: Uint8Array): void;
  /** Context and level stand: octets may be sealed, and follow. */
  onOpen(): void;
  /** Octets from the server, unwrapped; the handler's own from now on unless the level is "clear". */
  onOctets(bytes: Uint8Array): void;
  /** It cannot go on. Last call. */
  onFailed(refusal: Refusal): void;
}

const Phase = { METHOD: 0, CONTEXT: 1, LEVEL: 2, OPEN: 3, OVER: 4 } as const;
type Phase = (typeof Phase)[keyof typeof Phase];

const EMPTY = new Uint8Array(0);

export class GssChannel {
  readonly #context: GssContext;
  readonly #options: GssOptions;
  readonly #label: string;
  readonly #handler: GssChannelHandler;
  readonly #reader = new GssReader();
  #phase: Phase = Phase.METHOD;
  /** The library has the server's token. */
  #working = false;
  #rounds = 0;
  /** First octet of the method's choice, -1: not yet there. */
  #version = -1;
  #held: Uint8Array = EMPTY;
  /** The level agreed on. */
  #level = 0;

  /** `label` names the proxy in refusals. The channel closes the context. */
  constructor(context: GssContext, options: GssOptions, label: string, handler: GssChannelHandler) {
    this.#context = context;
    this.#options = options;
    this.#label = label;
    this.#handler = handler;
  }

  /** Open: the level that was agreed on. */
  get level(): GssLevelName | null {
    return this.#phase === Phase.OPEN ? (GSS_LEVELS[this.#level] as GssLevelName) : null;
  }

  /** The connection stands. */
  start(): void {
    const greeting = new Uint8Array(3);
    writeGreeting(greeting, 0, [Method.GSSAPI]);
    this.#handler.onSend(greeting);
  }

  /** Idempotent. Nothing is told any more. */
  close(): void {
    this.#phase = Phase.OVER;
    this.#held = EMPTY;
    this.#context.close();
  }

  // ---- from the server -----------------------------------------------------------------------------------------

  /** Octets as they come; the memory is the caller's again when this returns. */
  receive(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length && this.#phase !== Phase.OVER) {
      if (this.#working) {
        this.#hold(bytes.subarray(at));
        return;
      }
      if (this.#phase === Phase.METHOD) this.#readMethod(bytes[at++] as number);
      else if (this.#phase === Phase.OPEN && this.#level === 0) {
        this.#handler.onOctets(bytes.subarray(at));
        return;
      } else {
        at = this.#reader.read(bytes, at, bytes.length);
        this.#readMessage();
      }
    }
  }

  /** The server has ended its stream. False: in the middle of something, and the channel has failed. */
  end(): boolean {
    if (this.#phase === Phase.OVER) return false;
    if (this.#phase === Phase.OPEN) {
      if (this.#reader.isBetween) return true;
      this.#fail("protocol", "it closed the connection in the middle of a GSSAPI message");
    } else if (this.#phase === Phase.METHOD) {
      this.#fail("protocol", "it closed the connection; is it a SOCKS5 server?");
    } else if (this.#phase === Phase.CONTEXT) {
      this.#fail("auth", `it closed the connection instead of a GSSAPI token; ${CHECK_SERVICE}`);
    } else {
      const why = `it closed the connection instead of agreeing to ${this.#options.level}`;
      this.#fail("auth", `${why}; ask for another level (?gssapi=LEVEL), or try ?nec`);
    }
    return false;
  }

  #hold(bytes: Uint8Array): void {
    if (this.#held.length + bytes.length > MAX_HELD) {
      this.#fail("protocol", "it sends more than one GSSAPI message unasked");
      return;
    }
    const held = new Uint8Array(this.#held.length + bytes.length);
    held.set(this.#held);
    held.set(bytes, this.#held.length);
    this.#held = held;
  }

  #readMethod(octet: number): void {
    if (this.#version < 0) {
      this.#version = octet;
      if (octet !== VERSION) {
        this.#fail(
          "protocol",
          `it does not answer in SOCKS5 (first octet ${octet}); check the port`,
        );
      }
    } else if (octet === Method.GSSAPI) {
      this.#phase = Phase.CONTEXT;
      void this.#step(null);
    } else {
      const advice = "leave out ?gssapi, or enable GSSAPI on it";
      const isAuth = octet === Method.UNACCEPTABLE;
      const why = isAuth
        ? "it accepts no method that we offer (GSSAPI)"
        : `it chose ${methodName(octet)}, we offer GSSAPI`;
      this.#fail(isAuth ? "auth" : "protocol", `${why}; ${advice}`);
    }
  }

  #readMessage(): void {
    const reader = this.#reader;
    if (reader.version !== GSS_VERSION) {
      this.#fail("protocol", `its GSSAPI message has an unknown version (${reader.version})`);
      return;
    }
    if (reader.type < 0) return;
    if (reader.type === GssMessage.ABORT) {
      this.#fail("auth", `it refused us (GSSAPI abort); ${CHECK_SERVICE}`);
      return;
    }
    if (reader.type !== EXPECTED[this.#phase]) {
      this.#fail("protocol", `its GSSAPI message has an unexpected type (${reader.type})`);
      return;
    }
    if (!reader.isWhole) return;
    const { token } = reader;
    reader.next();
    if (this.#phase === Phase.CONTEXT) void this.#step(token);
    else if (this.#phase === Phase.LEVEL) this.#readLevel(token);
    else this.#readOctets(token);
  }

  #readOctets(token: Uint8Array): void {
    const octets = this.#unwrap(token);
    if (octets === null) this.#fail("protocol", NOT_GENUINE);
    else if (octets.length > 0) this.#handler.onOctets(octets);
  }

  // ---- the context ---------------------------------------------------------------------------------------------

  /** Never rejects. */
  async #step(token: Uint8Array | null): Promise<void> {
    if (token !== null && ++this.#rounds > MAX_ROUNDS) {
      this.#fail("protocol", `it goes on after ${MAX_ROUNDS} GSSAPI tokens`);
      return;
    }
    this.#working = true;
    let answer: Uint8Array | null;
    try {
      answer = await this.#context.step(token);
    } catch (error) {
      this.#fail("auth", `GSSAPI failed: ${(error as Error).message}; ${CHECK_TICKET}`);
      return;
    }
    this.#working = false;
    if (this.#phase !== Phase.CONTEXT) return;
    if (answer !== null && answer.length > MAX_GSS_TOKEN) {
      this.#fail("auth", "our GSSAPI token is longer than 65535 octets; use a smaller ticket");
      return;
    }
    if (answer !== null) this.#handler.onSend(gssMessage(GssMessage.TOKEN, answer));
    if (this.#context.isComplete) this.#askLevel();
    const held = this.#held;
    this.#held = EMPTY;
    this.receive(held);
  }

  #askLevel(): void {
    const { level, nec } = this.#options;
    if (level === "confidentiality" && !this.#context.isConfidential) {
      const advice = "ask for ?gssapi=integrity";
      this.#fail("auth", `the GSSAPI context with it cannot encrypt; ${advice}`);
      return;
    }
    this.#phase = Phase.LEVEL;
    const octet = Uint8Array.of(GSS_LEVELS.indexOf(level));
    // RFC 1961 §4.3: wrapped without encryption, since the level is not known yet.
    const token = nec ? octet : this.#wrap(octet, false);
    if (token !== null) this.#handler.onSend(gssMessage(GssMessage.LEVEL, token));
  }

  #readLevel(token: Uint8Array): void {
    const { level, nec } = this.#options;
    const message = nec ? token : this.#context.unwrap(token, false);
    if (message === null) {
      this.#fail("protocol", "its level of protection is not genuine; is it NEC's variant (?nec)?");
      return;
    }
    const chosen = message.length === 1 ? (message[0] as number) : -1;
    const name = GSS_LEVELS[chosen];
    if (name === undefined) {
      this.#fail("protocol", "it chose a level of protection that we do not know");
    } else if (chosen < GSS_LEVELS.indexOf(level)) {
      this.#fail("auth", `it agrees to ${name} only, not to ${level}; ask for ?gssapi=${name}`);
    } else if (name === "confidentiality" && !this.#context.isConfidential) {
      this.#fail("auth", "it wants confidentiality, and the GSSAPI context with it cannot encrypt");
    } else {
      this.#level = chosen;
      this.#phase = Phase.OPEN;
      this.#handler.onOpen();
    }
  }

  // ---- per message (RFC 1961 §5) ---------------------------------------------------------------------------------

  /** Open: octets as they travel, in messages of their own; null: it failed. At "clear" the same memory. */
  seal(bytes: Uint8Array): readonly Uint8Array[] | null {
    if (this.#level === 0) return [bytes];
    const messages: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += MAX_GSS_CHUNK) {
      // The other half of what fits is far more than any mechanism adds.
      const token = this.#wrap(bytes.subarray(at, at + MAX_GSS_CHUNK), this.#level === 2);
      if (token === null) return null;
      messages.push(gssMessage(GssMessage.DATA, token));
    }
    return messages;
  }

  /** Open, not "clear": a datagram as it travels; null: it is too long, or wrapping failed, which was told. */
  sealDatagram(bytes: Uint8Array): Uint8Array | null {
    if (this.#phase !== Phase.OPEN) return null;
    const token = this.#wrap(bytes, this.#level === 2);
    const fits = token !== null && token.length <= MAX_GSS_TOKEN;
    return fits ? gssMessage(GssMessage.DATA, token) : null;
  }

  /** Open, not "clear": the datagram that travelled as [start, end); null: it is none, and the channel goes on. */
  openDatagram(bytes: Uint8Array, start: number, end: number): Uint8Array | null {
    if (this.#phase !== Phase.OPEN) return null;
    const token = gssToken(bytes, start, end, GssMessage.DATA);
    return token === null ? null : this.#unwrap(token);
  }

  #unwrap(token: Uint8Array): Uint8Array | null {
    return this.#context.unwrap(token, this.#level === 2);
  }

  /** Null: it failed, and that was told. */
  #wrap(message: Uint8Array, isConfidential: boolean): Uint8Array | null {
    try {
      return this.#context.wrap(message, isConfidential);
    } catch (error) {
      this.#fail("auth", `GSSAPI cannot wrap: ${(error as Error).message}; ${CHECK_TICKET}`);
      return null;
    }
  }

  #fail(kind: Refusal["kind"], why: string): void {
    if (this.#phase === Phase.OVER) return;
    this.close();
    this.#handler.onFailed(new SocksRefusal(kind, this.#label, why));
  }
}

/** MTYP by phase. */
const EXPECTED: readonly number[] = [0, GssMessage.TOKEN, GssMessage.LEVEL, GssMessage.DATA, 0];

const CHECK_SERVICE =
  "check the service name (?service=) and that it knows your realm; does klist show a ticket for it?";
const CHECK_TICKET = "see klist, kinit and the service name (?service=)";
const NOT_GENUINE = "a GSSAPI message of it is not genuine: changed, replayed or not encrypted";
