/**
 * A stack, its relay and its observer, driven by a script: the same script gives the same run.
 *
 * After every step the invariants hold that no single packet shows; after {@link World.finish} nothing is left.
 */

import { RX_ROW } from "../../src/native/binding.ts";
import type { Connection } from "../../src/stack/tcp/connection.ts";
import type { TcpContext } from "../../src/stack/tcp/context.ts";
import {
  buildTcp,
  NO_OFFLOAD,
  type PacketMeta,
  StackDriver,
  type StackDriverOptions,
  splitSuperSegment,
  type TcpFields,
} from "../../src/testing/index.ts";
import { TcpActor, UdpActor } from "./actors.ts";
import { Dice } from "./dice.ts";
import { Finding, Observer } from "./observer.ts";

export interface ScriptPacket {
  readonly bytes: Uint8Array;
  readonly meta: PacketMeta;
}

/** A batch, and the time that passes behind it, ms. */
export interface Step {
  readonly packets: readonly ScriptPacket[];
  readonly wait: number;
}

/** A driver that looks at the stack after every packet. */
class WatchedDriver extends StackDriver {
  watch: () => void = () => {};

  override onBatch(rows: Int32Array, count: number): void {
    for (let at = 0; at < count * RX_ROW; at += RX_ROW) {
      const start = rows[at]!;
      const [length, flags, gsoSize] = [rows[at + 1]!, rows[at + 2]!, rows[at + 3]!];
      this.stack.input(start, start + length, flags, gsoSize, rows[at + 4]!, rows[at + 5]!);
      this.watch();
    }
    this.stack.endBatch();
    this.watch();
  }
}

export class World {
  readonly driver: StackDriver;
  readonly observer: Observer = new Observer(
    (key, left, right) => this.#latest.get(key)?.holds(left, right) ?? true,
  );
  /** What the stack wrote, super-segments split; the reader empties it. */
  written: Uint8Array[] = [];
  #actors: TcpActor[] = [];
  /** By flow; those that are over too. */
  readonly #latest: Map<string, TcpActor> = new Map();
  #context: TcpContext | null = null;
  /** Octets of pages that may be held. */
  readonly #budget: number;

  constructor(seed: number) {
    const dice = new Dice(seed ^ 0x5eed);
    const options = drawOptions(dice);
    this.#budget = Math.min(options.pages, options.stack.memoryBudget ?? options.pages);
    const driver = new WatchedDriver(
      {
        onTcpOpen: (connection) => {
          if (dice.chance(0.02)) return null;
          const own = new Dice(dice.below(2 ** 31));
          const actor = new TcpActor(connection, this.driver, this.observer, own);
          this.#actors.push(actor);
          this.#latest.set(actor.key, actor);
          this.#context = (connection as Connection).context;
          return actor;
        },
        onUdpOpen: (flow) => {
          if (dice.chance(0.02)) return null;
          return new UdpActor(flow, this.driver, new Dice(dice.below(2 ** 31)));
        },
      },
      options,
    );
    this.driver = driver;
    driver.watch = () => this.#inspect();
    driver.device.receiver = (packet) => {
      this.observer.watch(packet.bytes);
      const split = splitSuperSegment(packet);
      const longest = Math.max(...split.map(({ length }) => length));
      if (longest > driver.device.mtu) throw new Finding(`a packet of ${longest} octets`);
      this.written.push(...split);
    };
  }

  /** @throws Finding, or what the stack throws */
  apply(step: Step): void {
    const { device, time } = this.driver;
    for (const { bytes, meta } of step.packets) device.queue(bytes, meta);
    this.driver.turn();
    for (const actor of this.#actors) actor.act();
    this.driver.flush();
    this.driver.runTo(time.now() + step.wait);
    this.driver.memory.datagrams.clear();
    this.#check();
  }

  /** Ends everything and lets time pass. @throws Finding for what is left */
  finish(): void {
    for (const actor of this.#actors) actor.windDown();
    this.driver.flush();
    for (let minute = 0; minute < 20; minute++) {
      this.driver.advance(60_000);
      this.#check();
    }
    for (const actor of this.#actors) actor.close();
    this.driver.flush();
    this.driver.drain(4 * 3_600_000);
    // What left with the last flush is free at the next one, which the answer to a stray segment brings.
    this.driver.inject(buildTcp(STRAY));
    this.driver.drain();
    const { stack } = this.driver;
    const { tcpFlows, udpFlows } = stack.stats;
    if (tcpFlows !== 0 || udpFlows !== 0) {
      throw new Finding(`${tcpFlows} TCP and ${udpFlows} UDP flows are left`);
    }
    const { inUse, held } = stack.pages;
    if (inUse !== 0 || held !== 0) throw new Finding(`${inUse} octets of pages are left`);
    const ranges = this.#context?.ranges.size ?? 0;
    if (ranges !== 0) throw new Finding(`${ranges} ranges are left`);
  }

  #check(): void {
    for (const actor of this.#actors) actor.check();
    this.#actors = this.#actors.filter((actor) => !actor.over);
    this.#inspect();
  }

  /** The bounds hold after every packet. */
  #inspect(): void {
    for (const actor of this.#actors) actor.inspect();
    const { pages, stats } = this.driver.stack;
    if (pages.inUse > pages.held || pages.held > this.#budget || pages.inUse < 0) {
      throw new Finding(`pages: ${pages.inUse} in use, ${pages.held} held of ${this.#budget}`);
    }
    const { timeWait, maxTimeWait = 0, pending } = this.#context ?? {};
    if ((timeWait?.size ?? 0) > maxTimeWait) throw new Finding(`${timeWait?.size} in TIME-WAIT`);
    if ((pending?.size ?? 0) < 0) throw new Finding("an open left twice");
    if (stats.tcpFlows < 0 || stats.udpFlows < 0) throw new Finding("a flow was removed twice");
  }
}

/** A segment of no connection: its answer flushes. */
export const STRAY: TcpFields = {
  source: "10.9.9.9",
  destination: "198.51.100.9",
  sourcePort: 9,
  destinationPort: 9,
  seq: 0,
  flags: 0x10,
};

/** Devices, policies and bounds; small bounds are reached. */
function drawOptions(dice: Dice) {
  const small = dice.chance(0.5);
  const pages = dice.pick([4, 16, 64, 256]) << 16;
  return {
    mtu: dice.pick([1280, 1500, 1500, 9000, 65535]),
    pages,
    ...(dice.chance(0.5) ? { offload: NO_OFFLOAD } : {}),
    stack: {
      icmp: dice.pick(["own", "reply", "off"]),
      udpTimeout: dice.pick([1000, 120_000, 300_000]),
      tcpKeepAlive: dice.pick([0, 0, 5000]),
      ...(dice.chance(0.5) ? { memoryBudget: pages >> 1 } : {}),
      ...(small
        ? {
            maxTcpFlows: dice.pick([3, 16]),
            maxUdpFlows: 4,
            maxPending: 4,
            maxPendingPerSource: 3,
            maxTimeWait: 1,
            maxHalfOpen: 2,
            maxFragmentOctets: 3 << 16,
          }
        : {}),
    },
  } satisfies StackDriverOptions;
}
