/** The ways of Node.js to the proxy: where a layered stream gets its socket. */

import type { Socket } from "node:net";
import type { Endpoint } from "../stack/wire/address.ts";
import { formatAddress } from "../stack/wire/address.ts";
import type { Refusal } from "./ports.ts";

export interface Transport {
  /** The event after which the socket carries octets. */
  readonly openEvent: "connect" | "secureConnect";
  /**
   * Begins a connection to the proxy. The socket allows half-open streams. -errno: none can be made. `isAlone`: it leaves
   * from where datagrams of the same association do, and takes one of the descriptors that are kept from streams.
   */
  open(address: Endpoint, isAlone?: boolean): Socket | number;
  /** Why the other end of an open connection is not the proxy: what, and what to do. Null: nothing is wrong. */
  distrust?(socket: Socket): string | null;
  /** What an error of the socket means that is none of a system call, in the same form. Null: it is one. */
  explain?(error: NodeJS.ErrnoException): Refusal | string | null;
  /** The socket is open, or nobody's any more. */
  settled?(socket: Socket): void;
  /** Ends a connection by RST, where it has one. */
  reset(socket: Socket): void;
}

/** Plain TCP. */
export const TCP: Transport = {
  openEvent: "connect",
  open: (address) =>
    process.getBuiltinModule("node:net").connect({
      host: formatAddress(address),
      port: address.port,
      allowHalfOpen: true,
      noDelay: true,
    }),
  reset: (socket) => socket.resetAndDestroy(),
};

/** A Unix socket on this host: it is where the proxy is, whatever its address. */
export function unixTransport(path: string): Transport {
  return {
    openEvent: "connect",
    open: () => process.getBuiltinModule("node:net").connect({ path, allowHalfOpen: true }),
    reset: (socket) => socket.destroy(),
  };
}
