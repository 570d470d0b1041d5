/** The ways of Node.js to the proxy: where a layered stream gets its socket. */

import type { Socket } from "node:net";
import type { Endpoint } from "../stack/wire/address.ts";
import { formatAddress } from "../stack/wire/address.ts";

export interface Transport {
  /** The event after which the socket carries octets. */
  readonly openEvent: "connect" | "secureConnect";
  /** Begins a connection to the proxy. The socket allows half-open streams. */
  open(address: Endpoint): Socket;
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
};
