/**
 * What every command with a tunnel needs: the worker's loop, the upstream (a proxy, or the built-in server in this
 * process) and the relay. Devices differ by command and are served by {@link Session.serve}.
 */

import {
  endpointOf,
  FAKE_RANGES,
  HOST_LOOPBACK_IPV4,
  HOST_LOOPBACK_IPV6,
  HOST_LOOPBACK_NAME,
  RESERVED,
  RESOLVER_IPV4,
  RESOLVER_IPV6,
} from "./addresses.ts";
import { TunnelError } from "./errors.ts";
import { hostResolver } from "./host/resolver.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";
import {
  MEMORY_OCTETS_WITH_SERVER,
  type MemoryLayout,
  mapMemory,
  plainMemory,
  splitPages,
} from "./memory.ts";
import { type Addon, addon } from "./native/binding.ts";
import { fillRandom } from "./random.ts";
import { MAX_DIALS } from "./relay/dial-queue.ts";
import { type NamePattern, parseNamePattern } from "./relay/name-patterns.ts";
import { type DnsMode, Relay, type RelayOptions, type UdpMode } from "./relay/relay.ts";
import { checkUpstreams, Router } from "./relay/router.ts";
import { parseRule } from "./rules/rule-text.ts";
import { randomCredentials } from "./socks/credentials.ts";
import { DIAL_DEADLINE, type SocketEnvironment } from "./socks/environment.ts";
import { LoopbackUpstream } from "./socks/loopback-upstream.ts";
import { OwnSockets, type SharedSockets } from "./socks/own-sockets.ts";
import type { PipelineMode } from "./socks/pipelining.ts";
import type { ProxyUpstream, Refusal } from "./socks/ports.ts";
import { parseProxyUrl } from "./socks/proxy-url.ts";
import { SocksServer, type SocksServerOptions } from "./socks/server.ts";
import { MAX_ASSOCIATIONS } from "./socks/server-connection.ts";
import { type Endpoint, formatEndpoint } from "./stack/wire/address.ts";
import type { TunDevice } from "./tun/device.ts";
import { Tunnel, type TunnelNeighbours } from "./tunnel.ts";
import { type OpenUpstreamsOptions, openUpstreams } from "./upstreams/open-upstreams.ts";
import type { PoolPolicy } from "./upstreams/pool.ts";
import { completeUpstreams, type UpstreamSettings } from "./upstreams/upstream-settings.ts";
import { parseUpstream, resolveNames, type UpstreamUrl } from "./upstreams/upstream-url.ts";

/** What the sessions of one device share, each in a thread of its own (src/workers). */
export interface SessionShare {
  /** Sessions in all: limits of the process, of the proxy and of the budget are divided among them. */
  readonly count: number;
  /** Four words, for every stack the same: a flow that begins anew elsewhere has the sequence numbers it would have had. */
  readonly secret: Uint32Array;
  /** Their time counts from here, ms since the epoch. */
  readonly origin: number;
  readonly sockets: SharedSockets;
  neighbours(memory: MemoryLayout): TunnelNeighbours;
}

export interface SessionOptions {
  /** Proxy URLs or chains of them, several are a pool; none: `ALL_PROXY` of `env`, else the built-in server. */
  readonly proxy: string | readonly string[] | undefined;
  /** Who of several proxies gets a new flow; "failover" by default. */
  readonly pool?: PoolPolicy | undefined;
  /** Between two probes of each of several proxies, ms; 0 (the default): none. */
  readonly poolProbe?: number | undefined;
  /** Connections at a time to each proxy whose URL does not say; 0 (the default): any number. */
  readonly proxyMax?: number | undefined;
  /** What is said of them beside their URLs. */
  readonly settings?: UpstreamSettings;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Log;
  /** False: no addon; sockets by node:net and node:dgram. */
  readonly native: boolean;
  /** SO_MARK of sockets to the proxy, or of the built-in server's to targets; 0 for none. */
  readonly fwmark: number;
  /** SO_BINDTODEVICE of the same sockets, "" for none. */
  readonly interface: string;
  readonly tcpIdle: number;
  readonly tcpHalfClosed: number;
  readonly udpTimeout: number;
  /** How client endpoints use associations; "per-source" by default. */
  readonly udp?: UdpMode;
  readonly icmp: "own" | "reply" | "off";
  /** Towards programs; "cubic" by default. */
  readonly congestion?: "cubic" | "newreno";
  /** SOCKS handshakes in one write; "auto" by default. */
  readonly pipeline?: PipelineMode;
  /** Addresses of this host that the same sockets leave from, in turn; none: the kernel's choice. */
  readonly sources?: readonly Endpoint[];
  /** How names are looked up; undefined: "fake" where the scheme sends names (but where a device is shared), else "auto". */
  readonly dns: DnsMode | undefined;
  /** Names that "fake" leaves alone. */
  readonly dnsReal?: readonly NamePattern[];
  /** The resolver behind the proxy; undefined: the host's. */
  readonly dnsServer: Endpoint | undefined;
  readonly hostLoopback: boolean;
  /** Rules, as `parseRule` reads them: the first that is for a flow says where it goes, `proxy` has the rest. */
  readonly rules?: readonly string[];
  /** Other proxies, which rules name: URLs or chains by name. */
  readonly upstreams?: Readonly<Record<string, string>>;
  /** Ports of flows to addresses that are accepted first, since they tell the name they are for (dishonest). */
  readonly sniff?: readonly number[];
  /** Undefined: this session has the device for itself. */
  readonly share?: SessionShare;
}

export class Session {
  readonly loop: Loop;
  readonly upstream: ProxyUpstream;
  /** How names are looked up. */
  readonly dns: DnsMode;
  readonly #options: SessionOptions;
  /** None: the built-in server. */
  readonly #urls: readonly UpstreamUrl[];
  readonly #addon: Addon | null;
  readonly #server: SocksServer | null;
  readonly #ownSockets: OwnSockets | null;
  /** To which rules send flows. */
  readonly #byRule: readonly ProxyUpstream[];
  /** Null: without rules everything goes to `upstream`. */
  readonly #router: Router | null;
  #tunnel: Tunnel | null = null;

  private constructor(
    options: SessionOptions,
    urls: readonly UpstreamUrl[],
    native: Addon | null,
    loop: Loop,
    upstream: ProxyUpstream,
    server: SocksServer | null,
    ownSockets: OwnSockets | null,
    byRule: readonly ProxyUpstream[],
    router: Router | null,
  ) {
    this.#options = options;
    this.#urls = urls;
    this.dns = dnsMode(options, urls);
    this.#addon = native;
    this.loop = loop;
    this.upstream = upstream;
    this.#server = server;
    this.#ownSockets = ownSockets;
    this.#byRule = byRule;
    this.#router = router;
  }

  /**
   * Maps the memory, finds the upstream and resolves its name.
   *
   * @throws TunnelError ERR_USAGE, ERR_PROXY_URL, ERR_PROXY_UNREACHABLE, ERR_ADDON_MISSING, ERR_MEMORY.
   */
  static async open(options: SessionOptions): Promise<Session> {
    const { log } = options;
    const written = writtenUrls(options).map(parseUpstream);
    const urls = completeUpstreams(written, options.settings);
    if (options.share !== undefined && (options.dns === "fake" || options.dnsReal?.length)) {
      throw new TunnelError(
        "ERR_USAGE",
        "cannot use --dns fake with --workers: what a name stands for is known to one thread only; leave one of them out",
      );
    }
    if (dnsMode(options, urls) !== "fake" && (options.dnsReal ?? []).length > 0) {
      throw new TunnelError(
        "ERR_USAGE",
        "cannot use --dns-real: no name is anything else than real; add --dns fake, or leave it out",
      );
    }
    refuseIdleFlags(options, urls);
    const rules = (options.rules ?? []).map(parseRule);
    const others = namedUrls(options);
    checkUpstreams(rules, others.keys());
    const hasDomain = rules.some(({ domains }) => domains.length > 0);
    if (options.sniff !== undefined && !hasDomain && dnsMode(options, urls) !== "fake") {
      throw new TunnelError(
        "ERR_USAGE",
        "cannot use --sniff: no rule asks for a domain, and no name is sent to the proxy; add one, or --dns fake, or leave it out",
      );
    }
    const native = options.native ? addon() : null;
    if (native === null && urls.length === 0) {
      throw new TunnelError(
        "ERR_USAGE",
        "--binding tuntap2 has no built-in proxy; give one with -p socks5://host:port",
      );
    }
    const whole = urls.length === 0 ? mapMemory(native!, MEMORY_OCTETS_WITH_SERVER) : null;
    const [memory, serverMemory] =
      whole === null
        ? [native === null ? plainMemory() : mapMemory(native), null]
        : splitPages(whole, STACK_OCTETS);
    const loop = new Loop(native, memory, options.share?.origin);
    const ownSockets = native === null ? null : new OwnSockets(native, options.share?.sockets);
    const environment: SocketEnvironment = {
      addon: native,
      poller: loop.poller,
      memory,
      timers: loop.timers,
      turn: loop,
      log,
      mark: options.fwmark,
      device: options.interface,
      sources: options.sources ?? [],
      dialDeadline: DIAL_DEADLINE,
      pipeline: options.pipeline ?? "auto",
      ...(ownSockets === null ? {} : { ownSockets }),
    };
    let server: SocksServer | null = null;
    try {
      let builtIn: ProxyUpstream | null = null;
      if (serverMemory !== null) {
        const { user, password } = randomCredentials();
        server = builtInServer(native!, loop, serverMemory, log, {
          credentials: new Map([[user, password]]),
          mark: options.fwmark,
          device: options.interface,
          sources: options.sources ?? [],
          ...(ownSockets === null ? {} : { ownSockets }),
        });
        const { port } = server.listen();
        const own = parseProxyUrl(`socks5://${user}:${password}@127.0.0.1:${port}`);
        // What leads out are the server's own sockets; that it takes a handshake in one write is known.
        const within = {
          ...environment,
          mark: 0,
          device: "",
          sources: [],
          pipeline: "on",
          isHonest: true,
        } as const;
        builtIn = openUpstreams([{ hops: [own], max: 0 }], within);
      }
      const pool = poolOptions(options);
      const upstream = builtIn ?? openUpstreams(urls, environment, pool);
      const named = new Map<string, ProxyUpstream>();
      for (const [name, url] of others) named.set(name, openUpstreams([url], environment, pool));
      const goesDirectly = rules.some(({ action }) => action.kind === "direct");
      const direct = goesDirectly ? openUpstreams([parseUpstream("direct://")], environment) : null;
      const router =
        rules.length === 0 ? null : new Router(rules, { proxy: upstream, direct, named });
      const byRule = [...named.values(), ...(direct === null ? [] : [direct])];
      await Promise.all([upstream, ...byRule].map((each) => each.resolve()));
      return new Session(options, urls, native, loop, upstream, server, ownSockets, byRule, router);
    } catch (error) {
      server?.close();
      loop.close();
      throw error;
    }
  }

  /** Tries the proxy once: connection, method, password. Null: it will have us. */
  probe(): Promise<Refusal | null> {
    return this.upstream.probe();
  }

  /** Serves a device. The session owns the tunnel from now on. Once. */
  serve(device: TunDevice, onDeviceError: (error: TunnelError) => void): Tunnel {
    const { loop } = this;
    const options = this.#options;
    const { share } = options;
    if (this.#urls.length === 0) {
      options.log.info?.("no proxy given: using the built-in one, which goes out directly");
    }
    const relay = new Relay(
      {
        upstream: this.upstream,
        ...(this.#router === null ? {} : { router: this.#router }),
        ...(options.sniff === undefined
          ? {}
          : { sniff: { ports: options.sniff, byName: this.dns === "fake" } }),
        direct: this.#addon === null ? null : new LoopbackUpstream(this.#addon, loop),
        dns: {
          mode: this.dns,
          server: this.#resolver(),
          addresses: [endpointOf(RESOLVER_IPV4), endpointOf(RESOLVER_IPV6)],
          fakeRanges: FAKE_RANGES,
          real: this.#realNames(),
        },
        hostLoopback: {
          enabled: options.hostLoopback,
          name: HOST_LOOPBACK_NAME,
          addresses: [endpointOf(HOST_LOOPBACK_IPV4), endpointOf(HOST_LOOPBACK_IPV6)],
        },
        reserved: RESERVED,
        ...(this.#ownSockets === null ? {} : { own: this.#ownSockets }),
        ...this.#bounds(),
        udp: options.udp ?? "per-source",
        udpTimeout: options.udpTimeout,
      },
      { memory: loop.memory, timers: loop.timers, log: options.log },
    );
    this.#tunnel = new Tunnel({
      device,
      loop,
      relay,
      ...(share === undefined ? {} : { neighbours: share.neighbours(loop.memory) }),
      stack: {
        secret: share?.secret ?? fillRandom(new Uint32Array(4)),
        ownAddresses: OWN.map(endpointOf),
        icmp: options.icmp,
        tcpIdle: options.tcpIdle,
        tcpHalfClosed: options.tcpHalfClosed,
        congestion: options.congestion ?? "cubic",
        udpTimeout: options.udpTimeout,
      },
      onDeviceError,
    });
    this.#tunnel.start();
    return this.#tunnel;
  }

  /** Ends flows, device, server and loop. Idempotent. */
  close(): void {
    this.#tunnel?.close();
    this.upstream.close();
    for (const upstream of this.#byRule) upstream.close();
    this.#server?.close();
    this.loop.close();
  }

  /** The built-in server has its own bound, and as many descriptors again from the same process. */
  #bounds(): Pick<RelayOptions, "nofile" | "maxAssociations" | "maxDials"> {
    const count = this.#options.share?.count ?? 1;
    const nofile = Math.floor((this.#addon?.nofile().hard ?? 1024) / count);
    const maxDials = Math.ceil(MAX_DIALS / count);
    if (this.#server === null) return { nofile, maxDials };
    const maxAssociations = MAX_ASSOCIATIONS - CLOSING;
    return { nofile: Math.floor(nofile / 2), maxAssociations, maxDials };
  }

  /** Those of the proxies among them: where we resolve for this machine too, they would be found behind themselves. */
  #realNames(): NamePattern[] {
    // What stands behind another in a chain is not looked up here.
    const all = [...this.#urls, ...namedUrls(this.#options).values()];
    const own = all.map(({ hops: [first] }) => parseNamePattern(first?.host ?? ""));
    return [
      ...(this.#options.dnsReal ?? []),
      ...own.filter((pattern) => pattern !== null).map((pattern) => ({ ...pattern, isGlob: true })),
    ];
  }

  #resolver(): Endpoint | null {
    const { dnsServer, log } = this.#options;
    if (this.dns === "off") return null;
    if (dnsServer !== undefined) return dnsServer;
    const { server, fallback } = hostResolver();
    if (fallback) {
      log.info?.(
        `this host names no resolver but its own loopback: names are asked at ${formatEndpoint(server)}`,
      );
    }
    return server;
  }
}

/** Proxies that rules name. */
function namedUrls({ upstreams }: SessionOptions): ReadonlyMap<string, UpstreamUrl> {
  const entries = Object.entries(upstreams ?? {});
  return new Map(entries.map(([name, text]) => [name, parseUpstream(text)]));
}

/** What the user wrote, in its order. */
function writtenUrls({ proxy, env }: SessionOptions): readonly string[] {
  if (typeof proxy === "string") return [proxy];
  if (proxy !== undefined && proxy.length > 0) return proxy;
  const everywhere = env["ALL_PROXY"] || env["all_proxy"];
  return everywhere ? [everywhere] : [];
}

/** @throws TunnelError ERR_USAGE for an option that would have no effect. */
function refuseIdleFlags(options: SessionOptions, urls: readonly UpstreamUrl[]): void {
  const { pool, poolProbe = 0, proxyMax = 0 } = options;
  const flag = pool !== undefined ? "--pool" : poolProbe > 0 ? "--pool-probe" : null;
  if (flag !== null && urls.length < 2) {
    const why = "is for several proxies; give more of them, each with a -p of its own";
    throw new TunnelError("ERR_USAGE", `cannot use ${flag}: it ${why}, or leave it out`);
  }
  if (proxyMax > 0 && urls.length === 0) {
    throw new TunnelError(
      "ERR_USAGE",
      "cannot use --proxy-max: the built-in proxy needs no limit; give a proxy with -p, or leave it out",
    );
  }
}

/** What sessions that share a device have together at a proxy is divided among them. */
function poolOptions({
  pool,
  poolProbe,
  proxyMax = 0,
  share,
}: SessionOptions): OpenUpstreamsOptions {
  return {
    policy: pool ?? "failover",
    probeInterval: poolProbe ?? 0,
    max: proxyMax,
    share: share?.count ?? 1,
  };
}

/**
 * By default names travel if the proxies resolve them. Of sessions that share a device each would give its own meaning to
 * an address that "fake" hands out.
 */
function dnsMode({ dns, share }: SessionOptions, urls: readonly UpstreamUrl[]): DnsMode {
  return dns ?? (resolveNames(urls) && share === undefined ? "fake" : "auto");
}

/** Associations that the server may still be closing when others are made in their place. */
const CLOSING = 64;

/** Addresses that answer ping under --icmp own. */
const OWN: readonly string[] = [
  RESOLVER_IPV4,
  RESOLVER_IPV6,
  HOST_LOOPBACK_IPV4,
  HOST_LOOPBACK_IPV6,
];

/** Pages of the stack where the built-in server has the rest: two slots of 112 KiB for each of its 6,300 clients. */
const STACK_OCTETS = 640 << 20;

/** On loopback, behind random credentials: other local users must not use it. It reaches what we reach. */
function builtInServer(
  native: Addon,
  loop: Loop,
  memory: MemoryLayout,
  log: Log,
  options: Pick<SocksServerOptions, "credentials" | "mark" | "device" | "sources" | "ownSockets">,
): SocksServer {
  return new SocksServer(
    { ...options, address: "127.0.0.1", port: 0, allowPrivate: true, open: false },
    { addon: native, poller: loop.poller!, memory, timers: loop.timers, log, turn: loop },
  );
}
