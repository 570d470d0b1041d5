/**
 * Endpoints as the addon takes and gives them: four words and a port in a row of int32.
 */

import type { Endpoint } from "../stack/wire/address.ts";

/** Reads the five int32 at `at` of `row` into `into`, which it returns. */
export function readWords(row: Int32Array, at: number, into: Endpoint): Endpoint {
  into.w0 = row[at] as number;
  into.w1 = row[at + 1] as number;
  into.w2 = row[at + 2] as number;
  into.w3 = row[at + 3] as number;
  into.port = row[at + 4] as number;
  return into;
}

/** Writes `endpoint` as five int32 at `at` of `row`. */
export function writeWords(row: Int32Array, endpoint: Endpoint, at = 0): void {
  row[at] = endpoint.w0;
  row[at + 1] = endpoint.w1;
  row[at + 2] = endpoint.w2;
  row[at + 3] = endpoint.w3;
  row[at + 4] = endpoint.port;
}
