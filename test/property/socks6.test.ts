/** SOCKS6 messages and the client's handshake, whatever is in them and however they are cut (draft-…-socks-6-11). */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Command } from "../../src/socks/message.ts";
import { type Credentials, NO_COMMAND } from "../../src/socks/proxy-handshake.ts";
import { Socks6Handshake } from "../../src/socks/socks6-handshake.ts";
import {
  AuthType,
  areOptions,
  authReplyNeed,
  codeOf,
  findCredentials,
  MAX_OPTIONS,
  MAX_REQUEST_6,
  messageNeed6,
  optionsOf,
  readAddress6,
  readName6,
  writeAuthReply,
  writeOperationReply,
  writeRequest6,
} from "../../src/socks/socks6-message.ts";
import { Endpoint, formatEndpoint } from "../../src/stack/wire/address.ts";

const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const port = fc.integer({ min: 0, max: 65535 });
const ipv4 = fc.tuple(word, port).map(([w3, at]) => new Endpoint().set(0, 0, 0xffff, w3, at));
const ipv6 = fc
  .tuple(fc.integer({ min: 1, max: 2 ** 31 - 1 }), word, word, word, port)
  .map(([w0, w1, w2, w3, at]) => new Endpoint().set(w0, w1, w2, w3, at));
const endpoint = fc.oneof(ipv4, ipv6);
const name = fc.stringMatching(/^[a-z0-9.-]{1,255}$/);
const text = fc.uint8Array({ maxLength: 255 });
const credentials = fc.option(fc.record({ user: text, password: text }));

/** Options that nobody here knows, whole. */
const unknownOptions = fc
  .array(
    fc.record({
      kind: fc.constantFrom(1, 5, 12, 64_999),
      data: fc.uint8Array({ maxLength: 40 }),
    }),
    { maxLength: 6 },
  )
  .map((options) =>
    Buffer.concat(
      options.map(({ kind, data }) => {
        const length = (4 + data.length + 3) & ~3;
        const option = Buffer.alloc(length);
        option.writeUInt16BE(kind, 0);
        option.writeUInt16BE(length, 2);
        option.set(data, 4);
        return option;
      }),
    ),
  );

/** `message` with `options` behind its own. */
function withOptions(message: Uint8Array, options: Uint8Array): Buffer {
  const all = Buffer.concat([message, options]);
  all.writeUInt16BE(all.readUInt16BE(2) + options.length, 2);
  return all;
}

/** For every prefix the need is more than it has and never more than all; of all it is its length. */
function expectNeeds(
  need: (bytes: Uint8Array, start: number, end: number) => number,
  message: Uint8Array,
): void {
  const shifted = Buffer.concat([Buffer.from([0xee, 0xee]), message, Buffer.alloc(8, 0xee)]);
  for (let length = 0; length < message.length; length++) {
    const needed = need(shifted, 2, 2 + length);
    expect(needed).toBeGreaterThan(length);
    expect(needed).toBeLessThanOrEqual(message.length);
  }
  expect(need(shifted, 2, 2 + message.length)).toBe(message.length);
}

function written(write: (bytes: Uint8Array, at: number) => number): Buffer {
  const bytes = new Uint8Array(3 + MAX_REQUEST_6).fill(0xee);
  const end = write(bytes, 3);
  expect(end).toBeLessThanOrEqual(bytes.length);
  return Buffer.from(bytes.subarray(3, end));
}

const place = fc.oneof(
  endpoint.map((address) => ({ name: null, address })),
  fc.tuple(name, port).map(([host, at]) => ({
    name: host,
    address: new Endpoint().set(0, 0, 0, 0, at),
  })),
);

describe("messages", () => {
  test("a request is read as it was written, with any options beside", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(0, 1, 2, 3),
        place,
        credentials,
        unknownOptions,
        (command, to, secret, options) => {
          const { user, password } = secret ?? { user: null, password: null };
          const message = withOptions(
            written((bytes, at) =>
              writeRequest6(bytes, at, command, to.name, to.address, user, password),
            ),
            options,
          );
          expect(message.length % 4).toBe(0);
          expectNeeds(messageNeed6, message);
          expect(codeOf(message, 0)).toBe(command);
          expect(readName6(message, 0)).toBe(to.name);
          const read = new Endpoint();
          readAddress6(message, 0, read);
          expect(formatEndpoint(read)).toBe(formatEndpoint(to.address));
          const from = optionsOf(message, 0, message.length);
          expect(areOptions(message, from, message.length)).toBe(true);
          const range = { start: 0, end: 0 };
          expect(findCredentials(message, from, message.length, range)).toBe(secret !== null);
          if (user === null || password === null) return;
          const [version, length] = message.subarray(range.start);
          const second = range.start + 2 + user.length;
          expect([version, length, message[second]]).toEqual([1, user.length, password.length]);
          expect(message.subarray(range.start + 2, second)).toEqual(Buffer.from(user));
          expect(message.subarray(second + 1, second + 1 + password.length)).toEqual(
            Buffer.from(password),
          );
        },
      ),
    );
  });

  test("the longest name, user and password fit the longest request", () => {
    const long = new Uint8Array(255).fill(0x61);
    const message = written((bytes, at) =>
      writeRequest6(bytes, at, 1, "a".repeat(255), new Endpoint(), long, long),
    );
    expect(message.length).toBe(MAX_REQUEST_6);
  });

  test.each(["", "a".repeat(256), "é".repeat(128)])("no request has a name like %s", (host) => {
    const bytes = new Uint8Array(1024);
    expect(writeRequest6(bytes, 0, 1, host, new Endpoint(), null, null)).toBe(-1);
  });

  test("options that cannot be are refused, by their length before they come", () => {
    const reply = written((bytes, at) => writeOperationReply(bytes, at, 0, new Endpoint()));
    for (const length of [1, 6, MAX_OPTIONS + 4, 65_535]) {
      reply.writeUInt16BE(length, 2);
      expect(messageNeed6(reply, 0, reply.length)).toBe(-1);
      expect(authReplyNeed(reply, 0, 4)).toBe(-1);
    }
    const options = Buffer.from("0001000800000000", "hex");
    expect(areOptions(options, 0, 8)).toBe(true);
    for (const length of [0, 3, 6, 12]) {
      options.writeUInt16BE(length, 2);
      expect(areOptions(options, 0, 8)).toBe(false);
    }
  });

  test("credentials that are cut short are none", () => {
    const secret = new Uint8Array([1, 2, 3]);
    const message = written((bytes, at) =>
      writeRequest6(bytes, at, 1, null, new Endpoint().set(0, 0, 0xffff, 1, 1), secret, secret),
    );
    // ULEN and PLEN beyond the option.
    for (const at of [message.length - 10, message.length - 6]) {
      const bad = Buffer.from(message);
      bad[at] = 200;
      const from = optionsOf(bad, 0, bad.length);
      expect(findCredentials(bad, from, bad.length, { start: 0, end: 0 })).toBe(false);
    }
  });
});

const LABEL = "socks6://192.0.2.1:1080";
const TARGET = new Endpoint().set(0, 0, 0xffff, 0x7f000001, 80);

/** Plays `stream` as all that the server says, cut after the octets of `cuts`, then its end. */
function play(
  secret: Credentials | null,
  stream: Uint8Array,
  cuts: readonly number[],
  command: number = Command.CONNECT,
): { end: string; taken: number; sent: string } {
  const handshake = new Socks6Handshake();
  handshake.begin(LABEL, secret, command, null, TARGET);
  const message = new Uint8Array(MAX_REQUEST_6);
  const sent = Buffer.from(message.subarray(0, handshake.write(message, 0))).toString("hex");
  expect(handshake.awaitsReply).toBe(false);
  handshake.written();
  let taken = 0;
  for (const arrived of [...cuts, stream.length]) {
    while (taken < arrived && handshake.need > 0) {
      const took = handshake.read(stream, taken, arrived);
      expect(took).toBeGreaterThan(0);
      taken += took;
    }
  }
  handshake.end();
  const { granted, refusal, bound, boundName } = handshake;
  expect(handshake.need).toBe(0);
  return granted
    ? { end: `granted ${boundName ?? formatEndpoint(bound)}`, taken, sent }
    : { end: `${refusal?.kind} ${refusal?.reply} ${refusal?.error.message}`, taken: -1, sent };
}

const success = unknownOptions.map((options) =>
  withOptions(
    written((bytes, at) => writeAuthReply(bytes, at, AuthType.SUCCESSFUL, null)),
    options,
  ),
);
const replies = fc.tuple(
  success,
  fc.tuple(fc.constantFrom(0, 0, 0, 5, 9), endpoint, unknownOptions).map(([code, bound, options]) =>
    withOptions(
      written((bytes, at) => writeOperationReply(bytes, at, code, bound)),
      options,
    ),
  ),
  fc.uint8Array({ maxLength: 20 }),
);

describe("the client's handshake", () => {
  test("goes the same way however the replies are split, and takes no octet behind them", () => {
    fc.assert(
      fc.property(replies, fc.array(fc.nat(400), { maxLength: 8 }), ([auth, reply, rest], cuts) => {
        const stream = Buffer.concat([auth, reply, rest]);
        const sorted = cuts.filter((at) => at < stream.length).sort((a, b) => a - b);
        const whole = play(null, stream, []);
        expect(play(null, stream, sorted)).toEqual(whole);
        const bytewise = Array.from(stream, (_, at) => at);
        expect(play(null, stream, bytewise)).toEqual(whole);
        if (reply[1] === 0) expect(whole.taken).toBe(auth.length + reply.length);
        else expect(whole.end).toMatch(/^(reply 5|timeout 0) .* it refused: (the )?connection/);
      }),
    );
  });

  test("replies that end early grant nothing", () => {
    fc.assert(
      fc.property(replies, fc.nat(1000), ([auth, reply], at) => {
        const stream = Buffer.concat([auth, reply]);
        const cut = stream.subarray(0, at % stream.length);
        expect(play(null, cut, []).end).toMatch(
          cut.length < auth.length ? /^protocol 0 .* SOCKS6/ : /^reply 1 .* instead of a reply$/,
        );
      }),
    );
  });

  test("garbage is refused, and never throws", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), (garbage, isSix) => {
        const stream = Buffer.from(isSix ? [6, ...garbage] : [5, ...garbage]);
        const { end } = play(null, stream, []);
        if (!isSix) expect(end).toContain("it answers in SOCKS5, not in SOCKS6; use socks5://");
        expect(end).not.toContain("undefined");
      }),
    );
  });

  test("a request, its credentials and its answer, octet by octet", () => {
    const secret = { user: Buffer.from("me"), password: Buffer.from("pw!") };
    const granted = Buffer.from("060000000600000012670001cb00710799", "hex");
    expect(play(secret, granted, [])).toEqual({
      // VER CMD options' length, port 0 ATYP, address; kind length, method VER ULEN "me" PLEN "pw!", padding.
      sent: "06010010005000017f000001000400100201026d6503707721000000",
      taken: 16,
      end: "granted 203.0.113.7:4711",
    });
  });

  test("without a destination it asks for nothing (NOOP)", () => {
    const granted = Buffer.from("06000000060000000000000100000000", "hex");
    expect(play(null, granted, [], NO_COMMAND)).toMatchObject({
      sent: "060000000000000100000000",
      end: "granted 0.0.0.0:0",
    });
  });

  test.each([
    ["0601" + "0000", false, "auth 0", "it wants credentials; give them"],
    [
      "0601" + "0008" + "0003000802000000",
      false,
      "auth 0",
      "it wants user and password; give them",
    ],
    ["0601" + "0008" + "0004000802010100", true, "auth 0", "it refused user and password; check"],
    ["06", false, "protocol 0", "it speaks another SOCKS6 than ours"],
    ["0600" + "0001", false, "protocol 0", "the options of its authentication reply are none"],
    ["0600" + "0004" + "00010008", false, "protocol 0", "the options of its authentication reply"],
    ["06000000" + "0600000000500009", false, "protocol 0", "an unknown address type"],
    ["06000000" + "050000", false, "protocol 0", "it answers in SOCKS5, not in SOCKS6"],
    ["48545450", false, "protocol 0", "it answers in HTTP, not in SOCKS6"],
  ])("%s is refused", (hex, hasSecret, kind, why) => {
    const secret = hasSecret ? { user: Buffer.from("me"), password: Buffer.from("no") } : null;
    const { end } = play(secret, Buffer.from(hex, "hex"), []);
    expect(end.startsWith(kind), end).toBe(true);
    expect(end).toContain(why);
  });
});
