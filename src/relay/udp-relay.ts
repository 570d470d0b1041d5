/**
 * One client endpoint ⇄ the associations it needs: through the proxy, and to the host's loopback.
 *
 * Endpoint-independent mapping (RFC 4787 REQ-1): whatever the targets, one association; what comes back keeps its
 * source and is never filtered (full cone). Queries go to the shared `DnsRelay` instead, datagram by datagram, so that a
 * resolver with a new port per query costs no descriptor.
 *
 * A name is a target like others (`--dns fake`), but the answers come from an address that only the proxy knows. So an
 * association carries one name and port at most, and what comes from that port is the name's; all else keeps its source.
 * The first name shares the association of the flow, so that what a STUN server says of it holds for the peers; other
 * names, and addresses with the port of the first, have associations of their own. Under `--udp shared` all of this is
 * udp-shared.ts, but for the host's loopback.
 *
 * Rules are asked datagram by datagram. Each upstream that they name has an association for all addresses that go there, and
 * one for each name; to a target, rules being what they are, datagrams go the same way for ever.
 */

import type { RefuseReason, UdpFlow, UdpHandler } from "../stack/ports.ts";
import { Endpoint } from "../stack/wire/address.ts";
import { DNS_PORT, loopbackOf, Place } from "./address-plan.ts";
import type { RelayContext } from "./context.ts";
import { isQuery } from "./dns-message.ts";
import type { DnsClient, DnsRelay } from "./dns-relay.ts";
import type { FakeName, FakeNames } from "./fake-names.ts";
import type { UdpAnswer } from "./refusal.ts";
import type { Route, Router } from "./router.ts";
import { type NamedTarget, UdpPath, type UdpPathOwner, type WaitingRoom } from "./udp-path.ts";
import { SharedEndpoint, type SharedUpstreams } from "./udp-shared.ts";
import type { UdpUpstream } from "./udp-upstream.ts";

/** Idle life of a flow that only asked for names: its port is rarely used again. */
const DNS_FLOW_TIMEOUT = 10_000;

/** Names of one flow, besides the first, that have an association; the one unused for longest gives way. */
export const MAX_NAMED = 16;

/** What the flows of one relay use. */
export interface UdpRoutes {
  readonly proxy: UdpUpstream;
  /** Null: everything outside goes to `proxy`. */
  readonly router: Router | null;
  /** Null: every endpoint has associations of its own. */
  readonly shared: SharedUpstreams | null;
  /** Null: the host's loopback cannot be reached. */
  readonly host: UdpUpstream | null;
  /** Null: lookups are refused (`--dns off`). */
  readonly dns: DnsRelay | null;
  /** Null: no address stands for a name. */
  readonly names: FakeNames | null;
  readonly room: WaitingRoom;
  /** Idle life of a flow, ms. */
  readonly udpTimeout: number;
  /** Called once per flow that ended. */
  ended(relay: UdpRelay): void;
}

export class UdpRelay implements UdpHandler, UdpPathOwner, DnsClient {
  /** Null once the flow has ended. */
  flow: UdpFlow | null;
  readonly #context: RelayContext;
  readonly #routes: UdpRoutes;
  #proxy: UdpPath | null = null;
  #host: UdpPath | null = null;
  /** To addresses with the port of the name that has #proxy. */
  #apart: UdpPath | null = null;
  /** To addresses, by upstreams that rules name: one each. */
  readonly #routed: UdpPath[] = [];
  /** To names, the longest unused first. */
  #named: UdpPath[] = [];
  /** Among those that share associations, by upstreams: one each. */
  readonly #sharing: SharedEndpoint[] = [];
  /** What the rules said last. */
  #lastRuled: { readonly target: Endpoint; fake: FakeName | null; route: Route } | null = null;
  #shortLived = false;
  #asked = false;
  #ended = false;
  readonly #scratch: Endpoint = new Endpoint();

  constructor(context: RelayContext, routes: UdpRoutes, flow: UdpFlow) {
    this.#context = context;
    this.#routes = routes;
    this.flow = flow;
    context.stats.udpFlows++;
  }

  /** Ends the flow from our side. */
  close(): void {
    this.flow?.close();
    this.onClosed();
  }

  onDatagram(target: Endpoint, start: number, end: number, segment: number): void {
    const place = this.#context.plan.place(target);
    const proxy = this.#proxyFor(target, place);
    if (proxy === null) return;
    const isOurs = place === Place.OUTSIDE && proxy === this.#routes.proxy;
    if (target.port === DNS_PORT && (place === Place.RESOLVER || isOurs)) {
      if (this.#lookUp(target, place, start, end, segment)) return;
    }
    if (this.#shortLived) {
      this.#shortLived = false;
      this.flow?.setTimeout(this.#routes.udpTimeout);
    }
    const { shared } = this.#routes;
    if (shared !== null && (place === Place.OUTSIDE || place === Place.FAKE)) {
      const fake = place === Place.FAKE ? (this.#routes.names?.at(target) ?? null) : null;
      if (place === Place.FAKE && fake === null) {
        this.#refuseNameless(target);
        return;
      }
      const endpoint = this.#sharingAt(proxy, shared);
      endpoint.shared.send(endpoint, target, fake, start, end, segment);
    } else if (place === Place.OUTSIDE) {
      this.#byAddress(target, proxy).send(target, start, end, segment);
    } else if (place === Place.FAKE) {
      const path = this.#byName(target, proxy);
      if (path === null) this.#refuseNameless(target);
      else path.send(target, start, end, segment);
    } else if (place === Place.HOST && this.#routes.host !== null) {
      this.#host ??= this.#path(this.#routes.host);
      this.#host.send(loopbackOf(target, this.#scratch), start, end, segment);
    } else {
      this.#answer(target, "port-unreachable");
    }
  }

  onBatchEnd(): void {
    this.#proxy?.flush();
    this.#host?.flush();
    this.#apart?.flush();
    for (let i = 0; i < this.#routed.length; i++) (this.#routed[i] as UdpPath).flush();
    for (let i = 0; i < this.#sharing.length; i++) {
      (this.#sharing[i] as SharedEndpoint).shared.flush();
    }
    for (let i = 0; i < this.#named.length; i++) (this.#named[i] as UdpPath).flush();
    this.#flushQueries();
  }

  onClosed(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.flow = null;
    // A flow that gives way in the middle of a batch hears no end of it.
    this.#flushQueries();
    for (const path of [this.#proxy, this.#host, this.#apart]) this.#end(path);
    for (const path of [...this.#routed, ...this.#named]) this.#end(path);
    for (const endpoint of this.#sharing) {
      endpoint.shared.flush();
      endpoint.shared.leave(endpoint);
    }
    this.#named = [];
    this.#context.stats.udpFlows--;
    this.#routes.ended(this);
  }

  // ---- from the paths -----------------------------------------------------------------------------

  deliver(path: UdpPath, from: Endpoint, start: number, end: number): void {
    const source = this.#seenByClient(path, from);
    if (source !== null && this.flow?.send(source, start, end)) this.#context.stats.datagramsDown++;
    else this.#context.stats.datagramsDropped++;
  }

  refuse(path: UdpPath, target: Endpoint, answer: UdpAnswer): void {
    const seen = this.#seenByClient(path, target);
    if (seen !== null && answer !== "silence") this.#answer(seen, answer);
  }

  /** A flow that has nothing else ends: its port may never be used again, and flows outnumber associations by far. */
  gaveWay(path: UdpPath): void {
    const other = path === this.#proxy ? this.#host : this.#proxy;
    const hasOthers = other !== null || this.#sharing.length > 0;
    if (!hasOthers && this.#routed.every((each) => each.isIdle)) this.close();
  }

  tooBig(path: UdpPath, target: Endpoint, mtu: number): void {
    const seen = this.#seenByClient(path, target);
    if (seen !== null) this.flow?.tooBig(seen, mtu);
  }

  nameOf({ named }: UdpPath, target: Endpoint): string | null {
    return named !== null && target.port === named.port ? named.fake.name : null;
  }

  // ---- within ------------------------------------------------------------------------------------

  /** Where datagrams to the outside go; null: nowhere, a rule has taken care of them. */
  #proxyFor(target: Endpoint, place: Place): UdpUpstream | null {
    const { proxy, router, names } = this.#routes;
    if (router === null || (place !== Place.OUTSIDE && place !== Place.FAKE)) return proxy;
    const fake = place === Place.FAKE ? (names?.at(target) ?? null) : null;
    // It stands for no name: no rule is needed to refuse it.
    if (place === Place.FAKE && fake === null) return proxy;
    const route = this.#routeOf(router, target, fake);
    if (route.kind === "upstream") return route.udp ?? proxy;
    if (route.kind === "drop") this.#context.stats.rulesDropped++;
    else {
      this.#context.stats.rulesRejected++;
      this.#answer(target, route.reason);
    }
    return null;
  }

  /** Asked once for datagrams to one target in a row: rules may be many. */
  #routeOf(router: Router, target: Endpoint, fake: FakeName | null): Route {
    const last = this.#lastRuled;
    if (last !== null && last.fake === fake && last.target.equals(target)) return last.route;
    const route = router.route("udp", target, fake?.name ?? null);
    if (last === null) this.#lastRuled = { target: target.clone(), fake, route };
    else {
      last.target.copy(target);
      last.fake = fake;
      last.route = route;
    }
    return route;
  }

  /** True when the datagrams were taken care of; false: they are no queries, and not for our resolver. */
  #lookUp(target: Endpoint, place: Place, start: number, end: number, segment: number): boolean {
    const dns = this.#routes.dns;
    if (dns === null) {
      this.#answer(target, "port-unreachable");
      return true;
    }
    if (place !== Place.RESOLVER && !isQuery(this.#context.memory.bytes, start, end)) return false;
    const onlyAsks = this.#proxy === null && this.#host === null && this.#sharing.length === 0;
    if (onlyAsks && !this.#hasRuledWays && !this.#shortLived) {
      this.#shortLived = true;
      this.flow?.setTimeout(DNS_FLOW_TIMEOUT);
    }
    this.#asked = true;
    const step = segment > 0 ? segment : end - start;
    for (let at = start; at < end; at += step) {
      dns.query(this, target, at, Math.min(at + step, end));
    }
    return true;
  }

  #flushQueries(): void {
    if (!this.#asked) return;
    this.#asked = false;
    this.#routes.dns?.flush();
  }

  #sharingAt(upstream: UdpUpstream, shared: SharedUpstreams): SharedEndpoint {
    for (let i = 0; i < this.#sharing.length; i++) {
      const endpoint = this.#sharing[i] as SharedEndpoint;
      if (endpoint.shared.upstream === upstream) return endpoint;
    }
    const endpoint = new SharedEndpoint(shared.of(upstream), this.flow as UdpFlow);
    this.#sharing.push(endpoint);
    return endpoint;
  }

  #refuseNameless(target: Endpoint): void {
    this.#context.stats.namelessFlows++;
    this.#answer(target, "host-unreachable");
  }

  #path(upstream: UdpUpstream, named: NamedTarget | null = null): UdpPath {
    if (named !== null) this.#routes.names?.use(named.fake);
    return new UdpPath(this, this.#context, this.#routes.room, upstream, named);
  }

  #end(path: UdpPath | null): void {
    path?.close();
    const now = this.#context.timers.now();
    if (path?.named) this.#routes.names?.release(path.named.fake, now);
  }

  #byAddress(target: Endpoint, proxy: UdpUpstream): UdpPath {
    if (proxy !== this.#routes.proxy) return this.#byUpstream(proxy);
    this.#proxy ??= this.#path(proxy);
    if (this.#proxy.named?.port !== target.port) return this.#proxy;
    this.#apart ??= this.#path(proxy);
    return this.#apart;
  }

  get #hasRuledWays(): boolean {
    return this.#routed.length + this.#named.length > 0;
  }

  #byUpstream(upstream: UdpUpstream): UdpPath {
    for (let i = 0; i < this.#routed.length; i++) {
      const path = this.#routed[i] as UdpPath;
      if (path.upstream === upstream) return path;
    }
    const path = this.#path(upstream);
    this.#routed.push(path);
    return path;
  }

  /** Null: the address stands for no name. */
  #byName(target: Endpoint, proxy: UdpUpstream): UdpPath | null {
    const { names } = this.#routes;
    const { port } = target;
    const fake = names?.at(target) ?? null;
    if (fake === null) return null;
    if (proxy === this.#routes.proxy) {
      this.#proxy ??= this.#path(proxy, { fake, port });
      if (isFor(this.#proxy, fake, port)) return this.#proxy;
    }
    const paths = this.#named;
    for (let i = paths.length - 1; i >= 0; i--) {
      const path = paths[i] as UdpPath;
      if (!isFor(path, fake, port)) continue;
      paths.copyWithin(i, i + 1);
      paths[paths.length - 1] = path;
      return path;
    }
    if (paths.length >= MAX_NAMED) this.#end(paths.shift() as UdpPath);
    const path = this.#path(proxy, { fake, port });
    paths.push(path);
    return path;
  }

  /** The name the client knows `remote` by; null for one that it cannot know. */
  #seenByClient(path: UdpPath, remote: Endpoint): Endpoint | null {
    if (path === this.#host) return this.#context.plan.hostOf(remote, this.#scratch);
    const { named } = path;
    const { flow } = this;
    if (named !== null && named.port === remote.port && flow !== null) {
      this.#scratch.port = remote.port;
      return this.#routes.names?.address(named.fake, flow.client.isV4, this.#scratch) ?? null;
    }
    // A name that is not the path's.
    return remote.isUnspecified ? null : remote;
  }

  #answer(target: Endpoint, reason: RefuseReason): void {
    this.#context.stats.datagramsRefused++;
    this.flow?.refuse(target, reason);
  }
}

function isFor({ named }: UdpPath, fake: FakeName, port: number): boolean {
  return named !== null && named.fake === fake && named.port === port;
}
