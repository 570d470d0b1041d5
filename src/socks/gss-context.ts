/**
 * GSS-API (RFC 2743) as far as RFC 1961 needs it: the port behind which a library of Kerberos stands, and what is
 * asked of it.
 */

/** SOCKS_GSSAPI level of protection (RFC 1961 §4.2), in its octet. 0 is not in the RFC; servers know it. */
export const GSS_LEVELS = ["clear", "integrity", "confidentiality"] as const;
export type GssLevelName = (typeof GSS_LEVELS)[number];

/** What is asked for with a proxy. */
export interface GssOptions {
  /** The least protection that will do. */
  readonly level: GssLevelName;
  /** SERVICE of the service principal SERVICE/host; with a slash: the whole principal. */
  readonly service: string;
  /** The level is agreed on unwrapped, as by NEC's implementation: without integrity. */
  readonly nec: boolean;
  /** Whose tickets; null: those of the default cache. */
  readonly principal: string | null;
}

/** The service that curl and Dante take by default; RFC 1961 §3 names "socks", which nobody does. */
export const DEFAULT_GSS_SERVICE = "rcmd";

export interface GssTarget {
  readonly service: string;
  /** The proxy's host as it is written in its URL. */
  readonly host: string;
  readonly principal: string | null;
  /** Messages arrive in order (TCP). Datagrams may be lost and overtake each other (RFC 1961 §3). */
  readonly isOrdered: boolean;
}

/** A security context: the client's end. Everything that fails throws an Error whose message is one line of words. */
export interface GssContext {
  /** No further token of the server is needed. */
  readonly isComplete: boolean;
  /** Once complete: wrapping can encrypt. */
  readonly isConfidential: boolean;
  /** Takes the server's token (null: there is none yet); resolves with the next for the server, null: none. */
  step(token: Uint8Array | null): Promise<Uint8Array | null>;
  /** The message as a token. */
  wrap(message: Uint8Array, isConfidential: boolean): Uint8Array;
  /** The message of a token; null: not genuine, replayed, out of order, or not encrypted though it should be. */
  unwrap(token: Uint8Array, isConfidential: boolean): Uint8Array | null;
  /** Idempotent; a step under way ends first. */
  close(): void;
}

export interface GssProvider {
  /** Makes a context; nothing is asked of anybody before its first step. */
  open(target: GssTarget): GssContext;
}
