import fc from "fast-check";
import { expect, test } from "vitest";
import { FAKE_RANGES } from "../../src/addresses.ts";
import { type FakeName, FakeNames, HOLD } from "../../src/relay/fake-names.ts";
import { Endpoint, formatAddress } from "../../src/stack/wire/address.ts";

// More names than addresses, so that most answers recycle one, and times around HOLD.
const step = fc.tuple(
  fc.constantFrom("answer", "answer", "answer", "use", "release", "wait"),
  fc.nat(19),
  fc.constantFrom(1, 1000, HOLD - 1, HOLD),
);

/** What must be true of a name while it is in use. */
interface Known {
  readonly fake: FakeName;
  readonly address: string;
  uses: number;
  heldUntil: number;
}

function addressOf(names: FakeNames, fake: FakeName, isV4: boolean): Endpoint {
  return names.address(fake, isV4, new Endpoint());
}

test("an address has one name, changes it only when unused, and there are never more than the bound", () => {
  fc.assert(
    fc.property(
      fc.nat(0xffffffff),
      fc.integer({ min: 1, max: 12 }),
      fc.array(step, { minLength: 50, maxLength: 400 }),
      (random, limit, steps) => {
        const names = new FakeNames(FAKE_RANGES, random, limit);
        const known = new Map<string, Known>();
        let now = 0;
        for (const [verb, index, time] of steps) {
          const name = `host${index}.test`;
          const entry = known.get(name);
          if (verb === "wait") now += time;
          if (verb === "use" && entry !== undefined) {
            names.use(entry.fake);
            entry.uses++;
          }
          if (verb === "release" && entry !== undefined && entry.uses > 0) {
            names.release(entry.fake, now);
            if (--entry.uses === 0) entry.heldUntil = now + HOLD;
          }
          if (verb === "answer") {
            const fake = names.answer(name, now);
            if (fake === null) {
              // Rightly: nobody's address is free.
              expect(entry).toBeUndefined();
              expect(known.size).toBe(limit);
              for (const { uses, heldUntil } of known.values()) {
                expect(uses > 0 || heldUntil > now).toBe(true);
              }
              continue;
            }
            const address = formatAddress(addressOf(names, fake, true));
            if (entry !== undefined) expect(address).toBe(entry.address);
            for (const [other, holder] of known) {
              if (other === name || holder.address !== address) continue;
              // Who had it was unused, and nobody for longer.
              expect(holder.uses).toBe(0);
              expect(holder.heldUntil).toBeLessThanOrEqual(now);
              for (const { uses, heldUntil } of known.values()) {
                if (uses === 0) expect(heldUntil).toBeGreaterThanOrEqual(holder.heldUntil);
              }
              known.delete(other);
            }
            const uses = entry?.uses ?? 0;
            known.set(name, { fake, address, uses, heldUntil: now + HOLD });
          }
          expect(names.size).toBe(known.size);
          expect(names.size).toBeLessThanOrEqual(limit);
          expect(new Set([...known.values()].map(({ address }) => address)).size).toBe(known.size);
          for (const [holder, { fake }] of known) {
            for (const isV4 of [true, false]) {
              expect(names.at(addressOf(names, fake, isV4))?.name).toBe(holder);
            }
          }
        }
      },
    ),
    { numRuns: 100 },
  );
});

test("every address that can be given is inside both ranges and is none of the reserved ones", () => {
  for (const random of [0, 131_054, 131_055, 0xffffffff]) {
    const names = new FakeNames(FAKE_RANGES, random);
    const seen = new Set<number>();
    for (let i = 0; i < 65_536; i++) {
      const fake = names.answer(`n${i}`, 0) as FakeName;
      const v4 = addressOf(names, fake, true);
      const v6 = addressOf(names, fake, false);
      if (!names.contains(v4) || !names.contains(v6) || v6.w3 !== v4.w3) throw new Error("outside");
      seen.add(v4.w3 >>> 0);
    }
    expect(seen.size).toBe(65_536);
    // 198.18.0.16 to 198.19.255.254
    for (const word of seen)
      if (word < 0xc6120010 || word > 0xc613fffe) throw new Error("reserved");
    expect(names.answer("one.more", 0)).toBeNull();
    expect(names.answer("one.more", HOLD)?.slot).toBe(0);
    expect(names.recycled).toBe(1);
  }
});
