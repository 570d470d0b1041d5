/**
 * The packets of the drills as seeds: what `<` lines send, in their order and at their times, whatever the relay
 * does meanwhile.
 */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseDrill, type SegmentSpec } from "../../src/testing/drill-script.ts";

/** The segments of one script. */
export type DrillSeeds = readonly SegmentSpec[];

/** The scripts below `directory` that send two segments or more; none when it is not there. */
export function drillSeeds(directory: string): DrillSeeds[] {
  if (!existsSync(directory)) return [];
  const names = readdirSync(directory, { recursive: true, encoding: "utf8" }).sort();
  return names
    .filter((name) => name.endsWith(".test.ts"))
    .flatMap((name) => scriptsOf(readFileSync(join(directory, name), "utf8")))
    .filter((segments) => segments.length > 1);
}

function scriptsOf(text: string): DrillSeeds[] {
  return [...text.matchAll(/`([^`$]*\n[^`$]*)`/g)].map(([, script]) => {
    try {
      return parseDrill(script!, "").flatMap(({ action }) =>
        action.kind === "inject" ? [action.segment] : [],
      );
    } catch {
      // A template that is something else.
      return [];
    }
  });
}
