/** A relay whose headers are broken at every octet: nothing is handed on but what a header says, whole (RFC 1928, 7). */

import type { RemoteInfo, Socket } from "node:dgram";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { pattern } from "../../src/testing/pattern.ts";
import {
  closeServers,
  descriptors,
  endpoint,
  open,
  ScriptedServer,
  SHAPES,
  type Shape,
  timers,
  until,
} from "./client-harness.ts";
import { AssociationClient, EchoRelay } from "./fixtures/association-client.ts";
import { judgeDatagram } from "./fixtures/dialogue.ts";
import { garbage, spliced } from "./fixtures/faults.ts";

const NAME = "host.example";
const DATA = pattern(1, 0, 40);
/** The last datagram of a test: what came before has been dealt with then. */
const MARK = Buffer.from(`00000001c000020700096d61726b`, "hex");

const HEADERS = {
  IPv4: "00000001c00002010050",
  IPv6: "0000000420010db80000000000000000000000010050",
  name: `000000030c${Buffer.from(NAME).toString("hex")}0050`,
} as const;

const FAULTS: Readonly<Record<string, (bytes: Uint8Array, offset: number) => Uint8Array[]>> = {
  cut: (bytes, offset) => [bytes.subarray(0, offset)],
  "another octet": (bytes, offset) =>
    garbage(bytes[offset] as number).map((other) =>
      spliced(bytes, offset, 1, Uint8Array.of(other)),
    ),
  "an octet twice": (bytes, offset) => [
    spliced(bytes, offset, 0, bytes.subarray(offset, offset + 1)),
  ],
  "an octet missing": (bytes, offset) => [spliced(bytes, offset, 1, new Uint8Array(0))],
};

const relay = new EchoRelay();
/** Where the client sends from, and the relay's socket. */
let reached: { readonly from: RemoteInfo; readonly socket: Socket } | null = null;

beforeAll(async () => {
  relay.answer = (_message, from, socket) => {
    reached = { from, socket };
  };
  await relay.open();
});
afterAll(() => relay.close());
afterEach(closeServers);

/** An association that has sent something to {@link NAME}, whose answers the test makes. */
async function associated(shape: Shape): Promise<AssociationClient> {
  const server = await ScriptedServer.listen();
  const client = new AssociationClient(open(shape, server.url));
  const peer = await server.accept();
  await peer.expects("050100");
  peer.send("0500");
  await peer.expects("05030001000000000000");
  peer.send(`050000017f000001${relay.port.toString(16).padStart(4, "0")}`);
  await until("the association", () => client.events.includes("open"));
  reached = null;
  client.send(Buffer.from("hello"), { name: NAME, endpoint: endpoint("0.0.0.0", 80) });
  await until("a datagram at the relay", () => reached !== null);
  return client;
}

/** What the client hands on of these; each is on its way when the next one leaves. */
async function handedOn(
  client: AssociationClient,
  datagrams: readonly Uint8Array[],
): Promise<AssociationClient["received"]> {
  const { from, socket } = reached as NonNullable<typeof reached>;
  for (const datagram of [...datagrams, MARK]) {
    await new Promise((done) => socket.send(datagram, from.port, from.address, done));
  }
  await until("the mark", () => client.received.at(-1)?.[0] === "192.0.2.7:9");
  return client.received.slice(0, -1);
}

const rows = SHAPES.flatMap((shape) =>
  (["IPv4", "IPv6", "name"] as const).flatMap((kind) =>
    Object.keys(FAULTS).map((fault) => [shape, kind, fault] as const),
  ),
);

test.each(rows)("%s shape, header with an %s source: %s", async (shape, kind, fault) => {
  const before = descriptors();
  const client = await associated(shape);
  const whole = Buffer.from(HEADERS[kind] + Buffer.from(DATA).toString("hex"), "hex");
  const length = HEADERS[kind].length / 2;
  const datagrams = Array.from({ length: fault === "cut" ? length + 1 : length }, (_, offset) =>
    FAULTS[fault]?.(whole, offset),
  ).flatMap((variants) => variants ?? []);
  const expected = datagrams.flatMap((datagram) => {
    const said = judgeDatagram(Buffer.from(datagram), NAME);
    return said === null ? [] : [said];
  });
  expect(await handedOn(client, datagrams)).toEqual(expected);
  expect(client.events).toEqual(["open"]);
  client.close();
  await closeServers();
  await until("descriptors", () => descriptors() <= before);
  expect(timers.next()).toBe(-1);
});

describe.each(SHAPES)("%s shape", (shape) => {
  test("fragments that complete no sequence are never handed on, whatever their number", async () => {
    const client = await associated(shape);
    // Downwards, so that none follows its predecessor; 81 would be a sequence by itself.
    const numbers = Array.from({ length: 255 }, (_, i) => 255 - i).filter((n) => n !== 0x81);
    const datagram = Buffer.from(`${HEADERS.IPv4}61`, "hex");
    const fragments = numbers.map((number) => spliced(datagram, 2, 1, Uint8Array.of(number)));
    expect(await handedOn(client, fragments)).toEqual([]);
    client.close();
  });
});
