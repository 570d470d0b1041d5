import fc from "fast-check";
import { expect, test } from "vitest";
import { Handshake } from "../../src/socks/handshake.ts";
import { Command } from "../../src/socks/message.ts";
import type { Credentials } from "../../src/socks/proxy-handshake.ts";
import { Endpoint, formatEndpoint } from "../../src/stack/wire/address.ts";

const target = new Endpoint().set(0, 0, 0xffff, 0x7f000001, 80);

interface Outcome {
  readonly sent: readonly string[];
  /** Octets taken by a handshake that was granted, else -1. */
  readonly taken: number;
  readonly end: string;
}

/**
 * Plays `stream` as everything the server will ever say, then its end, cut after each offset in `cuts`. `exact`: only
 * what is needed is offered, as by recv(2); otherwise all that has arrived, as by a Node.js stream.
 */
function play(
  credentials: Credentials | null,
  stream: Uint8Array,
  cuts: readonly number[],
  exact: boolean,
): Outcome {
  const handshake = new Handshake();
  const sent: string[] = [];
  const message = new Uint8Array(600);
  let taken = 0;
  handshake.begin("p", credentials, Command.CONNECT, null, target);
  const advance = (): void => {
    const end = handshake.write(message, 0);
    if (end === 0) return;
    sent.push(Buffer.from(message.subarray(0, end)).toString("hex"));
    handshake.written();
  };
  advance();
  for (const arrived of [...cuts, stream.length]) {
    while (taken < arrived && handshake.need > 0) {
      const stop = exact ? Math.min(arrived, taken + handshake.need) : arrived;
      const took = handshake.read(stream, taken, stop);
      expect(took).toBeGreaterThan(0);
      taken += took;
      advance();
    }
  }
  handshake.end();
  const { refusal, granted, boundName } = handshake;
  const bound = `${formatEndpoint(handshake.bound)} ${boundName}`;
  const end = granted ? bound : `${refusal?.kind} ${refusal?.reply} ${refusal?.error.message}`;
  // A refusal is told as soon as it shows, which may be octets before the message's end.
  return { sent, taken: granted ? taken : -1, end };
}

const address = fc.oneof(
  fc.uint8Array({ minLength: 6, maxLength: 6 }).map((rest) => [1, ...rest]),
  fc.uint8Array({ minLength: 18, maxLength: 18 }).map((rest) => [4, ...rest]),
  fc.uint8Array({ maxLength: 255 }).map((name) => [3, name.length, ...name, 0, 80]),
);
const grant = fc.tuple(address, fc.uint8Array({ maxLength: 20 }));

test("any split of the server's octets gives the same messages, the same end and takes the same octets", () => {
  const secret: Credentials = { user: Uint8Array.of(0x61), password: Uint8Array.of(0x62) };
  const octets = fc.oneof(
    grant.map(([bound, payload]) => [5, 0, 5, 0, 0, ...bound, ...payload]),
    grant.map(([bound, payload]) => [5, 2, 1, 0, 5, 0, 0, ...bound, ...payload]),
    fc
      .tuple(fc.nat(255), fc.uint8Array({ maxLength: 9 }))
      .map(([r, rest]) => [5, 0, 5, r, ...rest]),
    fc.uint8Array({ maxLength: 40 }).map((garbage) => [...garbage]),
  );
  fc.assert(
    fc.property(
      octets,
      fc.boolean(),
      fc.array(fc.nat(300)),
      fc.boolean(),
      (all, auth, at, exact) => {
        const stream = Uint8Array.from(all);
        const credentials = auth ? secret : null;
        const cuts = at.filter((cut) => cut < stream.length).sort((a, b) => a - b);
        const whole = play(credentials, stream, [], true);
        expect(play(credentials, stream, cuts, exact)).toEqual(whole);
        const single = Array.from(stream, (_, i) => i);
        expect(play(credentials, stream, single, exact)).toEqual(whole);
      },
    ),
    { numRuns: 500 },
  );
});

test("nothing behind a reply that grants is ever taken", () => {
  fc.assert(
    fc.property(grant, ([bound, payload]) => {
      const stream = Uint8Array.from([5, 0, 5, 0, 0, ...bound, ...payload]);
      const { taken, sent } = play(null, stream, [], false);
      expect(taken).toBe(stream.length - payload.length);
      expect(sent).toEqual(["050100", "050100017f0000010050"]);
    }),
  );
});
