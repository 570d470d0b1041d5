/** The socket of an association towards the proxy's relay, as its two ends see it. */

import type { Endpoint } from "../stack/wire/address.ts";

/** Datagrams queued until `flush`. */
export const MAX_QUEUED = 64;

export interface DatagramHandler {
  /** A datagram at [start, end) of the worker's memory, from `from` (reused). */
  onReceived(from: Endpoint, start: number, end: number): void;
  /** What was queued was longer than the way takes: `length` octets, header included (EMSGSIZE). */
  onTooBig(length: number): void;
  /** The socket is of no use any more. Last call. */
  onBroken(errno: number): void;
}

export interface DatagramSocket {
  /** False: this host has no way to `relay`. */
  hasRoute(relay: Endpoint): boolean;
  /** Opens a socket of the family of `relay`. 0 or -errno. Once. */
  open(relay: Endpoint): number;
  /** Datagrams that `queue` takes before the next flush. */
  readonly room: number;
  /** Queues header and payload, both in the worker's memory, where they must stay until `flush`. `room` > 0. */
  queue(header: number, headerLength: number, start: number, length: number): void;
  /** Sends what is queued; what the system does not take now is dropped and counted. */
  flush(): void;
  /** Idempotent. What is queued is dropped. */
  close(): void;
}

/** Counters of all associations of one proxy. */
export class AssociationCounters {
  /** Datagrams given to the system. */
  sent = 0;
  /** Datagrams handed to the relay. */
  received = 0;
  /** Dropped on the way out: the socket was full. */
  sendFull = 0;
  /** Dropped on the way out: the system refused them. */
  sendErrors = 0;
  /** Dropped on the way out: longer than the path to the relay takes. */
  sendTooBig = 0;
  /** Not taken: header and payload exceed the largest datagram. */
  tooBig = 0;
  /** Dropped: neither from the relay's address nor from the proxy's. */
  foreign = 0;
  /** Dropped: shorter than their header, or with an unknown address type. */
  malformed = 0;
  /** Dropped: their source is a name. */
  named = 0;
  /** Dropped: cut by the system. */
  truncated = 0;
  /** Dropped: no memory left in this turn. */
  noMemory = 0;
}
