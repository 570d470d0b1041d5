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
  for (const entry of entries) table.add(entry, 0);
  return { table, entries };
}

test("a quarter of the descriptors above 512 may be associations", () => {
  expect(maxAssociations(20_000)).toBe(4872);
  expect(maxAssociations(1024)).toBe(128);
  expect(maxAssociations(256)).toBe(16);
});

test("at the bound the longest idle answered association gives way", () => {
  const { table, entries } = fill([false, true, true]);
  expect(table.add(new Entry(false), 0)).toBe(1);
  expect(entries.map((entry) => entry.gone)).toEqual([false, true, false]);
  expect(table.size).toBe(3);
});

test("a datagram makes an association the youngest", () => {
  const { table, entries } = fill([true, true, true]);
  table.touch(entries[0]!);
  table.add(new Entry(true), 0);
  table.add(new Entry(true), 0);
  expect(entries.map((entry) => entry.gone)).toEqual([false, true, true]);
});

test("without any answered one the oldest gives way", () => {
  const { table, entries } = fill([false, false]);
  table.add(new Entry(false), 0);
  expect(entries.map((entry) => entry.gone)).toEqual([true, false]);
});

test("below the bound nobody gives way, and removal keeps the order", () => {
  const { table, entries } = fill([true, true, true]);
  table.remove(entries[1]!);
  expect(table.add(new Entry(true), 0)).toBe(0);
  table.add(new Entry(true), 0);
  expect(entries.map((entry) => entry.gone)).toEqual([true, false, false]);
  expect(table.size).toBe(3);
});

test("a proxy that is full has a sixteenth of the associations give way, and is tried in full after five minutes", () => {
  const { table, entries } = fill(new Array<boolean>(64).fill(true));
  table.remove(entries[0]!);
  expect(table.isFull(1000)).toBe(true);
  // 63 were there: 59 are believed to be the most.
  expect(table.add(new Entry(true), 1000)).toBe(5);
  expect(table.size).toBe(59);
  // Refusals of the same moment teach nothing new.
  table.remove(entries[10]!);
  expect(table.isFull(1999)).toBe(true);
  expect(table.limit).toBe(59);
  for (let i = 0; i < 10; i++) table.add(new Entry(true), 300_999);
  expect(table.size).toBe(59);
  for (let i = 0; i < 10; i++) table.add(new Entry(true), 301_000);
  expect(table.size).toBe(64);
});

test("with few associations a refusal has another reason, and the bound does not fall below 16", () => {
  const { table, entries } = fill(new Array<boolean>(17).fill(true));
  expect(table.isFull(0)).toBe(true);
  expect(table.limit).toBe(16);
  table.remove(entries[0]!);
  expect(table.isFull(5000)).toBe(false);
});
