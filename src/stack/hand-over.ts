/**
 * What a stack does because it has neighbours (ports.ts): gives packets away, and keeps to its share of the bounds.
 */

import type { Neighbours, StackOptions } from "./ports.ts";
import type { StackStats } from "./stats.ts";
import type { IpHeader } from "./wire/ip.ts";

/** Gives a packet to the stack that has its flow. The other counts it again, as one that came to it. */
export function handOver(
  neighbours: Neighbours,
  stats: StackStats,
  owner: number,
  ip: IpHeader,
  flags: number,
  gsoSize: number,
): void {
  if (neighbours.handOver(owner, ip, flags, gsoSize)) stats.handedOver++;
  else stats.handOverFull++;
}

/** The part of one stack in a bound of all of its device. */
export function share(bound: number, options: StackOptions): number {
  return Math.ceil(bound / (options.neighbours?.count ?? 1));
}
