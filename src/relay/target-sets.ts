/**
 * Which endpoint sends to which target through which shared association, found from either side (`--udp shared`).
 *
 * On one association a target belongs to one endpoint, so that what comes from it is that endpoint's. The answers to a
 * name (`--dns fake`) come from an address that only the proxy knows: so a name has its port for itself there.
 *
 * A target may be taken over from an endpoint that was silent with it for as long as a NAT keeps a mapping (RFC 4787
 * REQ-5): two minutes, or ten seconds if it has answered and its port is a well-known one (REQ-5a), as resolvers need it.
 * Bounded; the longest unused gives way. Nothing is allocated but for a new target.
 */

import { FlowTable } from "../stack/flow-table.ts";
import type { UdpFlow } from "../stack/ports.ts";
import { Endpoint } from "../stack/wire/address.ts";
import type { FakeName } from "./fake-names.ts";

/** Targets of all endpoints together. */
export const MAX_TARGETS = 16_384;

/** Silence after which a target may be taken over, ms. */
export const TARGET_LIFE = 120_000;
export const WELL_KNOWN_LIFE = 10_000;
const WELL_KNOWN_PORTS = 1024;

/** A client endpoint among others. */
export class SharingEndpoint {
  readonly flow: UdpFlow;
  readonly targets: Set<Target> = new Set();

  constructor(flow: UdpFlow) {
    this.flow = flow;
  }
}

/** The targets of one association. */
export class TargetSet {
  readonly targets: Set<Target> = new Set();
  /** With the number of their targets here. */
  readonly endpoints: Map<SharingEndpoint, number> = new Map();
  /** Its half of the key. */
  readonly key: Endpoint;

  /** `id`: no other set has it. */
  constructor(id: number) {
    this.key = new Endpoint().set(0, 0, 0, id, 0);
  }
}

/** A target of one endpoint. The fields from `index` on belong to the table. */
export class Target {
  readonly endpoint: SharingEndpoint;
  readonly set: TargetSet;
  /** As the client knows it. */
  readonly address: Endpoint;
  /** Not null: it goes by this name. */
  readonly fake: FakeName | null;
  /** Something came from it. */
  isAnswered = false;
  lastUsed = 0;
  index = -1;
  indexInSet = -1;
  older: Target | null = null;
  younger: Target | null = null;

  constructor(endpoint: SharingEndpoint, set: TargetSet, address: Endpoint, fake: FakeName | null) {
    this.endpoint = endpoint;
    this.set = set;
    this.address = address.clone();
    this.fake = fake;
  }

  /** Another endpoint may have it. */
  isFree(now: number): boolean {
    const isShort = this.isAnswered && this.address.port < WELL_KNOWN_PORTS;
    return now - this.lastUsed >= (isShort ? WELL_KNOWN_LIFE : TARGET_LIFE);
  }
}

/** What one port of one set is used for. */
interface PortUse {
  readonly index: number;
  /** Addresses with this port. */
  count: number;
  named: Target | null;
}

export class TargetTable {
  /** Client and target. */
  readonly #sent: FlowTable;
  readonly #bySent: (Target | undefined)[] = [];
  /** Set and target; not those by name. */
  readonly #expected: FlowTable;
  readonly #byExpected: (Target | undefined)[] = [];
  /** Set and port. */
  readonly #ports: FlowTable;
  readonly #byPort: (PortUse | undefined)[] = [];
  readonly #port: Endpoint = new Endpoint();
  #oldest: Target | null = null;
  #youngest: Target | null = null;

  /** `secret`: two words for the hash. */
  constructor(secret: Uint32Array, limit: number = MAX_TARGETS) {
    this.#sent = new FlowTable(secret, limit);
    this.#expected = new FlowTable(secret, limit);
    this.#ports = new FlowTable(secret, limit);
  }

  get isFull(): boolean {
    return this.#sent.size >= this.#sent.bound;
  }

  /** The longest unused. */
  get oldest(): Target | null {
    return this.#oldest;
  }

  /** What `client` sends to as `address`; null: nothing yet. */
  find(client: Endpoint, address: Endpoint): Target | null {
    const index = this.#sent.find(client, address);
    return index < 0 ? null : (this.#bySent[index] as Target);
  }

  /** Whose it is what comes from `address` through `set`; null: nobody's. */
  expected(set: TargetSet, address: Endpoint): Target | null {
    const index = this.#expected.find(set.key, address);
    return index < 0 ? this.named(set, address.port) : (this.#byExpected[index] as Target);
  }

  /** The name that has `port` in `set`. */
  named(set: TargetSet, port: number): Target | null {
    return this.#use(set, port)?.named ?? null;
  }

  /** True if a new target finds nobody's in its way in `set`, or one that may be taken over: what `expected` says. */
  admits(set: TargetSet, address: Endpoint, fake: FakeName | null, now: number): boolean {
    const use = this.#use(set, address.port);
    if (use === null) return true;
    if (fake !== null && use.count > 0) return false;
    const other = this.expected(set, address);
    return other === null || other.isFree(now);
  }

  /** Adds what `admits` admitted. Not full. */
  add(target: Target, now: number): void {
    const { endpoint, set, address, fake } = target;
    target.index = this.#sent.insert(endpoint.flow.client, address);
    this.#bySent[target.index] = target;
    const use = this.#use(set, address.port) ?? this.#newUse(set, address.port);
    if (fake !== null) {
      use.named = target;
    } else {
      use.count++;
      target.indexInSet = this.#expected.insert(set.key, address);
      this.#byExpected[target.indexInSet] = target;
    }
    set.targets.add(target);
    set.endpoints.set(endpoint, (set.endpoints.get(endpoint) ?? 0) + 1);
    endpoint.targets.add(target);
    target.lastUsed = now;
    this.#append(target);
  }

  /** A datagram went to `target` or came from it. */
  touch(target: Target, now: number): void {
    target.lastUsed = now;
    if (target === this.#youngest) return;
    this.#unlink(target);
    this.#append(target);
  }

  remove(target: Target): void {
    const { endpoint, set, address } = target;
    this.#sent.remove(target.index);
    this.#bySent[target.index] = undefined;
    const use = this.#use(set, address.port) as PortUse;
    if (target.fake !== null) {
      use.named = null;
    } else {
      use.count--;
      this.#expected.remove(target.indexInSet);
      this.#byExpected[target.indexInSet] = undefined;
    }
    if (use.count === 0 && use.named === null) {
      this.#ports.remove(use.index);
      this.#byPort[use.index] = undefined;
    }
    set.targets.delete(target);
    const left = (set.endpoints.get(endpoint) as number) - 1;
    if (left > 0) set.endpoints.set(endpoint, left);
    else set.endpoints.delete(endpoint);
    endpoint.targets.delete(target);
    this.#unlink(target);
  }

  #use(set: TargetSet, port: number): PortUse | null {
    this.#port.port = port;
    const index = this.#ports.find(set.key, this.#port);
    return index < 0 ? null : (this.#byPort[index] as PortUse);
  }

  #newUse(set: TargetSet, port: number): PortUse {
    this.#port.port = port;
    const use = { index: this.#ports.insert(set.key, this.#port), count: 0, named: null };
    this.#byPort[use.index] = use;
    return use;
  }

  #append(target: Target): void {
    target.older = this.#youngest;
    target.younger = null;
    if (this.#youngest === null) this.#oldest = target;
    else this.#youngest.younger = target;
    this.#youngest = target;
  }

  #unlink(target: Target): void {
    if (target.older === null) this.#oldest = target.younger;
    else target.older.younger = target.younger;
    if (target.younger === null) this.#youngest = target.older;
    else target.younger.older = target.older;
  }
}
