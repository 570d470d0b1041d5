import { decode, encode, type RecordType } from "dns-packet";
import fc from "fast-check";
import { expect, test } from "vitest";
import { fakeWorld, OURS } from "../support/lookups.ts";

const label = fc.stringMatching(/^[a-zA-Z0-9_-]{1,12}$/);
const name = fc.array(label, { minLength: 1, maxLength: 6 }).map((labels) => labels.join("."));
const type = fc.constantFrom("A", "AAAA", "ANY", "MX", "PTR", "UNKNOWN_65");
const query = fc.tuple(name, type, fc.nat(0xffff)).map(([asked, of, id]) =>
  encode({
    type: "query",
    id,
    flags: 0x100,
    questions: [{ type: of as RecordType, name: asked }],
    additionals: [
      {
        type: "OPT",
        name: ".",
        udpPayloadSize: 1232,
        extendedRcode: 0,
        ednsVersion: 0,
        flags: 0,
        flag_do: false,
        options: [],
      },
    ],
  }),
);
/** Some octets of a query are others, and its end may be missing. */
const mutated = fc
  .tuple(query, fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 4 }), fc.nat(40))
  .map(([message, changes, cut]) => {
    const octets = Uint8Array.from(message);
    for (const [at, octet] of changes) if (at < octets.length) octets[at] = octet;
    return cut > 20 ? octets : octets.subarray(0, octets.length - cut);
  });
const hostile = fc.oneof(mutated, fc.uint8Array({ minLength: 1, maxLength: 80 }));

test("whatever is sent to our resolver is answered, forwarded or counted, and never throws", () => {
  fc.assert(
    fc.property(fc.array(hostile, { minLength: 1, maxLength: 40 }), (messages) => {
      const world = fakeWorld();
      world.udp(OURS, 5000, ...messages);
      const { stats } = world.relay;
      const answers = world.datagrams();
      for (const { payload } of answers) {
        // Decodable, with the id of a question.
        expect(decode(Buffer.from(payload)).type).toBe("response");
      }
      const association = world.upstream.associations[0];
      if (association !== undefined) world.act(() => association.open());
      const forwarded = association?.sent.length ?? 0;
      expect(stats.dnsQueries).toBe(answers.length + forwarded);
      const dropped = messages.length - stats.dnsQueries;
      // FORMERR counts as malformed too.
      expect(stats.dnsMalformed).toBeGreaterThanOrEqual(dropped);
      expect(stats.dnsMalformed).toBeLessThanOrEqual(dropped + answers.length);
    }),
    { numRuns: 150 },
  );
});

test("the same over TCP, in any split: the client is answered or reset", () => {
  fc.assert(
    fc.property(
      fc.array(hostile, { minLength: 1, maxLength: 10 }),
      fc.integer({ min: 1, max: 300 }),
      (messages, step) => {
        const world = fakeWorld();
        const peer = world.tcp(OURS, 40000);
        peer.syn();
        const stream = Buffer.concat(
          messages.map((message) => Buffer.from([message.length >> 8, message.length, ...message])),
        );
        for (let at = 0; at < stream.length && peer.state === "open"; at += step) {
          peer.send(stream.subarray(at, at + step));
        }
        const { stats } = world.relay;
        const isWhole = stats.dnsQueries === messages.length;
        expect(isWhole || peer.state === "reset").toBe(true);
        if (peer.state === "reset") expect(stats.dnsMalformed).toBeGreaterThan(0);
      },
    ),
    { numRuns: 100 },
  );
});
