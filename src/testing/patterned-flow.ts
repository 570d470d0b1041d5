/**
 * The relay's end of a connection in tests: what it sends is the pattern, what it takes must be.
 *
 * It reads and fills the stack's own rows, as a socket's recvmsg and sendmsg would.
 */

import type { TcpConnection } from "../stack/ports.ts";
import { fillPattern, pattern, patternFault } from "./pattern.ts";

export class PatternedFlow {
  readonly connection: TcpConnection;
  readonly #memory: Uint8Array;
  readonly #rows: Int32Array = new Int32Array(64);
  /** Octets of the client's stream consumed. */
  consumed = 0;
  /** Octets of our stream the stack has taken. */
  sent = 0;
  /** Octets that wait for room; {@link PatternedFlow.fill} moves them. */
  unsent = 0;

  /** `memory` is the one memory of the connection's stack. */
  constructor(connection: TcpConnection, memory: Uint8Array) {
    this.connection = connection;
    this.#memory = memory;
  }

  /** Puts what waits into the stack's rows. False: some still waits, for onWritable. */
  fill(): boolean {
    while (this.unsent > 0) {
      const rows = this.connection.space(this.#rows);
      if (rows === 0) return false;
      let filled = 0;
      for (let row = 0; row < rows && filled < this.unsent; row++) {
        const start = this.#rows[2 * row]!;
        const octets = Math.min(this.#rows[2 * row + 1]!, this.unsent - filled);
        fillPattern(1, this.sent + filled, this.#memory, start, start + octets);
        filled += octets;
      }
      if (filled === 0) throw new Error("space() gave rows without octets");
      this.connection.commit(filled);
      this.sent += filled;
      this.unsent -= filled;
    }
    return true;
  }

  /** Copies `octets` of our stream in; returns how many were taken. */
  write(octets: number): number {
    const taken = this.connection.write(pattern(1, this.sent, octets), 0, octets);
    this.sent += taken;
    return taken;
  }

  /** Consumes up to `most` octets and returns how many. @throws Error at an octet that is not the client's. */
  take(most: number): number {
    let taken = 0;
    while (taken < most) {
      const shown = this.verify(most - taken);
      if (shown === 0) break;
      this.connection.consume(shown);
      this.consumed += shown;
      taken += shown;
    }
    return taken;
  }

  /** Compares up to `most` readable octets with the client's stream; returns how many the rows showed. */
  verify(most: number): number {
    const readable = this.connection.readableOctets;
    const rows = this.connection.readable(this.#rows);
    let seen = 0;
    let shown = 0;
    for (let row = 0; row < rows; row++) {
      const start = this.#rows[2 * row]!;
      const length = Math.min(this.#rows[2 * row + 1]!, most - seen);
      shown += this.#rows[2 * row + 1]!;
      const offset = this.consumed + seen;
      const fault = patternFault(0, offset, this.#memory, start, start + length);
      if (fault >= 0) throw new Error(`octet ${fault} is not the client's`);
      seen += length;
    }
    if (shown > readable || (shown === 0 && readable > 0)) {
      throw new Error(`rows of ${shown} octets while ${readable} are readable`);
    }
    return seen;
  }
}
