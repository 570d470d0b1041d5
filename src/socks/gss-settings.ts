/** GSSAPI in a proxy URL: the settings `?gssapi[=LEVEL]&service=NAME&nec`, each percent-decoded. */

import { TunnelError } from "../errors.ts";
import { DEFAULT_GSS_SERVICE, GSS_LEVELS, type GssOptions } from "./gss-context.ts";

const NAMES = ["gssapi", "service", "nec"] as const;

/** True if `part`, NAME or NAME=VALUE of a query, belongs here. */
export function isGssSetting(part: string): boolean {
  return NAMES.some((name) => part === name || part.startsWith(`${name}=`));
}

/**
 * Parses the parts of a query for which {@link isGssSetting}. `principal` is the URL's user.
 *
 * @throws TunnelError ERR_PROXY_URL.
 */
export function parseGssSettings(parts: readonly string[], principal: string | null): GssOptions {
  const settings = new Map<string, string>();
  for (const part of parts) {
    const equals = part.indexOf("=");
    const name = equals < 0 ? part : part.slice(0, equals);
    if (settings.has(name)) throw bad(`it has the setting ${name} twice`, "leave one of them out");
    settings.set(name, equals < 0 ? "" : decode(part.slice(equals + 1), name));
  }
  const asked = settings.get("gssapi");
  if (asked === undefined) {
    throw bad("service and nec are settings of GSSAPI", "add gssapi, or leave them out");
  }
  const level = GSS_LEVELS.find((name) => name === (asked || "confidentiality"));
  if (level === undefined) {
    throw bad("the level of GSSAPI is not known", `write gssapi=${GSS_LEVELS.join(", ")}`);
  }
  const nec = settings.get("nec");
  if (nec !== undefined && nec !== "") throw bad("nec takes no value", "write nec alone");
  const service = settings.get("service") ?? DEFAULT_GSS_SERVICE;
  if (!/^[\w.-]+(\/[^\s]+)?$/.test(service)) {
    throw bad("the service is no name", "write service=rcmd, or service=rcmd/HOST@REALM");
  }
  return { level, service, nec: nec !== undefined, principal };
}

function decode(text: string, name: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw bad(`the setting ${name} has a bad percent-encoding`, "write a literal % as %25");
  }
}

function bad(why: string, advice: string): TunnelError {
  return new TunnelError("ERR_PROXY_URL", `cannot use the proxy URL: ${why}; ${advice}`);
}
