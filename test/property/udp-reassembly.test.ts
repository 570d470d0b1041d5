import fc from "fast-check";
import { expect, test } from "vitest";
import { datagram, FragmentReceiver, LAST } from "../support/socks-fragments.ts";

/** A datagram to a port of its own, cut into fragments. Its octets say whose they are. */
const sequence = (port: number) =>
  fc.array(fc.nat(5), { minLength: 1, maxLength: 12 }).map((lengths) => {
    let octet = 0;
    const parts = lengths.map((length) =>
      Uint8Array.from({ length }, () => (port * 61 + octet++) & 0xff),
    );
    const address = [1, 192, 0, 2, 1, 0, port];
    const fragments = parts.map((part, i) =>
      datagram(i === parts.length - 1 ? (i + 1) | LAST : i + 1, part, address),
    );
    return { fragments, whole: datagram(0, Buffer.concat(parts), address) };
  });

/** What happens to the fragments on the way, drawn per datagram on the wire. */
const way = fc.record({
  order: fc.array(fc.nat(), { maxLength: 80 }),
  copies: fc.array(fc.nat(2), { maxLength: 40 }),
  isOrdered: fc.boolean(),
});

test("any order, loss and duplicates: what is delivered is a whole datagram as it was sent, or nothing", () => {
  fc.assert(
    fc.property(
      fc.tuple(sequence(1), sequence(2), sequence(3)),
      way,
      (sequences, { order, copies, isOrdered }) => {
        const receiver = new FragmentReceiver();
        const sent = sequences.flatMap(({ fragments }) => fragments);
        // Every fragment none, one or two times; shuffled or not.
        const arriving = sent
          .flatMap((fragment, i) => new Array<Uint8Array>(copies[i] ?? 1).fill(fragment))
          .map((fragment, i) => ({ fragment, key: isOrdered ? i : (order[i] ?? i) }))
          .sort((a, b) => a.key - b.key);
        for (const { fragment } of arriving) {
          const whole = receiver.receive(fragment);
          if (whole !== null) expect(sequences.map((one) => one.whole)).toContainEqual(whole);
        }
        const { received, ...fates } = receiver.store.counters;
        expect(received).toBe(arriving.length);
        receiver.time.advance(10_000);
        expect(receiver.store.octets).toBe(0);
        expect(fates.evicted + fates.tooLong + fates.interrupted).toBe(0);
      },
    ),
    { numRuns: 300 },
  );
});

test("without loss and reordering every datagram arrives, whatever fragment comes twice in a row", () => {
  fc.assert(
    fc.property(fc.tuple(sequence(1), sequence(2)), fc.array(fc.boolean()), (sequences, twice) => {
      const receiver = new FragmentReceiver();
      const arrived: Uint8Array[] = [];
      let i = 0;
      for (const { fragments } of sequences) {
        for (const fragment of fragments) {
          // A sequence of one fragment that comes twice is a datagram that does.
          const times = fragments.length > 1 && twice[i++] ? 2 : 1;
          for (let n = 0; n < times; n++) {
            const whole = receiver.receive(fragment);
            if (whole !== null) arrived.push(whole);
          }
        }
      }
      expect(arrived).toEqual(sequences.map(({ whole }) => whole));
    }),
    { numRuns: 200 },
  );
});

test("whatever comes, what is held stays within its bounds, and nothing is handed on as a fragment", () => {
  const packet = fc
    .tuple(fc.oneof(fc.integer({ min: 1, max: 5 }), fc.nat(255)), fc.nat(2), fc.nat(600))
    .map(([fragment, host, length]) =>
      datagram(fragment, new Uint8Array(length), [1, 192, 0, 2, host, 0, 80]),
    );
  const step = fc.record({ packet, to: fc.nat(2), after: fc.nat(3000) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const first = new FragmentReceiver(2000);
      const receivers = [first, new FragmentReceiver(0, first), new FragmentReceiver(0, first)];
      for (const { packet: sent, to, after } of steps) {
        const whole = receivers[to]?.receive(sent);
        expect(whole?.[2] ?? 0).toBe(0);
        expect(first.store.octets).toBeLessThanOrEqual(2000);
        first.time.advance(first.time.now() + after);
      }
      first.time.advance(first.time.now() + 6000);
      expect(first.store.octets).toBe(0);
      expect(first.time.next()).toBe(-1);
    }),
    { numRuns: 300 },
  );
});
