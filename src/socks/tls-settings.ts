/**
 * How a proxy behind TLS proves who it is, and we: the settings of a proxy URL,
 * `?ca=FILE&pin=sha256/BASE64&cert=FILE&key=FILE&sni=NAME`, each percent-decoded.
 */

import { TunnelError } from "../errors.ts";

export interface TlsSettings {
  /** File of the authorities (PEM) that may vouch for the proxy; without it those that Node.js knows. */
  readonly ca?: string;
  /**
   * SHA-256 of the proxy's public key (SubjectPublicKeyInfo), as RFC 7469 §2.4 writes it. Without `ca` it takes the place
   * of names and authorities.
   */
  readonly pin?: string;
  /** Files (PEM) of a certificate of ours and its key. */
  readonly cert?: string;
  readonly key?: string;
  /** The name that is asked for, and that the proxy has to prove, instead of the URL's host. */
  readonly sni?: string;
}

const NAMES: readonly (keyof TlsSettings)[] = ["ca", "pin", "cert", "key", "sni"];

/**
 * Parses the query of a URL, without its question mark.
 *
 * @throws TunnelError ERR_PROXY_URL.
 */
export function parseTlsSettings(query: string): TlsSettings {
  const settings: { -readonly [K in keyof TlsSettings]: string } = {};
  if (query === "") return settings;
  for (const part of query.split("&")) {
    const equals = part.indexOf("=");
    const name = NAMES.find((known) => known === part.slice(0, Math.max(0, equals)));
    if (name === undefined) {
      throw bad("it has a setting that is not known", `settings are ${NAMES.join(", ")}`);
    }
    if (name in settings) throw bad(`it has the setting ${name} twice`, "leave one of them out");
    settings[name] = decode(part.slice(equals + 1), name);
  }
  return checkTlsSettings(settings);
}

/**
 * The settings, if they make sense together.
 *
 * @throws TunnelError ERR_PROXY_URL.
 */
export function checkTlsSettings(settings: TlsSettings): TlsSettings {
  const { pin, cert, key } = settings;
  // curl writes it with two slashes.
  if (pin !== undefined && !/^sha256\/\/?[A-Za-z0-9+/]{43}=$/.test(pin)) {
    throw bad("the pin is no hash of a key", "write sha256/ and 44 letters of base64");
  }
  if ((cert === undefined) !== (key === undefined)) {
    throw bad("certificate and key belong together", "give both files");
  }
  return settings;
}

/** The flags that say the same, for messages. */
export function tlsFlags(settings: TlsSettings): string {
  return Object.keys(settings)
    .map((name) => `--proxy-${name}`)
    .join(", ");
}

function decode(text: string, name: string): string {
  let decoded = "";
  try {
    decoded = decodeURIComponent(text);
  } catch {
    throw bad(`the setting ${name} has a bad percent-encoding`, "write a literal % as %25");
  }
  if (decoded === "") throw bad(`the setting ${name} is empty`, "leave it out");
  return decoded;
}

function bad(why: string, advice: string): TunnelError {
  return new TunnelError("ERR_PROXY_URL", `cannot use the proxy URL: ${why}; ${advice}`);
}
