/**
 * The DNS library, loaded when first needed: most runs answer no query themselves, and loading takes milliseconds.
 */

import { createRequire } from "node:module";

type DnsPacket = typeof import("dns-packet");

let loaded: DnsPacket | undefined;

export function dnsPacket(): DnsPacket {
  loaded ??= createRequire(import.meta.url)("dns-packet") as DnsPacket;
  return loaded;
}
