/**
 * One proxy as its streams see it: addresses in the order to try, credentials, deadlines, dials.
 *
 * A name is resolved at the start and, when no address of it can be reached, again, at most once a minute. The
 * address that was reached last is tried first.
 */

import { type Endpoint, parseAddress } from "../stack/wire/address.ts";
import { type Dial, type DialOwner, DialPool } from "./dial.ts";
import type { SocketEnvironment } from "./environment.ts";
import { Handshake } from "./handshake.ts";
import { ProxyHonesty } from "./honesty.ts";
import { HttpHandshake } from "./http-handshake.ts";
import { Reply } from "./message.ts";
import { type Lookup, NameResolver } from "./name-resolver.ts";
import { Pipelining } from "./pipelining.ts";
import type { Destination, Refusal } from "./ports.ts";
import type { Credentials, ProxyHandshake } from "./proxy-handshake.ts";
import { type ProxyUrl, redacted } from "./proxy-url.ts";
import { SocksRefusal } from "./refusal.ts";
import { SCHEMES, type Scheme } from "./schemes.ts";
import { Socks4Handshake } from "./socks4-handshake.ts";
import { Socks6Handshake } from "./socks6-handshake.ts";
import { SourceAddresses } from "./source-addresses.ts";

/** Between two look-ups of the proxy's name, ms. */
const RESOLVE_INTERVAL = 60_000;

/** Descriptors that streams leave to all others: associations, lookups, clients of the built-in server, Node.js. */
export const RESERVED_DESCRIPTORS = 256;

export class SocksProxy {
  readonly label: string;
  readonly scheme: Scheme;
  readonly environment: SocketEnvironment;
  readonly credentials: Credentials | null;
  readonly resolver: NameResolver;
  readonly pipelining: Pipelining;
  /** Null: known to be honest. */
  readonly honesty: ProxyHonesty | null;
  /** Null without the addon. */
  readonly sources: SourceAddresses | null;
  /** The first descriptor that a stream may not have. */
  readonly descriptorLimit: number;
  /** Streams that were refused because the descriptors were used up. */
  descriptorExhaustions = 0;
  /** Scratch for one system call at a time: a row, an address. */
  readonly row: Int32Array = new Int32Array(2);
  readonly words: Int32Array = new Int32Array(5);
  readonly #url: ProxyUrl;
  readonly #dials: DialPool;
  /** It has no name to look up. */
  readonly #isKnown: boolean;
  #addresses: readonly Endpoint[] = [];
  /** The address to try first. */
  #first = 0;
  /** Settled when the look-up under way is over. */
  #resolving: Promise<void> | null = null;
  #nextLookup = 0;

  constructor(url: ProxyUrl, environment: SocketEnvironment, lookup?: Lookup) {
    const { user, password } = url;
    const octets = new TextEncoder();
    this.label = redacted(url);
    this.scheme = SCHEMES[url.scheme];
    this.environment = environment;
    this.credentials =
      user === null ? null : { user: octets.encode(user), password: octets.encode(password ?? "") };
    this.resolver = new NameResolver(environment.turn, lookup);
    const { addon, timers, log } = environment;
    this.honesty = environment.isHonest === true ? null : new ProxyHonesty(this.label, timers, log);
    const { protocol } = this.scheme;
    const isAuthenticated = url.gss !== undefined;
    this.#dials = new DialPool(() => makeHandshake(protocol, isAuthenticated));
    // Other protocols have one message, and so has SOCKS5 above GSSAPI.
    const several =
      protocol === "socks5" && !isAuthenticated
        ? environment
        : { ...environment, pipeline: "off" as const };
    this.pipelining = new Pipelining(this.label, user !== null, several);
    this.sources = addon === null ? null : new SourceAddresses({ ...environment, addon });
    this.descriptorLimit = streamDescriptors(environment);
    this.#url = url;
    // Behind a Unix socket is this host: that is where a relay without an address of its own listens.
    const known = parseAddress(url.path === undefined ? url.host : "127.0.0.1");
    this.#isKnown = known !== null;
    if (known !== null) this.#addresses = this.#withPort([known]);
  }

  takeDial(owner: DialOwner, command: number, destination: Destination | null): Dial {
    const { timers, dialDeadline } = this.environment;
    const dial = this.#dials.take(owner, command, destination);
    dial.addresses = this.#addresses;
    dial.index = this.#first;
    dial.deadline = timers.now() + dialDeadline;
    return dial;
  }

  giveDial(dial: Dial): void {
    this.environment.timers.clear(dial.timer);
    this.pipelining.ended(dial);
    this.#dials.give(dial);
  }

  /** `dial` is connected: the handshake begins. */
  beginHandshake(dial: Dial): void {
    this.pipelining.begin(dial);
    dial.begin(this.label, this.credentials);
    this.setDeadline(dial, 2);
  }

  /** A message of `dial` has left: the proxy's own work is bounded by half of the dial, the destination's by all of it. */
  written(dial: Dial): void {
    const { handshake } = dial;
    const { timers } = this.environment;
    handshake.written();
    if (dial.ahead || handshake.awaitsReply) dial.requestedAt = timers.now();
    if (dial.ahead && dial.trial) {
      timers.set(dial.timer, Math.min(timers.now() + this.pipelining.patience, dial.deadline));
    } else {
      this.setDeadline(dial, handshake.awaitsReply ? 1 : 2);
    }
  }

  /** Octets of `dial` have come: one that spoke ahead may now wait for the destination alone. */
  heard(dial: Dial): void {
    if (dial.ahead && !dial.trial && dial.handshake.awaitsReply) this.setDeadline(dial, 1);
  }

  /** Gives the next step of a dial its time: a share of the whole, or what is left of it. */
  setDeadline(dial: Dial, steps: number): void {
    const { timers, dialDeadline } = this.environment;
    const step = timers.now() + Math.ceil(dialDeadline / steps);
    timers.set(dial.timer, Math.min(step, dial.deadline));
  }

  /** Moves a dial to the next address. False: all were tried, or its time is over. */
  nextAddress(dial: Dial): boolean {
    const count = dial.addresses.length;
    dial.tried++;
    if (dial.tried >= count || this.environment.timers.now() >= dial.deadline) return false;
    dial.index = (dial.index + 1) % count;
    return true;
  }

  /** A connection to the address of `dial` was made. */
  reached(dial: Dial): void {
    if (dial.addresses === this.#addresses) this.#first = dial.index;
  }

  /** A dial reached nobody: the name may have moved. */
  notReached(): void {
    if (this.environment.timers.now() >= this.#nextLookup) void this.resolve();
  }

  /** `isProxySilent`: it was not waiting for a destination. */
  timeout(what: string, isProxySilent: boolean): Refusal {
    const why = `no answer ${what} in time; is it overloaded, or a firewall in between?`;
    return new SocksRefusal("timeout", this.label, why, 0, isProxySilent);
  }

  handshakeTimeout({ handshake }: Dial): Refusal {
    return this.timeout(handshake.awaited, !handshake.awaitsDestination);
  }

  /** Null: its protocol has UDP. */
  refuseUdp(): Refusal | null {
    if (this.scheme.protocol === "socks5") return null;
    const why = "its protocol has no UDP; use a SOCKS5 proxy for it";
    return new SocksRefusal("reply", this.label, why, Reply.COMMAND_NOT_SUPPORTED);
  }

  unresolved(): Refusal {
    const why = `the name ${this.#url.host} does not resolve; check it and the resolver`;
    return new SocksRefusal("unreachable", this.label, why);
  }

  /** Looks the name up, or joins the look-up under way. Never rejects: without an answer the old addresses stay. */
  resolve(): Promise<void> {
    if (this.#isKnown) return Promise.resolve();
    this.#resolving ??= new Promise((done) => {
      this.#nextLookup = this.environment.timers.now() + RESOLVE_INTERVAL;
      const onAddresses = (found: readonly Endpoint[]): void => {
        this.#resolving = null;
        if (found.length > 0) {
          this.#addresses = this.#withPort(found);
          this.#first = 0;
        }
        done();
      };
      if (!this.resolver.resolve(this.#url.host, { onAddresses })) onAddresses([]);
    });
    return this.#resolving;
  }

  #withPort(addresses: readonly Endpoint[]): Endpoint[] {
    return addresses.map((address) => {
      const endpoint = address.clone();
      endpoint.port = this.#url.port;
      return endpoint;
    });
  }
}

/** The first descriptor that a stream may not have. */
export function streamDescriptors({ addon, nofile }: SocketEnvironment): number {
  const limit = nofile ?? addon?.nofile().hard ?? Number.MAX_SAFE_INTEGER;
  return Math.max(limit - RESERVED_DESCRIPTORS, limit >> 1);
}

function makeHandshake(protocol: Scheme["protocol"], isAuthenticated: boolean): ProxyHandshake {
  switch (protocol) {
    case "socks4":
      return new Socks4Handshake(false);
    case "socks4a":
      return new Socks4Handshake(true);
    case "socks6":
      return new Socks6Handshake();
    case "http":
      return new HttpHandshake();
    default:
      return new Handshake(isAuthenticated);
  }
}
