/**
 * Challenge ACKs (RFC 5961): the sender of something doubtful is asked whether it meant it, not too often.
 *
 * Ten per connection in five seconds, and 500 to 1,000 of all connections in a second (RFC 5961 §7). The bound of all is
 * drawn anew each second: one that can be counted down tells a stranger whether two others talk (CVE-2016-5696). Keep-alives
 * look like doubtful ACKs and are not counted with them: 20,000 idle clients that ask every 15 s exceed any such bound.
 */

import { keyedHash } from "../flow-table.ts";
import { share } from "../hand-over.ts";
import type { StackOptions } from "../ports.ts";
import type { Connection } from "./connection.ts";

/** Sends an ACK, if the limits allow it. */
export function challenge(c: Connection): void {
  const { timers, challenges } = c.context;
  send(c, isAllowed(c) && challenges.take(timers.now() | 0));
}

/**
 * Sends an ACK, if the connection's own limit allows it: in answer to what may be a keep-alive, and the connections of
 * many clients that ask at a time are as alive as one.
 */
export function answer(c: Connection): void {
  send(c, isAllowed(c));
}

function send(c: Connection, allowed: boolean): void {
  const { stats } = c.context;
  if (!allowed) {
    stats.tcpChallengesSuppressed++;
    return;
  }
  c.challenges++;
  stats.tcpChallenges++;
  c.ackDue = true;
  c.markDirty();
}

/** The connection has not had its share of the period. */
function isAllowed(c: Connection): boolean {
  const now = c.context.timers.now() | 0;
  if (c.challenges === 0 || (now - c.challengesAt) >>> 0 >= PERIOD) {
    c.challengesAt = now;
    c.challenges = 0;
  }
  return c.challenges < MAX_CHALLENGES;
}

/** The limit that all connections share. */
export class ChallengeLimit {
  readonly #words: Int32Array = new Int32Array(1);
  readonly #key0: number;
  readonly #key1: number;
  readonly #least: number;
  #left = 0;
  #second = -1;

  constructor(options: StackOptions) {
    this.#key0 = options.secret[1] | 0;
    this.#key1 = options.secret[2] | 0;
    this.#least = share(MIN_PER_SECOND, options);
  }

  /** False: no more in this second. `now` in ms, int32. */
  take(now: number): boolean {
    const second = Math.floor(now / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#words[0] = second;
      const draw = keyedHash(this.#words, 1, this.#key0, this.#key1) >>> 0;
      this.#left = this.#least + (draw % this.#least) + 1;
    }
    if (this.#left === 0) return false;
    this.#left--;
    return true;
  }
}

/** Of one connection. */
const MAX_CHALLENGES = 10;
const PERIOD = 5000;
/** Of all; at most twice as many. Linux took 1,000 (net.ipv4.tcp_challenge_ack_limit). */
const MIN_PER_SECOND = 500;
