/** Which of the optional packages does GSS-API: koffi, which can do all of it, else kerberos, which can do a part. */

import { TunnelError } from "../errors.ts";
import type { GssOptions, GssProvider } from "./gss-context.ts";
import { KERBEROS_PACKAGE, loadKerberos } from "./gss-kerberos.ts";
import { KOFFI_PACKAGE, loadGssLibrary } from "./gss-library.ts";

/**
 * Loads the package that is installed.
 *
 * @throws TunnelError ERR_ADDON_MISSING: none is. ERR_USAGE: what is asked for needs the other one.
 */
export function loadGssProvider({ level, nec }: GssOptions): GssProvider {
  let missing: unknown;
  try {
    return loadGssLibrary();
  } catch (error) {
    missing = error;
  }
  let kerberos: GssProvider;
  try {
    kerberos = loadKerberos();
  } catch {
    // The first one is the one to install.
    throw missing;
  }
  if (nec && level === "clear") return kerberos;
  throw new TunnelError(
    "ERR_USAGE",
    `cannot use GSSAPI at ${level}: the package ${KERBEROS_PACKAGE} cannot wrap messages; npm install ${KOFFI_PACKAGE}, or ask for ?gssapi=clear&nec`,
  );
}
