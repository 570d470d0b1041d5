/**
 * What the built-in server lends to the parts of a connection, so that none of them knows the server itself.
 */

import type { Log } from "../log.ts";
import type { MemoryLayout } from "../memory.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { Verdict } from "./access.ts";
import type { ClientTable } from "./client-table.ts";
import type { CredentialTable } from "./credentials.ts";
import type { NameResolver } from "./name-resolver.ts";
import type { OwnSockets } from "./own-sockets.ts";
import type { RelayEnvironment } from "./server-relay.ts";
import type { ServerStats } from "./server-stats.ts";
import type { SourceAddresses } from "./source-addresses.ts";
import type { FragmentStore } from "./udp-reassembly.ts";

/** Shared by all connections of one server; the rows are for the call at hand. */
export interface ConnectionEnvironment extends RelayEnvironment {
  readonly memory: ServerMemory;
  readonly stats: ServerStats;
  readonly names: NameResolver;
  /** Null: no authentication. */
  readonly credentials: CredentialTable | null;
  readonly log: Log;
  /** Of sockets towards targets. */
  readonly mark: number;
  readonly device: string;
  /** Where BIND listens; null: an address that suits the expected peer. */
  readonly bindAddress: Endpoint | null;
  /** Silence that ends an association, ms. */
  readonly udpIdle: number;
  /** Connects to targets. */
  readonly sources: SourceAddresses;
  /** Where sockets that lead out are written down, or null. */
  readonly ownSockets: OwnSockets | null;
  /** Rewrites every destination, or null. */
  readonly translate: ((destination: Endpoint) => void) | null;
  /** SOCKS6 is spoken, too. */
  readonly socks6: boolean;
  /** Associations and waiting BINDs of each client. */
  readonly shares: ClientTable;
  /** What the fragments of all associations are kept in. */
  readonly fragments: FragmentStore;
  /** Five int32 for the call at hand. */
  readonly address: Int32Array;
  /** Rows of datagrams for the call at hand. */
  readonly received: Int32Array;
  readonly sending: Int32Array;
  /** Applies the access rules. */
  judge(client: Endpoint, destination: Endpoint): Verdict;
  /** A connection failed with an errno that says that something of ours is used up. */
  onExhausted(errno: number): void;
}

/** The parts of the worker's memory that the server uses; the page region holds its slots. */
export type ServerMemory = Pick<
  MemoryLayout,
  "bytes" | "scratchStart" | "scratchEnd" | "datagrams" | "pagesStart" | "pagesEnd" | "released"
>;
