/**
 * The name of the host's loopback, answered here and never asked of anybody.
 *
 * "internal" is reserved for private use and resolves nowhere else, so a query must not leave.
 */

import type { Answer, StringAnswer } from "dns-packet";
import { type Endpoint, formatAddress } from "../stack/wire/address.ts";
import { encodeAnswer } from "./dns-answer.ts";
import { asksFor, emptyAnswer, Rcode, tryDecode, wireName } from "./dns-message.ts";

/** Seconds. Short: the next run may have the option off. */
const TTL = 60;

export class HostName {
  readonly #name: Uint8Array;
  readonly #addresses: readonly Endpoint[];
  readonly #enabled: boolean;

  constructor(name: string, addresses: readonly Endpoint[], enabled: boolean) {
    this.#name = wireName(name);
    this.#addresses = addresses;
    this.#enabled = enabled;
  }

  /** True when the query at `start` asks for the name; it must hold a whole question. */
  isAskedBy(bytes: Uint8Array, start: number): boolean {
    return asksFor(bytes, start, this.#name);
  }

  /** The answer to `query`: A and AAAA when enabled, no data for other types, NXDOMAIN when disabled. */
  answer(query: Uint8Array): Uint8Array {
    if (!this.#enabled) return emptyAnswer(query, Rcode.NXDOMAIN);
    const packet = tryDecode(query);
    const question = packet?.questions?.[0];
    const answers: Answer[] = [];
    for (const address of this.#addresses) {
      const type = address.isV4 ? "A" : "AAAA";
      if (question?.type !== type) continue;
      const record: StringAnswer = {
        type,
        name: question.name,
        ttl: TTL,
        data: formatAddress(address),
      };
      answers.push(record);
    }
    if (packet === null || question === undefined || answers.length === 0) {
      return emptyAnswer(query, Rcode.NOERROR);
    }
    return encodeAnswer(packet, answers, Rcode.NOERROR);
  }
}
