/** GSS-API as a test wants it: tokens that can be read, seals that can be broken; what a real library does stands in e2e. */

import type { GssContext, GssProvider, GssTarget } from "../../src/socks/gss-context.ts";

/** Octets that a seal adds. */
export const SEAL = 3;

/** The token of a message: 1 or 0 (encrypted or not), a number in order, a sum, the message, turned over if encrypted. */
export class ScriptedSeal {
  #sent = 0;
  #seen = 0;

  wrap(message: Uint8Array, isConfidential: boolean): Uint8Array {
    const token = new Uint8Array(SEAL + message.length);
    token[0] = isConfidential ? 1 : 0;
    token[1] = ++this.#sent;
    token[2] = sum(message);
    for (let i = 0; i < message.length; i++) {
      token[SEAL + i] = (message[i] as number) ^ (isConfidential ? 0xff : 0);
    }
    return token;
  }

  /** `inOrder` false: only one seen before is refused. */
  unwrap(token: Uint8Array, isConfidential: boolean, inOrder = true): Uint8Array | null {
    const [encrypted, number, check] = token as unknown as [number, number, number];
    if (token.length < SEAL || encrypted > 1 || (isConfidential && encrypted !== 1)) return null;
    const message = token.slice(SEAL).map((octet) => octet ^ (encrypted === 1 ? 0xff : 0));
    const next = (this.#seen + 1) & 0xff;
    if (sum(message) !== check || (inOrder ? number !== next : number === this.#seen)) return null;
    this.#seen = number;
    return message;
  }
}

function sum(message: Uint8Array): number {
  return message.reduce((total, octet) => (total * 31 + octet) & 0xff, 7);
}

/** What a context does: each step's answer; "complete" after the last. */
export interface GssScript {
  readonly answers: readonly (string | null)[];
  readonly isConfidential: boolean;
  /** What the step says instead of its last answer. */
  readonly failure?: string;
  /** Steps wait until `proceed`. */
  readonly waits?: boolean;
}

export const ONE_ROUND: GssScript = { answers: ["hello", null], isConfidential: true };

export class ScriptedContext extends ScriptedSeal implements GssContext {
  isComplete = false;
  readonly isConfidential: boolean;
  isClosed = false;
  /** What the server sent. */
  readonly tokens: string[] = [];
  readonly target: GssTarget | null;
  readonly #script: GssScript;
  #proceed: (() => void) | null = null;

  constructor(script: GssScript = ONE_ROUND, target: GssTarget | null = null) {
    super();
    this.#script = script;
    this.isConfidential = script.isConfidential;
    this.target = target;
  }

  async step(token: Uint8Array | null): Promise<Uint8Array | null> {
    if (token !== null) this.tokens.push(Buffer.from(token).toString());
    if (this.#script.waits) await new Promise<void>((resolve) => (this.#proceed = resolve));
    const { answers, failure } = this.#script;
    this.isComplete = this.tokens.length >= answers.length - 1;
    if (this.isComplete && failure !== undefined) throw new Error(failure);
    const answer = answers[this.tokens.length] ?? null;
    return answer === null ? null : Buffer.from(answer);
  }

  proceed(): void {
    this.#proceed?.();
  }

  override unwrap(token: Uint8Array, isConfidential: boolean): Uint8Array | null {
    return super.unwrap(token, isConfidential, this.target?.isOrdered ?? true);
  }

  close(): void {
    this.isClosed = true;
  }
}

export class ScriptedProvider implements GssProvider {
  readonly contexts: ScriptedContext[] = [];
  readonly #script: GssScript;

  constructor(script: GssScript = ONE_ROUND) {
    this.#script = script;
  }

  open(target: GssTarget): ScriptedContext {
    const context = new ScriptedContext(this.#script, target);
    this.contexts.push(context);
    return context;
  }
}
