import fc from "fast-check";
import { expect, test } from "vitest";
import { FlowTable } from "../../src/stack/flow-table.ts";
import { Endpoint, formatEndpoint } from "../../src/stack/wire/address.ts";

// Few distinct keys and many steps, so that finds hit and removals make holes in probe runs.
const client = fc
  .tuple(fc.boolean(), fc.nat(40), fc.nat(4))
  .map(([v4, word, port]) => new Endpoint().set(v4 ? 0 : 0xfd00, 0, v4 ? 0xffff : 0, word, port));
const target = fc.nat(2).map((word) => new Endpoint().set(0, 0, 0xffff, word, 80));
const step = fc.tuple(fc.constantFrom("insert", "insert", "remove", "find"), client, target);

test("the table equals a Map for any sequence of steps, and its indices are dense and unique", () => {
  fc.assert(
    fc.property(
      fc.tuple(fc.nat(), fc.nat()),
      fc.constantFrom(5, 64, 100, 1000),
      fc.array(step, { minLength: 300, maxLength: 600 }),
      (secret, bound, steps) => {
        const table = new FlowTable(Uint32Array.from(secret), bound);
        const model = new Map<string, number>();
        for (const [verb, src, dst] of steps) {
          const key = `${formatEndpoint(src)} ${formatEndpoint(dst)}`;
          const index = table.find(src, dst);
          expect(index).toBe(model.get(key) ?? -1);
          if (verb === "insert" && index < 0) {
            const added = table.insert(src, dst);
            if (model.size === bound) {
              expect(added).toBe(-1);
            } else {
              expect(added).toBeGreaterThanOrEqual(0);
              expect(added).toBeLessThan(bound);
              expect([...model.values()]).not.toContain(added);
              model.set(key, added);
            }
          } else if (verb === "remove" && index >= 0) {
            table.remove(index);
            model.delete(key);
          }
          expect(table.size).toBe(model.size);
        }
      },
    ),
    { numRuns: 60 },
  );
});
