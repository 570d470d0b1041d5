/** What sockets to a proxy need from the worker. */

import type { Log } from "../log.ts";
import type { MemoryLayout } from "../memory.ts";
import type { Addon } from "../native/binding.ts";
import type { Poller } from "../native/poller.ts";
import type { Timers } from "../stack/timer-wheel.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { Turn } from "./name-resolver.ts";
import type { OwnSockets } from "./own-sockets.ts";
import type { PipelineMode } from "./pipelining.ts";

/** How long a dial may take in all, ms, unless told otherwise. */
export const DIAL_DEADLINE = 30_000;

export interface SocketEnvironment {
  /** Null, as `poller` is: streams by node:net, datagrams by node:dgram. */
  readonly addon: Addon | null;
  readonly poller: Poller | null;
  readonly memory: MemoryLayout;
  readonly timers: Timers;
  /** What callbacks of Node.js go through, so that they are turns of the loop. */
  readonly turn: Turn;
  readonly log: Log;
  /** SO_MARK of sockets to the proxy, 0: none. Needs the addon. */
  readonly mark: number;
  /** SO_BINDTODEVICE, "": none. Needs the addon. */
  readonly device: string;
  /** Addresses of this host that connections leave from, in turn; none: the kernel's choice. Needs the addon. */
  readonly sources?: readonly Endpoint[];
  /** Descriptors this process may open; asked of the addon by default. */
  readonly nofile?: number;
  /** Milliseconds from `connect` to the proxy's answer; {@link DIAL_DEADLINE} by default. */
  readonly dialDeadline: number;
  /** Handshakes in one write: "auto" by default, where the proxy is found to take that. */
  readonly pipeline?: PipelineMode;
  /** The proxy is known to answer only when it knows: nothing is held against it. */
  readonly isHonest?: boolean;
  /** How long the proxy may be silent with octets outstanding, ms; USER_TIMEOUT of silence.ts by default. */
  readonly userTimeout?: number;
  /** Where sockets that lead out are written down. */
  readonly ownSockets?: OwnSockets;
}
