/**
 * Lookups at our resolver under `--dns fake`: host names get an address of ours, so that the proxy is asked for the
 * name itself and no resolver is.
 *
 *     A, AAAA, ANY     the name's address; whether the name exists shows when a flow asks the proxy for it
 *     HTTPS, SVCB      no data: their hints (RFC 9460 §7.3) would lead around the name; clients fall back to A and AAAA
 *     PTR              the name of an address of ours
 *     other types      forwarded: what they tell is names, or text
 *
 * Never faked: names of --dns-real; "arpa", where addresses are asked about (a false ipv4only.arpa looks like NAT64,
 * RFC 8880), but for home.arpa (RFC 8375); names that no text can carry, and those that a proxy would read as an IPv4
 * address. localhost and invalid are answered as RFC 6761 §6.3 and §6.4 say. "local", "onion" and single labels are
 * names like others: the proxy may know them.
 */

import type { Answer, Packet } from "dns-packet";
import { Endpoint, formatAddress, parseAddress } from "../stack/wire/address.ts";
import type { RelayContext } from "./context.ts";
import { encodeAnswer } from "./dns-answer.ts";
import {
  emptyAnswer,
  isStandard,
  questionHost,
  questionType,
  Rcode,
  tryDecode,
} from "./dns-message.ts";
import { FAKE_TTL, type FakeName, type FakeNames } from "./fake-names.ts";
import { isBelow, matchesName, type NamePattern } from "./name-patterns.ts";

/** QTYPE. */
const Type = { A: 1, PTR: 12, AAAA: 28, SVCB: 64, HTTPS: 65, ANY: 255 } as const;
/** Types that a host name is not forwarded for. */
const ANSWERED: readonly number[] = [Type.A, Type.AAAA, Type.ANY, Type.HTTPS, Type.SVCB];

export class FakeResolver {
  readonly #context: RelayContext;
  readonly #names: FakeNames;
  readonly #real: readonly NamePattern[];
  readonly #scratch: Endpoint = new Endpoint();

  constructor(context: RelayContext, names: FakeNames, real: readonly NamePattern[]) {
    this.#context = context;
    this.#names = names;
    this.#real = real;
  }

  /** The answer to a query with a whole question; null: it is to be forwarded. */
  answer(query: Uint8Array): Uint8Array | null {
    const host = isStandard(query) ? questionHost(query) : null;
    const name = host === null ? null : inText(host);
    if (host === null || name === null) return null;
    const type = questionType(query);
    const reverse = reverseAddress(host);
    const isOurs = reverse !== null && this.#names.contains(reverse);
    if (!isOurs && this.#isForwarded(host, type)) return null;
    const packet = tryDecode(query);
    if (packet === null) {
      // Its question can be read, what follows cannot.
      this.#context.stats.dnsMalformed++;
      return emptyAnswer(query, Rcode.FORMERR);
    }
    if (isOurs) return this.#pointer(packet, reverse, type);
    if (isBelow(host, "invalid")) return encode(packet, [], Rcode.NXDOMAIN);
    if (isBelow(host, "localhost")) return encode(packet, addresses(type, LOOPBACK), Rcode.NOERROR);
    if (type === Type.HTTPS || type === Type.SVCB) return encode(packet, [], Rcode.NOERROR);
    const { stats, timers } = this.#context;
    const fake = this.#names.answer(name, timers.now());
    if (fake === null) {
      stats.dnsExhausted++;
      this.#context.warn(
        "fake",
        "every address that could stand for a name is in use: a lookup failed",
      );
      return emptyAnswer(query, Rcode.SERVFAIL);
    }
    stats.dnsFaked++;
    return encode(packet, addresses(type, this.#addresses(fake)), Rcode.NOERROR);
  }

  #isForwarded(host: string, type: number): boolean {
    if (host === "" || matchesName(this.#real, host)) return true;
    if (isBelow(host, "localhost") || isBelow(host, "invalid")) return false;
    if (isBelow(host, "arpa") && !isBelow(host, "home.arpa")) return true;
    return NUMERIC.test(host) || !ANSWERED.includes(type);
  }

  #pointer(query: Packet, address: Endpoint, type: number): Uint8Array {
    const fake = this.#names.at(address);
    if (fake === null) return encode(query, [], Rcode.NXDOMAIN);
    const isAsked = type === Type.PTR || type === Type.ANY;
    return encode(query, isAsked ? [{ type: "PTR", data: fake.name }] : [], Rcode.NOERROR);
  }

  #addresses(fake: FakeName): Addresses {
    const names = this.#names;
    return {
      ipv4: formatAddress(names.address(fake, true, this.#scratch)),
      ipv6: formatAddress(names.address(fake, false, this.#scratch)),
    };
  }
}

interface Addresses {
  readonly ipv4: string;
  readonly ipv6: string;
}

const LOOPBACK: Addresses = { ipv4: "127.0.0.1", ipv6: "::1" };

/** Both for ANY (RFC 8482 §4.1), none for a type that is no address. */
function addresses(type: number, { ipv4, ipv6 }: Addresses): Data[] {
  const records: Data[] = [];
  if (type === Type.A || type === Type.ANY) records.push({ type: "A", data: ipv4 });
  if (type === Type.AAAA || type === Type.ANY) records.push({ type: "AAAA", data: ipv6 });
  return records;
}

function encode(query: Packet, records: readonly Data[], rcode: Rcode): Uint8Array {
  const name = query.questions?.[0]?.name ?? "";
  const answers = records.map((record): Answer => ({ ...record, name, ttl: FAKE_TTL }));
  return encodeAnswer(query, answers, rcode);
}

interface Data {
  readonly type: "A" | "AAAA" | "PTR";
  readonly data: string;
}

/** What getaddrinfo takes for an IPv4 address ends in a number, decimal or hexadecimal. */
const NUMERIC = /(^|\.)([0-9]+|0x[0-9a-f]*)$/;

/** Octets as the text they are in UTF-8; null if they are none. */
function inText(octets: string): string | null {
  try {
    return UTF8.decode(Uint8Array.from(octets, (octet) => octet.charCodeAt(0)));
  } catch {
    return null;
  }
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The address whose reverse name `name` is (RFC 1035 §3.5, RFC 3596 §2.5), or null. */
function reverseAddress(name: string): Endpoint | null {
  if (name.endsWith(".in-addr.arpa")) {
    return parseAddress(name.slice(0, -".in-addr.arpa".length).split(".").reverse().join("."));
  }
  if (!/^([0-9a-f]\.){32}ip6\.arpa$/.test(name)) return null;
  const digits = name.slice(0, 64).split(".").reverse().join("");
  return parseAddress(digits.replace(/.{4}(?!$)/g, "$&:"));
}
