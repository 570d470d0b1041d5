/**
 * Which name server this machine asks: the first one in resolv.conf that is reachable from elsewhere.
 */

import { readFileSync } from "node:fs";
import { Endpoint, parseAddress } from "../stack/wire/address.ts";

/** systemd-resolved lists the real servers here when /etc/resolv.conf names its loopback stub. */
const FILES: readonly string[] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

export interface HostResolver {
  readonly server: Endpoint;
  /** True when no usable server was configured and a public one stands in. */
  readonly fallback: boolean;
}

/** The host's first name server that is not on loopback (port 53), else 1.1.1.1. */
export function hostResolver(files: readonly string[] = FILES): HostResolver {
  for (const file of files) {
    let text: string;
    try {
      text = readFileSync(file, "utf8");
    } catch {
      continue;
    }
    for (const line of text.split("\n")) {
      const match = /^\s*nameserver\s+(\S+)/.exec(line);
      const address = match === null ? null : parseAddress(match[1] as string);
      if (address !== null && !address.isLoopback) {
        const server = new Endpoint().copy(address);
        server.port = 53;
        return { server, fallback: false };
      }
    }
  }
  return { server: new Endpoint().set(0, 0, 0xffff, 0x01010101, 53), fallback: true };
}
