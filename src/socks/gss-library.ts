/**
 * GSS-API by the system's own library (libgssapi_krb5.so.2 of MIT), called through the npm package koffi, an optional
 * peer dependency: it can wrap and unwrap any message, and needs no headers and no compiler.
 *
 * Signatures and constants are those of RFC 2744. The first call of a context, which may ask a KDC, runs on a thread;
 * wrapping is a matter of microseconds and does not.
 */

import { createRequire } from "node:module";
import { TunnelError } from "../errors.ts";
import type { GssContext, GssProvider, GssTarget } from "./gss-context.ts";

export const KOFFI_PACKAGE = "koffi";
const LIBRARY = "libgssapi_krb5.so.2";

/** RFC 2744 appendix A. */
const Flag = { MUTUAL: 2, REPLAY: 4, SEQUENCE: 8, CONF: 16, INTEG: 32 } as const;
const CONTINUE_NEEDED = 1;
const INDEFINITE = 0xffffffff;
const INITIATE = 1;
const GSS_CODE = 1;
const MECH_CODE = 2;
/** Kerberos V5: 1.2.840.113554.1.2.2 (RFC 1964). */
const KRB5 = Uint8Array.of(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02);

/** For krb5's own calls of the resolver and of its plugins. */
const THREAD_STACK = 1 << 20;

/** The part of koffi that we use. Pointers are numbers to it, null is null. */
type Pointer = unknown;
type Out<T> = [T];
type Call = ((...args: unknown[]) => number) & {
  async(...args: unknown[]): void;
};
interface Koffi {
  config(settings?: object): object;
  struct(name: string, fields: object): unknown;
  array(type: string, length: number, hint: "Typed"): unknown;
  alloc(type: string, count: number): Pointer;
  encode(at: Pointer, type: unknown, value: unknown): void;
  decode(at: Pointer, type: unknown): unknown;
  load(
    name: string,
    options: object,
  ): {
    func(prototype: string): Call;
    symbol(name: string): Pointer;
  };
}

/** gss_buffer_desc. */
interface GssBuffer {
  length: number;
  value: Pointer;
}

/** What is called. */
interface Functions {
  readonly koffi: Koffi;
  readonly hostBased: Pointer;
  readonly krb5: Pointer;
  readonly importName: Call;
  readonly acquireCredentials: Call;
  readonly initContext: Call;
  readonly wrap: Call;
  readonly unwrap: Call;
  readonly displayStatus: Call;
  readonly releaseBuffer: Call;
  readonly releaseName: Call;
  readonly releaseCredentials: Call;
  readonly deleteContext: Call;
}

/**
 * Loads the package and the library.
 *
 * @throws TunnelError ERR_ADDON_MISSING.
 */
export function loadGssLibrary(): GssProvider {
  let koffi: Koffi;
  try {
    koffi = createRequire(import.meta.url)(KOFFI_PACKAGE) as Koffi;
  } catch (cause) {
    throw missing(
      `the package ${KOFFI_PACKAGE} cannot be loaded`,
      `npm install ${KOFFI_PACKAGE}`,
      cause,
    );
  }
  try {
    loaded ??= load(koffi);
  } catch (cause) {
    throw missing(`${LIBRARY} cannot be loaded`, "install it (Debian: libgssapi-krb5-2)", cause);
  }
  const functions = loaded;
  return { open: (target) => new LibraryContext(functions, target) };
}

/** Once for all proxies: koffi knows a type by its name. */
let loaded: Functions | undefined;

function missing(why: string, advice: string, cause: unknown): TunnelError {
  return new TunnelError("ERR_ADDON_MISSING", `cannot use GSSAPI: ${why}; ${advice}`, { cause });
}

function load(koffi: Koffi): Functions {
  koffi.config({ ...koffi.config(), async_stack_size: THREAD_STACK });
  // Its own libraries before what Node.js brings of the same names.
  const library = koffi.load(LIBRARY, { deep: true });
  koffi.struct("gss_buffer", { length: "size_t", value: "void *" });
  const oid = koffi.struct("gss_oid", { length: "uint32_t", elements: "void *" });
  const elements = koffi.alloc("uint8_t", KRB5.length);
  koffi.encode(elements, koffi.array("uint8_t", KRB5.length, "Typed"), KRB5);
  const krb5 = koffi.alloc("gss_oid", 1);
  koffi.encode(krb5, oid, { length: KRB5.length, elements });
  const declare = (name: string, parameters: string): Call =>
    library.func(`uint32_t ${name}(_Out_ uint32_t *minor, ${parameters})`);
  return {
    koffi,
    krb5,
    hostBased: koffi.decode(library.symbol("GSS_C_NT_HOSTBASED_SERVICE"), "void *"),
    importName: declare("gss_import_name", "gss_buffer *text, void *type, _Out_ void **name"),
    acquireCredentials: declare(
      "gss_acquire_cred",
      "void *name, uint32_t time, void *mechs, int usage, _Out_ void **cred, void *actual, void *rec",
    ),
    initContext: declare(
      "gss_init_sec_context",
      "void *cred, _Inout_ void **context, void *target, void *mech, uint32_t flags, uint32_t time, void *bindings, gss_buffer *input, void *actual, _Out_ gss_buffer *output, _Out_ uint32_t *granted, void *rec",
    ),
    wrap: declare(
      "gss_wrap",
      "void *context, int conf, uint32_t qop, gss_buffer *input, _Out_ int *state, _Out_ gss_buffer *output",
    ),
    unwrap: declare(
      "gss_unwrap",
      "void *context, gss_buffer *input, _Out_ gss_buffer *output, _Out_ int *state, void *qop",
    ),
    displayStatus: declare(
      "gss_display_status",
      "uint32_t status, int type, void *mech, _Inout_ uint32_t *more, _Out_ gss_buffer *text",
    ),
    releaseBuffer: declare("gss_release_buffer", "_Inout_ gss_buffer *buffer"),
    releaseName: declare("gss_release_name", "_Inout_ void **name"),
    releaseCredentials: declare("gss_release_cred", "_Inout_ void **cred"),
    deleteContext: declare("gss_delete_sec_context", "_Inout_ void **context, void *token"),
  };
}

/** What threads read and write: not to be collected meanwhile. One entry a step under way. */
const LENT = new Set<readonly unknown[]>();

class LibraryContext implements GssContext {
  isComplete = false;
  isConfidential = false;
  readonly #gss: Functions;
  readonly #target: GssTarget;
  readonly #minor: Out<number> = [0];
  readonly #name: Out<Pointer> = [null];
  readonly #credentials: Out<Pointer> = [null];
  readonly #context: Out<Pointer> = [null];
  /** A thread has the context. */
  #working = false;
  #closed = false;

  constructor(gss: Functions, target: GssTarget) {
    this.#gss = gss;
    this.#target = target;
  }

  async step(token: Uint8Array | null): Promise<Uint8Array | null> {
    const gss = this.#gss;
    this.#working = true;
    try {
      if (this.#name[0] === null) await this.#prepare();
      const output = emptyBuffer();
      const granted: Out<number> = [0];
      const major = await this.#onThread(
        gss.initContext,
        this.#credentials[0],
        this.#context,
        this.#name[0],
        gss.krb5,
        this.#target.isOrdered ? WANTED | Flag.SEQUENCE : WANTED,
        0,
        null,
        inputBuffer(token ?? new Uint8Array(0)),
        null,
        output,
        granted,
        null,
      );
      const answer = this.#take(output);
      this.#check(major & ~CONTINUE_NEEDED);
      this.isComplete = (major & CONTINUE_NEEDED) === 0;
      this.isConfidential = (granted[0] & Flag.CONF) !== 0;
      return answer.length > 0 ? answer : null;
    } finally {
      this.#working = false;
      if (this.#closed) this.#release();
    }
  }

  /** Names the service and finds our tickets. */
  async #prepare(): Promise<void> {
    const gss = this.#gss;
    const { service, host, principal } = this.#target;
    const [text, type] = service.includes("/")
      ? [service, null]
      : [`${service}@${host}`, gss.hostBased];
    this.#check(gss.importName(this.#minor, textBuffer(text), type, this.#name));
    if (principal === null) return;
    const own: Out<Pointer> = [null];
    this.#check(gss.importName(this.#minor, textBuffer(principal), null, own));
    const major = await this.#onThread(
      gss.acquireCredentials,
      own[0],
      INDEFINITE,
      null,
      INITIATE,
      this.#credentials,
      null,
      null,
    );
    gss.releaseName([0], own);
    this.#check(major);
  }

  #onThread(call: Call, ...args: unknown[]): Promise<number> {
    return new Promise((resolve, reject) => {
      LENT.add(args);
      call.async(this.#minor, ...args, (error: Error | null, major: number) => {
        LENT.delete(args);
        if (error === null) resolve(major);
        else reject(error);
      });
    });
  }

  wrap(message: Uint8Array, isConfidential: boolean): Uint8Array {
    const gss = this.#gss;
    const output = emptyBuffer();
    const state: Out<number> = [0];
    const context = this.#context[0];
    const input = inputBuffer(message);
    const major = gss.wrap(this.#minor, context, isConfidential ? 1 : 0, 0, input, state, output);
    const token = this.#take(output);
    this.#check(major);
    if (isConfidential && state[0] === 0) throw new Error("the mechanism did not encrypt");
    return token;
  }

  unwrap(token: Uint8Array, isConfidential: boolean): Uint8Array | null {
    const output = emptyBuffer();
    const state: Out<number> = [0];
    const context = this.#context[0];
    const major = this.#gss.unwrap(this.#minor, context, inputBuffer(token), output, state, null);
    const message = this.#take(output);
    // Whatever is said beside "complete": replayed, old, out of order.
    return major !== 0 || (isConfidential && state[0] === 0) ? null : message;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#working) this.#release();
  }

  #release(): void {
    const gss = this.#gss;
    if (this.#context[0] !== null) gss.deleteContext(this.#minor, this.#context, null);
    if (this.#credentials[0] !== null) gss.releaseCredentials(this.#minor, this.#credentials);
    if (this.#name[0] !== null) gss.releaseName(this.#minor, this.#name);
  }

  /** Copies what the library allocated and gives it back. */
  #take(buffer: GssBuffer): Uint8Array {
    const { koffi, releaseBuffer } = this.#gss;
    const { length } = buffer;
    const octets =
      length === 0
        ? new Uint8Array(0)
        : (koffi.decode(buffer.value, koffi.array("uint8_t", length, "Typed")) as Uint8Array);
    releaseBuffer([0], buffer);
    return octets;
  }

  /** @throws Error with the library's own words. */
  #check(major: number): void {
    if (major === 0) return;
    const detail = this.#minor[0] === 0 ? "" : this.#words(this.#minor[0], MECH_CODE);
    throw new Error((detail || this.#words(major, GSS_CODE)).replace(/\s+/g, " ").trim());
  }

  #words(status: number, type: number): string {
    const text = emptyBuffer();
    const { displayStatus, krb5 } = this.#gss;
    const major = displayStatus([0], status, type, krb5, [0], text);
    const octets = this.#take(text);
    return major === 0 ? new TextDecoder().decode(octets) : "";
  }
}

const WANTED: number = Flag.MUTUAL | Flag.REPLAY | Flag.CONF | Flag.INTEG;

function emptyBuffer(): GssBuffer {
  return { length: 0, value: null };
}

function inputBuffer(octets: Uint8Array): GssBuffer {
  return { length: octets.length, value: octets.length === 0 ? null : octets };
}

function textBuffer(text: string): GssBuffer {
  return inputBuffer(new TextEncoder().encode(text));
}
