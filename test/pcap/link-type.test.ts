import { describe, expect, test } from "vitest";
import { ipPayload, LinkType } from "../../src/pcap/link-type.ts";

const IP4 = "4500001400000000";
const IP6 = "6000000000000000";
const MACS = "020000000001" + "020000000002";
const VLAN = "81000001";
const SLL = "0000" + "0001" + "0006" + "0200000000010000";
const SLL2_REST = "0000" + "00000001" + "0001" + "00" + "06" + "0200000000010000";
const PPPOE = "11000001";

function payloadOf(linkType: number, hex: string): string | null {
  const bytes = Uint8Array.from(Buffer.from(hex, "hex"));
  const ip = ipPayload({
    time: 0n,
    linkType,
    interface: 0,
    bytes,
    originalLength: bytes.length,
    truncated: false,
  });
  return ip === null ? null : Buffer.from(ip).toString("hex");
}

const HEADERS: [string, number, string, string][] = [
  ["RAW", LinkType.RAW, "", IP4],
  ["RAW", LinkType.RAW, "", IP6],
  ["RAW as 12", LinkType.RAW_12, "", IP6],
  ["RAW as 14", LinkType.RAW_14, "", IP4],
  ["IPV4", LinkType.IPV4, "", IP4],
  ["IPV6", LinkType.IPV6, "", IP6],
  ["EN10MB", LinkType.EN10MB, `${MACS}0800`, IP4],
  ["EN10MB", LinkType.EN10MB, `${MACS}86dd`, IP6],
  ["802.1Q", LinkType.EN10MB, `${MACS}${VLAN}86dd`, IP6],
  ["802.1ad with a customer tag", LinkType.EN10MB, `${MACS}88a80002${VLAN}0800`, IP4],
  ["tags of before 802.1ad", LinkType.EN10MB, `${MACS}91000002${VLAN}0800`, IP4],
  ["PPPoE", LinkType.EN10MB, `${MACS}8864${PPPOE}000a0021`, IP4],
  ["LINUX_SLL", LinkType.LINUX_SLL, `${SLL}0800`, IP4],
  ["LINUX_SLL with a tag", LinkType.LINUX_SLL, `${SLL}${VLAN}86dd`, IP6],
  ["LINUX_SLL2", LinkType.LINUX_SLL2, `0800${SLL2_REST}`, IP4],
  ["LINUX_SLL2", LinkType.LINUX_SLL2, `86dd${SLL2_REST}`, IP6],
  ["NULL, little-endian", LinkType.NULL, "02000000", IP4],
  ["NULL, big-endian", LinkType.NULL, "00000002", IP4],
  ["NULL of NetBSD", LinkType.NULL, "18000000", IP6],
  ["NULL of FreeBSD", LinkType.NULL, "1c000000", IP6],
  ["NULL of Darwin", LinkType.NULL, "1e000000", IP6],
  ["NULL with Cisco HDLC", LinkType.NULL, "0f000800", IP4],
  ["LOOP", LinkType.LOOP, "00000002", IP4],
  ["LOOP", LinkType.LOOP, "00000018", IP6],
  ["PPP", LinkType.PPP, "ff030021", IP4],
  ["PPP without address and control", LinkType.PPP, "0057", IP6],
  ["PPP with a short protocol", LinkType.PPP, "21", IP4],
];

describe.each(HEADERS)("%s (%i), header %j", (_, linkType, header, ip) => {
  test("IP is what follows", () => {
    expect(payloadOf(linkType, header + ip)).toBe(ip);
  });

  test("a packet cut within the header, or just behind it, has no IP", () => {
    for (let cut = 0; cut <= header.length; cut += 2) {
      expect(payloadOf(linkType, header.slice(0, cut))).toBeNull();
    }
  });

  test("a header of neither version, or not the one announced, is no IP", () => {
    expect(payloadOf(linkType, `${header}0500001400000000`)).toBeNull();
    if (header !== "") expect(payloadOf(linkType, header + (ip === IP4 ? IP6 : IP4))).toBeNull();
  });
});

test.each([
  ["ARP", LinkType.EN10MB, `${MACS}0806${IP4}`],
  ["802.3 with LLC", LinkType.EN10MB, `${MACS}0026424203${IP4}`],
  ["PPPoE discovery", LinkType.EN10MB, `${MACS}8863${PPPOE}000a0021${IP4}`],
  ["LCP", LinkType.PPP, `ff03c021${IP4}`],
  ["an unknown family", LinkType.NULL, `11000000${IP4}`],
  ["D-Bus", 231, `${IP4}`],
])("%s is no IP", (_, linkType, hex) => {
  expect(payloadOf(linkType, hex)).toBeNull();
});

test("padding behind the length of PPPoE is no part of the packet (RFC 2516 §4)", () => {
  expect(payloadOf(LinkType.EN10MB, `${MACS}8864${PPPOE}000a0021${IP4}000000`)).toBe(IP4);
});
