/**
 * What happens to a new flow: to which upstream it goes, or how it is refused.
 *
 * A `Relay` owns the upstream side of all flows of one stack: dials, streams, associations, lookups. It sees the stack
 * and the upstream through their ports only, and time through the shared timers.
 */

import type { Upstream } from "../socks/ports.ts";
import type {
  RefuseReason,
  TcpConnection,
  TcpHandler,
  UdpFlow,
  UdpHandler,
} from "../stack/ports.ts";
import { Endpoint, formatEndpoint } from "../stack/wire/address.ts";
import { AddressPlan, DNS_PORT, loopbackOf, Place } from "./address-plan.ts";
import { AssociationTable, maxAssociations } from "./association-table.ts";
import { RelayContext, type RelayEnvironment } from "./context.ts";
import { DnsRelay } from "./dns-relay.ts";
import { DnsStream, type DnsStreamOwner } from "./dns-stream.ts";
import { type FakeName, FakeNames, type FakeRanges } from "./fake-names.ts";
import { FakeResolver } from "./fake-resolver.ts";
import { HostName } from "./host-name.ts";
import type { NamePattern } from "./name-patterns.ts";
import type { Router } from "./router.ts";
import { SniffedFlow, type SniffedFlowOwner } from "./sniffed-flow.ts";
import type { RelayStats } from "./stats.ts";
import { TcpRelay, type TcpRelayOwner } from "./tcp-relay.ts";
import { WaitingRoom } from "./udp-path.ts";
import { UdpRelay, type UdpRoutes } from "./udp-relay.ts";
import { SharedUpstreams } from "./udp-shared.ts";
import { UdpUpstream } from "./udp-upstream.ts";

export type { RelayEnvironment } from "./context.ts";

/** How client endpoints use associations: one of their own each, or one for many (udp-shared.ts). */
export type UdpMode = "per-source" | "shared";

/** "fake": host names get addresses of ours, and flows to these go upstream by name; the rest as "auto". */
export type DnsMode = "auto" | "tcp" | "udp" | "off" | "fake";

export interface RelayOptions {
  readonly upstream: Upstream;
  /** Sends flows elsewhere, by rules; none: all go to `upstream`, which is its default too. */
  readonly router?: Router;
  /** Ports whose flows by address are accepted before it is known where they go, since they tell a name (dishonest). */
  readonly sniff?: {
    readonly ports: readonly number[];
    /** They go to the name then, not only by its rule. */
    readonly byName: boolean;
  };
  /** The way to the host's loopback; null when that is not offered. */
  readonly direct: Upstream | null;
  readonly dns: {
    readonly mode: DnsMode;
    /** The resolver behind ours, with its port; null: lookups at our address fail. */
    readonly server: Endpoint | null;
    /** Our own, of each family; ports do not matter. */
    readonly addresses: readonly Endpoint[];
    /** The addresses of mode "fake". */
    readonly fakeRanges?: FakeRanges;
    /** Names that are looked up in that mode too. */
    readonly real?: readonly NamePattern[];
  };
  readonly hostLoopback: {
    readonly enabled: boolean;
    /** The host's loopback as clients know it, one of each family. */
    readonly addresses: readonly Endpoint[];
    /** The name of those addresses. */
    readonly name: string;
  };
  /** Ranges in text form in which everything but the addresses above is refused. */
  readonly reserved: readonly string[];
  /** Knows flows of our own that come back (a routing loop): OwnSockets of src/socks. */
  readonly own?: {
    hasConnection(client: Endpoint, target: Endpoint): boolean;
    hasDatagrams(client: Endpoint): boolean;
  };
  /** Descriptors this process may open: bounds the associations. */
  readonly nofile: number;
  /** Associations that the upstream takes, if that is known and fewer. */
  readonly maxAssociations?: number;
  /** Handshakes with the upstream at a time; MAX_DIALS of dial-queue.ts by default. */
  readonly maxDials?: number;
  /** "per-source" by default. */
  readonly udp?: UdpMode;
  /** Idle life of a UDP flow, ms. */
  readonly udpTimeout: number;
  /** Fills its argument with random numbers (ids of lookups). Default: the system's. */
  readonly random?: (ids: Uint16Array) => void;
}

export class Relay implements TcpRelayOwner, DnsStreamOwner, SniffedFlowOwner {
  readonly stats: RelayStats;
  readonly #options: RelayOptions;
  readonly #context: RelayContext;
  readonly #dns: DnsRelay | null;
  readonly #routes: UdpRoutes;
  readonly #fakeNames: FakeNames | null;
  /** With the name it goes by, if it does. */
  readonly #tcpRelays = new Map<TcpRelay, FakeName | null>();
  /** Those whose name is awaited. */
  readonly #sniffedFlows = new Set<SniffedFlow>();
  readonly #udpRelays = new Set<UdpRelay>();
  readonly #dnsStreams = new Set<DnsStream>();

  constructor(options: RelayOptions, environment: RelayEnvironment) {
    const { upstream, dns, hostLoopback, direct } = options;
    this.#options = options;
    const hostEnabled = hostLoopback.enabled && direct !== null;
    const ranges = dns.mode === "fake" ? dns.fakeRanges : undefined;
    this.#fakeNames = ranges === undefined ? null : new FakeNames(ranges, this.#randomWord());
    const plan = new AddressPlan({
      resolvers: dns.addresses,
      hosts: hostLoopback.addresses,
      hostEnabled,
      reserved: options.reserved,
      ...(ranges === undefined ? {} : { fake: [ranges.ipv4, ranges.ipv6] }),
    });
    const associations = new AssociationTable(
      Math.min(maxAssociations(options.nofile), options.maxAssociations ?? Number.MAX_SAFE_INTEGER),
    );
    this.#context = new RelayContext(environment, plan, associations, options.maxDials);
    this.stats = this.#context.stats;
    const proxy = new UdpUpstream(upstream);
    this.#dns = this.#makeDns(proxy, hostEnabled);
    const room = new WaitingRoom();
    this.#routes = {
      proxy,
      router: options.router ?? null,
      shared: options.udp === "shared" ? this.#makeShared(room) : null,
      host: direct === null ? null : new UdpUpstream(direct),
      dns: this.#dns,
      names: this.#fakeNames,
      room,
      udpTimeout: options.udpTimeout,
      ended: (relay) => this.#udpRelays.delete(relay),
    };
  }

  onTcpOpen(connection: TcpConnection): TcpHandler | null {
    const { target } = connection;
    const endpoint = new Endpoint().copy(target);
    let fake: FakeName | null = null;
    let upstream = this.#options.upstream;
    const place = this.#context.plan.place(target);
    switch (place) {
      case Place.RESOLVER: {
        const { mode, server } = this.#options.dns;
        if (target.port !== DNS_PORT || mode === "off" || server === null) {
          return this.#refuse(connection, "reset");
        }
        if (this.#fakeNames !== null) return this.#lookUp(connection, this.#dns as DnsRelay);
        endpoint.copy(server);
        break;
      }
      case Place.HOST:
        upstream = this.#options.direct as Upstream;
        loopbackOf(target, endpoint);
        break;
      case Place.NOWHERE:
        return this.#refuse(connection, "reset");
      case Place.FAKE:
        fake = (this.#fakeNames as FakeNames).at(target);
        if (fake === null) this.stats.namelessFlows++;
        if (fake === null || this.#isLoop(connection)) {
          return this.#refuse(connection, "host-unreachable");
        }
        break;
      default:
        if (this.#isLoop(connection)) return this.#refuse(connection, "host-unreachable");
    }
    const name = fake?.name ?? null;
    if (place === Place.OUTSIDE && this.#sniffs(target)) return this.#sniff(connection);
    const { router } = this.#options;
    if (router !== undefined && (place === Place.OUTSIDE || place === Place.FAKE)) {
      const route = router.route("tcp", target, name);
      if (route.kind === "drop") {
        this.stats.rulesDropped++;
        return null;
      }
      if (route.kind === "reject") {
        this.stats.rulesRejected++;
        return this.#refuse(connection, route.reason);
      }
      upstream = route.upstream;
    }
    if (fake !== null) this.#fakeNames?.use(fake);
    const destination = { name, endpoint };
    const relay = new TcpRelay(this, this.#context, upstream, destination, connection);
    this.#tcpRelays.set(relay, fake);
    relay.start();
    return relay;
  }

  onUdpOpen(flow: UdpFlow, target: Endpoint): UdpHandler | null {
    if (this.#options.own?.hasDatagrams(flow.client) === true) {
      this.#warnOfLoop(target);
      return null;
    }
    const relay = new UdpRelay(this.#context, this.#routes, flow);
    this.#udpRelays.add(relay);
    return relay;
  }

  /** Ends every flow; clients and upstreams see resets. Idempotent. */
  close(): void {
    // Else each flow that ends would start the dial of one that waits.
    this.#context.dials.clear();
    for (const relay of this.#tcpRelays.keys()) relay.close();
    for (const flow of this.#sniffedFlows) flow.abort();
    this.#sniffedFlows.clear();
    for (const relay of this.#udpRelays) relay.close();
    this.#routes.shared?.close();
    for (const stream of this.#dnsStreams) stream.close();
    this.#dns?.close();
  }

  ended(relay: TcpRelay): void {
    const fake = this.#tcpRelays.get(relay) ?? null;
    if (fake !== null) this.#fakeNames?.release(fake, this.#context.timers.now());
    this.#tcpRelays.delete(relay);
  }

  lookupsEnded(stream: DnsStream): void {
    this.#dnsStreams.delete(stream);
  }

  sniffed(flow: SniffedFlow, name: string | null): void {
    this.#sniffedFlows.delete(flow);
    const { router, sniff, upstream } = this.#options;
    if (name !== null) this.stats.sniffedNames++;
    const route = router?.route("tcp", flow.target, name, true);
    if (route !== undefined && route.kind !== "upstream") {
      if (route.kind === "drop") this.stats.rulesDropped++;
      else this.stats.rulesRejected++;
      flow.refuse();
      return;
    }
    const endpoint = new Endpoint().copy(flow.target);
    const destination = { name: sniff?.byName === true ? name : null, endpoint };
    const relay = new TcpRelay(this, this.#context, route?.upstream ?? upstream, destination, flow);
    this.#tcpRelays.set(relay, null);
    flow.lead(relay);
    relay.start();
  }

  unsniffed(flow: SniffedFlow): void {
    this.#sniffedFlows.delete(flow);
  }

  /** What the flow may tell makes a difference. */
  #sniffs(target: Endpoint): boolean {
    const { sniff, router } = this.#options;
    if (sniff === undefined || !sniff.ports.includes(target.port)) return false;
    return sniff.byName || router?.dependsOnName("tcp", target) === true;
  }

  #sniff(connection: TcpConnection): TcpHandler {
    this.stats.sniffed++;
    const flow = new SniffedFlow(this, this.#context, connection);
    this.#sniffedFlows.add(flow);
    flow.start();
    return flow;
  }

  #lookUp(connection: TcpConnection, dns: DnsRelay): TcpHandler {
    const stream = new DnsStream(this, this.#context, dns, connection);
    this.#dnsStreams.add(stream);
    stream.start();
    return stream;
  }

  #makeDns(proxy: UdpUpstream, hostEnabled: boolean): DnsRelay | null {
    const { dns, hostLoopback } = this.#options;
    const names = this.#fakeNames;
    if (dns.mode === "off") return null;
    return new DnsRelay(
      this.#context,
      proxy,
      { mode: dns.mode === "fake" ? "auto" : dns.mode, server: dns.server, random: this.#random },
      new HostName(hostLoopback.name, hostLoopback.addresses, hostEnabled),
      names === null ? null : new FakeResolver(this.#context, names, dns.real ?? []),
    );
  }

  #makeShared(room: WaitingRoom): SharedUpstreams {
    const secret = Uint32Array.of(this.#randomWord(), this.#randomWord());
    return new SharedUpstreams({ context: this.#context, room, names: this.#fakeNames, secret });
  }

  get #random(): (ids: Uint16Array) => void {
    return this.#options.random ?? systemRandom;
  }

  #randomWord(): number {
    const halves = new Uint16Array(2);
    this.#random(halves);
    return (halves[0] as number) * 0x10000 + (halves[1] as number);
  }

  #isLoop({ client, target }: TcpConnection): boolean {
    if (this.#options.own?.hasConnection(client, target) !== true) return false;
    this.#warnOfLoop(target);
    return true;
  }

  #warnOfLoop(target: Endpoint): void {
    this.stats.loops++;
    this.#context.warn(
      "loop",
      `what we sent to ${formatEndpoint(target)} came back through the device and is refused: its route leads into the tunnel; route that address around it, or use --interface or --fwmark`,
    );
  }

  #refuse(connection: TcpConnection, reason: RefuseReason): TcpHandler {
    this.stats.tcpRefused++;
    connection.refuse(reason);
    return REFUSED;
  }
}

/** The handler of a flow that was refused at once: it hears nothing more. */
const REFUSED: TcpHandler = {
  onReadable(): void {},
  onFin(): void {},
  onWritable(): void {},
  onClosed(): void {},
};

function systemRandom(ids: Uint16Array): void {
  crypto.getRandomValues(ids);
}
