/**
 * `npm run fuzz -- [--minutes N] [--seed S] [--seeds N] [--captures DIRECTORY] [--drills DIRECTORY]`
 *
 * Runs seeds from S on until time is over or a seed fails, and prints that seed with a script that still fails: exit
 * code 1. `--minutes 1` and `--seed 1` by default; `--seeds 1` runs one seed alone, `--tries N` is how often the script
 * is run to shorten it.
 */

import { parseArgs } from "node:util";
import { printPacket } from "../../src/stack/wire/print.ts";
import { capturedPackets } from "./captures.ts";
import { runCodecs } from "./codecs.ts";
import { runDatagrams } from "./datagrams.ts";
import { Dice } from "./dice.ts";
import { drillSeeds } from "./drills.ts";
import { type Failure, runStack } from "./stack-run.ts";

const STEPS = 150;
const CODEC_ROUNDS = 20;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string", default: "1" },
    seeds: { type: "string" },
    captures: { type: "string", default: "../shared/pcaps" },
    tries: { type: "string", default: "400" },
    drills: { type: "string", default: "test/stack/tcp" },
  },
});
for (const [name, value] of Object.entries(values)) {
  const isNumber = name !== "captures" && name !== "drills";
  if (isNumber && !(Number(value) >= 0)) throw new Error(`--${name} ${value}: a number is needed`);
}
const captures = capturedPackets(values.captures, 400);
const drills = drillSeeds(values.drills);
const first = Number(values.seed);
const stop = values.seeds === undefined ? Number.POSITIVE_INFINITY : first + Number(values.seeds);
const started = Date.now();
const until = started + Number(values.minutes) * 60_000;
let packets = 0;
let seed = first;
for (let told = started; seed < stop && Date.now() < until; seed++) {
  const result = runStack(seed, STEPS, captures, drills, Number(values.tries));
  packets += result.packets;
  if (result.failure !== null) tell(result.failure);
  codecs(seed);
  if (Date.now() - told > 60_000) {
    told = Date.now();
    console.log(summary(seed));
  }
}
console.log(`${summary(seed - 1)}: no finding`);

function codecs(of: number): void {
  const dice = new Dice(of);
  try {
    for (let round = 0; round < CODEC_ROUNDS; round++) runCodecs(dice);
    runDatagrams(dice);
  } catch (error) {
    tell({ error, script: [] });
  }
}

function summary(last: number): string {
  const seconds = (Date.now() - started) / 1000;
  const rate = Math.round(packets / seconds);
  const files = `${captures.length} captures, ${drills.length} drills`;
  return `seeds ${first} to ${last}, ${files}, ${packets} packets, ${rate} packets/s`;
}

function tell({ error, script }: Failure): never {
  console.log(`seed ${seed}: ${(error as Error).stack}`);
  for (const step of script) {
    for (const { bytes, meta } of step.packets) {
      console.log(`  ${describe(bytes)} ${JSON.stringify(meta)}`);
      console.log(`    ${Buffer.from(bytes.subarray(0, 60)).toString("hex")}`);
    }
    console.log(`  +${step.wait} ms`);
  }
  const seeds = `--captures ${values.captures} --drills ${values.drills}`;
  console.log(`again: npm run fuzz -- --seed ${seed} --seeds 1 ${seeds}`);
  process.exit(1);
}

/** The printer is for packets that parse. */
function describe(bytes: Uint8Array): string {
  try {
    return printPacket(bytes, 0, bytes.length);
  } catch {
    return `${bytes.length} octets`;
  }
}
