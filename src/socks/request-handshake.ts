/** What protocols of one request and one reply have in common: everything but their messages. */

import { Endpoint } from "../stack/wire/address.ts";
import { Command } from "./message.ts";
import type { Refusal } from "./ports.ts";
import { type Credentials, NO_COMMAND, type ProxyHandshake } from "./proxy-handshake.ts";
import { SocksRefusal } from "./refusal.ts";

const Step = { REQUEST: 0, REPLY: 1, GRANTED: 2, REFUSED: 3 } as const;
type Step = (typeof Step)[keyof typeof Step];

export abstract class RequestHandshake implements ProxyHandshake {
  need = 0;
  refusal: Refusal | null = null;
  readonly bound: Endpoint = new Endpoint();
  readonly boundName = null;
  protected credentials: Credentials | null = null;
  protected command: number = NO_COMMAND;
  protected name: string | null = null;
  protected readonly endpoint: Endpoint = new Endpoint();
  /** Octets that surely begin a reply. */
  readonly #replyNeed: number;
  /** For messages: what the server should be. */
  readonly #protocol: string;
  #step: Step = Step.REQUEST;
  #label = "";

  constructor(protocol: string, replyNeed: number) {
    this.#protocol = protocol;
    this.#replyNeed = replyNeed;
  }

  /** There is no negotiation: without a command it has nothing to say, and is granted at once. */
  begin(
    label: string,
    credentials: Credentials | null,
    command: number,
    name: string | null,
    endpoint: Endpoint,
  ): void {
    this.#label = label;
    this.credentials = credentials;
    this.command = command;
    this.name = name;
    this.endpoint.copy(endpoint);
    this.bound.set(0, 0, 0, 0, 0);
    this.refusal = null;
    this.need = 0;
    this.#step = command === NO_COMMAND ? Step.GRANTED : Step.REQUEST;
  }

  get granted(): boolean {
    return this.#step === Step.GRANTED;
  }

  get awaitsReply(): boolean {
    return this.#step === Step.REPLY;
  }

  get awaitsDestination(): boolean {
    return this.awaitsReply && this.command === Command.CONNECT;
  }

  get awaited(): string {
    return "to the request";
  }

  write(bytes: Uint8Array, at: number): number {
    return this.#step === Step.REQUEST ? this.writeRequest(bytes, at) : at;
  }

  /** As `write`; what cannot be asked for is refused. */
  protected abstract writeRequest(bytes: Uint8Array, at: number): number;

  written(): void {
    if (this.#step !== Step.REQUEST) return;
    this.#step = Step.REPLY;
    this.need = this.#replyNeed;
    this.beginReply();
  }

  protected abstract beginReply(): void;

  read(bytes: Uint8Array, start: number, end: number): number {
    let next = start;
    while (next < end && this.need > 0) this.readOctet(bytes[next++] as number);
    return next - start;
  }

  /** The next octet of the reply. Sets `need`, or ends the handshake. */
  protected abstract readOctet(octet: number): void;

  end(): void {
    if (this.#step >= Step.GRANTED) return;
    this.refuse(
      "protocol",
      `it closed the connection instead of a reply; is it a proxy for ${this.#protocol}?`,
    );
  }

  fail(refusal: Refusal): void {
    this.#step = Step.REFUSED;
    this.need = 0;
    this.refusal = refusal;
  }

  protected grant(): void {
    this.#step = Step.GRANTED;
    this.need = 0;
  }

  protected refuse(kind: Refusal["kind"], why: string, reply = 0): void {
    this.fail(new SocksRefusal(kind, this.#label, why, reply));
  }

  /** The server answers in something else; `octet` is its first. */
  protected refuseForeign(octet: number): void {
    this.refuse("protocol", `it ${answersIn(octet)}, not in ${this.#protocol}; check the port`);
  }
}

function answersIn(octet: number): string {
  if (octet === 0x48) return "answers in HTTP";
  if (octet === 0x05) return "answers in SOCKS5";
  if (octet === 0x00 || octet === 0x04) return "answers in SOCKS4";
  if (octet === 0x15 || octet === 0x16) return "answers in TLS";
  return `answers in something (first octet ${octet})`;
}
