/** One seed of the stack's fuzzer: generates a script while it runs, and shortens one that failed. */

import { Conversation } from "./conversation.ts";
import { Dice } from "./dice.ts";
import type { DrillSeeds } from "./drills.ts";
import { type Step, World } from "./world.ts";

export interface Failure {
  readonly error: unknown;
  /** Steps that still fail; not always the fewest. */
  readonly script: readonly Step[];
}

export interface RunResult {
  /** Packets given to the stack. */
  readonly packets: number;
  readonly failure: Failure | null;
}

/**
 * Runs `seed` for `steps` batches. `captures` and `drills`: packets of other conversations, mixed in. A script that
 * fails is run `tries` times more to shorten it.
 */
export function runStack(
  seed: number,
  steps: number,
  captures: readonly (readonly Uint8Array[])[],
  drills: readonly DrillSeeds[] = [],
  tries = 400,
): RunResult {
  const dice = new Dice(seed);
  const script: Step[] = [];
  let packets = 0;
  try {
    const world = new World(seed);
    const capture = captures.length > 0 && dice.chance(0.7) ? dice.pick(captures) : [];
    const conversation = new Conversation(dice, world, capture, drills);
    for (let n = 0; n < steps; n++) {
      const step = conversation.next();
      packets += step.packets.length;
      script.push(step);
      world.apply(step);
    }
    world.finish();
    return { packets, failure: null };
  } catch (error) {
    return {
      packets,
      failure: { error, script: shortened(seed, script, messageOf(error), tries) },
    };
  }
}

/** What a script ends with; null: nothing was found. */
export function replay(seed: number, script: readonly Step[]): unknown {
  try {
    const world = new World(seed);
    for (const step of script) {
      world.apply(step);
      world.written = [];
    }
    world.finish();
    return null;
  } catch (error) {
    return error;
  }
}

/** Removes steps, then single packets, as long as the same kind of failure remains. Bounded. */
function shortened(
  seed: number,
  script: readonly Step[],
  message: string,
  most: number,
): readonly Step[] {
  let best = [...script];
  let tries = most;
  const fails = (candidate: readonly Step[]): boolean =>
    tries-- > 0 && messageOf(replay(seed, candidate)) === message;
  for (let size = best.length >> 1; size >= 1; size >>= 1) {
    for (let at = best.length - size; at >= 0; at -= size) {
      const candidate = best.toSpliced(at, size);
      if (fails(candidate)) best = candidate;
    }
  }
  for (let at = best.length - 1; at >= 0; at--) {
    for (let p = best[at]!.packets.length - 1; p >= 0; p--) {
      const step = { ...best[at]!, packets: best[at]!.packets.toSpliced(p, 1) };
      const candidate = best.with(at, step);
      if (fails(candidate)) best = candidate;
    }
  }
  return best;
}

/** Numbers apart: they change while a script shrinks. */
function messageOf(error: unknown): string {
  return error === null ? "" : String((error as Error).message).replace(/\d+/g, "#");
}
