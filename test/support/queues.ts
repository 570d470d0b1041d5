/**
 * A device with several queues in virtual time: a stack for each, joined by the directory and rings that workers share.
 *
 * A test says which queue a packet comes to. What a stack hands over is read at once, in a batch of its own.
 */

import {
  type DriverListener,
  StackDriver,
  type StackDriverOptions,
} from "../../src/testing/index.ts";
import { type SharedStateOptions, shareState } from "../../src/workers/shared-state.ts";
import { WorkerNeighbours } from "../../src/workers/worker-neighbours.ts";

export interface QueuesOptions extends StackDriverOptions {
  /** Two by default. */
  readonly queues?: number;
  readonly shared?: SharedStateOptions;
}

export class Queues {
  readonly drivers: StackDriver[] = [];
  readonly neighbours: WorkerNeighbours[] = [];
  /** Times a worker was woken. */
  pings = 0;
  readonly #pinged = new Set<number>();

  constructor(listener: (queue: number) => DriverListener, options: QueuesOptions = {}) {
    const { queues = 2, shared, ...rest } = options;
    const state = shareState(queues, Uint32Array.of(1, 2, 3, 4), shared);
    for (let queue = 0; queue < queues; queue++) {
      this.drivers.push(
        new StackDriver(listener(queue), {
          ...rest,
          neighbours: ({ bytes }) => {
            const neighbours = new WorkerNeighbours(state, queue, bytes, (worker) => {
              this.pings++;
              this.#pinged.add(worker);
            });
            this.neighbours.push(neighbours);
            return neighbours;
          },
        }),
      );
    }
  }

  /** Packets that come to `queue` as one batch; others read what they are handed. */
  inject(queue: number, ...packets: readonly Uint8Array[]): void {
    this.drivers[queue]!.inject(...packets);
    this.neighbours[queue]!.notify();
    this.settle();
  }

  /** Lets workers read until nobody has anything for another. */
  settle(): void {
    for (const queue of this.#pinged) {
      this.#pinged.delete(queue);
      const { stack, memory } = this.drivers[queue]!;
      if (this.neighbours[queue]!.deliver(stack, memory.rxStart, memory.rxEnd)) {
        this.#pinged.add(queue);
      }
      // No view survives a batch.
      memory.bytes.fill(0xdb, memory.rxStart, memory.rxEnd);
      this.neighbours[queue]!.notify();
      this.drivers[queue]!.turn();
    }
  }

  /** Lets time pass for all of them. */
  advance(milliseconds: number): void {
    for (const driver of this.drivers) driver.advance(milliseconds);
  }

  /** A counter, of all stacks together. */
  sum(counter: keyof StackDriver["stack"]["stats"]): number {
    return this.drivers.reduce((sum, { stack }) => sum + stack.stats[counter], 0);
  }
}
