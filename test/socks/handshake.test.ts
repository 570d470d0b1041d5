import { describe, expect, test } from "vitest";
import { Handshake } from "../../src/socks/handshake.ts";
import { Command } from "../../src/socks/message.ts";
import { type Credentials, NO_COMMAND } from "../../src/socks/proxy-handshake.ts";
import { Endpoint, formatEndpoint } from "../../src/stack/wire/address.ts";

const target = new Endpoint().set(0, 0, 0xffff, 0xc0000201, 80);
const REQUEST = "05010001c00002010050";
const secret: Credentials = {
  user: new TextEncoder().encode("me"),
  password: new TextEncoder().encode("SECRET"),
};

function begin(
  credentials: Credentials | null = null,
  command: number = Command.CONNECT,
  name: string | null = null,
): Handshake {
  const handshake = new Handshake();
  handshake.begin("socks5://p:1080", credentials, command, name, target);
  return handshake;
}

/** The message that is due, as hex; it is taken as sent. */
function send(handshake: Handshake): string {
  const bytes = new Uint8Array(600);
  const end = handshake.write(bytes, 7);
  handshake.written();
  return Buffer.from(bytes.subarray(7, end)).toString("hex");
}

/** Offers octets; returns how many were taken. */
function receive(handshake: Handshake, hex: string): number {
  const bytes = new Uint8Array(Buffer.from(`eeee${hex}`, "hex"));
  return handshake.read(bytes, 2, bytes.length);
}

/** A handshake that has sent its request. */
function requested(command: number = Command.CONNECT): Handshake {
  const handshake = begin(null, command);
  send(handshake);
  receive(handshake, "0500");
  expect(send(handshake)).toMatch(/^050[13]00/);
  return handshake;
}

function refusal(handshake: Handshake): string {
  const { kind, reply, error } = handshake.refusal ?? {};
  expect(handshake.granted).toBe(false);
  expect(handshake.need).toBe(0);
  expect(error?.message).toMatch(/^proxy socks5:\/\/p:1080: /);
  expect(error?.message).not.toMatch(/SECRET|\n/);
  return `${kind} ${reply} ${error?.code} ${error?.message}`;
}

describe("negotiation", () => {
  test("without credentials it offers only 'none' (RFC 1928 §3)", () => {
    const handshake = begin();
    expect(handshake.need).toBe(0);
    expect(send(handshake)).toBe("050100");
    expect(handshake.need).toBe(2);
    expect(receive(handshake, "0500")).toBe(2);
    expect(send(handshake)).toBe(REQUEST);
    expect(handshake.need).toBe(7);
  });

  test("with credentials it offers only 'user and password' and sends them (RFC 1929 §2)", () => {
    const handshake = begin(secret);
    expect(send(handshake)).toBe("050102");
    receive(handshake, "0502");
    expect(send(handshake)).toBe("01026d6506534543524554");
    receive(handshake, "0100");
    expect(send(handshake)).toBe(REQUEST);
  });

  test.each([
    [null, `050100${REQUEST}`, "0500"],
    [secret, `05010201026d6506534543524554${REQUEST}`, "05020100"],
  ])(
    "ahead it is one message, and its answers may come in any pieces",
    (credentials, sent, met) => {
      const answer = `${met}05000001c000020109c4`;
      for (let cut = 0; cut <= answer.length; cut += 2) {
        const handshake = new Handshake();
        handshake.begin("socks5://p:1080", credentials, Command.CONNECT, null, target, true);
        expect(send(handshake)).toBe(sent);
        const first = receive(handshake, answer.slice(0, cut));
        const second = receive(handshake, `${answer.slice(cut)}ffff`);
        expect([first + second, handshake.granted]).toEqual([answer.length / 2, true]);
        expect(formatEndpoint(handshake.bound)).toBe("192.0.2.1:2500");
      }
    },
  );

  test("ahead asks for nothing where nothing is asked for, nor for a name that is too long", () => {
    const probe = new Handshake();
    probe.begin("socks5://p:1080", secret, NO_COMMAND, null, target, true);
    expect(send(probe)).toBe("050102");
    const long = new Handshake();
    long.begin("socks5://p:1080", null, Command.CONNECT, "x".repeat(256), target, true);
    expect(send(long)).toBe("050100");
    receive(long, "0500");
    send(long);
    expect(refusal(long)).toMatch(/^reply 4 .* longer than 255/);
  });

  test.each([
    ["me", "", "01026d6500"],
    ["", "pw", "0100027077"],
  ])(
    "an empty user or password is sent with length 0, as curl does (%j, %j)",
    (user, password, sent) => {
      const encoder = new TextEncoder();
      const handshake = begin({ user: encoder.encode(user), password: encoder.encode(password) });
      send(handshake);
      receive(handshake, "0502");
      expect(send(handshake)).toBe(sent);
    },
  );

  test("a status in version 05 is understood", () => {
    const handshake = begin(secret);
    send(handshake);
    receive(handshake, "0502");
    send(handshake);
    receive(handshake, "0500");
    expect(send(handshake)).toBe(REQUEST);
  });

  test("a probe ends after the authentication and asks for nothing", () => {
    const open = begin(null, NO_COMMAND);
    send(open);
    receive(open, "0500");
    expect(open.granted).toBe(true);
    expect(send(open)).toBe("");
  });

  test("a name goes as it is, a name too long for the message is an unreachable host", () => {
    const handshake = begin(null, Command.CONNECT, "host.example");
    send(handshake);
    receive(handshake, "0500");
    expect(send(handshake)).toBe(`050100030c${Buffer.from("host.example").toString("hex")}0050`);
    const long = begin(null, Command.CONNECT, "x".repeat(256));
    send(long);
    receive(long, "0500");
    expect(send(long)).toBe("");
    expect(refusal(long)).toMatch(/^reply 4 .* longer than 255/);
  });

  test("messages can be written again until they have left", () => {
    const handshake = begin(secret);
    const bytes = new Uint8Array(16);
    expect(handshake.write(bytes, 0)).toBe(3);
    expect(handshake.write(bytes, 4)).toBe(7);
    expect([...bytes.subarray(0, 3)]).toEqual([...bytes.subarray(4, 7)]);
  });

  test.each([
    [null, "05ff", /^auth .*accepts no method that we offer \(no authentication\); give cred/],
    [secret, "05ff", /^auth .*\(user and password\); try the proxy URL without/],
    [null, "0502", /^auth .*wants user and password, we offer no authentication/],
    [secret, "0501", /^auth .*wants GSSAPI/],
    [secret, "0500", /^protocol .*chose no authentication/],
    [null, "0580", /^protocol .*chose method 80/],
    [null, "48", /^protocol .*HTTP/],
    [null, "00", /^protocol .*SOCKS4/],
    [null, "15", /^protocol .*TLS/],
    [null, "31", /^protocol .*first octet 49/],
  ])("credentials %j, answer %s", (credentials, answer, expected) => {
    const handshake = begin(credentials);
    send(handshake);
    expect(receive(handshake, answer)).toBe(answer.length / 2);
    expect(refusal(handshake)).toMatch(expected);
  });

  test.each([
    ["0101", /^auth .*refused user and password/],
    ["05ff", /^auth .*refused user and password/],
    ["02", /^protocol .*first octet 2/],
  ])("status %s", (answer, expected) => {
    const handshake = begin(secret);
    send(handshake);
    receive(handshake, "0502");
    send(handshake);
    receive(handshake, answer);
    expect(refusal(handshake)).toMatch(expected);
  });
});

describe("replies", () => {
  test.each([
    ["05000001c0000209ffff", "192.0.2.9:65535", null],
    ["0500000420010db80000000000000000000000010050", "[2001:db8::1]:80", null],
    ["0500000303612e620050", "[::]:80", "a.b"],
    ["05000003000000", "[::]:0", ""],
  ])("%s grants and leaves what follows", (reply, bound, name) => {
    const handshake = requested();
    expect(receive(handshake, `${reply}a1b2c3`)).toBe(reply.length / 2);
    expect(handshake.granted).toBe(true);
    expect(handshake.need).toBe(0);
    expect(formatEndpoint(handshake.bound)).toBe(bound);
    expect(handshake.boundName).toBe(name);
  });

  test.each(["0505", "050500", "05050000", "05050001000000000000"])(
    "refusal %s needs nothing behind REP",
    (reply) => {
      const handshake = requested();
      receive(handshake, reply);
      expect(refusal(handshake)).toMatch(/^reply 5 ERR_PROXY_REFUSED .*connection refused \(05\)/);
    },
  );

  test("an unknown REP keeps its number", () => {
    const handshake = requested();
    receive(handshake, "05f1");
    expect(refusal(handshake)).toMatch(/^reply 241 .*onion service descriptor invalid \(F1\)/);
  });

  test.each([
    ["04", /^protocol .*SOCKS4/],
    ["05000002", /^protocol .*unknown address type \(2\)/],
    ["05000000000000", /^protocol .*unknown address type \(0\)/],
  ])("reply %s is not understood", (reply, expected) => {
    const handshake = requested();
    receive(handshake, reply);
    expect(refusal(handshake)).toMatch(expected);
  });

  test("bounds of one reply do not leak into the next", () => {
    const handshake = requested();
    receive(handshake, "0500000303612e620050");
    handshake.begin("socks5://p:1080", null, Command.CONNECT, null, target);
    expect(handshake.boundName).toBeNull();
    expect(handshake.granted).toBe(false);
    expect(send(handshake)).toBe("050100");
  });
});

describe("a connection that ends", () => {
  test("in the negotiation it is no SOCKS5 server", () => {
    const handshake = begin();
    send(handshake);
    receive(handshake, "05");
    handshake.end();
    expect(refusal(handshake)).toMatch(/^protocol .*is it a SOCKS5 server/);
  });

  test("after the credentials they were wrong", () => {
    const handshake = begin(secret);
    send(handshake);
    receive(handshake, "0502");
    send(handshake);
    handshake.end();
    expect(refusal(handshake)).toMatch(/^auth .*check user and password/);
  });

  test("after CONNECT the destination failed, also within the reply", () => {
    const silent = requested();
    silent.end();
    expect(refusal(silent)).toMatch(/^reply 1 /);
    const partial = requested();
    receive(partial, "05000001c000");
    partial.end();
    expect(refusal(partial)).toMatch(/^reply 1 /);
  });

  test("after ASSOCIATE the server has no UDP (OpenSSH)", () => {
    const handshake = requested(Command.UDP_ASSOCIATE);
    handshake.end();
    expect(refusal(handshake)).toMatch(/^reply 7 .*does it do UDP/);
  });

  test("after a refusal or the grant it changes nothing", () => {
    const refused = requested();
    receive(refused, "0504");
    refused.end();
    expect(refusal(refused)).toMatch(/^reply 4/);
    const granted = requested();
    receive(granted, "05000001000000000000");
    granted.end();
    expect(granted.granted).toBe(true);
  });
});
