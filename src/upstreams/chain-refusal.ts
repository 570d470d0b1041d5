/** What one proxy of a chain said, as the chain says it: the whole way, and which of its proxies refused. */

import { TunnelError } from "../errors.ts";
import type { Refusal } from "../socks/ports.ts";

export class ChainRefusal implements Refusal {
  readonly kind: Refusal["kind"];
  readonly reply: number;
  readonly isProxySilent: boolean;
  readonly #label: string;
  readonly #said: Refusal;
  #error: TunnelError | null = null;

  /** What `said` says, of a kind of its own if `kind` is not null. `label` names the chain. */
  constructor(label: string, said: Refusal, kind: Refusal["kind"] | null = null) {
    this.kind = kind ?? said.kind;
    this.reply = this.kind === "reply" ? said.reply : 0;
    this.isProxySilent = said.isProxySilent === true;
    this.#label = label;
    // Of a longer chain: the innermost names the proxy.
    this.#said = said instanceof ChainRefusal ? said.#said : said;
  }

  get error(): TunnelError {
    const { code, message } = this.#said.error;
    this.#error ??= new TunnelError(code, `chain ${this.#label}: ${message}`);
    return this.#error;
  }
}

/**
 * The way to the next proxy was refused by those before it. That is no answer about a destination: the chain is broken,
 * as a proxy is that cannot be reached.
 */
export function brokenChain(label: string, said: Refusal): Refusal {
  if (said.kind === "reply") return new ChainRefusal(label, said, "unreachable");
  if (said.kind !== "timeout" || said.isProxySilent === true) return new ChainRefusal(label, said);
  const { kind, reply, error } = said;
  return new ChainRefusal(label, { kind, reply, error, isProxySilent: true });
}
