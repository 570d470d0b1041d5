/**
 * What a client of the built-in server says before it is served: SOCKS5's greeting, credentials and request (RFC 1928
 * §3, §4; RFC 1929), or the one message of SOCKS4 and 4a. The first octet decides.
 *
 * It reads messages and writes their answers, and neither sends nor closes. Where there are users a SOCKS4 client is
 * refused, since its USERID proves nothing. Lives until the request is granted.
 */

import { Endpoint, formatEndpoint } from "../stack/wire/address.ts";
import {
  Command,
  credentialsNeed,
  greetingNeed,
  greetingOffers,
  Method,
  PASSWORD_VERSION,
  Reply,
  readAddress,
  readName,
  requestNeed,
  VERSION,
  writeCredentialsStatus,
  writeMethod,
  writeReply,
} from "./message.ts";
import type { ConnectionEnvironment } from "./server-environment.ts";
import {
  readSocks4Request,
  SOCKS4_VERSION,
  Socks4Reply,
  socks4RequestNeed,
  writeSocks4Reply,
} from "./socks4-request.ts";

/** What one message came to. */
export const Step = {
  /** It is not whole yet. */
  MORE: 0,
  /** An answer was written; on to the next message. */
  ANSWER: 1,
  /** An answer was written, and it is the last. */
  DENY: 2,
  /** It is a request, in `command`, `name` and `destination`. */
  REQUEST: 3,
  /** It is a request with an unknown type of address. */
  NO_ADDRESS: 4,
  /** It is none of SOCKS. */
  MALFORMED: 5,
} as const;
export type Step = (typeof Step)[keyof typeof Step];

const Stage = { FIRST: 0, CREDENTIALS: 1, REQUEST: 2 } as const;
type Stage = (typeof Stage)[keyof typeof Stage];

export class ServerNegotiation {
  /** CMD of the request; 0: none that there is. */
  command = 0;
  /** The destination's name, or null when it is the address of `destination`. */
  name: string | null = null;
  readonly destination: Endpoint = new Endpoint();
  /** The offset behind the message that was read last. */
  used = 0;
  /** The offset behind the answer that was written last. */
  answerEnd = 0;
  readonly #environment: ConnectionEnvironment;
  readonly #peer: Endpoint;
  #stage: Stage = Stage.FIRST;
  #isSocks4 = false;

  constructor(environment: ConnectionEnvironment, peer: Endpoint) {
    this.#environment = environment;
    this.#peer = peer;
  }

  /** Reads the message at `at` of [at, end), which is not empty, and writes its answer at `answer`. */
  next(at: number, end: number, answer: number): Step {
    const { bytes } = this.#environment.memory;
    const first = bytes[at];
    if (this.#stage === Stage.FIRST && first === SOCKS4_VERSION) this.#isSocks4 = true;
    else if (first !== (this.#stage === Stage.CREDENTIALS ? PASSWORD_VERSION : VERSION)) {
      return Step.MALFORMED;
    }
    const need = this.#need(at, end);
    if (need < 0) return this.#isSocks4 ? Step.MALFORMED : Step.NO_ADDRESS;
    if (need > end - at) return Step.MORE;
    this.used = at + need;
    if (this.#isSocks4) return this.#onSocks4Request(at, answer);
    if (this.#stage === Stage.FIRST) return this.#onGreeting(at, answer);
    if (this.#stage === Stage.CREDENTIALS) return this.#onCredentials(at, answer);
    this.command = bytes[at + 1] as number;
    readAddress(bytes, at + 3, end, this.destination);
    this.name = readName(bytes, at + 3);
    return Step.REQUEST;
  }

  /**
   * Writes the answer to the request, in the client's version; returns the offset behind it. SOCKS4 has one code for
   * every failure.
   */
  writeReply(answer: number, reply: number, bound: Endpoint): number {
    const { bytes } = this.#environment.memory;
    if (!this.#isSocks4) return writeReply(bytes, answer, reply, bound);
    const isGranted = reply === Reply.SUCCEEDED;
    const code = isGranted ? Socks4Reply.GRANTED : Socks4Reply.REJECTED;
    return writeSocks4Reply(bytes, answer, code, bound);
  }

  #need(at: number, end: number): number {
    const { bytes } = this.#environment.memory;
    if (this.#isSocks4) return socks4RequestNeed(bytes, at, end);
    if (this.#stage === Stage.FIRST) return greetingNeed(bytes, at, end);
    if (this.#stage === Stage.CREDENTIALS) return credentialsNeed(bytes, at, end);
    return requestNeed(bytes, at, end);
  }

  #onSocks4Request(at: number, answer: number): Step {
    const { credentials, memory, stats } = this.#environment;
    const { bytes } = memory;
    const command = bytes[at + 1] as number;
    // 3 is none of SOCKS4, and UDP ASSOCIATE of SOCKS5.
    this.command = command <= Command.BIND ? command : 0;
    this.name = readSocks4Request(bytes, at, this.used, this.destination);
    if (credentials === null) return Step.REQUEST;
    stats.methodRefused++;
    this.answerEnd = writeSocks4Reply(bytes, answer, Socks4Reply.USER_MISMATCH, this.destination);
    return Step.DENY;
  }

  /** RFC 1928 §3. With users only their method is acceptable, without only "none". */
  #onGreeting(at: number, answer: number): Step {
    const { credentials, memory, stats } = this.#environment;
    const { bytes } = memory;
    const method = credentials === null ? Method.NONE : Method.PASSWORD;
    if (!greetingOffers(bytes, at, method)) {
      stats.methodRefused++;
      this.answerEnd = writeMethod(bytes, answer, Method.UNACCEPTABLE);
      return Step.DENY;
    }
    this.#stage = credentials === null ? Stage.REQUEST : Stage.CREDENTIALS;
    this.answerEnd = writeMethod(bytes, answer, method);
    return Step.ANSWER;
  }

  /** RFC 1929 §2. */
  #onCredentials(at: number, answer: number): Step {
    const { credentials, memory, stats, log } = this.#environment;
    const { bytes } = memory;
    const userEnd = at + 2 + (bytes[at + 1] as number);
    const passwordEnd = userEnd + 1 + (bytes[userEnd] as number);
    if (credentials?.matches(bytes, at + 2, userEnd, userEnd + 1, passwordEnd) === true) {
      this.#stage = Stage.REQUEST;
      this.answerEnd = writeCredentialsStatus(bytes, answer, 0);
      return Step.ANSWER;
    }
    stats.passwordRefused++;
    log.debug?.(`proxy: wrong user or password from ${formatEndpoint(this.#peer)}`);
    this.answerEnd = writeCredentialsStatus(bytes, answer, 1);
    return Step.DENY;
  }
}
