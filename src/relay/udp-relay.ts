/**
 * One client endpoint ⇄ the associations it needs: through the proxy, and to the host's loopback.
 *
 * Endpoint-independent mapping (RFC 4787 REQ-1): whatever the targets, one association; what comes back keeps its
 * source and is never filtered (full cone). Queries go to the shared `DnsRelay` instead, datagram by datagram, so that a
 * resolver with a new port per query costs no descriptor.
 */

import type { RefuseReason, UdpFlow, UdpHandler } from "../stack/ports.ts";
import { Endpoint } from "../stack/wire/address.ts";
import { DNS_PORT, loopbackOf, Place } from "./address-plan.ts";
import type { RelayContext } from "./context.ts";
import { isQuery } from "./dns-message.ts";
import type { DnsClient, DnsRelay } from "./dns-relay.ts";
import type { UdpAnswer } from "./refusal.ts";
import { UdpPath, type UdpPathOwner, type WaitingRoom } from "./udp-path.ts";
import type { UdpUpstream } from "./udp-upstream.ts";

/** Idle life of a flow that only asked for names: its port is rarely used again. */
const DNS_FLOW_TIMEOUT = 10_000;

/** What the flows of one relay use. */
export interface UdpRoutes {
  readonly proxy: UdpUpstream;
  /** Null: the host's loopback cannot be reached. */
  readonly host: UdpUpstream | null;
  /** Null: lookups are refused (`--dns off`). */
  readonly dns: DnsRelay | null;
  readonly room: WaitingRoom;
  /** Idle life of a flow, ms. */
  readonly udpTimeout: number;
  /** Called once per flow that ended. */
  ended(relay: UdpRelay): void;
}

const HEADER_V4 = 20 + 8;
const HEADER_V6 = 40 + 8;

export class UdpRelay implements UdpHandler, UdpPathOwner, DnsClient {
  /** Null once the flow has ended. */
  flow: UdpFlow | null;
  readonly #context: RelayContext;
  readonly #routes: UdpRoutes;
  #proxy: UdpPath | null = null;
  #host: UdpPath | null = null;
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
    if (target.port === DNS_PORT && (place === Place.RESOLVER || place === Place.OUTSIDE)) {
      if (this.#lookUp(target, place, start, end, segment)) return;
    }
    if (this.#shortLived) {
      this.#shortLived = false;
      this.flow?.setTimeout(this.#routes.udpTimeout);
    }
    if (place === Place.OUTSIDE) {
      this.#proxy ??= this.#path(this.#routes.proxy);
      this.#proxy.send(target, start, end, segment);
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
    this.#flushQueries();
  }

  onClosed(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.flow = null;
    // A flow that gives way in the middle of a batch hears no end of it.
    this.#flushQueries();
    this.#proxy?.close();
    this.#host?.close();
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
    if (other === null) this.close();
  }

  tooBig(path: UdpPath, target: Endpoint, payload: number): void {
    const seen = this.#seenByClient(path, target);
    if (seen !== null) this.flow?.tooBig(seen, payload + (seen.isV4 ? HEADER_V4 : HEADER_V6));
  }

  // ---- within ------------------------------------------------------------------------------------

  /** True when the datagrams were taken care of; false: they are no queries, and not for our resolver. */
  #lookUp(target: Endpoint, place: Place, start: number, end: number, segment: number): boolean {
    const dns = this.#routes.dns;
    if (dns === null) {
      this.#answer(target, "port-unreachable");
      return true;
    }
    if (place !== Place.RESOLVER && !isQuery(this.#context.memory.bytes, start, end)) return false;
    if (this.#proxy === null && this.#host === null && !this.#shortLived) {
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

  #path(upstream: UdpUpstream): UdpPath {
    return new UdpPath(this, this.#context, this.#routes.room, upstream);
  }

  /** The name the client knows `remote` by; null for one that it cannot know. */
  #seenByClient(path: UdpPath, remote: Endpoint): Endpoint | null {
    return path === this.#host ? this.#context.plan.hostOf(remote, this.#scratch) : remote;
  }

  #answer(target: Endpoint, reason: RefuseReason): void {
    this.#context.stats.datagramsRefused++;
    this.flow?.refuse(target, reason);
  }
}
