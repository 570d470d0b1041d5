/**
 * TLS to the proxy (node:tls) over a TCP connection of the addon's, which has mark, interface and source as all others,
 * or over one of Node.js without the addon.
 *
 * The proxy proves its name to the authorities of Node.js or of the URL's `ca`. A `pin` alone takes the place of both:
 * who has that key is the proxy. No ALPN is offered (RFC 7301): none is registered for SOCKS, and HTTP/1.1 is what an
 * HTTPS proxy speaks without.
 */

import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { constants } from "node:os";
import type { SecureContext, TLSSocket } from "node:tls";
import { TunnelError } from "../errors.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { SocksProxy } from "./proxy.ts";
import type { ProxyUrl } from "./proxy-url.ts";
import { TcpCarrier } from "./tcp-carrier.ts";
import type { TlsSettings } from "./tls-settings.ts";
import type { Transport } from "./transport.ts";

/** The connection below. */
const CARRIER: unique symbol = Symbol("carrier");
type SecureSocket = Socket & { [CARRIER]?: Socket };

export class TlsTransport implements Transport {
  readonly openEvent = "secureConnect";
  readonly #carrier: TcpCarrier;
  readonly #context: SecureContext;
  /** Whose certificate it has to be. */
  readonly #name: string;
  /** Of the key, in base64; null: any. */
  readonly #pin: string | null;
  /** Names and authorities are asked. */
  readonly #isVerified: boolean;

  /** @throws TunnelError ERR_USAGE or ERR_PERMISSION for a file that cannot be read or used. */
  constructor(url: ProxyUrl, proxy: SocksProxy) {
    const { tls = {}, host } = url;
    this.#carrier = new TcpCarrier(proxy);
    this.#context = secureContext(tls);
    this.#name = tls.sni ?? host;
    this.#pin = tls.pin?.replace(/^sha256\/+/, "") ?? null;
    this.#isVerified = this.#pin === null || tls.ca !== undefined;
  }

  open(address: Endpoint, isAlone?: boolean): Socket | number {
    const carrier = this.#carrier.open(address, isAlone);
    if (typeof carrier === "number") return carrier;
    const { connect } = process.getBuiltinModule("node:tls");
    const isName = process.getBuiltinModule("node:net").isIP(this.#name) === 0;
    // Half-open streams are allowed as the carrier allows them.
    const socket: SecureSocket = connect({
      socket: carrier,
      host: this.#name,
      // RFC 6066 §3: an address is no server name.
      ...(isName ? { servername: this.#name } : {}),
      secureContext: this.#context,
      rejectUnauthorized: this.#isVerified,
    });
    socket[CARRIER] = carrier;
    carrier.on("error", (error) => socket.destroy(error));
    return socket;
  }

  distrust(socket: Socket): string | null {
    if (this.#pin === null) return null;
    const key = (socket as TLSSocket).getPeerX509Certificate()?.publicKey;
    const found = key?.export({ type: "spki", format: "der" });
    const { createHash } = process.getBuiltinModule("node:crypto");
    const hash =
      found === undefined ? "nothing" : createHash("sha256").update(found).digest("base64");
    return hash === this.#pin
      ? null
      : `its key is not the one that is pinned but sha256/${hash}; is it the right proxy?`;
  }

  explain(error: NodeJS.ErrnoException): string | null {
    const { code = "" } = error;
    const known = WORDS.get(code);
    if (known !== undefined) return known;
    if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
      return `its certificate is not for ${this.#name}; check the name, or give ?sni=NAME or ?pin=`;
    }
    const alert = /^ERR_SSL_(?:(?:TLSV1|TLSV13|SSLV3)_)?ALERT_(.*)/.exec(code)?.[1];
    if (alert !== undefined) {
      const what = alert.toLowerCase().replaceAll("_", " ");
      return `it ended TLS (${what}); does it want a certificate (--proxy-cert, --proxy-key)?`;
    }
    if (/^(ERR_SSL|ERR_TLS|EPROTO)/.test(code)) return `TLS failed (${code}); is it a TLS port?`;
    return this.#isVerificationError(code)
      ? `its certificate cannot be trusted (${code}); check it, or give --proxy-ca FILE`
      : null;
  }

  /** The names of X509_V_ERR_…, which are no errno's. */
  #isVerificationError(code: string): boolean {
    return /^[A-Z_]+$/.test(code) && !(code in constants.errno) && !code.startsWith("ERR_");
  }

  settled(socket: Socket): void {
    const carrier = (socket as SecureSocket)[CARRIER];
    if (carrier !== undefined) this.#carrier.settled(carrier);
  }

  reset(socket: Socket): void {
    (socket as SecureSocket)[CARRIER]?.resetAndDestroy();
    socket.destroy();
  }
}

const UNTRUSTED =
  "its certificate is of no known authority; give --proxy-ca FILE, or --proxy-pin of its key";

const WORDS: ReadonlyMap<string, string> = new Map([
  ["DEPTH_ZERO_SELF_SIGNED_CERT", UNTRUSTED],
  ["SELF_SIGNED_CERT_IN_CHAIN", UNTRUSTED],
  ["UNABLE_TO_GET_ISSUER_CERT", UNTRUSTED],
  ["UNABLE_TO_GET_ISSUER_CERT_LOCALLY", UNTRUSTED],
  ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", UNTRUSTED],
  ["CERT_HAS_EXPIRED", "its certificate has expired; renew it, or check the clock of this host"],
  ["CERT_NOT_YET_VALID", "its certificate is not valid yet; check the clock of this host"],
  ["ERR_SSL_WRONG_VERSION_NUMBER", "it does not answer in TLS; check the port, or try it without"],
  [
    "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "it wants a certificate of ours; give --proxy-cert FILE and --proxy-key FILE",
  ],
  ["ECONNRESET", "it closed the connection instead of TLS; check the port, or try it without"],
]);

function secureContext({ ca, cert, key }: TlsSettings): SecureContext {
  const { X509Certificate } = process.getBuiltinModule("node:crypto");
  const files = {
    ...(ca === undefined ? {} : { ca: read(ca) }),
    ...(cert === undefined ? {} : { cert: read(cert) }),
    ...(key === undefined ? {} : { key: read(key) }),
  };
  try {
    // Of authorities it takes what it understands, and says nothing of the rest.
    if (files.ca !== undefined) new X509Certificate(files.ca);
    return process.getBuiltinModule("node:tls").createSecureContext(files);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const names = [ca, cert, key].filter((name) => name !== undefined).join(", ");
    throw new TunnelError(
      "ERR_USAGE",
      `cannot use ${names} for TLS: ${code ?? "not understood"}; give PEM files that belong together`,
      { cause },
    );
  }
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new TunnelError(
      code === "EACCES" ? "ERR_PERMISSION" : "ERR_USAGE",
      `cannot read ${path}: ${code}; check the path and its permissions`,
      { cause },
    );
  }
}
