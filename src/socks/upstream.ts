/**
 * One proxy as the relay's upstream. Streams go over sockets of the addon, or over those of Node.js where there is no
 * addon and where TLS or a Unix socket leads to the proxy; datagrams go with SOCKS5 only.
 */

import { TunnelError } from "../errors.ts";
import { type AssociationParts, SocksAssociation } from "./association.ts";
import {
  AssociationCounters,
  type DatagramHandler,
  type DatagramSocket,
} from "./datagram-socket.ts";
import { DatagramRows, DirectDatagrams } from "./direct-datagrams.ts";
import { DirectSocksStream } from "./direct-stream.ts";
import type { SocketEnvironment } from "./environment.ts";
import type { GssOptions, GssProvider } from "./gss-context.ts";
import { GssDatagrams } from "./gss-datagrams.ts";
import { loadGssProvider } from "./gss-provider.ts";
import { type GssParts, GssTransport } from "./gss-transport.ts";
import { LayeredDatagrams } from "./layered-datagrams.ts";
import { LayeredSocksStream } from "./layered-stream.ts";
import { Command } from "./message.ts";
import type { Lookup } from "./name-resolver.ts";
import type { Pipelining } from "./pipelining.ts";
import type {
  Association,
  AssociationHandler,
  Destination,
  ProxyUpstream,
  Refusal,
  Stream,
  StreamHandler,
} from "./ports.ts";
import { SocksProxy } from "./proxy.ts";
import { NO_COMMAND } from "./proxy-handshake.ts";
import type { ProxyUrl } from "./proxy-url.ts";
import { RefusedAssociation } from "./refused.ts";
import { TcpCarrier } from "./tcp-carrier.ts";
import { TlsTransport } from "./tls-transport.ts";
import { TCP, type Transport, unixTransport } from "./transport.ts";
import { type FragmentCounters, FragmentStore } from "./udp-reassembly.ts";

export interface SocksUpstreamOptions {
  /** Streams by this transport of Node.js; by default the addon's sockets, and plain TCP without them. */
  readonly transport?: Transport;
  /** How names are looked up; the system's resolver by default. */
  readonly lookup?: Lookup;
  /** The library of GSSAPI; by default the one that is installed. */
  readonly gss?: GssProvider;
}

/** Either shape. */
export type SocksStream = DirectSocksStream | LayeredSocksStream;

export class SocksUpstream implements ProxyUpstream {
  readonly label: string;
  /** Of all associations. */
  readonly counters: AssociationCounters = new AssociationCounters();
  /** Of the fragments that they received. */
  readonly fragments: FragmentCounters;
  readonly #proxy: SocksProxy;
  /** Null: direct streams. */
  readonly #transport: Transport | null;
  /** What leads to the proxy below GSSAPI. */
  readonly #carrier: Transport;
  /** Null: not by GSSAPI. */
  readonly #gss: GssParts | null;
  readonly #rows: DatagramRows = new DatagramRows();
  readonly #parts: AssociationParts;

  /** @throws TunnelError ERR_ADDON_MISSING if mark or device are asked for without the addon. */
  constructor(url: ProxyUrl, environment: SocketEnvironment, options: SocksUpstreamOptions = {}) {
    this.#proxy = new SocksProxy(url, environment, options.lookup);
    this.label = this.#proxy.label;
    const way = options.transport ?? transportOf(url, this.#proxy);
    this.#gss = url.gss === undefined ? null : gssParts(url, this.label, url.gss, options.gss);
    this.#carrier = way ?? new TcpCarrier(this.#proxy);
    this.#transport = this.#gss === null ? way : new GssTransport(this.#gss, this.#carrier);
    const { addon, mark, device, sources = [] } = environment;
    if (addon === null && (mark !== 0 || device !== "" || sources.length > 0)) {
      throw new TunnelError(
        "ERR_ADDON_MISSING",
        "cannot mark sockets or bind them: this way to the proxy has no addon; leave out --fwmark, --interface and --source",
      );
    }
    const fragments = new FragmentStore(environment.timers);
    this.fragments = fragments.counters;
    this.#parts = {
      proxy: this.#proxy,
      counters: this.counters,
      fragments,
      openControl: (handler) => this.#dial(Command.UDP_ASSOCIATE, null, handler),
      createSocket: (handler) => this.#createSocket(handler),
    };
  }

  /** What leads to the proxy, below GSSAPI, for questions that are no stream's; by the addon it tells of no opening. */
  get carrier(): Transport {
    return this.#carrier;
  }

  /** Its replies are SOCKS4's. */
  get isSocks4(): boolean {
    const { protocol } = this.#proxy.scheme;
    return protocol === "socks4" || protocol === "socks4a";
  }

  /** Whether handshakes leave in one write. */
  get pipelining(): Pick<Pipelining, "status" | "trials" | "redone"> {
    return this.#proxy.pipelining;
  }

  /** Connections not made because no local port was free, and because descriptors ran out. */
  get exhaustions(): { readonly ports: number; readonly descriptors: number } {
    const { sources, descriptorExhaustions } = this.#proxy;
    return { ports: sources?.exhaustions ?? 0, descriptors: descriptorExhaustions };
  }

  resolve(): Promise<void> {
    return this.#proxy.resolve();
  }

  connect(destination: Destination, handler: StreamHandler): Stream {
    return this.#dial(Command.CONNECT, destination, handler);
  }

  associate(handler: AssociationHandler): Association {
    const refusal = this.#proxy.refuseUdp();
    if (refusal !== null) {
      return new RefusedAssociation(this.#proxy.environment.timers, refusal, handler);
    }
    const parts = this.#gss === null ? this.#parts : this.#gssParts(this.#gss);
    return new SocksAssociation(parts, handler);
  }

  /**
   * Asks for any command; `destination` null: zeros of the proxy's family. During onOpen the stream's `handshake` tells
   * the address that the server gave. Of BIND it is the first reply; the second is the stream's first octets.
   */
  request(command: number, destination: Destination | null, handler: StreamHandler): SocksStream {
    return this.#dial(command, destination, handler);
  }

  async probe(): Promise<Refusal | null> {
    await this.resolve();
    const { turn } = this.#proxy.environment;
    return new Promise((done) => {
      turn.enter();
      const stream: SocksStream = this.#dial(NO_COMMAND, null, {
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
    this.#proxy.resolver.close();
  }

  /** Of one association: its datagrams are wrapped by the context of its control connection. */
  #gssParts(gss: GssParts): AssociationParts {
    const { memory } = this.#proxy.environment;
    let datagrams: GssDatagrams | null = null;
    const transport = new GssTransport(gss, this.#carrier, (channel) => datagrams?.use(channel));
    return {
      ...this.#parts,
      openControl: (handler) =>
        new LayeredSocksStream(this.#proxy, transport, Command.UDP_ASSOCIATE, null, handler),
      createSocket: (handler) => {
        datagrams = new GssDatagrams(memory, this.counters, handler, (inner) =>
          this.#createSocket(inner),
        );
        return datagrams;
      },
    };
  }

  #dial(command: number, destination: Destination | null, handler: StreamHandler): SocksStream {
    return this.#transport === null
      ? new DirectSocksStream(this.#proxy, command, destination, handler)
      : new LayeredSocksStream(this.#proxy, this.#transport, command, destination, handler);
  }

  #createSocket(handler: DatagramHandler): DatagramSocket {
    const { environment } = this.#proxy;
    return environment.addon === null
      ? new LayeredDatagrams(environment, this.counters, handler)
      : new DirectDatagrams(environment, this.#rows, this.counters, handler);
  }
}

/** Null: the addon's sockets. @throws TunnelError of {@link TlsTransport}. */
function transportOf(url: ProxyUrl, proxy: SocksProxy): Transport | null {
  if (url.path !== undefined) return unixTransport(url.path);
  if (proxy.scheme.way === "tls") return new TlsTransport(url, proxy);
  return proxy.environment.addon === null ? TCP : null;
}

/** @throws TunnelError ERR_ADDON_MISSING, ERR_USAGE. */
function gssParts(
  { host }: ProxyUrl,
  label: string,
  options: GssOptions,
  provider = loadGssProvider(options),
): GssParts {
  return { provider, options, host, label };
}
