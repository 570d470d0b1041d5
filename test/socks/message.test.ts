import { describe, expect, test } from "vitest";
import {
  addressNeed,
  credentialsNeed,
  greetingNeed,
  greetingOffers,
  MAX_MESSAGE,
  MAX_UDP_HEADER,
  Method,
  readAddress,
  readName,
  readUdpHeader,
  replyName,
  requestNeed,
  udpFragment,
  udpHeaderLength,
  writeCredentials,
  writeCredentialsStatus,
  writeGreeting,
  writeMethod,
  writeName,
  writeReply,
  writeRequest,
  writeUdpHeader,
} from "../../src/socks/message.ts";
import { Endpoint, formatEndpoint, parseAddress } from "../../src/stack/wire/address.ts";

function endpoint(text: string, port: number): Endpoint {
  const address = (parseAddress(text) as Endpoint).clone();
  address.port = port;
  return address;
}

/** What `write` puts behind offset 3, as hex; the octets before must stay. */
function written(write: (bytes: Uint8Array, at: number) => number): string {
  const bytes = new Uint8Array(3 + MAX_MESSAGE).fill(0xee);
  const end = write(bytes, 3);
  expect([...bytes.subarray(0, 3)]).toEqual([0xee, 0xee, 0xee]);
  expect(bytes.subarray(end).every((octet) => octet === 0xee)).toBe(true);
  return Buffer.from(bytes.subarray(3, end)).toString("hex");
}

const octets = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));

/** The lengths a reader asks for as the octets of a message arrive one by one. */
function needs(need: typeof requestNeed, hex: string): number[] {
  const bytes = octets(hex);
  return Array.from({ length: bytes.length + 1 }, (_, have) => need(bytes, 0, have));
}

describe("messages of RFC 1928", () => {
  test("a greeting lists the methods (§3)", () => {
    expect(written((b, at) => writeGreeting(b, at, [0, 2]))).toBe("05020002");
    expect(written((b, at) => writeMethod(b, at, Method.UNACCEPTABLE))).toBe("05ff");
    expect(needs(greetingNeed, "05020002")).toEqual([2, 2, 4, 4, 4]);
    expect(greetingOffers(octets("05020001"), 0, Method.GSSAPI)).toBe(true);
    expect(greetingOffers(octets("0501000202"), 0, Method.PASSWORD)).toBe(false);
  });

  test("a request to an IPv4, an IPv6 address and a name (§4, §5)", () => {
    const v4 = endpoint("192.0.2.1", 443);
    const v6 = endpoint("2001:db8::1", 80);
    expect(written((b, at) => writeRequest(b, at, 1, null, v4))).toBe("05010001c000020101bb");
    expect(written((b, at) => writeRequest(b, at, 3, null, v6))).toBe(
      "0503000420010db80000000000000000000000010050",
    );
    expect(written((b, at) => writeRequest(b, at, 1, "a.example", v4))).toBe(
      `0501000309${Buffer.from("a.example").toString("hex")}01bb`,
    );
  });

  test("a v4-mapped address leaves as ATYP 1 (§5)", () => {
    const mapped = endpoint("::ffff:10.0.0.1", 1);
    expect(written((b, at) => writeReply(b, at, 0, mapped))).toBe("050000010a0000010001");
  });

  test("a name of 255 octets fits, one of 256 and an empty one do not", () => {
    const bytes = new Uint8Array(600);
    expect(writeName(bytes, 0, "x".repeat(255), 7)).toBe(259);
    expect(readName(bytes, 0)).toBe("x".repeat(255));
    expect(writeName(bytes, 0, "x".repeat(256), 7)).toBe(-1);
    expect(writeName(bytes, 0, "é".repeat(128), 7)).toBe(-1);
    expect(writeName(bytes, 0, "", 7)).toBe(-1);
    expect(writeRequest(bytes, 0, 1, "x".repeat(256), new Endpoint())).toBe(-1);
  });

  test("a name is counted in octets of UTF-8", () => {
    expect(written((b, at) => writeName(b, at, "é", 258))).toBe("0302c3a90102");
  });

  test("a reader knows how long a request or reply is as soon as it can", () => {
    expect(needs(requestNeed, "05000001c000020101bb")).toEqual([4, 4, 4, 4, ...Array(7).fill(10)]);
    expect(needs(requestNeed, "0500000300")).toEqual([4, 4, 4, 4, 5, 7]);
    expect(needs(requestNeed, "05000004")).toEqual([4, 4, 4, 4, 22]);
    expect(needs(requestNeed, "05000009")).toEqual([4, 4, 4, 4, -1]);
    expect(addressNeed(octets(""), 0, 0)).toBe(1);
  });

  test("addresses are read back, and nothing is read beyond the end", () => {
    const into = new Endpoint();
    for (const [text, length] of [
      ["192.0.2.1", 7],
      ["2001:db8::ff00:1", 19],
    ] as const) {
      const bytes = new Uint8Array(40);
      const given = endpoint(text, 65535);
      const end = writeUdpHeader(bytes, 0, null, given);
      expect(end).toBe(3 + length);
      expect(udpHeaderLength(null, given)).toBe(end);
      expect(readUdpHeader(bytes, 0, end, into)).toBe(end);
      expect(formatEndpoint(into)).toBe(formatEndpoint(given));
      for (let cut = 0; cut < end; cut++) expect(readUdpHeader(bytes, 0, cut, into)).toBe(-1);
    }
  });

  test("a name in an address leaves the words zero and the port set", () => {
    const into = endpoint("192.0.2.9", 9);
    const bytes = octets("0303612e620050");
    expect(readAddress(bytes, 0, 7, into)).toBe(7);
    expect(into).toEqual(new Endpoint().set(0, 0, 0, 0, 80));
    expect(readName(bytes, 0)).toBe("a.b");
    expect(readName(octets("01c00002010050"), 0)).toBeNull();
  });

  test("the fragment number of a datagram (§7)", () => {
    expect(udpFragment(octets("00008101"), 0)).toBe(0x81);
    expect(MAX_UDP_HEADER).toBe(262);
  });

  test("every reply of §6 and those of Tor have a name; others keep their number", () => {
    expect(replyName(5)).toBe("connection refused (05)");
    expect(replyName(0xf0)).toBe("onion service descriptor not found (F0)");
    expect(replyName(0xf7)).toBe("onion service introduction timed out (F7)");
    expect(replyName(0x2a)).toBe("unknown reply (2A)");
  });
});

describe("messages of RFC 1929", () => {
  test("credentials carry lengths in octets (§2)", () => {
    const user = new TextEncoder().encode("é");
    const password = new TextEncoder().encode("pw");
    expect(written((b, at) => writeCredentials(b, at, user, password))).toBe("0102c3a9027077");
    expect(written((b, at) => writeCredentialsStatus(b, at, 1))).toBe("0101");
    expect(needs(credentialsNeed, "0102c3a9027077")).toEqual([2, 2, 5, 5, 5, 7, 7, 7]);
  });

  test("the longest credentials fit into the longest message", () => {
    const text = new Uint8Array(255).fill(0x61);
    expect(writeCredentials(new Uint8Array(MAX_MESSAGE), 0, text, text)).toBe(MAX_MESSAGE);
  });
});
