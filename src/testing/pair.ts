/**
 * The stack and a reference client at the two ends of a bad link, in virtual time.
 *
 * `drive` lets time pass until both are idle: nothing on the link, no timer anywhere. What both programs sent
 * and got can then be compared octet by octet.
 */

import type { CloseReason, TcpConnection, TcpHandler } from "../stack/ports.ts";
import { type LinkOptions, LossyLink, seededRandom } from "./lossy-link.ts";
import { splitSuperSegment } from "./memory-device.ts";
import { pattern } from "./pattern.ts";
import { PatternedFlow } from "./patterned-flow.ts";
import { ReferenceClient, type ReferenceClientOptions } from "./reference-client.ts";
import { StackDriver, type StackDriverOptions } from "./stack-driver.ts";

export interface PairOptions extends StackDriverOptions {
  readonly seed: number;
  readonly link?: LinkOptions;
  readonly v6?: boolean;
  /** Octets the client's program sends. */
  readonly clientOctets?: number;
  /** Octets the upstream sends. */
  readonly upstreamOctets?: number;
  /** Octets upstream takes per millisecond; no limit by default. */
  readonly upstreamRate?: number;
  /** How long the dial takes, ms. */
  readonly dialTime?: number;
  readonly client?: Partial<ReferenceClientOptions>;
}

export class Pair {
  readonly driver: StackDriver;
  readonly client: ReferenceClient;
  readonly upstream: Upstream;
  readonly #toStack: LossyLink;
  readonly #toClient: LossyLink;

  constructor(options: PairOptions) {
    const random = seededRandom(options.seed);
    const v6 = options.v6 ?? false;
    this.upstream = new Upstream(options);
    this.driver = new StackDriver(
      { onTcpOpen: (c) => this.upstream.open(c, this.driver) },
      options,
    );
    this.#toStack = new LossyLink(options.link ?? {}, random);
    this.#toClient = new LossyLink(options.link ?? {}, random);
    this.client = new ReferenceClient(
      {
        address: v6 ? "fd00::2" : "10.0.0.2",
        port: 40000,
        target: v6 ? "2001:db8::1" : "198.51.100.1",
        targetPort: 443,
        // Every seed starts elsewhere, now and then just before the wrap.
        iss: random() < 0.25 ? 0xffffff00 : Math.floor(random() * 4294967296),
        mss: this.driver.device.mtu - (v6 ? 60 : 40),
        wscale: 7,
        sack: true,
        timestamps: false,
        buffer: 262144,
        readRate: Number.POSITIVE_INFINITY,
        closesLast: false,
        gsoSegments: 1,
        ...options.client,
      },
      pattern(0, 0, options.clientOctets ?? 0),
      (bytes, meta) => this.#toStack.send(bytes, meta, this.driver.time.now()),
    );
    this.driver.device.receiver = (packet) => {
      for (const bytes of splitSuperSegment(packet)) {
        this.#toClient.send(bytes, {}, this.driver.time.now());
      }
    };
  }

  /** Opens the connection and runs until both sides are idle. @throws Error after `limit` ms of virtual time. */
  drive(limit: number = 600_000): void {
    this.client.open(this.driver.time.now());
    for (let next = this.#next(); next >= 0; next = this.#next()) {
      if (next > limit) throw new Error(`not idle after ${limit} ms`);
      this.driver.runTo(Math.max(next, this.driver.time.now()));
      this.#exchange();
    }
  }

  #exchange(): void {
    const { time, device } = this.driver;
    const now = time.now();
    let injected = 0;
    for (let p = this.#toStack.receive(now); p !== undefined; p = this.#toStack.receive(now)) {
      device.queue(p.bytes, p.meta);
      if (++injected % 16 === 0) this.driver.turn();
    }
    if (this.client.deadline() >= 0 && this.client.deadline() <= now) this.client.expire(now);
    for (let p = this.#toClient.receive(now); p !== undefined; p = this.#toClient.receive(now)) {
      this.client.receive(p.bytes, now);
    }
    this.upstream.expire(now);
    this.driver.turn();
  }

  #next(): number {
    let earliest = -1;
    for (const at of [
      this.#toStack.next(),
      this.#toClient.next(),
      this.client.deadline(),
      this.upstream.deadline(),
      this.driver.time.next(),
    ]) {
      if (at >= 0 && (earliest < 0 || at < earliest)) earliest = at;
    }
    return earliest;
  }
}

/** The relay's side of the pair: dials, takes at its rate, sends its own stream, closes when it is done. */
export class Upstream implements TcpHandler {
  readonly #octets: number;
  readonly #rate: number;
  readonly #dialTime: number;
  #driver: StackDriver | null = null;
  #flow: PatternedFlow | null = null;
  #wakeAt = -1;
  #dialed = false;
  #shut = false;
  finReceived = false;
  /** How the connection ended; null while it lives. */
  closed: CloseReason | null = null;

  constructor(options: PairOptions) {
    this.#octets = options.upstreamOctets ?? 0;
    this.#rate = options.upstreamRate ?? Number.POSITIVE_INFINITY;
    this.#dialTime = options.dialTime ?? 5;
  }

  /**
   * A SYN that was long on the way may come when all is over on the wire, whether or not the octets are taken yet: it
   * is dropped. @throws Error before both streams have ended.
   */
  open(connection: TcpConnection, driver: StackDriver): this | null {
    if (this.#flow !== null) {
      if (this.closed === null && !(this.#shut && this.finReceived)) {
        throw new Error("a second open of a connection that lives");
      }
      return null;
    }
    this.#driver = driver;
    this.#flow = new PatternedFlow(connection, driver.memory.bytes);
    this.#flow.unsent = this.#octets;
    this.#wakeAt = driver.time.now() + this.#dialTime;
    return this;
  }

  /** Octets of the client's stream that arrived. */
  get received(): number {
    return this.#flow?.consumed ?? 0;
  }

  /** When {@link Upstream.expire} wants to be called; -1: never. */
  deadline(): number {
    return this.#wakeAt;
  }

  expire(now: number): void {
    if (this.#wakeAt < 0 || now < this.#wakeAt || this.closed !== null) return;
    this.#wakeAt = -1;
    if (!this.#dialed) {
      this.#dialed = true;
      this.#flow!.connection.accept();
      this.#fill();
      return;
    }
    this.#take(Math.max(1, Math.floor(this.#rate * 10)));
  }

  onReadable(): void {
    if (this.#rate === Number.POSITIVE_INFINITY) this.#take(this.#rate);
    else if (this.#wakeAt < 0) this.#wakeAt = this.#driver!.time.now() + 10;
  }

  onFin(): void {
    this.finReceived = true;
  }

  onWritable(): void {
    this.#fill();
  }

  onClosed(reason: CloseReason): void {
    this.closed = reason;
    this.#wakeAt = -1;
  }

  #take(most: number): void {
    const flow = this.#flow!;
    flow.take(Math.min(most, flow.connection.readableOctets));
    if (flow.connection.readableOctets > 0) this.#wakeAt = this.#driver!.time.now() + 10;
  }

  #fill(): void {
    const flow = this.#flow!;
    if (!flow.fill() || this.#shut) return;
    this.#shut = true;
    flow.connection.shutdown();
  }
}
