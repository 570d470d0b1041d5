/**
 * Addresses as four int32 words; IPv4 is v4-mapped (RFC 4291 §2.5.5.2), so one path serves both families.
 */

/** An address and port. Instances passed to handlers are reused: valid during the call only. */
export class Endpoint {
  w0 = 0;
  w1 = 0;
  w2 = 0;
  w3 = 0;
  port = 0;

  set(w0: number, w1: number, w2: number, w3: number, port: number): this {
    this.w0 = w0 | 0;
    this.w1 = w1 | 0;
    this.w2 = w2 | 0;
    this.w3 = w3 | 0;
    this.port = port;
    return this;
  }

  copy(other: Endpoint): this {
    return this.set(other.w0, other.w1, other.w2, other.w3, other.port);
  }

  clone(): Endpoint {
    return new Endpoint().copy(this);
  }

  equals(other: Endpoint): boolean {
    return this.port === other.port && this.sameAddress(other);
  }

  sameAddress(other: Endpoint): boolean {
    return (
      this.w3 === other.w3 && this.w2 === other.w2 && this.w1 === other.w1 && this.w0 === other.w0
    );
  }

  /** True for a v4-mapped address. */
  get isV4(): boolean {
    return this.w2 === 0xffff && this.w1 === 0 && this.w0 === 0;
  }

  /** 0.0.0.0/8 ("this network", RFC 1122 §3.2.1.3) or ::. */
  get isUnspecified(): boolean {
    if (this.isV4) return this.w3 >>> 24 === 0;
    return (this.w0 | this.w1 | this.w2 | this.w3) === 0;
  }

  /** 127.0.0.0/8 or ::1. */
  get isLoopback(): boolean {
    if (this.isV4) return this.w3 >>> 24 === 127;
    return (this.w0 | this.w1 | this.w2) === 0 && this.w3 === 1;
  }

  /** 224.0.0.0/4 or ff00::/8. */
  get isMulticast(): boolean {
    return this.isV4 ? this.w3 >>> 28 === 14 : this.w0 >>> 24 === 0xff;
  }

  /** 255.255.255.255; directed broadcasts are not known here. */
  get isBroadcast(): boolean {
    return this.isV4 && this.w3 === -1;
  }

  /** 169.254.0.0/16 (RFC 3927) or fe80::/10. */
  get isLinkLocal(): boolean {
    return this.isV4 ? this.w3 >>> 16 === 0xa9fe : this.w0 >>> 22 === 0x3fa;
  }

  /** RFC 1918, shared address space (RFC 6598) or unique local (RFC 4193). */
  get isPrivate(): boolean {
    if (!this.isV4) return this.w0 >>> 25 === 0x7e;
    const top = this.w3 >>> 24;
    return (
      top === 10 ||
      this.w3 >>> 20 === 0xac1 ||
      this.w3 >>> 16 === 0xc0a8 ||
      this.w3 >>> 22 === 0x191
    );
  }

  /** True when no unicast packet may have it as its destination: unspecified, multicast, 240.0.0.0/4. */
  get isMartianDestination(): boolean {
    return this.isUnspecified || this.isMulticast || (this.isV4 && this.w3 >>> 28 === 15);
  }
}

/**
 * Reads an IPv4 address in dotted decimal (four parts, no leading zeros) or an IPv6 address as RFC 4291
 * §2.2 writes it; zones are refused. Port 0. null: it is neither.
 */
export function parseAddress(text: string): Endpoint | null {
  const endpoint = new Endpoint();
  if (text.includes(":")) return parseIpv6(text, endpoint) ? endpoint : null;
  const word = parseDotted(text);
  return word === null ? null : endpoint.set(0, 0, 0xffff, word, 0);
}

function parseDotted(text: string): number | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  let word = 0;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return null;
    word = (word << 8) | Number(part);
  }
  return word;
}

function parseIpv6(text: string, endpoint: Endpoint): boolean {
  if (text.length > LONGEST_IPV6) return false;
  const halves = text.split("::");
  if (halves.length > 2) return false;
  const head = parseGroups(halves[0], halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1], true) : [];
  if (head === null || tail === null) return false;
  const missing = 8 - head.length - tail.length;
  // "::" stands for one group or more (RFC 4291 §2.2 (2)).
  if (halves.length === 2 ? missing < 1 : missing !== 0) return false;
  const groups = head.concat(new Array<number>(missing).fill(0), tail);
  endpoint.set(
    (groups[0] << 16) | groups[1],
    (groups[2] << 16) | groups[3],
    (groups[4] << 16) | groups[5],
    (groups[6] << 16) | groups[7],
    0,
  );
  return true;
}

/** Groups of 16 bits between colons; the last may be dotted decimal where `last` says the text ends there. */
function parseGroups(text: string, last: boolean): number[] | null {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (let i = 0; i < parts.length; i++) {
    if (last && i === parts.length - 1 && parts[i].includes(".")) {
      const word = parseDotted(parts[i]);
      if (word === null) return null;
      groups.push(word >>> 16, word & 0xffff);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(parts[i])) return null;
      groups.push(Number.parseInt(parts[i], 16));
    }
  }
  return groups;
}

/** Dotted decimal, or the canonical text of RFC 5952. */
export function formatAddress(address: Endpoint): string {
  if (address.isV4) {
    const word = address.w3;
    return `${word >>> 24}.${(word >>> 16) & 0xff}.${(word >>> 8) & 0xff}.${word & 0xff}`;
  }
  const groups: number[] = [];
  for (const word of [address.w0, address.w1, address.w2, address.w3]) {
    groups.push(word >>> 16, word & 0xffff);
  }
  // RFC 5952 §4.2: the first of the longest runs of two or more zero groups is shortened.
  let longest = 1;
  let longestAt = -1;
  for (let i = 0, run = 0; i < 8; i++) {
    run = groups[i] === 0 ? run + 1 : 0;
    if (run > longest) {
      longest = run;
      longestAt = i - run + 1;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  if (longestAt < 0) return hex.join(":");
  return `${hex.slice(0, longestAt).join(":")}::${hex.slice(longestAt + longest).join(":")}`;
}

/** `10.0.0.1:80`, `[2001:db8::1]:80`. */
export function formatEndpoint(endpoint: Endpoint): string {
  const address = formatAddress(endpoint);
  return endpoint.isV4 ? `${address}:${endpoint.port}` : `[${address}]:${endpoint.port}`;
}

/** A prefix of either family. IPv4 prefixes are stored as v4-mapped: 10.0.0.0/8 has 104 bits. */
export interface Cidr {
  readonly address: Endpoint;
  /** Bits that count, 0..128. */
  readonly bits: number;
}

/** Reads `10.0.0.0/8`, `fd00::/8`, or an address alone. null: malformed. Bits behind the prefix are ignored. */
export function parseCidr(text: string): Cidr | null {
  const slash = text.indexOf("/");
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (address === null) return null;
  // Of "::ffff:10.0.0.0/104" the text says which family is meant.
  const isV4 = address.isV4 && !text.includes(":");
  const width = isV4 ? 32 : 128;
  const length = slash < 0 ? String(width) : text.slice(slash + 1);
  if (!/^(0|[1-9][0-9]{0,2})$/.test(length) || Number(length) > width) return null;
  return { address, bits: Number(length) + 128 - width };
}

/** True when the address lies in the prefix. An IPv4 address lies in no IPv6 prefix such as ::/0. */
export function cidrContains(cidr: Cidr, address: Endpoint): boolean {
  if (address.isV4 && cidr.bits < V4_MAPPED_BITS) return false;
  return (
    sameBits(cidr.address.w0, address.w0, cidr.bits) &&
    sameBits(cidr.address.w1, address.w1, cidr.bits - 32) &&
    sameBits(cidr.address.w2, address.w2, cidr.bits - 64) &&
    sameBits(cidr.address.w3, address.w3, cidr.bits - 96)
  );
}

function sameBits(a: number, b: number, bits: number): boolean {
  if (bits <= 0) return true;
  const difference = a ^ b;
  return bits >= 32 ? difference === 0 : difference >>> (32 - bits) === 0;
}

/** "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255" */
const LONGEST_IPV6 = 45;
const V4_MAPPED_BITS = 96;
