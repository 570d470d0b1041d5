/**
 * Our own captures through the stack: what it makes of them is written down beside them. Windows and timestamps are
 * left out, they are other tests' business. `npx vitest run -u test/pcap/golden.test.ts` writes the texts anew.
 */

import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ipPayload } from "../../src/pcap/link-type.ts";
import { readCaptureFile } from "../../src/pcap/read-capture.ts";
import { printPacket } from "../../src/stack/wire/print.ts";
import { decodePacket, type ReplayReport, replay } from "../../src/testing/index.ts";

const FOLDER = join(import.meta.dirname, "../pcaps");

describe.each(readdirSync(FOLDER).filter((name) => name.endsWith(".pcap")))("%s", (name) => {
  test("is replayed as it was written down", async () => {
    const { lines } = await replayed(name);
    const golden = join(FOLDER, name.replace(".pcap", ".golden.txt"));
    await expect(`${lines.join("\n")}\n`).toMatchFileSnapshot(golden);
  });
});

test("download.pcap: every octet arrives at both ends", async () => {
  const { report } = await replayed("download.pcap");
  expect(report.streams).toMatchObject([{ verdict: "exact", reasons: [], closed: "closed" }]);
  const [{ upstream, downstream }] = report.streams;
  expect(Buffer.from(upstream).toString()).toBe("GET / HTTP/1.0\r\n\r\n");
  expect(downstream).toEqual(Uint8Array.from({ length: 24_000 }, (_, i) => (i * 7) & 255));
});

test("endings.pcap: half-close over IPv6, a refusal, a reset behind octets, datagrams", async () => {
  const { report } = await replayed("endings.pcap");
  expect(report.streams).toMatchObject([
    { verdict: "exact", closed: "closed", finReceived: true },
    { verdict: "refused", answer: "RST" },
    { verdict: "exact", closed: null },
  ]);
  const [half, , reset] = report.streams;
  const text = (octets: Uint8Array): string => Buffer.from(octets).toString();
  expect([text(half.upstream), text(half.downstream)]).toEqual(["half closed", "HALF CLOSED"]);
  expect([text(reset.upstream), text(reset.downstream)]).toEqual(["go on", "no more"]);
  const { upstream, answers, expectedUpstream, expectedAnswers } = report.datagrams;
  expect(Object.values(upstream)).toEqual([
    [1, 8],
    [1, 8],
  ]);
  expect(Object.values(answers)).toEqual([[1, 6]]);
  expect([upstream, answers]).toEqual([expectedUpstream, expectedAnswers]);
});

async function replayed(name: string): Promise<{ report: ReplayReport; lines: string[] }> {
  const packets = [];
  for await (const packet of readCaptureFile(join(FOLDER, name))) packets.push(packet);
  expect(packets.every((packet) => ipPayload(packet) !== null)).toBe(true);
  const lines: string[] = [];
  const isns = new Map<string, number>();
  const report = replay(packets, {
    trace: (at, direction, packet) => lines.push(`${at} ${direction} ${print(packet, isns)}`),
  });
  for (const { client, server, verdict, reasons } of report.streams) {
    lines.push(`${client} > ${server}: ${[verdict, ...reasons].join(", ")}`);
  }
  return { report, lines };
}

/** In the drill's notation, relative to the ISNs. */
function print(bytes: Uint8Array, isns: Map<string, number>): string {
  const packet = decodePacket(bytes);
  const options = { endpoints: true };
  if (packet.kind !== "tcp") return printPacket(bytes, 0, bytes.length, options);
  const src = `${packet.source} ${packet.sourcePort}`;
  const dst = `${packet.destination} ${packet.destinationPort}`;
  if ((packet.flags & 2) !== 0) isns.set(`${src} ${dst}`, packet.seq);
  // The RST that refuses a SYN counts from 0.
  const relative = { seq: isns.get(`${src} ${dst}`) ?? 0, ack: isns.get(`${dst} ${src}`) ?? 0 };
  return printPacket(bytes, 0, bytes.length, { ...options, relative })
    .replace(/ win \d+/, "")
    .replace(/,?TS val \d+ ecr \d+/, "")
    .replace("<,", "<")
    .replace(" <>", "");
}
