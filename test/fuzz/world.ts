/**
 * A stack, its relay and its observer, driven by a script: the same script gives the same run.
 *
 * After every step the invariants hold that no single packet shows; after {@link World.finish} nothing is left.
 */

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

export class World {
  readonly driver: StackDriver;
  readonly observer: Observer = new Observer();
  /** What the stack wrote, super-segments split; the reader empties it. */
  written: Uint8Array[] = [];
  #actors: TcpActor[] = [];

  constructor(seed: number) {
    const dice = new Dice(seed ^ 0x5eed);
    this.driver = new StackDriver(
      {
        onTcpOpen: (connection) => {
          if (dice.chance(0.02)) return null;
          const own = new Dice(dice.below(2 ** 31));
          const actor = new TcpActor(connection, this.driver, this.observer, own);
          this.#actors.push(actor);
          return actor;
        },
        onUdpOpen: (flow) => {
          if (dice.chance(0.02)) return null;
          return new UdpActor(flow, this.driver, new Dice(dice.below(2 ** 31)));
        },
      },
      drawOptions(dice),
    );
    this.driver.device.receiver = (packet) => {
      this.observer.watch(packet.bytes);
      this.written.push(...splitSuperSegment(packet));
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
  }

  #check(): void {
    const { pages, stats } = this.driver.stack;
    for (const actor of this.#actors) actor.check();
    this.#actors = this.#actors.filter((actor) => !actor.over);
    if (pages.inUse > pages.held || pages.held > pages.limit || pages.inUse < 0) {
      throw new Finding(`pages: ${pages.inUse} in use, ${pages.held} held of ${pages.limit}`);
    }
    if (stats.tcpFlows < 0 || stats.udpFlows < 0) throw new Finding("a flow was removed twice");
  }
}

const STRAY: TcpFields = {
  source: "10.9.9.9",
  destination: "198.51.100.9",
  sourcePort: 9,
  destinationPort: 9,
  seq: 0,
  flags: 0x10,
};

/** Devices, policies and bounds; small bounds are reached. */
function drawOptions(dice: Dice): StackDriverOptions {
  const small = dice.chance(0.5);
  return {
    mtu: dice.pick([1280, 1500, 1500, 9000, 65535]),
    pages: dice.pick([4, 16, 64, 256]) << 16,
    ...(dice.chance(0.5) ? { offload: NO_OFFLOAD } : {}),
    stack: {
      icmp: dice.pick(["own", "reply", "off"]),
      udpTimeout: dice.pick([1000, 120_000, 300_000]),
      ...(small
        ? {
            maxTcpFlows: dice.pick([3, 16]),
            maxUdpFlows: 4,
            maxPending: 4,
            maxPendingPerSource: 3,
            maxTimeWait: 1,
            maxFragmentOctets: 3 << 16,
          }
        : {}),
    },
  };
}
