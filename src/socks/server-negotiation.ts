/**
 * What a client of the built-in server says before it is served: SOCKS5's greeting, credentials and request (RFC 1928
 * §3, §4; RFC 1929), the one message of SOCKS4 and 4a, or, where it is served, that of SOCKS6
 * (draft-olteanu-intarea-socks-6-11). The first octet decides.
 *
 * It reads messages and writes their answers, and neither sends nor closes. Where there are users a SOCKS4 client is
 * refused, since its USERID proves nothing. Lives until the request is granted.
 */

import { Endpoint, formatEndpoint } from "../stack/wire/address.ts";
import type { CredentialTable } from "./credentials.ts";
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
import {
  AuthType,
  areOptions,
  codeOf,
  findCredentials,
  messageNeed6,
  NOOP,
  optionsOf,
  readAddress6,
  readName6,
  VERSION_6,
  writeAuthReply,
  writeOperationReply,
} from "./socks6-message.ts";

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
  /** It is a request, and an answer to what else was in it was written. */
  ANSWERED_REQUEST: 6,
} as const;
export type Step = (typeof Step)[keyof typeof Step];

const Stage = { FIRST: 0, CREDENTIALS: 1, REQUEST: 2 } as const;
type Stage = (typeof Stage)[keyof typeof Stage];

/** No status of RFC 1929: there was no request. */
const NO_CREDENTIALS = -1;

/** Of one call. */
const range = { start: 0, end: 0 };

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
  #isSocks6 = false;

  constructor(environment: ConnectionEnvironment, peer: Endpoint) {
    this.#environment = environment;
    this.#peer = peer;
  }

  /** Reads the message at `at` of [at, end), which is not empty, and writes its answer at `answer`. */
  next(at: number, end: number, answer: number): Step {
    const { bytes } = this.#environment.memory;
    const first = bytes[at];
    if (this.#stage === Stage.FIRST && first === VERSION_6 && this.#environment.socks6) {
      return this.#onSocks6Request(at, end, answer);
    }
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
    if (this.#isSocks6) return writeOperationReply(bytes, answer, reply, bound);
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

  /** Request and credentials are one message; its authentication is answered at once (draft §4, §6, §9). */
  #onSocks6Request(at: number, end: number, answer: number): Step {
    const { credentials, memory, stats } = this.#environment;
    const { bytes } = memory;
    const need = messageNeed6(bytes, at, end);
    if (need < 0) return Step.MALFORMED;
    if (need > end - at) return Step.MORE;
    this.#isSocks6 = true;
    this.used = at + need;
    const options = optionsOf(bytes, at, this.used);
    if (!areOptions(bytes, options, this.used)) return Step.MALFORMED;
    const status = credentials === null ? null : this.#authenticate(options);
    if (status !== null && status !== 0) {
      if (status === NO_CREDENTIALS) stats.methodRefused++;
      const told = status === NO_CREDENTIALS ? null : status;
      this.answerEnd = writeAuthReply(bytes, answer, AuthType.FAILED, told);
      return Step.DENY;
    }
    this.answerEnd = writeAuthReply(bytes, answer, AuthType.SUCCESSFUL, status);
    readAddress6(bytes, at, this.destination);
    this.name = readName6(bytes, at);
    const command = codeOf(bytes, at);
    if (command === NOOP) {
      this.answerEnd = writeOperationReply(
        bytes,
        this.answerEnd,
        Reply.SUCCEEDED,
        this.destination,
      );
      return Step.DENY;
    }
    // Datagrams of SOCKS6 are others than those of SOCKS5.
    this.command = command === Command.UDP_ASSOCIATE ? 0 : command;
    return Step.ANSWERED_REQUEST;
  }

  /** RFC 1929's status for the credentials in the options, or that there are none. */
  #authenticate(options: number): number {
    const { credentials, memory } = this.#environment;
    const { bytes } = memory;
    if (!findCredentials(bytes, options, this.used, range)) return NO_CREDENTIALS;
    return this.#isKnown(credentials as CredentialTable, range.start) ? 0 : 1;
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
    const { credentials, memory } = this.#environment;
    const { bytes } = memory;
    if (credentials !== null && this.#isKnown(credentials, at)) {
      this.#stage = Stage.REQUEST;
      this.answerEnd = writeCredentialsStatus(bytes, answer, 0);
      return Step.ANSWER;
    }
    this.answerEnd = writeCredentialsStatus(bytes, answer, 1);
    return Step.DENY;
  }

  /** Whether RFC 1929's request at `at` names a user with its password. */
  #isKnown(credentials: CredentialTable, at: number): boolean {
    const { memory, stats, log } = this.#environment;
    const { bytes } = memory;
    const userEnd = at + 2 + (bytes[at + 1] as number);
    const passwordEnd = userEnd + 1 + (bytes[userEnd] as number);
    if (credentials.matches(bytes, at + 2, userEnd, userEnd + 1, passwordEnd)) return true;
    stats.passwordRefused++;
    log.debug?.(`proxy: wrong user or password from ${formatEndpoint(this.#peer)}`);
    return false;
  }
}
