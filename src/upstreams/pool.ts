/**
 * Several upstreams as one: each new flow goes to one of those that work, as the policy says, and stays there.
 *
 * Whether an upstream works is seen by what it answers to real flows (pool-member.ts) and, if asked for, to probes. A
 * flow that finds its upstream dead goes to the next one that works, each once, as long as a dial may take: nothing was
 * promised to the client yet. Nothing is moved later. When none works, flows are refused as the last one was.
 */

import { type Log, LogLimiter } from "../log.ts";
import { lacksUdp } from "../relay/refusal.ts";
import type {
  Association,
  AssociationHandler,
  Destination,
  ProxyUpstream,
  Refusal,
  Stream,
  StreamHandler,
} from "../socks/ports.ts";
import { Timer, type TimerHandler, type Timers } from "../stack/timer-wheel.ts";
import { PoolAssociation } from "./pool-association.ts";
import { type Attempt, PoolMember, verdict } from "./pool-member.ts";
import { noneUsable } from "./pool-refusal.ts";
import { PoolStream } from "./pool-stream.ts";

/** Whom a new flow goes to, among those that work: the first, each in turn, the one with the fewest flows, any. */
export type PoolPolicy = "failover" | "round-robin" | "least-loaded" | "random";

export const POOL_POLICIES: readonly PoolPolicy[] = [
  "failover",
  "round-robin",
  "least-loaded",
  "random",
];

/** Members of a pool: each new flow looks at all of them. */
export const MAX_MEMBERS = 64;

export interface PoolOptions {
  readonly policy: PoolPolicy;
  /** Between two probes of each member, ms; 0: real flows alone tell. */
  readonly probeInterval: number;
  /** How long a flow may be sent from one to the next, ms. */
  readonly dialDeadline: number;
  /** Fills its argument with random numbers. */
  readonly random: (words: Uint16Array) => void;
}

/** One member, for whoever looks. */
export interface MemberStatus {
  readonly label: string;
  readonly state: "up" | "down";
  /** Streams and associations on their way or open. */
  readonly active: number;
  readonly total: number;
  /** Of the total, those that found it dead. */
  readonly failures: number;
}

export class Pool implements ProxyUpstream, TimerHandler {
  readonly label: string;
  readonly timers: Timers;
  readonly dialDeadline: number;
  /** Flows that were sent on because an upstream was dead. */
  sentOn = 0;
  /** Flows that were refused because none works. */
  helpless = 0;
  readonly #members: readonly PoolMember[];
  readonly #options: PoolOptions;
  readonly #log: Log;
  readonly #limiter = new LogLimiter();
  readonly #probe: Timer = new Timer(this);
  /** Members whose probe is under way. */
  readonly #probing = new Set<PoolMember>();
  readonly #word = new Uint16Array(1);
  /** Of round-robin: who is asked first. */
  #next = 0;
  /** What the last one that was found dead said. */
  #lastRefusal: Refusal | null = null;
  #closed = false;

  /** At least two upstreams. */
  constructor(
    upstreams: readonly ProxyUpstream[],
    environment: { readonly timers: Timers; readonly log: Log },
    options: PoolOptions,
  ) {
    this.#members = upstreams.map((upstream) => new PoolMember(upstream));
    this.#options = options;
    this.#log = environment.log;
    this.timers = environment.timers;
    this.dialDeadline = options.dialDeadline;
    if (options.probeInterval > 0) {
      this.timers.set(this.#probe, this.timers.now() + options.probeInterval);
    }
    this.label = `${upstreams.map(({ label }) => label).join(", ")} (${options.policy})`;
  }

  connect(destination: Destination, handler: StreamHandler): Stream {
    return new PoolStream(this, destination, handler);
  }

  associate(handler: AssociationHandler): Association {
    return new PoolAssociation(this, handler);
  }

  async resolve(): Promise<void> {
    await Promise.all(this.#members.map(({ upstream }) => upstream.resolve()));
  }

  /** Null as soon as one will have us. Else what is said names them all, and nothing was said of each. */
  probe(): Promise<Refusal | null> {
    let unsaid: PoolMember[] | null = [];
    return new Promise((done) => {
      const probes = this.#members.map(async (member) => {
        const refusal = await this.#probeOne(member, (dead) => {
          if (unsaid === null) this.#sayDown(dead);
          else unsaid.push(dead);
        });
        if (refusal === null) {
          for (const dead of unsaid ?? []) this.#sayDown(dead);
          unsaid = null;
          done(null);
        }
        return refusal;
      });
      void Promise.all(probes).then((refusals) => done(noneUsable(refusals)));
    });
  }

  close(): void {
    this.#closed = true;
    this.timers.clear(this.#probe);
    for (const { upstream } of this.#members) upstream.close();
  }

  /** In the order given. */
  status(): readonly MemberStatus[] {
    return this.#members.map(({ upstream, active, total, failures, down }) => ({
      label: upstream.label,
      state: down === null ? "up" : "down",
      active,
      total,
      failures,
    }));
  }

  // ---- for its streams and associations --------------------------------------------------------------------------

  /** Whom a flow goes to that was at `tried` before; null: nobody works. `udp`: only to one that may have it. */
  choose(tried: readonly PoolMember[], udp: boolean): PoolMember | null {
    const now = this.timers.now();
    const isProbed = this.#options.probeInterval > 0;
    const usable = this.#members.filter(
      (member) =>
        !tried.includes(member) && member.isUsable(now, isProbed) && !(udp && member.lacksUdp(now)),
    );
    const roomy = usable.filter(({ upstream }) => upstream.isFull !== true);
    return this.#pick(roomy.length > 0 ? roomy : usable);
  }

  opened({ member }: Attempt): void {
    if (member.works()) this.#sayBack(member);
  }

  /** Learns from a refusal. True: another upstream may do better. */
  refused({ member, epoch }: Attempt, refusal: Refusal): boolean {
    switch (verdict(refusal)) {
      case "works":
        if (member.works()) this.#sayBack(member);
        return false;
      case "nothing":
        return false;
      default:
        member.failures++;
        if (this.#fail(member, refusal, epoch)) this.#sayDown(member);
        return true;
    }
  }

  /** Learns from the refusal of an association. True: another upstream may do better. */
  refusedUdp(attempt: Attempt, refusal: Refusal): boolean {
    const mayGoOn = this.refused(attempt, refusal);
    if (!lacksUdp(refusal)) return mayGoOn;
    const { member } = attempt;
    const isNews = member.lacking === null;
    member.setLacking(refusal, this.timers.now());
    if (isNews && this.#members.some((other) => other.lacking === null)) {
      const { message, code } = refusal.error;
      this.#log.info?.(`pool: UDP goes through the others: ${message} (${code})`);
    }
    return true;
  }

  /**
   * What a flow is told that nobody takes; `own`: its last refusal. One of many that lacks UDP says nothing of those that
   * are down now.
   */
  refusal(udp: boolean, own: Refusal | null): Refusal {
    this.helpless++;
    const last = own ?? this.#lastRefusal;
    if (!udp) return last as Refusal;
    const isAnyDown = this.#members.some(({ lacking }) => lacking === null);
    if (isAnyDown) return own !== null && !lacksUdp(own) ? own : (this.#lastRefusal as Refusal);
    return own ?? (this.#members.find(({ lacking }) => lacking !== null)?.lacking as Refusal);
  }

  // ---- within ----------------------------------------------------------------------------------------------------

  onTimer(): void {
    for (const member of this.#members) {
      // One that hangs is enough: it tells when its dial is over.
      if (!this.#probing.has(member)) void this.#probeOne(member, (dead) => this.#sayDown(dead));
    }
    this.timers.set(this.#probe, this.timers.now() + this.#options.probeInterval);
  }

  /** `died` is called if it is found dead, and was not before. */
  async #probeOne(member: PoolMember, died: (member: PoolMember) => void): Promise<Refusal | null> {
    const { epoch } = member;
    this.#probing.add(member);
    const refusal = await member.upstream.probe();
    this.#probing.delete(member);
    if (this.#closed) return refusal;
    if (refusal === null || verdict(refusal) === "works") {
      if (member.works()) this.#sayBack(member);
    } else if (verdict(refusal) === "dead") {
      if (this.#fail(member, refusal, epoch)) died(member);
    }
    return refusal;
  }

  /** True: that is news. */
  #fail(member: PoolMember, refusal: Refusal, epoch: number): boolean {
    this.#lastRefusal = refusal;
    return member.fail(refusal, epoch, this.timers.now());
  }

  #sayDown({ upstream: { label }, down }: PoolMember): void {
    if (down === null || this.#log.warn === undefined) return;
    const suffix = this.#limiter.pass(`${label} down`, this.timers.now());
    if (suffix === null) return;
    const { message, code } = down.error;
    const prefix = `proxy ${label}: `;
    const why = message.startsWith(prefix) ? message.slice(prefix.length) : message;
    this.#log.warn(`pool: ${label} is down: ${why} (${code})${suffix}`);
  }

  #sayBack({ upstream: { label } }: PoolMember): void {
    const suffix = this.#limiter.pass(`${label} back`, this.timers.now());
    if (suffix !== null) this.#log.info?.(`pool: ${label} is back${suffix}`);
  }

  #pick(usable: readonly PoolMember[]): PoolMember | null {
    const [first] = usable;
    if (first === undefined) return null;
    switch (this.#options.policy) {
      case "round-robin":
        return this.#inTurn(usable);
      case "least-loaded":
        return usable.reduce((least, member) => (member.active < least.active ? member : least));
      case "random":
        this.#options.random(this.#word);
        return usable[(this.#word[0] as number) % usable.length] as PoolMember;
      default:
        return first;
    }
  }

  #inTurn(usable: readonly PoolMember[]): PoolMember {
    const members = this.#members;
    for (let i = 0; i < members.length; i++) {
      const at = (this.#next + i) % members.length;
      const member = members[at] as PoolMember;
      if (!usable.includes(member)) continue;
      this.#next = at + 1;
      return member;
    }
    return usable[0] as PoolMember;
  }
}
