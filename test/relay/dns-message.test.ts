import { decode, encode, type Packet } from "dns-packet";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  advertisedSize,
  answers,
  asksFor,
  emptyAnswer,
  isQuery,
  questionText,
  Rcode,
  wireName,
} from "../../src/relay/dns-message.ts";

function query(name: string, extra: Partial<Packet> = {}): Uint8Array {
  return encode({ type: "query", id: 7, flags: 0x100, questions: [{ type: "A", name }], ...extra });
}

function response(name: string, extra: Partial<Packet> = {}): Uint8Array {
  return encode({ type: "response", id: 9, questions: [{ type: "A", name }], ...extra });
}

function isAnswer(to: Uint8Array, message: Uint8Array): boolean {
  return answers(to, message, 0, message.length);
}

test("a query with one question is a query; answers, fragments and noise are not", () => {
  const good = query("example.com");
  expect(isQuery(good, 0, good.length)).toBe(true);
  expect(isQuery(good, 0, good.length - 1)).toBe(false);
  expect(isQuery(response("example.com"), 0, good.length)).toBe(false);
  const none = query("example.com", { questions: [] });
  expect(isQuery(none, 0, none.length)).toBe(false);
  expect(isQuery(new Uint8Array(64).fill(0xff), 0, 64)).toBe(false);
});

test("a query at an offset is read there", () => {
  const good = query("example.com");
  const padded = new Uint8Array(good.length + 9).fill(0xc0);
  padded.set(good, 5);
  expect(isQuery(padded, 5, 5 + good.length)).toBe(true);
  expect(questionText(padded, 5, 5 + good.length)).toBe("example.com. type 1");
});

test("an answer's name is compared without case, type and class exactly (RFC 4343)", () => {
  expect(isAnswer(query("Example.COM"), response("eXample.com"))).toBe(true);
  expect(isAnswer(query("example.com"), response("example.org"))).toBe(false);
  expect(isAnswer(query("example.com"), query("example.com"))).toBe(false);
  // HTTPS is 65, "A" in ASCII; type 97 is "a".
  const https = query("example.com", { questions: [{ type: "A", name: "x" }] });
  https[https.length - 3] = 65;
  const other = response("x");
  other[other.length - 3] = 97;
  expect(isAnswer(https, other)).toBe(false);
  other[other.length - 3] = 65;
  expect(isAnswer(https, other)).toBe(true);
});

test("a header alone is an answer only if it says FORMERR", () => {
  const header = response("x", { questions: [] });
  expect(isAnswer(query("x"), header)).toBe(false);
  header[3] = Rcode.FORMERR;
  expect(isAnswer(query("x"), header)).toBe(true);
});

test("an answer of our own repeats id, opcode, RD and question, and nothing else", () => {
  const asked = query("example.com", {
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
  });
  const answer = decode(Buffer.from(emptyAnswer(asked, Rcode.SERVFAIL)));
  expect(answer).toMatchObject({
    id: 7,
    type: "response",
    rcode: "SERVFAIL",
    flag_rd: true,
    flag_tc: false,
  });
  expect(answer.questions).toMatchObject([{ name: "example.com", type: "A" }]);
  expect(answer.additionals).toEqual([]);
  expect(decode(Buffer.from(emptyAnswer(asked, Rcode.NOERROR, true))).flag_tc).toBe(true);
});

test("the size an answer may have is the OPT record's, 512 without, never less (RFC 6891 §6.2.3)", () => {
  const opt = (udpPayloadSize: number): Uint8Array =>
    query("x", {
      additionals: [
        {
          type: "OPT",
          name: ".",
          udpPayloadSize,
          extendedRcode: 0,
          ednsVersion: 0,
          flags: 0,
          flag_do: false,
          options: [],
        },
      ],
    });
  expect(advertisedSize(query("x"))).toBe(512);
  expect(advertisedSize(opt(1232))).toBe(1232);
  expect(advertisedSize(opt(100))).toBe(512);
});

test("a name is recognised without case, and not as part of another", () => {
  const name = wireName("host.tun2socks.internal");
  expect(asksFor(query("HOST.Tun2Socks.internal"), 0, name)).toBe(true);
  expect(asksFor(query("a.host.tun2socks.internal"), 0, name)).toBe(false);
  expect(asksFor(query("host.tun2socks.internal.x"), 0, name)).toBe(false);
});

test("no octets make the readers throw or read past the end", () => {
  const asked = query("example.com");
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      if (isQuery(bytes, 0, bytes.length)) {
        questionText(bytes, 0, bytes.length);
        emptyAnswer(bytes, Rcode.SERVFAIL);
      }
      advertisedSize(bytes);
      answers(asked, bytes, 0, bytes.length);
    }),
  );
});
