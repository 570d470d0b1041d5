/**
 * GSS-API by the npm package kerberos, an optional peer dependency, as far as it goes: it establishes contexts.
 *
 * It cannot wrap. Its `wrap` (7.0.0, authenticate_gss_client_wrap in src/unix/kerberos_gss.cc) replaces the message by
 * the answer that SASL's GSSAPI mechanism gives (RFC 4752 §3.1: octet 01, three octets, a user name), since a
 * user is always set, be it the empty one. So what needs no wrapping is possible: NEC's variant at "clear".
 */

import { createRequire } from "node:module";
import { TunnelError } from "../errors.ts";
import type { GssContext, GssProvider, GssTarget } from "./gss-context.ts";

export const KERBEROS_PACKAGE = "kerberos";

/** The part of the package that we use; tokens are base64. */
interface KerberosClient {
  readonly contextComplete: boolean;
  step(challenge: string): Promise<string | null>;
}
interface Kerberos {
  readonly GSS_C_MUTUAL_FLAG: number;
  readonly GSS_C_REPLAY_FLAG: number;
  readonly GSS_MECH_OID_KRB5: number;
  initializeClient(
    service: string,
    options: { principal?: string; flags: number; mechOID: number },
  ): Promise<KerberosClient>;
}

/**
 * Loads the package.
 *
 * @throws TunnelError ERR_ADDON_MISSING.
 */
export function loadKerberos(): GssProvider {
  let kerberos: Kerberos;
  try {
    kerberos = createRequire(import.meta.url)(KERBEROS_PACKAGE) as Kerberos;
  } catch (cause) {
    throw new TunnelError(
      "ERR_ADDON_MISSING",
      `cannot use GSSAPI: the package ${KERBEROS_PACKAGE} cannot be loaded; npm install ${KERBEROS_PACKAGE}`,
      { cause },
    );
  }
  return { open: (target) => new KerberosContext(kerberos, target) };
}

class KerberosContext implements GssContext {
  readonly isConfidential = false;
  readonly #kerberos: Kerberos;
  readonly #target: GssTarget;
  #client: KerberosClient | null = null;

  constructor(kerberos: Kerberos, target: GssTarget) {
    this.#kerberos = kerberos;
    this.#target = target;
  }

  get isComplete(): boolean {
    return this.#client?.contextComplete ?? false;
  }

  async step(token: Uint8Array | null): Promise<Uint8Array | null> {
    const { GSS_C_MUTUAL_FLAG, GSS_C_REPLAY_FLAG, GSS_MECH_OID_KRB5 } = this.#kerberos;
    const { service, host, principal } = this.#target;
    // The package knows services by host only.
    const name = service.includes("/") ? service.replace("/", "@") : `${service}@${host}`;
    this.#client ??= await this.#kerberos.initializeClient(name, {
      ...(principal === null ? {} : { principal }),
      // The package's types call it gssFlag, what it reads is this.
      flags: GSS_C_MUTUAL_FLAG | GSS_C_REPLAY_FLAG,
      mechOID: GSS_MECH_OID_KRB5,
    });
    const answer = await this.#client.step(Buffer.from(token ?? []).toString("base64"));
    return answer === null || answer === "" ? null : Buffer.from(answer, "base64");
  }

  wrap(): Uint8Array {
    throw new Error(`the package ${KERBEROS_PACKAGE} cannot wrap`);
  }

  unwrap(): Uint8Array | null {
    return null;
  }

  close(): void {
    // The package ends the context when the client is collected.
    this.#client = null;
  }
}
