import { describe, expect, test } from "vitest";
import { Command } from "../../src/socks/message.ts";
import { type Credentials, NO_COMMAND } from "../../src/socks/proxy-handshake.ts";
import { Socks4Handshake } from "../../src/socks/socks4-handshake.ts";
import { Endpoint, formatEndpoint, parseAddress } from "../../src/stack/wire/address.ts";

const target = new Endpoint().set(0, 0, 0xffff, 0xc0000201, 80);
const me: Credentials = { user: new TextEncoder().encode("me"), password: new Uint8Array(0) };

interface Ask {
  readonly credentials?: Credentials;
  readonly command?: number;
  readonly name?: string;
  readonly endpoint?: Endpoint;
}

/** A handshake at its beginning: SOCKS4a if `sendsNames`. */
function begin(sendsNames: boolean, ask: Ask = {}): Socks4Handshake {
  const handshake = new Socks4Handshake(sendsNames);
  const { credentials = null, command = Command.CONNECT, name = null, endpoint = target } = ask;
  handshake.begin("socks4://p:1080", credentials, command, name, endpoint);
  return handshake;
}

/** The request as hex; it is taken as sent. */
function send(handshake: Socks4Handshake): string {
  const bytes = new Uint8Array(600).fill(0xaa);
  const end = handshake.write(bytes, 7);
  expect(handshake.write(bytes, 7)).toBe(end);
  handshake.written();
  return Buffer.from(bytes.subarray(7, end)).toString("hex");
}

function receive(handshake: Socks4Handshake, hex: string): number {
  const bytes = new Uint8Array(Buffer.from(`eeee${hex}`, "hex"));
  return handshake.read(bytes, 2, bytes.length);
}

function refusal(handshake: Socks4Handshake): string {
  const { kind, reply, error } = handshake.refusal ?? {};
  expect(handshake.granted).toBe(false);
  expect(handshake.need).toBe(0);
  expect(send(handshake)).toBe("");
  return `${kind} ${reply} ${error?.message}`;
}

describe("requests", () => {
  test.each([
    ["without a user", {}, "04010050c000020100"],
    ["with one", { credentials: me }, "04010050c00002016d6500"],
    ["BIND", { command: Command.BIND }, "04020050c000020100"],
    ["BIND for anybody", { command: Command.BIND, endpoint: new Endpoint() }, "040200000000000000"],
  ])("%s (SOCKS 4 memo)", (_what, ask, sent) => {
    for (const sendsNames of [false, true]) expect(send(begin(sendsNames, ask))).toBe(sent);
  });

  test("a name goes behind the user, with an address 0.0.0.1 (SOCKS 4A memo)", () => {
    const handshake = begin(true, { credentials: me, name: "a.example" });
    expect(send(handshake)).toBe(`0401005000000001${"6d6500"}612e6578616d706c6500`);
    expect([handshake.awaitsReply, handshake.awaitsDestination]).toEqual([true, true]);
  });

  test.each([
    [true, { endpoint: parseAddress("2001:db8::1") as Endpoint }, /^reply 8 .*has no IPv6/],
    [false, { name: "a.example" }, /^reply 8 .*takes no names/],
    [true, { name: "" }, /^reply 4 /],
    [true, { name: "a\0b" }, /^reply 4 /],
    [true, { name: "x".repeat(256) }, /^reply 4 /],
  ])("what it cannot ask for is refused without a word to the server (%#)", (a, ask, reason) => {
    const handshake = begin(a, ask);
    expect(send(handshake)).toBe("");
    expect(refusal(handshake)).toMatch(reason);
  });

  test("without a command there is nothing to say", () => {
    const handshake = begin(true, { command: NO_COMMAND });
    expect([handshake.granted, send(handshake)]).toEqual([true, ""]);
  });
});

describe("replies", () => {
  test.each(["00", "04"])("VN %s grants, in any pieces, and what follows is the stream's", (vn) => {
    const reply = `${vn}5a1389c0000209`;
    for (let cut = 0; cut <= reply.length; cut += 2) {
      const handshake = begin(false);
      send(handshake);
      expect(handshake.need).toBe(8);
      const taken =
        receive(handshake, reply.slice(0, cut)) + receive(handshake, `${reply.slice(cut)}ffff`);
      expect([taken, handshake.granted, handshake.need]).toEqual([8, true, 0]);
      expect(formatEndpoint(handshake.bound)).toBe("192.0.2.9:5001");
    }
  });

  test.each([
    ["005b", /^reply 1 .*it refused: rejected or failed \(91\)/],
    ["005c", /^auth 0 .*cannot reach identd on this host \(92\)/],
    ["005d", /^auth 0 .*identd names another user.* \(93\)/],
    ["0000", /^reply 1 .*unknown reply \(0\)/],
    ["05", /^protocol 0 .*answers in SOCKS5, not in SOCKS4/],
    ["48", /^protocol 0 .*answers in HTTP/],
    ["15", /^protocol 0 .*answers in TLS/],
    ["ff", /^protocol 0 .*first octet 255/],
    ["", /^protocol 0 .*closed the connection instead of a reply; is it a proxy for SOCKS4\?/],
    ["005a0050c000", /^protocol 0 .*closed the connection/],
  ])("%s and then the end is refused in one line", (hex, reason) => {
    const handshake = begin(false);
    send(handshake);
    receive(handshake, hex);
    handshake.end();
    expect(refusal(handshake)).toMatch(reason);
    expect(handshake.refusal?.error.message).not.toMatch(/\n/);
  });

  test("it can begin again", () => {
    const handshake = begin(false);
    send(handshake);
    receive(handshake, "005b");
    handshake.begin("p", null, Command.CONNECT, null, target);
    expect(send(handshake)).toBe("04010050c000020100");
    receive(handshake, "005a000000000000");
    expect([handshake.granted, handshake.refusal]).toEqual([true, null]);
  });
});
