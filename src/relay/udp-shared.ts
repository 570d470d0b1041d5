/**
 * Associations at one upstream that several client endpoints share (`--udp shared`): a machine with many endpoints then costs the proxy
 * few connections and sockets.
 *
 * Endpoints share an association while their targets are disjoint (target-sets.ts); one whose target is another's there
 * gets it on a further association. An endpoint stays on its association as long as it can, so its mapping is
 * endpoint-independent but for such targets. What comes from nobody's target is dropped and counted once an
 * association was shared: address- and port-dependent filtering (RFC 4787 §5). Before, it is its only endpoint's.
 */

import type { UdpFlow } from "../stack/ports.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { RelayContext } from "./context.ts";
import type { FakeName, FakeNames } from "./fake-names.ts";
import type { UdpAnswer } from "./refusal.ts";
import { SharingEndpoint, Target, TargetSet, TargetTable } from "./target-sets.ts";
import { UdpPath, type UdpPathOwner, type WaitingRoom } from "./udp-path.ts";
import type { UdpUpstream } from "./udp-upstream.ts";

/** Endpoints and targets of one association. */
export const MAX_SHARING = 256;
export const MAX_TARGETS_SHARED = 1024;
/** How long an association without a target is kept for the next one, ms. */
export const LINGER = 60_000;
/** Datagrams that wait for one association: one of each endpoint. */
const MAX_WAITING: number = MAX_SHARING;
/** Associations that are looked at for a new target, of the oldest and of the youngest each. */
const MAX_LOOK = 32;

export interface SharedUdpParts {
  readonly context: RelayContext;
  readonly room: WaitingRoom;
  /** Null: no address stands for a name. */
  readonly names: FakeNames | null;
  /** Two random words. */
  readonly secret: Uint32Array;
}

/** Those of all upstreams: each has its own. */
export class SharedUpstreams {
  readonly #parts: SharedUdpParts;
  readonly #known = new Map<UdpUpstream, SharedUdp>();

  constructor(parts: SharedUdpParts) {
    this.#parts = parts;
  }

  of(upstream: UdpUpstream): SharedUdp {
    const known = this.#known.get(upstream) ?? new SharedUdp(this.#parts, upstream);
    this.#known.set(upstream, known);
    return known;
  }

  /** The relay ends. */
  close(): void {
    for (const shared of this.#known.values()) shared.close();
  }
}

/** A client endpoint at one upstream. */
export class SharedEndpoint extends SharingEndpoint {
  readonly shared: SharedUdp;

  constructor(shared: SharedUdp, flow: UdpFlow) {
    super(flow);
    this.shared = shared;
  }
}

export class SharedUdp {
  readonly table: TargetTable;
  readonly upstream: UdpUpstream;
  readonly #parts: SharedUdpParts;
  readonly #paths: SharedPath[] = [];
  /** Those with datagrams to flush, linked by `nextDirty`. */
  #dirty: SharedPath | null = null;
  #nextId = 1;

  constructor(parts: SharedUdpParts, upstream: UdpUpstream) {
    this.#parts = parts;
    this.upstream = upstream;
    this.table = new TargetTable(parts.secret);
  }

  /**
   * Sends payload [start, end) of the memory as {@link UdpPath.send} does, to `address`, by the name of `fake` if there
   * is one.
   */
  send(
    endpoint: SharingEndpoint,
    address: Endpoint,
    fake: FakeName | null,
    start: number,
    end: number,
    segment: number,
  ): void {
    const now = this.#parts.context.timers.now();
    let target = this.table.find(endpoint.flow.client, address);
    if (target === null) target = this.#admit(endpoint, address, fake, now);
    else this.table.touch(target, now);
    const set = target.set as SharedPath;
    if (!set.isDirty) {
      set.isDirty = true;
      set.nextDirty = this.#dirty;
      this.#dirty = set;
    }
    set.path.send(address, start, end, segment);
  }

  /** Hands what was sent to the kernel. */
  flush(): void {
    let set = this.#dirty;
    this.#dirty = null;
    while (set !== null) {
      const next: SharedPath | null = set.nextDirty;
      set.isDirty = false;
      set.nextDirty = null;
      set.path.flush();
      set = next;
    }
  }

  /** The client endpoint is gone. */
  leave(endpoint: SharingEndpoint): void {
    for (const target of endpoint.targets) this.remove(target);
  }

  /** `target` is nobody's any more. */
  remove(target: Target): void {
    const { timers } = this.#parts.context;
    this.table.remove(target);
    if (target.fake !== null) this.#parts.names?.release(target.fake, timers.now());
    (target.set as SharedPath).lingerIfIdle();
  }

  /** `path` is of no use any more. */
  forget(path: SharedPath): void {
    for (const target of path.targets) this.remove(target);
    this.#paths.splice(this.#paths.indexOf(path), 1);
    path.end();
  }

  /** The relay ends. */
  close(): void {
    for (const path of [...this.#paths]) this.forget(path);
  }

  #admit(endpoint: SharingEndpoint, address: Endpoint, fake: FakeName | null, now: number): Target {
    const { table } = this;
    if (table.isFull) {
      this.#parts.context.stats.targetsEvicted++;
      this.remove(table.oldest as Target);
    }
    const path = this.#pathFor(endpoint, address, fake, now);
    const other = table.expected(path, address);
    if (other !== null) this.remove(other);
    const target = new Target(endpoint, path, address, fake);
    if (fake !== null) this.#parts.names?.use(fake);
    table.add(target, now);
    path.joined(endpoint);
    return target;
  }

  #pathFor(
    endpoint: SharingEndpoint,
    address: Endpoint,
    fake: FakeName | null,
    now: number,
  ): SharedPath {
    // Its own first. Targets are in the order in which they came, so this is the association it began with.
    let looked = 0;
    for (const { set } of endpoint.targets) {
      if (this.#fits(set as SharedPath, endpoint, address, fake, now)) return set as SharedPath;
      if (++looked === MAX_LOOK) break;
    }
    const paths = this.#paths;
    for (let i = 0; i < paths.length; i++) {
      // The others in between are likely as full as these.
      if (i === MAX_LOOK) i = Math.max(i, paths.length - MAX_LOOK);
      const path = paths[i] as SharedPath;
      if (this.#fits(path, endpoint, address, fake, now)) return path;
    }
    const path = new SharedPath(this, this.#parts, this.#nextId++);
    paths.push(path);
    return path;
  }

  #fits(
    path: SharedPath,
    endpoint: SharingEndpoint,
    address: Endpoint,
    fake: FakeName | null,
    now: number,
  ): boolean {
    if (path.targets.size >= MAX_TARGETS_SHARED) return false;
    if (path.endpoints.size >= MAX_SHARING && !path.endpoints.has(endpoint)) return false;
    return this.table.admits(path, address, fake, now);
  }
}

/** One association and those that share it. */
export class SharedPath extends TargetSet implements UdpPathOwner, TimerHandler {
  readonly path: UdpPath;
  isDirty = false;
  nextDirty: SharedPath | null = null;
  readonly #shared: SharedUdp;
  readonly #context: RelayContext;
  readonly #linger = new Timer(this);
  /** Who came first, and whether others came: what is late for one of them must not reach another. */
  #first: SharingEndpoint | null = null;
  #isShared = false;

  constructor(shared: SharedUdp, { context, room }: SharedUdpParts, id: number) {
    super(id);
    this.#shared = shared;
    this.#context = context;
    this.path = new UdpPath(this, context, room, shared.upstream, null, MAX_WAITING);
  }

  joined(endpoint: SharingEndpoint): void {
    this.#first ??= endpoint;
    if (this.#first !== endpoint) this.#isShared = true;
  }

  lingerIfIdle(): void {
    const { timers } = this.#context;
    if (this.targets.size === 0) timers.set(this.#linger, timers.now() + LINGER);
  }

  onTimer(): void {
    if (this.targets.size === 0) this.#shared.forget(this);
  }

  end(): void {
    this.#context.timers.clear(this.#linger);
    this.path.close();
  }

  // ---- from the association -----------------------------------------------------------------------

  nameOf(_path: UdpPath, target: Endpoint): string | null {
    const named = this.#shared.table.named(this, target.port);
    // What waited for the association may be to an address that had the port before.
    return named?.address.equals(target) === true ? (named.fake?.name ?? null) : null;
  }

  deliver(_path: UdpPath, from: Endpoint, start: number, end: number): void {
    const { stats, timers } = this.#context;
    const target = this.#shared.table.expected(this, from);
    let { flow } = this.#first as SharingEndpoint;
    let source = from;
    if (target !== null) {
      target.isAnswered = true;
      this.#shared.table.touch(target, timers.now());
      flow = target.endpoint.flow;
      source = target.address;
    } else if (this.#isShared || from.isUnspecified) {
      stats.datagramsUnsolicited++;
      return;
    }
    if (flow.send(source, start, end)) stats.datagramsDown++;
    else stats.datagramsDropped++;
  }

  refuse(_path: UdpPath, target: Endpoint, answer: UdpAnswer): void {
    const flow = this.#flowOf(target);
    if (flow === undefined || answer === "silence") return;
    this.#context.stats.datagramsRefused++;
    flow.refuse(target, answer);
  }

  tooBig(_path: UdpPath, target: Endpoint, mtu: number): void {
    this.#flowOf(target)?.tooBig(target, mtu);
  }

  gaveWay(): void {
    this.#shared.forget(this);
  }

  #flowOf(target: Endpoint): SharingEndpoint["flow"] | undefined {
    return this.#shared.table.expected(this, target)?.endpoint.flow;
  }
}
