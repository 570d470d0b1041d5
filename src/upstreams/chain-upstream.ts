/**
 * One proxy more on the way: this one is reached through an upstream, which may be such a chain itself.
 *
 * Streams are streams of the one before, to this proxy, with this proxy's handshake on them. An association is one of
 * this proxy's whose control connection goes the same way and whose datagrams go through an association of the one
 * before, each with a header (RFC 1928 §7) for every proxy. The name of this proxy is looked up by the one before.
 */

import { AssociationCounters } from "../socks/datagram-socket.ts";
import type { SocketEnvironment } from "../socks/environment.ts";
import { Command, Reply } from "../socks/message.ts";
import type {
  Association,
  AssociationHandler,
  Destination,
  ProxyUpstream,
  Refusal,
  Stream,
  StreamHandler,
} from "../socks/ports.ts";
import { SocksProxy } from "../socks/proxy.ts";
import { NO_COMMAND, type ProxyHandshake } from "../socks/proxy-handshake.ts";
import type { ProxyUrl } from "../socks/proxy-url.ts";
import { SocksRefusal } from "../socks/refusal.ts";
import { RefusedAssociation } from "../socks/refused.ts";
import { FragmentStore } from "../socks/udp-reassembly.ts";
import { Endpoint, parseAddress } from "../stack/wire/address.ts";
import { ChainAssociation } from "./chain-association.ts";
import { ChainRefusal } from "./chain-refusal.ts";
import { ChainStream } from "./chain-stream.ts";

export class ChainUpstream implements ProxyUpstream {
  readonly label: string;
  /** Those before this proxy. */
  readonly before: ProxyUpstream;
  /** Its handshakes, its label and its credentials; no socket is opened to it. */
  readonly proxy: SocksProxy;
  /** Where the ones before are asked to connect to. */
  readonly hop: Destination;
  /** The proxy's address and port; unspecified where only its name is known. */
  readonly server: Endpoint;
  /** Of all associations at this proxy. */
  readonly counters: AssociationCounters = new AssociationCounters();
  /** What they received in pieces. */
  readonly fragments: FragmentStore;

  constructor(before: ProxyUpstream, url: ProxyUrl, environment: SocketEnvironment) {
    const literal = parseAddress(url.host);
    this.before = before;
    this.proxy = new SocksProxy(url, environment);
    this.fragments = new FragmentStore(environment.timers);
    this.label = `${before.label} -> ${this.proxy.label}`;
    this.server = (literal ?? UNKNOWN).clone();
    this.server.port = url.port;
    this.hop = { name: literal === null ? url.host : null, endpoint: this.server };
  }

  connect(destination: Destination, handler: StreamHandler): Stream {
    return new ChainStream(this, Command.CONNECT, destination, handler);
  }

  associate(handler: AssociationHandler): Association {
    const refusal = this.proxy.refuseUdp();
    if (refusal === null) return new ChainAssociation(this, handler);
    const { timers } = this.proxy.environment;
    return new RefusedAssociation(timers, new ChainRefusal(this.label, refusal), handler);
  }

  /** The first one's. */
  resolve(): Promise<void> {
    return this.before.resolve();
  }

  async probe(): Promise<Refusal | null> {
    await this.resolve();
    const { turn } = this.proxy.environment;
    return new Promise((done) => {
      turn.enter();
      const stream = new ChainStream(this, NO_COMMAND, null, {
        onOpen: () => {
          stream.close();
          done(null);
        },
        onRefused: done,
        onReadable() {},
        onBytes() {},
        onEnd() {},
        onWritable() {},
        onReset() {},
      });
      turn.leave();
    });
  }

  close(): void {
    this.proxy.resolver.close();
    this.before.close();
  }

  /** Why datagrams cannot go to the relay that the proxy has given: no address, and its own is not known here. */
  missingRelay(command: number, { bound, boundName }: ProxyHandshake): Refusal | null {
    if (command !== Command.UDP_ASSOCIATE || !this.server.isUnspecified) return null;
    const isGiven = boundName === null ? !bound.isUnspecified : boundName !== "";
    if (isGiven) return null;
    const why =
      "it gives no address for its UDP relay, and its own only the proxy before it knows; name it by its address";
    return new SocksRefusal("reply", this.proxy.label, why, Reply.COMMAND_NOT_SUPPORTED);
  }
}

/** 0.0.0.0: an association asked for by name is one of IPv4, which nearly all relays have. */
const UNKNOWN: Endpoint = new Endpoint().set(0, 0, 0xffff, 0, 0);
