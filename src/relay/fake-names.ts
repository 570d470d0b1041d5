/**
 * Names that stand behind addresses of ours (`--dns fake`): a name gets one address of each family, and a flow to
 * either goes upstream by the name.
 *
 * One address never has two names. It is given to another name only when all others are taken too, the longest unused
 * first, and never while it is in use: a flow to it is open, or its name was answered, or its last flow ended, within
 * HOLD. When every address is in use there is none for a new name. A name keeps its address until then, whatever TTL
 * its answers had: a program that remembers it for longer is right nearly always.
 */

import { type Cidr, cidrContains, type Endpoint, parseCidr } from "../stack/wire/address.ts";

/** Names that have an address at a time. They take 10 MB at 30 octets each, 25 MB at 253. */
export const MAX_FAKE_NAMES = 65_536;

/**
 * Seconds. Short, since after our next start the address is nobody's or another's; not 0, so that the A and AAAA of one
 * connection and its retries are one lookup each.
 */
export const FAKE_TTL = 10;

/** Browsers and the JVM keep an address for up to a minute, whatever its TTL says. */
const MARGIN = 60;
export const HOLD: number = (FAKE_TTL + MARGIN) * 1000;

export interface FakeRanges {
  /** In text form. The address of a name in `ipv6` ends with its address in `ipv4`. */
  readonly ipv4: string;
  readonly ipv6: string;
  /** Addresses at the beginning of both that stand for no name. */
  readonly reserved: number;
}

/** A name with its address. The links belong to the table. */
export class FakeName {
  /** In lower case, without the last dot. */
  readonly name: string;
  /** Counted from the table's first address. */
  readonly slot: number;
  /** Flows to it. */
  uses = 0;
  /** Not given to another name before, ms. */
  heldUntil = 0;
  older: FakeName = this;
  younger: FakeName = this;

  constructor(name: string, slot: number) {
    this.name = name;
    this.slot = slot;
  }
}

export class FakeNames {
  /** Addresses that changed their name. */
  recycled = 0;
  readonly #ipv4: Cidr;
  readonly #ipv6: Cidr;
  readonly #limit: number;
  /** Addresses that there are, and the first of them. */
  readonly #count: number;
  readonly #base: number;
  /** Where slot 0 is: drawn anew in every run, lest an address of the last one be another name's now. */
  readonly #first: number;
  readonly #bySlot: FakeName[] = [];
  readonly #byName = new Map<string, FakeName>();
  /** Those without a flow, the one that is free first behind it: a ring. */
  readonly #unused = new FakeName("", -1);

  /** `random` is any number of [0, 2³²). */
  constructor(ranges: FakeRanges, random: number, limit: number = MAX_FAKE_NAMES) {
    this.#ipv4 = range(ranges.ipv4);
    this.#ipv6 = range(ranges.ipv6);
    const addresses = 2 ** (128 - this.#ipv4.bits);
    this.#base = this.#ipv4.address.w3 + ranges.reserved;
    // The last one is the broadcast address of the device.
    this.#count = addresses - ranges.reserved - 1;
    this.#first = random % this.#count;
    this.#limit = Math.min(limit, this.#count);
  }

  get size(): number {
    return this.#bySlot.length;
  }

  /** True when the address is of the ranges, a name's or not. */
  contains(address: Endpoint): boolean {
    return cidrContains(address.isV4 ? this.#ipv4 : this.#ipv6, address);
  }

  /** The name's entry at `now`, made if need be: its address is about to be told. Null: all addresses are in use. */
  answer(name: string, now: number): FakeName | null {
    const fake = this.#byName.get(name) ?? this.#add(name, now);
    if (fake === null) return null;
    fake.heldUntil = now + HOLD;
    if (fake.uses === 0) this.#append(fake);
    return fake;
  }

  /** Whose the address is; its port does not matter. */
  at(address: Endpoint): FakeName | null {
    const { w0, w1, w2 } = (address.isV4 ? this.#ipv4 : this.#ipv6).address;
    if (address.w0 !== w0 || address.w1 !== w1 || address.w2 !== w2) return null;
    const number = address.w3 - this.#base;
    if (number < 0 || number >= this.#count) return null;
    return this.#bySlot[(number - this.#first + this.#count) % this.#count] ?? null;
  }

  /** The address of `fake` into `into`, whose port stays. */
  address(fake: FakeName, isV4: boolean, into: Endpoint): Endpoint {
    const { w0, w1, w2 } = (isV4 ? this.#ipv4 : this.#ipv6).address;
    const number = this.#base + ((this.#first + fake.slot) % this.#count);
    return into.set(w0, w1, w2, number, into.port);
  }

  /** A flow to `fake` begins: no other name gets its address until as many have ended. */
  use(fake: FakeName): void {
    if (fake.uses++ === 0) unlink(fake);
  }

  /** One of them has ended at `now`. */
  release(fake: FakeName, now: number): void {
    if (--fake.uses > 0) return;
    fake.heldUntil = now + HOLD;
    this.#append(fake);
  }

  #add(name: string, now: number): FakeName | null {
    let slot = this.#bySlot.length;
    if (slot >= this.#limit) {
      const victim = this.#unused.younger;
      if (victim === this.#unused || victim.heldUntil > now) return null;
      unlink(victim);
      this.#byName.delete(victim.name);
      this.recycled++;
      slot = victim.slot;
    }
    const fake = new FakeName(name, slot);
    this.#bySlot[slot] = fake;
    this.#byName.set(name, fake);
    return fake;
  }

  /** Time does not go back, so the ring stays in the order of `heldUntil`. */
  #append(fake: FakeName): void {
    unlink(fake);
    const end = this.#unused;
    fake.younger = end;
    fake.older = end.older;
    end.older.younger = fake;
    end.older = fake;
  }
}

function unlink(fake: FakeName): void {
  fake.older.younger = fake.younger;
  fake.younger.older = fake.older;
  fake.older = fake;
  fake.younger = fake;
}

function range(text: string): Cidr {
  const found = parseCidr(text);
  if (found === null) throw new Error(`not a range: ${text}`);
  return found;
}
