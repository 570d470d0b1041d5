/** Prefixes that users write. Bits behind the prefix are a slip: 10.0.0.5/8 is more than who wrote it may think. */

import { type Cidr, Endpoint } from "./stack/wire/address.ts";

/** The first `bits` of a word, set; any number of bits. */
export function mask(bits: number): number {
  return bits <= 0 ? 0 : bits >= 32 ? -1 : -1 << (32 - bits);
}

/** The prefix that is meant where `prefix` has bits behind it; null: it has none. */
export function withoutHostBits({ address, bits }: Cidr): Cidr | null {
  const network = new Endpoint().set(
    address.w0 & mask(bits),
    address.w1 & mask(bits - 32),
    address.w2 & mask(bits - 64),
    address.w3 & mask(bits - 96),
    0,
  );
  return network.sameAddress(address) ? null : { address: network, bits };
}
