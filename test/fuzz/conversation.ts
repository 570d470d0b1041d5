/**
 * What arrives at the stack: conversations of reference clients, datagrams, pings, captures and the segments of
 * drills, mutated, and segments crafted at the edges of what the flows have seen.
 */

import { DrillClient } from "../../src/testing/drill-client.ts";
import {
  buildIcmp,
  buildTcp,
  buildUdp,
  decodePacket,
  offloadedTcp,
  ReferenceClient,
  TcpFlag,
  type TcpOption,
} from "../../src/testing/index.ts";
import type { Dice } from "./dice.ts";
import type { DrillSeeds } from "./drills.ts";
import { mutate } from "./mutation.ts";
import { flowKey } from "./observer.ts";
import { isTcp, look, makeWhole } from "./packet-view.ts";
import type { ScriptPacket, Step, World } from "./world.ts";

const V4 = { client: "10.0.0.2", target: "198.51.100.1" } as const;
const V6 = { client: "fd00::2", target: "2001:db8::1" } as const;
/** Clients have ports from here on. */
const FIRST_PORT = 40001;
/** The client of the drills: another source port for every script. */
const DRILL_PORT = 45000;
/** More do not fit into a batch of 64. */
const MAX_BATCH = 40;

export class Conversation {
  readonly #dice: Dice;
  readonly #world: World;
  readonly #clients: ReferenceClient[] = [];
  readonly #emitted: ScriptPacket[] = [];
  /** Packets seen before, which may come again. */
  readonly #history: Uint8Array[] = [];
  #toQuote: Uint8Array[] = [];
  readonly #capture: readonly Uint8Array[];
  #captured = 0;
  /** How hostile this run is: the probability that a packet is mutated. */
  readonly #damage: number;

  readonly #drills: readonly DrillSeeds[];
  #drill: { readonly client: DrillClient; readonly segments: DrillSeeds; next: number } | null =
    null;

  constructor(
    dice: Dice,
    world: World,
    capture: readonly Uint8Array[],
    drills: readonly DrillSeeds[],
  ) {
    this.#dice = dice;
    this.#world = world;
    this.#capture = capture;
    this.#drills = drills;
    this.#damage = dice.pick([0, 0.05, 0.3, 0.8]);
    for (let n = dice.between(1, 4); n > 0; n--) {
      this.#clients.push(this.#client(FIRST_PORT + this.#clients.length));
    }
  }

  next(): Step {
    const dice = this.#dice;
    const now = this.#world.driver.time.now();
    this.#deliver(now);
    this.#runClients(now);
    const packets: ScriptPacket[] = [];
    const add = (bytes: Uint8Array): void => {
      if (bytes.length > 0 && bytes.length < 65536) packets.push({ bytes, meta: {} });
    };
    for (const packet of this.#emitted.splice(0)) {
      if (dice.chance(0.03)) continue;
      if (packet.meta.flags !== undefined || !dice.chance(this.#damage)) packets.push(packet);
      else for (const bytes of mutate(dice, packet.bytes)) add(bytes);
      if (dice.chance(0.3)) this.#remember(packet);
    }
    for (let n = dice.below(4); n > 0; n--) {
      const kind = dice.below(8);
      if (kind === 0) packets.push(...this.#crafted());
      else if (kind === 1) for (const bytes of this.#again()) add(bytes);
      else if (kind < 5) for (const bytes of this.#fromCapture()) add(bytes);
      else for (const bytes of this.#other(kind)) add(bytes);
    }
    if (this.#drills.length > 0 && dice.chance(0.5)) for (const b of this.#fromDrill()) add(b);
    if (dice.chance(0.1)) packets.reverse();
    return { packets: packets.slice(0, MAX_BATCH), wait: this.#wait() };
  }

  #wait(): number {
    const dice = this.#dice;
    if (dice.chance(0.9)) return dice.below(30);
    return dice.chance(0.9) ? dice.below(2000) : dice.pick([5000, 60_000, 240_000]);
  }

  #client(port: number): ReferenceClient {
    const dice = this.#dice;
    const net = dice.chance(0.6) ? V4 : V6;
    const ecn = dice.chance(0.4);
    const client = new ReferenceClient(
      {
        address: net.client,
        port,
        target: net.target,
        targetPort: 443,
        iss: dice.chance(0.3) ? 0xffffff00 + dice.below(256) : dice.below(2 ** 32),
        mss: Math.min(this.#world.driver.device.mtu - 60, dice.pick([88, 536, 1220, 8900])),
        wscale: dice.pick([null, 0, 7, 14]),
        sack: dice.chance(0.8),
        timestamps: dice.chance(0.5),
        buffer: dice.pick([2000, 30_000, 262_144]),
        readRate: dice.pick([Number.POSITIVE_INFINITY, 30]),
        closesLast: dice.chance(0.5),
        gsoSegments: dice.pick([1, 1, 10]),
      },
      new Uint8Array(dice.chance(0.5) ? dice.below(4000) : dice.below(100_000)),
      (bytes, meta) => {
        if (ecn) mark(dice, bytes);
        // The client's own octets are zeros; the fuzzer's streams are made of sequence numbers.
        makeWhole(bytes);
        if (meta.flags !== undefined) offloadedTcp(bytes, meta.gsoSize ?? 0);
        this.#emitted.push({ bytes, meta });
      },
    );
    client.open(this.#world.driver.time.now());
    return client;
  }

  #deliver(now: number): void {
    const written = this.#world.written.splice(0);
    for (const bytes of written) {
      if (this.#dice.chance(0.03)) continue;
      const at = look(bytes);
      const port = at !== null && isTcp(at) ? at.view.getUint16(at.start + 2) : 0;
      const client = this.#clients[port - FIRST_PORT];
      if (client === undefined) continue;
      // Mutated packets made it say what it never meant: its complaints prove nothing.
      try {
        client.receive(bytes, now);
      } catch {
        client.state = "reset";
      }
    }
    if (written.length > 0) this.#toQuote = written.slice(0, 8);
  }

  #runClients(now: number): void {
    for (let i = 0; i < this.#clients.length; i++) {
      const client = this.#clients[i]!;
      if (client.deadline() >= 0 && client.deadline() <= now) client.expire(now);
      const done = client.finished || client.state === "reset";
      if (done && this.#dice.chance(0.2)) this.#clients[i] = this.#client(FIRST_PORT + i);
    }
  }

  #remember({ bytes, meta }: ScriptPacket): void {
    if (meta.flags !== undefined) return;
    if (this.#history.length < 64) this.#history.push(bytes);
    else this.#history[this.#dice.below(64)] = bytes;
  }

  #again(): Uint8Array[] {
    if (this.#history.length === 0) return [];
    const packet = this.#dice.pick(this.#history);
    return this.#dice.chance(0.5) ? [packet] : mutate(this.#dice, packet);
  }

  #fromCapture(): Uint8Array[] {
    if (this.#captured >= this.#capture.length) return [];
    const packet = this.#capture[this.#captured++]!.slice();
    const at = look(packet);
    if (at !== null && isTcp(at)) {
      const text = addressesOf(packet);
      const { view, start } = at;
      const ports = [view.getUint16(start), view.getUint16(start + 2)] as const;
      const flow = this.#world.observer.flows.get(flowKey(text[0], ports[0], text[1], ports[1]));
      // Captured acknowledgements are of another sequence space: most are moved to ours.
      if (flow !== undefined && this.#dice.chance(0.8)) view.setUint32(start + 8, flow.sent);
    }
    if (this.#dice.chance(this.#damage)) return mutate(this.#dice, packet);
    if (at === null || !at.isFragment) makeWhole(packet);
    return [packet];
  }

  /** The next segment of a script, which begins with a SYN of ours unless it has one. */
  #fromDrill(): Uint8Array[] {
    const dice = this.#dice;
    let drill = this.#drill;
    if (drill === null || drill.next === drill.segments.length || dice.chance(0.02)) {
      const clientPort = DRILL_PORT + dice.below(8);
      const ends = { client: V4.client, clientPort, target: V4.target, targetPort: 443 };
      const segments = dice.pick(this.#drills);
      drill = { client: new DrillClient(ends, dice.awkward()), segments, next: 0 };
      this.#drill = drill;
      if ((segments[0]!.flags & 2) === 0) {
        const syn = {
          ...segments[0]!,
          flags: 2,
          seq: 0,
          octets: 0,
          ack: null,
          options: DRILL_OPTIONS,
        };
        return [drill.client.build(syn)];
      }
    }
    const { client, segments } = drill;
    const { clientPort } = client.ends;
    const flow = this.#world.observer.flows.get(flowKey(V4.client, clientPort, V4.target, 443));
    if (flow !== undefined) client.peerIsn = flow.iss;
    const packet = client.build(segments[drill.next++]!);
    if (dice.chance(this.#damage)) return mutate(dice, packet);
    makeWhole(packet);
    return [packet];
  }

  /** A segment of a flow, near the edges of its sequence spaces. */
  #crafted(): ScriptPacket[] {
    const dice = this.#dice;
    const flows = [...this.#world.observer.flows.values()];
    if (flows.length === 0) return [];
    const flow = dice.pick(flows);
    const near = (at: number): number =>
      (at +
        (dice.chance(0.5) ? 0 : dice.chance(0.8) ? dice.between(-3000, 3000) : dice.awkward())) >>>
      0;
    const options: TcpOption[] = [];
    if (dice.chance(0.4)) {
      const blocks: [number, number][] = [];
      for (let n = dice.between(1, 3); n > 0; n--) {
        const from = near(flow.sent - dice.below(20_000));
        blocks.push([from, (from + dice.below(6000)) >>> 0]);
      }
      options.push({ kind: "sack", blocks });
    }
    if (dice.chance(0.2)) options.push({ kind: "TS", value: dice.awkward(), echo: dice.awkward() });
    const octets = dice.pick([0, 0, 0, 1, dice.below(1200), dice.below(30_000)]);
    const packet = buildTcp({
      source: flow.client,
      destination: flow.target,
      sourcePort: flow.clientPort,
      destinationPort: flow.targetPort,
      seq: near(dice.pick([flow.ack, flow.ack, flow.ack, flow.edge, flow.irs])),
      ack: near(dice.pick([flow.sent, flow.sent, flow.sent - dice.below(5000), flow.iss])),
      flags: dice.pick([0x10, 0x10, 0x10, 0x18, 0x11, 0x14, 0x04, 0x02, 0x12, dice.below(256)]),
      window: dice.pick([0, 1, 100, 65535, dice.below(65536)]),
      options,
      payload: new Uint8Array(octets),
    });
    makeWhole(packet);
    const gso = octets > 1200 && dice.chance(0.7);
    return [{ bytes: packet, meta: gso ? offloadedTcp(packet, 1200) : {} }];
  }

  /** Datagrams, pings, ICMP errors about what the stack wrote, SYNs from anywhere, noise. */
  #other(kind: number): Uint8Array[] {
    const dice = this.#dice;
    const net = dice.chance(0.6) ? V4 : V6;
    const fields = { source: net.client, destination: net.target, id: dice.below(65536) };
    let packet: Uint8Array;
    if (kind === 5) {
      const sourcePort = 50000 + dice.below(6);
      const payload = dice.octets(dice.pick([0, 12, dice.below(1200), dice.below(4000)]));
      packet = buildUdp({ ...fields, sourcePort, destinationPort: dice.pick([53, 443]), payload });
    } else if (kind === 6) {
      const v6 = net === V6;
      const quoted = this.#toQuote.find((octets) => octets[0]! >> 4 === (v6 ? 6 : 4));
      const echo = quoted === undefined || dice.chance(0.3);
      const type = echo
        ? v6
          ? 128
          : 8
        : v6
          ? dice.between(1, 4)
          : dice.pick([3, 3, 3, 4, 11, 12]);
      const body = echo ? dice.octets(dice.below(200)) : quoted.slice(0, dice.between(20, 100));
      const rest = dice.chance(0.5) ? dice.between(68, 1500) : dice.awkward();
      packet = buildIcmp({ ...fields, type, code: dice.below(8), rest, body });
    } else if (dice.chance(0.3)) {
      packet = dice.octets(dice.between(1, 120));
      packet[0] = dice.pick([0x45, 0x46, 0x60, packet[0]!]);
    } else {
      const flags = dice.chance(0.7) ? 2 : dice.below(256);
      const sourcePort = FIRST_PORT + dice.below(12);
      const seq = dice.awkward();
      packet = buildTcp({ ...fields, sourcePort, destinationPort: 443, seq, flags });
    }
    if (dice.chance(0.3 + this.#damage / 2)) return mutate(dice, packet);
    makeWhole(packet);
    return [packet];
  }
}

/** What ECN adds to a segment of a client that speaks it (RFC 3168): the path marks octets, the client echoes marks. */
function mark(dice: Dice, packet: Uint8Array): void {
  const at = look(packet);
  if (at === null || !isTcp(at)) return;
  const flags = at.view.getUint8(at.start + 13);
  const bits =
    (flags & SYN) !== 0 ? ECE | CWR : (dice.chance(0.1) ? ECE : 0) | (dice.chance(0.1) ? CWR : 0);
  at.view.setUint8(at.start + 13, flags | bits);
  if ((flags & SYN) === 0 && dice.chance(0.1)) packet[1]! |= at.v6 ? CE << 4 : CE;
}

const { SYN, ECE, CWR } = TcpFlag;
const CE = 3;

const DRILL_OPTIONS = [
  { kind: "mss", value: 1000 },
  { kind: "sackOK" },
  { kind: "nop" },
  { kind: "wscale", value: 7 },
] as const;

/** Source and destination as decoded packets have them. */
function addressesOf(packet: Uint8Array): readonly [string, string] {
  const { source, destination } = decodePacket(packet);
  return [source, destination];
}
