/** What `HOST:PORT` of the command line stands for: a name the proxy resolves, and what this host resolves it to. */

import type { LookupAddress } from "node:dns";
import type { Destination } from "../socks/ports.ts";
import { Endpoint, parseAddress } from "../stack/wire/address.ts";

/** One of each form; null: there is none. */
export interface Targets {
  readonly ipv4: Destination | null;
  readonly ipv6: Destination | null;
  readonly name: Destination | null;
}

/** A host as written, and its port. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** A literal stands for itself, a name for itself and for its addresses here; what comes first counts. */
export async function chooseTargets(
  written: readonly HostPort[],
  deadline: number,
): Promise<Targets> {
  const targets: { -readonly [K in keyof Targets]: Targets[K] } = {
    ipv4: null,
    ipv6: null,
    name: null,
  };
  const put = (address: Endpoint, port: number): void => {
    const endpoint = new Endpoint().copy(address);
    endpoint.port = port;
    const family = endpoint.isV4 ? "ipv4" : "ipv6";
    targets[family] ??= { name: null, endpoint };
  };
  for (const { host, port } of written) {
    const address = parseAddress(host);
    if (address !== null) put(address, port);
  }
  for (const { host, port } of written) {
    if (parseAddress(host) !== null || targets.name !== null) continue;
    const endpoint = new Endpoint();
    endpoint.port = port;
    targets.name = { name: host, endpoint };
    for (const address of await lookUp(host, deadline)) put(address, port);
  }
  return targets;
}

/** The addresses of a name by this host's resolver, none if there are none within `deadline` ms. Never rejects. */
export function lookUp(name: string, deadline: number): Promise<readonly Endpoint[]> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve([]), deadline);
    const done = (_error: Error | null, found: LookupAddress[] | undefined): void => {
      clearTimeout(timer);
      const addresses = (found ?? []).map(({ address }) => parseAddress(address));
      resolve(addresses.filter((address) => address !== null));
    };
    process.getBuiltinModule("node:dns").lookup(name, { all: true, verbatim: true }, done);
  });
}
