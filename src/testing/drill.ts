/**
 * Runs drills: scripts of packets, events and verbs against a stack in virtual time.
 *
 * Strict on purpose: a packet or event (`data` and `writable` apart) that no line expects fails before the next
 * stimulus, a packet that does not come fails, and every packet out must decode with right lengths and checksums
 * and carry the octets of its place in the stream. A timer may be late by a tick, never early.
 */

import type { CloseReason, RefuseReason, TcpConnection, TcpHandler } from "../stack/ports.ts";
import { DrillClient } from "./drill-client.ts";
import {
  type Action,
  parseDrill,
  parseProfile,
  type SegmentSpec,
  type Step,
} from "./drill-script.ts";
import { endpointText, icmpMeaning } from "./drill-segment.ts";
import { offloadedTcp } from "./memory-device.ts";
import { decodePacket, type IcmpPacket, type TcpPacket } from "./packet-builder.ts";
import { PatternedFlow } from "./patterned-flow.ts";
import { StackDriver, type StackDriverOptions } from "./stack-driver.ts";

export interface DrillOptions extends StackDriverOptions {
  /** Runs the same script over IPv6: 10.0.0.2 becomes fd00::a00:2. */
  readonly v6?: boolean;
  /** The client's first sequence number, 100,000 by default; `isn(n)` changes it. */
  readonly clientIsn?: number;
  readonly client?: string;
  readonly clientPort?: number;
  readonly target?: string;
  readonly targetPort?: number;
}

/** What a drill leaves behind, for further assertions. */
export interface DrillResult {
  readonly driver: StackDriver;
  /** The relay's end of the last connection. */
  readonly flow: PatternedFlow | null;
  /** Every TCP packet the stack sent, with its time. */
  readonly trace: readonly DrillPacket[];
}

export interface DrillPacket {
  readonly at: number;
  readonly packet: TcpPacket;
  /** GSO size, 0 for a plain packet. */
  readonly gso: number;
}

/** A tick of the timer wheel: what timers may be late. */
const TICK = 10;
const END = { place: "the end", text: "nothing" };

/** Runs the scripts one after another as one drill. @throws Error in the notation of the drill. */
export function drill(...parts: ReadonlyArray<DrillOptions | string>): DrillResult {
  const options: DrillOptions = Object.assign({}, ...parts.filter((p) => typeof p === "object"));
  const scripts = parts.filter((part) => typeof part === "string");
  const steps = scripts.flatMap((script, index) =>
    parseDrill(script, index === scripts.length - 1 ? "" : `part ${index + 1}, `),
  );
  return new Drill(options).run(steps);
}

export interface EstablishedOptions {
  /** The client's MSS, 1460 by default. */
  readonly mss?: number;
  /** False: the client offers no SACK. */
  readonly sack?: boolean;
  /** The client's shift, 7 by default; false: it offers no scaling. */
  readonly wscale?: number | false;
  /** The client offers timestamps. Every later `<` line then has to carry its own. */
  readonly timestamps?: boolean;
  /** The client's window field, 65,535 on the SYN and 512 afterwards unless given. */
  readonly win?: number;
}

/** A script that opens a connection: a client at sequence number 1, the stack at 1, nothing in flight. */
export function established(options: EstablishedOptions = {}): string {
  const { mss = 1460, sack = true, wscale = 7, timestamps = false } = options;
  const offered = [`mss ${mss}`];
  if (sack) offered.push("sackOK");
  if (timestamps) offered.push("TS val 1 ecr 0");
  if (wscale !== false) offered.push("nop", `wscale ${wscale}`);
  const win = options.win ?? (wscale === false ? 65535 : 512);
  const stamp = timestamps ? " <nop,nop,TS val 2 ecr last>" : "";
  return `
    0   < S 0:0(0) win 65535 <${offered.join(",")}>
    +0  * open
    +0  accept()
    +0  > S. 0:0(0) ack 1
    +0  < . 1 ack 1 win ${win}${stamp}
  `;
}

interface Arrival {
  readonly at: number;
  readonly packet: TcpPacket | IcmpPacket;
  readonly gso: number;
  readonly batch: number;
}

interface Told {
  readonly at: number;
  readonly text: string;
}

class Drill implements TcpHandler {
  readonly #driver: StackDriver;
  readonly #client: DrillClient;
  #flow: PatternedFlow | null = null;
  /** Readable octets the handler was told of. */
  #readable = 0;
  #autoconsume = true;
  #muted = false;
  #arrivals: Arrival[] = [];
  #told: Told[] = [];
  readonly #injected: { spec: SegmentSpec; bytes: Uint8Array }[] = [];
  readonly #trace: DrillPacket[] = [];
  #base = 0;
  #lastBatch = 0;
  #turnOpen = false;
  #step: { readonly place: string; readonly text: string } = END;

  constructor(options: DrillOptions) {
    const family = (address: string): string => (options.v6 ? mapped(address) : address);
    this.#client = new DrillClient(
      {
        client: family(options.client ?? "10.0.0.2"),
        clientPort: options.clientPort ?? 40000,
        target: family(options.target ?? "93.184.216.34"),
        targetPort: options.targetPort ?? 443,
      },
      options.clientIsn ?? 100_000,
    );
    this.#driver = new StackDriver({ onTcpOpen: (connection) => this.#open(connection) }, options);
  }

  run(steps: readonly Step[]): DrillResult {
    for (const step of steps) {
      this.#step = step;
      this.#perform(step);
    }
    this.#step = END;
    this.#endTurn();
    this.#demandQuiet();
    return { driver: this.#driver, flow: this.#flow, trace: this.#trace };
  }

  #perform(step: Step): void {
    const { time, action } = step;
    const expects = action.kind.startsWith("expect") || action.kind === "event";
    const from = (time.relative ? this.#base : 0) + time.from;
    const to = from + time.to - time.from;
    if (!time.same || expects) this.#endTurn();
    if (!expects) {
      if (!time.same) this.#demandQuiet();
      if (!time.same) this.#passTo(from);
      this.#stimulate(action);
      return;
    }
    // Only what needs time to pass may be late: an answer to a packet is due at once.
    const limit = to > this.#driver.time.now() ? to + TICK : to;
    const queue = action.kind === "event" ? this.#told : this.#arrivals;
    while (this.#nextOf(action, queue) === undefined) {
      const stop = (): boolean => {
        this.#collect();
        return queue.length > 0;
      };
      if (!this.#driver.runTo(limit, stop)) break;
    }
    const at = this.#nextOf(action, queue)?.at;
    if (at === undefined) this.#fail("nothing");
    if (at < from || at > limit)
      this.#fail(`${this.#printNext(queue)} at ${at} ms, due at ${from} ms`);
    this.#base = Math.max(from, at);
    if (action.kind === "event") this.#expectEvent(action);
    else this.#expectPacket(action, time.same);
  }

  /** Lets time pass up to `to`, in which nothing may come. */
  #passTo(to: number): void {
    this.#driver.runTo(to, () => {
      this.#collect();
      this.#demandQuiet();
      return false;
    });
    this.#base = to;
  }

  /** The first entry the line may be about; `data` and `writable` are passed over unless they are wanted. */
  #nextOf(action: Action, queue: (Arrival | Told)[]): Arrival | Told | undefined {
    if (action.kind === "event") {
      while (this.#told.length > 0 && !/^(data|writable)/.test(action.name)) {
        if (!/^(data|writable)/.test(this.#told[0]!.text)) break;
        this.#told.shift();
      }
    }
    return queue[0];
  }

  #stimulate(action: Action): void {
    this.#turnOpen = true;
    if (action.kind === "inject") this.#inject(action.segment);
    else if (action.kind === "injectIcmp") {
      this.#injectIcmp(action.reason, action.mtu, action.segment);
    } else if (action.kind === "verb") {
      this.#driver.device.deliver();
      this.#verb(action.name, action.args);
    }
  }

  #endTurn(): void {
    if (this.#turnOpen) this.#driver.turn();
    this.#turnOpen = false;
    this.#collect();
  }

  #collect(): void {
    const at = this.#driver.time.now();
    for (const taken of this.#driver.take()) {
      const packet = decodePacket(taken.bytes);
      if (packet.kind !== "tcp" && packet.kind !== "icmp") this.#fail(`a ${packet.kind} packet`);
      if (packet.kind === "tcp") {
        this.#client.hear(packet);
        this.#trace.push({ at, packet, gso: taken.gsoSize });
      }
      if (this.#muted) continue;
      this.#arrivals.push({ at, packet, gso: taken.gsoSize, batch: taken.batch });
    }
  }

  /** Fails when something came that no line expected. */
  #demandQuiet(): void {
    const told = this.#told.find(({ text }) => !/^(data|writable)/.test(text));
    const arrival = this.#arrivals[0];
    if (told === undefined && arrival === undefined) {
      this.#told.length = 0;
      return;
    }
    const [queue, at] = arrival === undefined ? [[told!], told!.at] : [this.#arrivals, arrival.at];
    throw new Error(
      `drill: before ${this.#step.place}, at ${at} ms\n  expected  nothing\n  received  ${this.#printNext(queue)}`,
    );
  }

  #printNext(queue: readonly (Arrival | Told)[]): string {
    const next = queue[0]!;
    if ("text" in next) return `* ${next.text}`;
    if (next.packet.kind === "icmp") return `> icmp ${icmpMeaning(next.packet)}`;
    return `> ${this.#client.print(next.packet, next.gso)}`;
  }

  #fail(received: string): never {
    const { place, text } = this.#step;
    const at = this.#driver.time.now();
    throw new Error(`drill: ${place}, at ${at} ms\n  expected  ${text}\n  received  ${received}`);
  }

  // ---- packets ---------------------------------------------------------------------------------

  #inject(spec: SegmentSpec): void {
    const packet = this.#client.build(spec);
    this.#injected.push({ spec, bytes: packet.slice() });
    const offloaded = spec.offload || spec.gso !== null;
    this.#driver.device.queue(packet, offloaded ? offloadedTcp(packet, spec.gso ?? 0) : {});
  }

  #injectIcmp(reason: string, mtu: number, spec: SegmentSpec): void {
    const about = this.#trace.findLast(({ packet }) => this.#client.isNamed(packet, spec));
    if (about === undefined) this.#fail("no such packet was sent before");
    this.#driver.device.queue(this.#client.buildIcmp(reason, mtu, about.packet));
  }

  #expectPacket(action: Action, same: boolean): void {
    const arrival = this.#arrivals[0]!;
    const { packet } = arrival;
    if (same && arrival.batch !== this.#lastBatch) {
      this.#fail(`${this.#printNext(this.#arrivals)} in a later flush`);
    }
    if (packet.faults.length > 0) {
      this.#fail(`${this.#printNext(this.#arrivals)} with bad ${packet.faults.join(", ")}`);
    }
    const { client, target } = this.#client.ends;
    if (packet.source !== target || packet.destination !== client) {
      this.#fail(`a packet from ${packet.source} to ${packet.destination}`);
    }
    if (action.kind === "expectIcmp") this.#compareIcmp(action.reason, action.segment, packet);
    else if (action.kind === "expect") this.#compareTcp(action.segment, arrival);
    this.#lastBatch = arrival.batch;
    this.#arrivals.shift();
  }

  #compareTcp(spec: SegmentSpec, { packet, gso }: Arrival): void {
    const printed = this.#printNext(this.#arrivals);
    if (packet.kind !== "tcp") this.#fail(printed);
    const ownMss = this.#driver.device.mtu - (packet.version === 4 ? 40 : 60);
    const fault = this.#client.fault(spec, packet, gso, ownMss);
    if (fault !== null) this.#fail(printed + fault);
  }

  #compareIcmp(reason: string, spec: SegmentSpec, packet: TcpPacket | IcmpPacket): void {
    if (packet.kind !== "icmp" || icmpMeaning(packet) !== reason) {
      this.#fail(this.#printNext(this.#arrivals));
    }
    const about = this.#injected.findLast(
      (sent) => sent.spec.flags === spec.flags && sent.spec.seq === spec.seq,
    );
    if (about === undefined) this.#fail("an ICMP error, but no such packet was injected");
    if (!Buffer.from(packet.body).equals(about.bytes)) {
      this.#fail(
        `> icmp ${reason} quoting ${packet.body.length} octets; sent were ${about.bytes.length}`,
      );
    }
  }

  // ---- events ----------------------------------------------------------------------------------

  #open(connection: TcpConnection): TcpHandler {
    this.#flow = new PatternedFlow(connection, this.#driver.memory.bytes);
    this.#client.peerIsn = null;
    this.#readable = 0;
    this.#tell(`open ${endpointText(connection.client)} ${endpointText(connection.target)}`);
    return this;
  }

  #tell(text: string): void {
    this.#told.push({ at: this.#driver.time.now(), text });
  }

  #expectEvent(action: Action & { kind: "event" }): void {
    const wanted = [action.name, ...action.args].join(" ");
    const { text } = this.#told[0]!;
    const words = text.split(" ");
    const alike = wanted
      .split(" ")
      .every((word, i) => word === words[i] || mappedEndpoint(word) === words[i]);
    if (!alike) this.#fail(`* ${text}`);
    this.#told.shift();
  }

  onReadable(): void {
    const flow = this.#flow!;
    const octets = flow.connection.readableOctets;
    this.#tell(`data ${octets - this.#readable}`);
    if (this.#autoconsume) flow.take(octets);
    else flow.verify(octets);
    this.#readable = flow.connection.readableOctets;
  }

  onFin(): void {
    this.#tell("fin");
  }

  onWritable(): void {
    this.#tell("writable");
    this.#flow!.fill();
  }

  onClosed(reason: CloseReason): void {
    this.#tell(`closed ${reason}`);
  }

  // ---- verbs -----------------------------------------------------------------------------------

  #verb(name: string, args: readonly string[]): void {
    const count = Number(args[0]);
    if (name === "isn") this.#client.isn = count;
    else if (name === "mute") this.#muted = args[0] === "on";
    else if (name === "autoconsume") this.#autoconsume = args[0] === "on";
    else if (this.#flow === null) this.#fail("no connection yet");
    else this.#relayVerb(this.#flow, name, args, count);
  }

  #relayVerb(flow: PatternedFlow, name: string, args: readonly string[], count: number): void {
    const { connection } = flow;
    if (name === "accept") connection.accept(parseProfile(args));
    else if (name === "refuse") connection.refuse(args[0] as RefuseReason);
    else if (name === "forget") connection.forget();
    else if (name === "shutdown") connection.shutdown();
    else if (name === "abort") connection.abort();
    else if (name === "nagle") connection.nagle = args[0] === "on";
    else if (name === "resetWhenDrained") connection.resetWhenDrained();
    else if (name === "consume") {
      const taken = flow.take(count);
      if (taken !== count) this.#fail(`only ${taken} octets are readable`);
      this.#readable = connection.readableOctets;
    } else if (name === "write") {
      const taken = flow.write(count);
      if (taken !== count) this.#fail(`only ${taken} octets were taken`);
    } else if (name === "send") {
      flow.unsent += count;
      flow.fill();
    } else throw new Error(`drill: ${this.#step.place}: no verb "${name}"`);
  }
}

/** The IPv6 address that stands for an IPv4 one under `v6`. */
function mapped(address: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = address.split(".").map(Number);
  return `fd00::${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}

/** "10.0.0.2:40000" → "[fd00::a00:2]:40000", so that one script serves both families. */
function mappedEndpoint(text: string): string {
  const [address = "", port = ""] = text.split(":");
  return `[${mapped(address)}]:${port}`;
}
