import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HttpHandshake, MAX_HEADER } from "../../src/socks/http-handshake.ts";
import { Command } from "../../src/socks/message.ts";
import { type Credentials, NO_COMMAND } from "../../src/socks/proxy-handshake.ts";
import { Endpoint, parseAddress } from "../../src/stack/wire/address.ts";

const target = new Endpoint().set(0, 0, 0xffff, 0xc0000201, 80);
const secret: Credentials = {
  user: new TextEncoder().encode("Aladdin"),
  password: new TextEncoder().encode("open sesame"),
};

function begin(
  name: string | null = null,
  credentials: Credentials | null = null,
  endpoint: Endpoint = target,
): HttpHandshake {
  const handshake = new HttpHandshake();
  handshake.begin("http://p:80", credentials, Command.CONNECT, name, endpoint);
  return handshake;
}

/** The request as text; it is taken as sent. */
function send(handshake: HttpHandshake): string {
  const bytes = new Uint8Array(2048);
  const end = handshake.write(bytes, 7);
  expect(handshake.write(bytes, 7)).toBe(end);
  handshake.written();
  return Buffer.from(bytes.subarray(7, end)).toString("latin1");
}

function requested(credentials: Credentials | null = null): HttpHandshake {
  const handshake = begin(null, credentials);
  send(handshake);
  return handshake;
}

/** Offers text; returns how many octets were taken. */
function receive(handshake: HttpHandshake, text: string): number {
  const bytes = Buffer.from(text, "latin1");
  return handshake.read(bytes, 0, bytes.length);
}

function refusal(handshake: HttpHandshake): string {
  const { kind, reply, error } = handshake.refusal ?? {};
  expect([handshake.granted, handshake.need]).toEqual([false, 0]);
  expect(error?.message).not.toMatch(/sesame|QWxh|[\n\r]/);
  return `${kind} ${reply} ${error?.message}`;
}

describe("requests", () => {
  test.each([
    [null, target, "192.0.2.1:80"],
    [
      null,
      Object.assign((parseAddress("2001:db8::1") as Endpoint).clone(), { port: 443 }),
      "[2001:db8::1]:443",
    ],
    ["a_b.example", target, "a_b.example:80"],
  ])(
    "CONNECT names the authority twice (RFC 9110 §9.3.6, RFC 9112 §3.2.3)",
    (name, to, written) => {
      expect(send(begin(name, null, to))).toBe(
        `CONNECT ${written} HTTP/1.1\r\nHost: ${written}\r\n\r\n`,
      );
    },
  );

  test("credentials are Basic (RFC 7617 §2)", () => {
    expect(send(begin(null, secret))).toContain(
      "\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n",
    );
  });

  test("the longest credentials and the longest name fit", () => {
    const longest = {
      user: new Uint8Array(255).fill(0x78),
      password: new Uint8Array(255).fill(0x79),
    };
    expect(send(begin("x".repeat(255), longest)).length).toBeLessThan(2041);
  });

  test.each(["a b", "a\r\nX: y", "a/b", "a@b", "bücher.example", "", "x".repeat(256)])(
    "a name that could be more than a name is not written: %j",
    (name) => {
      const handshake = begin(name);
      expect(send(handshake)).toBe("");
      expect(refusal(handshake)).toMatch(/^reply 4 /);
    },
  );

  test("without a command there is nothing to say", () => {
    const handshake = new HttpHandshake();
    handshake.begin("http://p:80", secret, NO_COMMAND, null, target);
    expect([handshake.granted, send(handshake)]).toEqual([true, ""]);
  });
});

describe("replies", () => {
  test.each([
    "HTTP/1.1 200 Connection established\r\n\r\n",
    "HTTP/1.0 200 OK\r\nServer: x\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 299\r\n\r\n",
    "HTTP/1.1 200 bare line feeds\nA: b\n\n",
    "HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
  ])("any 2xx opens, in any pieces, and what follows is the stream's: %j", (reply) => {
    for (let cut = 0; cut <= reply.length; cut++) {
      const handshake = requested();
      const taken = receive(handshake, reply.slice(0, cut));
      expect(taken + receive(handshake, `${reply.slice(cut)}HTTP/1.1 500\r\n\r\n`)).toBe(
        reply.length,
      );
      expect([handshake.granted, handshake.need]).toEqual([true, 0]);
    }
  });

  test.each([
    [400, /^reply 1 .*bad request \(400\)/],
    [403, /^reply 2 .*forbidden \(403\)/],
    [404, /^reply 4 /],
    [405, /^reply 7 /],
    [407, /^auth 0 .*authentication required \(407\); give credentials, http:\/\/user:/],
    [418, /^reply 1 .*status \(418\)/],
    [500, /^reply 1 /],
    [501, /^reply 7 /],
    [502, /^reply 4 /],
    [503, /^reply 3 /],
    [504, /^reply 4 /],
    [301, /^reply 1 /],
  ])("status %i refuses as soon as its line is there", (status, reason) => {
    const handshake = requested();
    receive(handshake, `HTTP/1.1 ${status} Reason \x1b[31m\r\nX`);
    expect(refusal(handshake)).toMatch(reason);
    expect(refusal(handshake)).not.toMatch(/Reason/);
  });

  test("407 with credentials says that they are wrong", () => {
    const handshake = requested(secret);
    receive(handshake, "HTTP/1.1 407 x\r\n");
    expect(refusal(handshake)).toMatch(/^auth 0 .*check user and password/);
  });

  test.each([
    ["\x05\xff", /^protocol 0 .*answers in SOCKS5, not in HTTP CONNECT/],
    ["\x15\x03", /^protocol 0 .*answers in TLS/],
    ["SSH-2.0-x\r\n", /^protocol 0 .*first octet 83/],
    ["HTTP/2 200\r\n", /^protocol 0 .*answers in HTTP/],
    ["HTTP/1.1 2000\r\n", /^protocol 0 .*no status/],
    ["HTTP/1.1\r\n", /^protocol 0 .*no status/],
    ["\r\n", /^protocol 0 .*no status/],
    ["HTTP/1.1 099 x\r\n", /^protocol 0 .*no status/],
    ["HTTP/1.1 200 OK\r\nX: y\r\n", /^protocol 0 .*closed the connection/],
    ["", /^protocol 0 .*is it a proxy for HTTP CONNECT\?/],
  ])("%j and then the end is refused in one line", (text, reason) => {
    const handshake = requested();
    receive(handshake, text);
    handshake.end();
    expect(refusal(handshake)).toMatch(reason);
  });

  test("a header longer than the bound is refused at the bound, interim replies included", () => {
    const fitting = requested();
    const frame = "HTTP/1.1 200 OK\r\nX: \r\n\r\n";
    const padding = MAX_HEADER - frame.length;
    receive(fitting, frame.replace("X: ", `X: ${"y".repeat(padding)}`));
    expect(fitting.granted).toBe(true);
    const long = requested();
    const all = frame.replace("X: ", `X: ${"y".repeat(padding + 1)}`);
    expect(receive(long, `${all}more`)).toBe(MAX_HEADER + 1);
    expect(refusal(long)).toMatch(/^protocol 0 .*more than 16384 octets/);
    const interim = requested();
    receive(interim, "HTTP/1.1 100 x\r\n\r\n".repeat(2000));
    expect(refusal(interim)).toMatch(/^protocol 0 .*more than 16384 octets/);
  });

  test("any octets in any pieces end the same, and never beyond the empty line", () => {
    const part = fc.constantFrom(
      "HTTP/1.1 200 OK",
      "\r\n",
      "\n",
      "\r",
      "A: b",
      "HTTP/1.1 103 x",
      "x",
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 12 }), fc.nat(60), (parts, at) => {
        const text = parts.join("");
        const outcome = (...pieces: string[]): unknown => {
          const handshake = requested();
          const taken = pieces.map((piece) => receive(handshake, piece)).reduce((a, b) => a + b);
          const { refusal: refused, granted } = handshake;
          if (granted) expect(text.slice(0, taken)).toMatch(/\n\r*\n$/);
          return [granted, granted ? taken : 0, refused?.error.message];
        };
        expect(outcome(text.slice(0, at), text.slice(at))).toEqual(outcome(text));
      }),
      { numRuns: 300 },
    );
  });
});
