/**
 * The client's side of SOCKS6 (draft-olteanu-intarea-socks-6-11): one request with the credentials in it, then an
 * authentication reply and an operation reply, which may come together. So a stream costs one round trip behind that of
 * TCP, with a password too.
 *
 * No method is advertised, so that a negotiation is guaranteed not to happen (§11); application data leaves when the
 * operation reply has come, as with every proxy here: programs are not told of a connection that may be refused.
 */

import { Endpoint } from "../stack/wire/address.ts";
import { Command, Method, methodName, Reply, replyName, VERSION } from "./message.ts";
import type { Refusal } from "./ports.ts";
import { type Credentials, NO_COMMAND, type ProxyHandshake } from "./proxy-handshake.ts";
import { SocksRefusal } from "./refusal.ts";
import {
  ATTEMPT_TIMED_OUT,
  AuthType,
  areOptions,
  authReplyNeed,
  codeOf,
  messageNeed6,
  NOOP,
  optionsOf,
  readAddress6,
  readName6,
  selectedMethod,
  VERSION_6,
  writeRequest6,
} from "./socks6-message.ts";

const Step = { REQUEST: 0, AUTH_REPLY: 1, REPLY: 2, GRANTED: 3, REFUSED: 4 } as const;
type Step = (typeof Step)[keyof typeof Step];

/** Octets of a reply that are kept for at first; options may need more. */
const USUAL_REPLY = 512;

export class Socks6Handshake implements ProxyHandshake {
  need = 0;
  refusal: Refusal | null = null;
  readonly bound: Endpoint = new Endpoint();
  boundName: string | null = null;
  #step: Step = Step.REQUEST;
  #label = "";
  #credentials: Credentials | null = null;
  #command: number = NO_COMMAND;
  #name: string | null = null;
  readonly #endpoint = new Endpoint();
  #message = new Uint8Array(USUAL_REPLY);
  /** Octets of the message being read. */
  #length = 0;

  /** `ahead` says nothing: there is one message. */
  begin(
    label: string,
    credentials: Credentials | null,
    command: number,
    name: string | null,
    endpoint: Endpoint,
  ): void {
    this.#label = label;
    this.#credentials = credentials;
    this.#command = command;
    this.#name = name;
    this.#endpoint.copy(endpoint);
    if (command === NO_COMMAND) this.#endpoint.set(0, 0, 0xffff, 0, 0);
    this.boundName = null;
    this.refusal = null;
    if (this.#message.length > USUAL_REPLY) this.#message = new Uint8Array(USUAL_REPLY);
    this.#length = 0;
    this.need = 0;
    this.#step = Step.REQUEST;
  }

  get granted(): boolean {
    return this.#step === Step.GRANTED;
  }

  get awaitsReply(): boolean {
    return this.#step === Step.AUTH_REPLY || this.#step === Step.REPLY;
  }

  get awaitsDestination(): boolean {
    return this.#step === Step.REPLY && this.#command === Command.CONNECT;
  }

  get awaited(): string {
    return "to the request";
  }

  write(bytes: Uint8Array, at: number): number {
    if (this.#step !== Step.REQUEST) return at;
    const command = this.#command === NO_COMMAND ? NOOP : this.#command;
    const user = this.#credentials?.user ?? null;
    const password = this.#credentials?.password ?? null;
    const end = writeRequest6(bytes, at, command, this.#name, this.#endpoint, user, password);
    if (end >= 0) return end;
    // No such name can exist: DNS ends at 255 octets, too.
    this.#refuse("reply", "the name is longer than 255 octets", Reply.HOST_UNREACHABLE);
    return at;
  }

  written(): void {
    if (this.#step === Step.REQUEST) this.#await(Step.AUTH_REPLY);
  }

  read(bytes: Uint8Array, start: number, end: number): number {
    let next = start;
    while (next < end && this.need > 0) {
      const stop = Math.min(end, next + this.need);
      this.#keep(bytes.subarray(next, stop));
      next = stop;
      this.need = 0;
      if (this.#message[0] !== VERSION_6) {
        this.#refuse("protocol", wrongVersion(this.#message[0] as number));
      } else if (this.#step === Step.AUTH_REPLY) {
        this.#readAuthReply();
      } else {
        this.#readReply();
      }
    }
    return next - start;
  }

  /** Behind a successful authentication it is this destination's failure, said rudely, as in SOCKS5. */
  end(): void {
    if (this.#step >= Step.GRANTED) return;
    if (this.#step === Step.REPLY && this.#command === Command.CONNECT) {
      this.#refuse("reply", "it closed the connection instead of a reply", Reply.GENERAL_FAILURE);
    } else if (this.#length === 1) {
      // One octet is the version mismatch reply of §5.
      this.#refuse("protocol", "it speaks another SOCKS6 than ours; update one of them");
    } else {
      this.#refuse("protocol", "it closed the connection; is it a SOCKS6 server?");
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
    this.need =
      step === Step.AUTH_REPLY ? authReplyNeed(NOTHING, 0, 0) : messageNeed6(NOTHING, 0, 0);
  }

  #keep(octets: Uint8Array): void {
    const length = this.#length + octets.length;
    if (length > this.#message.length) {
      const larger = new Uint8Array(Math.max(length, 2 * this.#message.length));
      larger.set(this.#message.subarray(0, this.#length));
      this.#message = larger;
    }
    this.#message.set(octets, this.#length);
    this.#length = length;
  }

  #readAuthReply(): void {
    const message = this.#message;
    const length = this.#length;
    const whole = authReplyNeed(message, 0, length);
    if (whole > length) {
      this.need = whole - length;
    } else if (whole < 0 || !areOptions(message, 4, length)) {
      this.#refuse("protocol", "the options of its authentication reply are none");
    } else if (codeOf(message, 0) === AuthType.SUCCESSFUL) {
      this.#await(Step.REPLY);
    } else {
      this.#refuse("auth", this.#whyNot(selectedMethod(message, 0, length)));
    }
  }

  /** `method`: the one that it would go on with, -1 for none. */
  #whyNot(method: number): string {
    if (this.#credentials !== null) return "it refused user and password; check them";
    const wants = method < 0 || method === Method.UNACCEPTABLE ? "credentials" : methodName(method);
    return `it wants ${wants}; give them, socks6://user:password@host:port`;
  }

  #readReply(): void {
    const message = this.#message;
    const length = this.#length;
    const whole = messageNeed6(message, 0, length);
    if (whole > length) {
      this.need = whole - length;
      return;
    }
    if (whole < 0 || !areOptions(message, optionsOf(message, 0, length), length)) {
      this.#refuse("protocol", "its operation reply has an unknown address type, or bad options");
      return;
    }
    const code = codeOf(message, 0);
    if (code === ATTEMPT_TIMED_OUT) {
      this.#refuse("timeout", "it refused: the connection attempt timed out (09)");
    } else if (code !== Reply.SUCCEEDED) {
      this.#refuse("reply", `it refused: ${replyName(code)}`, code);
    } else {
      readAddress6(message, 0, this.bound);
      this.boundName = readName6(message, 0);
      this.#step = Step.GRANTED;
    }
  }

  #refuse(kind: Refusal["kind"], why: string, reply = 0): void {
    this.fail(new SocksRefusal(kind, this.#label, why, reply));
  }
}

const NOTHING = new Uint8Array(0);

/** What a server probably is that begins its answer with `octet`. */
function wrongVersion(octet: number): string {
  if (octet === VERSION) return "it answers in SOCKS5, not in SOCKS6; use socks5://";
  if (octet === 0x00 || octet === 0x04) return "it answers in SOCKS4, not in SOCKS6";
  if (octet === 0x48) return "it answers in HTTP, not in SOCKS6; check the port";
  return `it does not answer in SOCKS6 (first octet ${octet}); check the port`;
}
