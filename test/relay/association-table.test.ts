import { expect, test } from "vitest";
import {
  type AssociationEntry,
  AssociationTable,
  maxAssociations,
} from "../../src/relay/association-table.ts";

class Entry implements AssociationEntry {
  older: AssociationEntry | null = null;
  younger: AssociationEntry | null = null;
  answered: boolean;
  gone = false;

  constructor(answered: boolean) {
    this.answered = answered;
  }

  giveWay(): void {
    this.gone = true;
  }
}

function fill(answered: readonly boolean[]): { table: AssociationTable; entries: Entry[] } {
  const table = new AssociationTable(answered.length);
  const entries = answered.map((flag) => new Entry(flag));
  for (const entry of entries) table.add(entry);
  return { table, entries };
}

test("a quarter of the descriptors above 512 may be associations", () => {
  expect(maxAssociations(20_000)).toBe(4872);
  expect(maxAssociations(1024)).toBe(128);
  expect(maxAssociations(256)).toBe(16);
});

test("at the bound the longest idle answered association gives way", () => {
  const { table, entries } = fill([false, true, true]);
  expect(table.add(new Entry(false))).toBe(true);
  expect(entries.map((entry) => entry.gone)).toEqual([false, true, false]);
  expect(table.size).toBe(3);
});

test("a datagram makes an association the youngest", () => {
  const { table, entries } = fill([true, true, true]);
  table.touch(entries[0]!);
  table.add(new Entry(true));
  table.add(new Entry(true));
  expect(entries.map((entry) => entry.gone)).toEqual([false, true, true]);
});

test("without any answered one the oldest gives way", () => {
  const { table, entries } = fill([false, false]);
  table.add(new Entry(false));
  expect(entries.map((entry) => entry.gone)).toEqual([true, false]);
});

test("below the bound nobody gives way, and removal keeps the order", () => {
  const { table, entries } = fill([true, true, true]);
  table.remove(entries[1]!);
  expect(table.add(new Entry(true))).toBe(false);
  table.add(new Entry(true));
  expect(entries.map((entry) => entry.gone)).toEqual([true, false, false]);
  expect(table.size).toBe(3);
});
