/** What a pool says that cannot be used at all: what each of its members said. */

import { TunnelError } from "../errors.ts";
import type { Refusal } from "../socks/ports.ts";

/** Null if one of them can be used after all; else of the kind of the first. */
export function noneUsable(answers: readonly (Refusal | null)[]): Refusal | null {
  const refusals = answers.filter((answer) => answer !== null);
  const [first] = refusals;
  if (first === undefined || refusals.length < answers.length) return null;
  const { kind, reply, isProxySilent = false, error } = first;
  const said = refusals.map((refusal) => refusal.error.message).join("; ");
  const text = `none of ${refusals.length} proxies can be used: ${said}`;
  return { kind, reply, isProxySilent, error: new TunnelError(error.code, text) };
}
