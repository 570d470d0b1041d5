import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { TcpConnection } from "../../src/stack/ports.ts";
import {
  buildIp,
  buildTcp,
  buildUdp,
  checksum,
  NO_OFFLOAD,
  pattern,
  StackDriver,
  TcpFlag,
} from "../../src/testing/index.ts";
import { runCodecs } from "./codecs.ts";
import { runDatagrams } from "./datagrams.ts";
import { Dice } from "./dice.ts";
import { drillSeeds } from "./drills.ts";
import { mutate } from "./mutation.ts";
import { type Finding, Observer } from "./observer.ts";
import { look, makeWhole } from "./packet-view.ts";
import { runStack } from "./stack-run.ts";

/** About ten seconds; `npm run fuzz` goes on from there. */
const SEEDS = 60;
const DRILLS = drillSeeds(fileURLToPath(new URL("../stack/tcp", import.meta.url)));

test("whatever packets come, the stack throws nothing, writes right packets and keeps nothing", () => {
  let packets = 0;
  for (let seed = 1_000_001; seed <= 1_000_000 + SEEDS; seed++) {
    const { failure, packets: given } = runStack(seed, 120, [], DRILLS);
    if (failure !== null) throw new Error(`seed ${seed}`, { cause: failure.error });
    packets += given;
  }
  expect(packets).toBeGreaterThan(SEEDS * 100);
}, 60_000);

test("whatever octets come, SOCKS and DNS messages are read within their bounds, cut anywhere", () => {
  const dice = new Dice(1);
  for (let round = 0; round < 5_000; round++) runCodecs(dice);
});

test("datagrams arrive from fragments as they were sent, or not at all when one was forged (RFC 5722 §3)", () => {
  const dice = new Dice(2);
  for (let round = 0; round < 100; round++) runDatagrams(dice);
});

test("the same seed gives the same packets", () => {
  expect(DRILLS.length).toBeGreaterThan(30);
  expect(runStack(7, 60, [], DRILLS)).toEqual(runStack(7, 60, [], DRILLS));
});

test("the observer finds a wrong checksum, a window that shrinks and a gap before SND.NXT", () => {
  const written = conversation();
  const [synAck, ack] = [written[0]!, written.at(-1)!];
  const faults = [
    damaged(ack, (view) => view.setUint16(36, view.getUint16(36) ^ 1), false),
    damaged(ack, (view) => view.setUint16(34, view.getUint16(34) - 1), true),
    damaged(ack, (view) => view.setUint32(24, view.getUint32(24) + 1), true),
  ].map((bytes) => {
    const observer = new Observer();
    observer.watch(synAck);
    observer.watch(ack);
    try {
      observer.watch(bytes);
    } catch (error) {
      return (error as Finding).message.replace(/^.*: /, "");
    }
    return "nothing";
  });
  expect(faults).toEqual([
    "TCP checksum",
    expect.stringMatching(/right edge moves left by \d+/),
    "SND.NXT jumps by 1",
  ]);
});

test("the observer finds SACK of octets that are not there, and takes the report of a duplicate", () => {
  const fields = {
    source: "198.51.100.1",
    destination: "10.0.0.2",
    sourcePort: 443,
    destinationPort: 1,
  };
  const observer = new Observer((_, left, right) => left === 1200 && right === 1300);
  observer.watch(buildTcp({ ...fields, seq: 1, ack: 1000, flags: 0x12, window: 500 }));
  const report = (...blocks: [number, number][]) => {
    const options = [{ kind: "sack", blocks } as const];
    const rest = { seq: 2, ack: 1000, flags: 0x10, window: 500, options };
    return () => observer.watch(buildTcp({ ...fields, ...rest }));
  };
  expect(report([1200, 1300])).not.toThrow();
  expect(report([900, 950], [1200, 1300])).not.toThrow();
  expect(report([1200, 1301])).toThrow("SACK of octets that are not there");
  expect(report([1200, 1300], [900, 950])).toThrow("SACK of octets that are not there");
});

test("the observer finds ECT on what is not new, not octets or not agreed on (RFC 3168 §6.1.4, §6.1.5)", () => {
  const fields = {
    source: "198.51.100.1",
    destination: "10.0.0.2",
    sourcePort: 443,
    destinationPort: 1,
    ack: 1000,
    window: 500,
  };
  const watch = (observer: Observer, octets: number, trafficClass: number) => () => {
    const payload = pattern(1, 0, octets);
    observer.watch(buildTcp({ ...fields, seq: 2, flags: TcpFlag.ACK, payload, trafficClass }));
  };
  const agreed = new Observer();
  const flags = TcpFlag.SYN | TcpFlag.ACK;
  agreed.watch(buildTcp({ ...fields, seq: 1, flags: flags | TcpFlag.ECE }));
  expect(watch(agreed, 0, 2)).toThrow("ECN field 2 on 0 octets");
  expect(watch(agreed, 10, 1)).toThrow("ECN field 1 on 10 octets");
  expect(watch(agreed, 10, 2)).not.toThrow();
  expect(watch(agreed, 10, 2)).toThrow("ECN field 2 on 10 octets 10 back");
  expect(watch(agreed, 10, 0)).not.toThrow();
  const other = new Observer();
  other.watch(buildTcp({ ...fields, seq: 1, flags }));
  expect(watch(other, 10, 2)).toThrow("ECN field 2 on 10 octets");
});

test("the observer joins fragments, and finds one that is missing and a datagram that is wrong", () => {
  const fields = { source: "fd00::1", destination: "fd00::2", sourcePort: 1, destinationPort: 2 };
  const whole = buildUdp({ ...fields, payload: new Uint8Array(3000).fill(7) });
  const at = look(whole)!;
  const parts = [0, 1000, 2000].map((from) => {
    const head = Uint8Array.of(17, 0, 0, 0, 0, 0, 0, 9);
    new DataView(head.buffer).setUint16(2, from | (from < 2000 ? 1 : 0));
    const body = whole.subarray(at.start + from, at.start + from + (from < 2000 ? 1000 : 4000));
    return buildIp(fields, 44, Buffer.concat([head, body]));
  });
  const watch = (fragments: readonly Uint8Array[]) => () => {
    const observer = new Observer();
    for (const fragment of fragments) observer.watch(fragment);
  };
  expect(watch(parts)).not.toThrow();
  expect(watch([parts[0]!, parts[2]!])).toThrow("a fragment at 2000 behind 1000 octets");
  parts[1] = parts[1]!.slice();
  parts[1][500]! ^= 1;
  expect(watch(parts)).toThrow("a wrong datagram: UDP checksum");
});

test("mutated packets have right IPv4 header checksums, nine in ten", () => {
  const packet = conversation()[0]!;
  const dice = new Dice(3);
  let right = 0;
  let all = 0;
  for (let round = 0; round < 500; round++) {
    for (const bytes of mutate(dice, packet)) {
      const header = (bytes[0]! & 15) * 4;
      if (bytes.length < 20 || header < 20 || header > bytes.length) continue;
      all++;
      if (checksum(bytes.subarray(0, header)) === 0) right++;
    }
  }
  expect(right / all).toBeGreaterThan(0.8);
});

/** A SYN-ACK and the acknowledgement of a hundred octets, IPv4 without options in the latter. */
function conversation(): Uint8Array[] {
  let connection: TcpConnection | null = null;
  const driver = new StackDriver(
    {
      onTcpOpen: (opened) => {
        connection = opened;
        return { onReadable() {}, onFin() {}, onWritable() {}, onClosed() {} };
      },
    },
    { offload: NO_OFFLOAD },
  );
  const fields = {
    source: "10.0.0.2",
    destination: "198.51.100.1",
    sourcePort: 40000,
    destinationPort: 443,
  };
  driver.inject(buildTcp({ ...fields, seq: 100, flags: TcpFlag.SYN }));
  (connection as TcpConnection | null)?.accept();
  driver.flush();
  const written = driver.take();
  const ack = new DataView(written[0]!.bytes.buffer).getUint32(24) + 1;
  const payload = new Uint8Array(100);
  driver.inject(buildTcp({ ...fields, seq: 101, ack, flags: TcpFlag.ACK, payload }));
  driver.advance(500);
  return [...written, ...driver.take()].map((packet) => packet.bytes);
}

function damaged(packet: Uint8Array, change: (view: DataView) => void, whole: boolean): Uint8Array {
  const copy = packet.slice();
  change(new DataView(copy.buffer));
  if (whole) makeWhole(copy);
  return copy;
}
