/**
 * Straight to the destination, by sockets of our own: the upstream that is no proxy. Names are resolved by this host.
 */

import { TunnelError } from "../errors.ts";
import type { SocketEnvironment } from "./environment.ts";
import { LoopbackAssociation } from "./loopback-association.ts";
import { type DirectWay, type LoopbackEnvironment, LoopbackStream } from "./loopback-stream.ts";
import { type Lookup, NameResolver } from "./name-resolver.ts";
import { NamedAssociation } from "./named-association.ts";
import { NamedStream } from "./named-stream.ts";
import type {
  Association,
  AssociationHandler,
  Destination,
  ProxyUpstream,
  Refusal,
  Stream,
  StreamHandler,
} from "./ports.ts";
import { streamDescriptors } from "./proxy.ts";
import { SourceAddresses } from "./source-addresses.ts";

export class DirectUpstream implements ProxyUpstream {
  readonly label = "direct";
  readonly #environment: LoopbackEnvironment;
  readonly #memory: SocketEnvironment["memory"];
  readonly #resolver: NameResolver;

  /** @throws TunnelError ERR_ADDON_MISSING without the addon, ERR_USAGE for a source that is no address of this host. */
  constructor(environment: SocketEnvironment, lookup?: Lookup) {
    const { addon, poller, timers, mark, device, sources = [], ownSockets } = environment;
    if (addon === null || poller === null) {
      throw new TunnelError(
        "ERR_ADDON_MISSING",
        "cannot go out directly: that needs the addon; give a proxy, or use --binding native",
      );
    }
    const out: DirectWay = {
      sources: new SourceAddresses({ ...environment, addon }),
      descriptorLimit: streamDescriptors(environment),
      ownSockets,
      mark,
      device,
      addresses: sources,
    };
    this.#environment = { addon, poller, timers, out };
    this.#memory = environment.memory;
    this.#resolver = new NameResolver(environment.turn, lookup);
  }

  connect(destination: Destination, handler: StreamHandler): Stream {
    const { name, endpoint } = destination;
    if (name === null) return new LoopbackStream(this.#environment, endpoint, handler);
    return new NamedStream(this.#environment, this.#resolver, name, endpoint.port, handler);
  }

  associate(handler: AssociationHandler): Association {
    const plain = new LoopbackAssociation(this.#environment, this.#memory, handler);
    return new NamedAssociation(plain, this.#resolver, this.#memory);
  }

  resolve(): Promise<void> {
    return Promise.resolve();
  }

  probe(): Promise<Refusal | null> {
    return Promise.resolve(null);
  }

  close(): void {
    this.#resolver.close();
  }
}
