/**
 * The client's side of a proxy's protocol up to the reply that grants, without input and output: what a dial drives,
 * whatever the protocol. One implementation a protocol; a proxy's dials all have the same.
 *
 * Octets may arrive in any split. `need` says how many are wanted next; what is offered beyond the reply is not taken,
 * since it belongs to the stream. Messages of a proxy's never throw; they end the handshake with a refusal.
 */

import type { Endpoint } from "../stack/wire/address.ts";
import type { Refusal } from "./ports.ts";

/** User and password as octets. */
export interface Credentials {
  readonly user: Uint8Array;
  readonly password: Uint8Array;
}

/** The command of a handshake that ends after the authentication: nothing is asked for. */
export const NO_COMMAND = 0;

/** Reusable: `begin` starts over. */
export interface ProxyHandshake {
  /** The most octets that `read` wants next; 0 when there is something to write, or the handshake has ended. */
  readonly need: number;
  readonly granted: boolean;
  /** Why it ended without success. */
  readonly refusal: Refusal | null;
  /** Once granted: the address that the server gives as its own; zero when `boundName` is not null. */
  readonly bound: Endpoint;
  /** Once granted: the same as a name, which may be empty. */
  readonly boundName: string | null;
  /** The request has left. */
  readonly awaitsReply: boolean;
  /** The server may be waiting for the destination of a CONNECT. */
  readonly awaitsDestination: boolean;
  /** What the server is waited for, for the message of a time-out. */
  readonly awaited: string;

  /**
   * Starts over. `label` names the proxy in refusals; `name` and `endpoint` are what is asked for, copied.
   * `command` {@link NO_COMMAND}: ends granted after the authentication. `ahead`: everything in one write, where the
   * protocol has several messages.
   */
  begin(
    label: string,
    credentials: Credentials | null,
    command: number,
    name: string | null,
    endpoint: Endpoint,
    ahead?: boolean,
  ): void;

  /**
   * Writes the message that is due at `at`; returns the offset behind it, or `at` if none is due. May be repeated
   * with the same result until `written`. A worker's scratch memory has room for every message.
   */
  write(bytes: Uint8Array, at: number): number;

  /** The message that was due has left. */
  written(): void;

  /** Takes octets of [start, end), never more than it needs. Returns how many it took. */
  read(bytes: Uint8Array, start: number, end: number): number;

  /** The server closed or reset the connection. */
  end(): void;

  /** The connection broke in another way. */
  fail(refusal: Refusal): void;
}
