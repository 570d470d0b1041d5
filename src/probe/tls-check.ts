/** What a proxy behind TLS shows of itself. */

import type { TLSSocket } from "node:tls";
import { oneLine } from "../one-line.ts";
import type { Transport } from "../socks/transport.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import type { TlsSummary } from "./card.ts";

/** Null: TLS did not stand within `deadline` ms; the handshake of the proxy's protocol tells why. Never rejects. */
export function tlsSummary(
  transport: Transport,
  server: Endpoint,
  deadline: number,
): Promise<TlsSummary | null> {
  return new Promise((resolve) => {
    const socket = transport.open(server);
    if (typeof socket === "number") {
      resolve(null);
      return;
    }
    const settle = (summary: TlsSummary | null): void => {
      clearTimeout(timer);
      transport.settled?.(socket);
      socket.destroy();
      resolve(summary);
    };
    const timer = setTimeout(() => settle(null), deadline);
    socket.once(transport.openEvent, () => settle(summarize(socket as TLSSocket)));
    socket.on("error", () => settle(null));
  });
}

function summarize(socket: TLSSocket): TlsSummary | null {
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return null;
  const { subject, issuer, validTo, fingerprint256: fingerprint } = certificate;
  return {
    protocol: socket.getProtocol() ?? "unknown",
    cipher: socket.getCipher().standardName,
    subject: nameOf(subject),
    issuer: nameOf(issuer),
    validTo,
    fingerprint,
  };
}

/** Names of a certificate are lines, one for each part. */
function nameOf(lines: string | undefined): string {
  return oneLine((lines ?? "").trim());
}
