/** A lookup in flight. */

import type { UdpFlow } from "../stack/ports.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { DnsConnection } from "./dns-connection.ts";

/** Who asked: a flow that may end before the answer comes. */
export interface DnsClient {
  readonly flow: Pick<UdpFlow, "send"> | null;
  /** It takes answers of any size. */
  readonly isStream?: boolean;
}

export class Query {
  /** Ours, unique among the queries in flight. */
  readonly id: number;
  readonly clientId: number;
  readonly client: DnsClient;
  /** The resolver as the client knows it: where the answer comes from. */
  readonly target: Endpoint;
  /** The resolver that is asked. */
  readonly server: Endpoint;
  /** The message, with our id. */
  readonly bytes: Uint8Array;
  readonly sentAt: number;
  readonly deadline: number;
  /** Where the answer is expected; null: at the shared association. */
  connection: DnsConnection | null = null;
  /** A connection closed on it without any answer. */
  retried = false;

  constructor(
    id: number,
    client: DnsClient,
    target: Endpoint,
    server: Endpoint,
    bytes: Uint8Array,
    sentAt: number,
    deadline: number,
  ) {
    this.id = id;
    this.clientId = ((bytes[0] as number) << 8) | (bytes[1] as number);
    this.client = client;
    this.target = target.clone();
    this.server = server.clone();
    bytes[0] = id >> 8;
    bytes[1] = id & 255;
    this.bytes = bytes;
    this.sentAt = sentAt;
    this.deadline = deadline;
  }
}
