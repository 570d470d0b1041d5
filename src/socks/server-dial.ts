/**
 * The way of a CONNECT to its target: the name's addresses, the access rules, and one connect(2) after the other.
 *
 * Addresses are tried in the resolver's order, {@link ATTEMPT} ms each while others are left; resolving and
 * connecting together have {@link CONNECTING} ms, longer than a patient client waits, so that the client's own
 * deadline is what it sees.
 */

import { constants } from "node:os";
import { Epoll } from "../native/binding.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { Reply } from "./message.ts";
import type { NameHandler } from "./name-resolver.ts";
import type { ConnectionEnvironment } from "./server-environment.ts";
import { isExhaustion, replyOfErrno } from "./server-errno.ts";
import { type LegOwner, ServerLeg } from "./server-leg.ts";
import { writeWords } from "./words.ts";

export interface DialOwner {
  /** `dial.target` is connected. Last call; the leg is the owner's. */
  onConnected(): void;
  /** No address answered; `reply` is the REP that tells most. Last call. */
  onDialFailed(reply: number): void;
}

/** From the request to its reply. */
export const CONNECTING = 60_000;
/** For one address while others are left to try. */
export const ATTEMPT = 5000;

const { EADDRNOTAVAIL } = constants.errno;

export class ServerDial implements LegOwner, TimerHandler, NameHandler {
  readonly target: ServerLeg;
  readonly #environment: ConnectionEnvironment;
  readonly #client: Endpoint;
  /** Its port, and the address at hand. */
  readonly #destination: Endpoint;
  readonly #owner: DialOwner;
  readonly #timer = new Timer(this);
  /** Null: the name is still being resolved. */
  #addresses: readonly Endpoint[] | null = null;
  /** The address to try next. */
  #next = 0;
  /** REP if no address is left. */
  #reply: number = Reply.HOST_UNREACHABLE;
  #deadline = 0;
  #ended = false;

  /** For `client`; `destination` is overwritten with the addresses that are tried. */
  constructor(
    environment: ConnectionEnvironment,
    client: Endpoint,
    destination: Endpoint,
    owner: DialOwner,
  ) {
    this.#environment = environment;
    this.#client = client;
    this.#destination = destination;
    this.#owner = owner;
    this.target = new ServerLeg(environment, this);
  }

  /** Begins: with `name`, or with the destination's address if it is null. May end at once. */
  start(name: string | null): void {
    const { names, timers } = this.#environment;
    this.#deadline = timers.now() + CONNECTING;
    if (name === null) {
      this.onAddresses([this.#destination.clone()]);
    } else if (!isResolvable(name)) {
      this.#fail(Reply.HOST_UNREACHABLE);
    } else if (names.resolve(name, this, this.#client)) {
      timers.set(this.#timer, this.#deadline);
    } else {
      this.#fail(Reply.GENERAL_FAILURE);
    }
  }

  /** Gives up. The owner is not told; a target that is not connected is closed. Idempotent. */
  close(): void {
    if (this.#ended) return;
    this.#end();
    this.#closeTarget();
  }

  onAddresses(addresses: readonly Endpoint[]): void {
    if (this.#ended) return;
    this.#addresses = addresses;
    this.#tryNext();
  }

  /** The connect has ended, one way or the other. */
  onLeg(): void {
    const { addon, ownSockets } = this.#environment;
    const failure = addon.socketError(this.target.fd);
    ownSockets?.delete(this.target.fd);
    if (failure === 0) {
      this.#end();
      this.#owner.onConnected();
      return;
    }
    this.target.close();
    this.#note(replyOfErrno(failure));
    this.#tryNext();
  }

  onTimer(): void {
    this.#closeTarget();
    // The address at hand did not answer.
    if (this.#addresses !== null) this.#note(Reply.HOST_UNREACHABLE);
    if (this.#addresses !== null && this.#environment.timers.now() < this.#deadline)
      this.#tryNext();
    else this.#fail(this.#reply);
  }

  #tryNext(): void {
    const addresses = this.#addresses as readonly Endpoint[];
    const { timers } = this.#environment;
    while (this.#next < addresses.length) {
      const fd = this.#connect(addresses[this.#next++] as Endpoint);
      if (fd < 0) continue;
      this.target.fd = fd;
      if (this.target.watch(Epoll.OUT) < 0) {
        this.#closeTarget();
        this.#note(Reply.GENERAL_FAILURE);
        continue;
      }
      const last = this.#next === addresses.length;
      const attempt = last ? this.#deadline : timers.now() + ATTEMPT;
      timers.set(this.#timer, Math.min(attempt, this.#deadline));
      return;
    }
    this.#fail(this.#reply);
  }

  /** A descriptor that connects, or -1 with the reason noted. */
  #connect({ w0, w1, w2, w3 }: Endpoint): number {
    const { address, sources, translate } = this.#environment;
    const destination = this.#destination.set(w0, w1, w2, w3, this.#destination.port);
    translate?.(destination);
    if (this.#environment.judge(this.#client, destination) !== "allowed") {
      this.#note(Reply.NOT_ALLOWED);
      return -1;
    }
    writeWords(address, destination);
    const fd = sources.connect(address, 0, 0, false);
    if (fd < 0) {
      if (fd === -EADDRNOTAVAIL || isExhaustion(-fd)) this.#environment.onExhausted(-fd);
      this.#note(replyOfErrno(-fd));
      return -1;
    }
    this.#environment.ownSockets?.addConnecting(fd, address);
    return fd;
  }

  #closeTarget(): void {
    this.#environment.ownSockets?.delete(this.target.fd);
    this.target.close();
  }

  /** Remembers why an address failed. "Refused" tells most (the host is there), then whatever came last. */
  #note(reply: number): void {
    if (this.#reply !== Reply.CONNECTION_REFUSED) this.#reply = reply;
  }

  #fail(reply: number): void {
    this.#end();
    this.#owner.onDialFailed(reply);
  }

  #end(): void {
    this.#ended = true;
    this.#environment.timers.clear(this.#timer);
  }
}

/** A name without control characters and spaces: what getaddrinfo can be asked. */
export function isResolvable(name: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return name.length > 0 && !/[\u0000-\u0020\u007f]/.test(name);
}
