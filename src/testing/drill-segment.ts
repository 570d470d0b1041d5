/**
 * Comparing and printing the packets of a drill in its own notation, relative to the ISNs.
 */

import type { Endpoint } from "../stack/wire/address.ts";
import type { OptionSpec, SegmentSpec } from "./drill-script.ts";
import {
  addressText,
  type IcmpPacket,
  TcpFlag,
  type TcpOption,
  type TcpPacket,
} from "./packet-builder.ts";

/** Whether `packet` is what `spec` says; window, options and gso only where written, or all under `exact`. */
export function matches(
  spec: SegmentSpec,
  packet: TcpPacket,
  gso: number,
  isn: number,
  peerIsn: number,
  ownMss: number,
): boolean {
  if (!sameFlags(spec, packet.flags)) return false;
  if (spec.ecn !== null && (packet.trafficClass & 3) !== spec.ecn) return false;
  if (packet.seq !== (isn + spec.seq) >>> 0) return false;
  if (packet.payload.length !== spec.octets) return false;
  if (spec.ack !== null && packet.ack !== (peerIsn + spec.ack) >>> 0) return false;
  if (spec.window !== null && packet.window !== spec.window) return false;
  if (spec.gso !== null && gso !== spec.gso) return false;
  if (spec.urgent !== null && packet.urgent !== spec.urgent) return false;
  if (spec.options === null && !spec.exact) return true;
  // Order and padding are layout, not meaning: they are compared only under `exact`.
  const padding = (kind: string): boolean => !spec.exact && (kind === "nop" || kind === "eol");
  const wanted = (spec.options ?? []).filter((option) => !padding(option.kind));
  const got = packet.options.filter((option) => !padding(option.kind));
  return (
    wanted.length === got.length &&
    wanted.every((option, i) =>
      (spec.exact ? [got[i]!] : got).some((other) => sameOption(option, other, peerIsn, ownMss)),
    )
  );
}

/** PSH beside FIN and ACK beside RST are a matter of taste (RFC 9293 §3.9.1, §3.10.7); `exact` compares them. */
function sameFlags(spec: SegmentSpec, flags: number): boolean {
  if (spec.exact) return flags === spec.flags;
  let taste = 0;
  if ((spec.flags & TcpFlag.FIN) !== 0) taste = TcpFlag.PSH;
  if (spec.flags === TcpFlag.RST) taste = TcpFlag.ACK;
  return (flags | taste) === (spec.flags | taste);
}

function sameOption(spec: OptionSpec, option: TcpOption, peerIsn: number, ownMss: number): boolean {
  const same = (wanted: number | string, got: number): boolean => wanted === "*" || wanted === got;
  if (spec.kind === "mss") {
    return option.kind === "mss" && option.value === (spec.value === "own" ? ownMss : spec.value);
  }
  if (spec.kind === "wscale") return option.kind === "wscale" && same(spec.value, option.value);
  if (spec.kind === "TS") {
    return option.kind === "TS" && same(spec.value, option.value) && same(spec.echo, option.echo);
  }
  if (spec.kind === "sack") {
    return (
      option.kind === "sack" &&
      option.blocks.length === spec.blocks.length &&
      spec.blocks.every(
        ([left, right], i) =>
          option.blocks[i]![0] === (peerIsn + left) >>> 0 &&
          option.blocks[i]![1] === (peerIsn + right) >>> 0,
      )
    );
  }
  return option.kind === spec.kind;
}

/** A packet as a drill writes it: `S. 0:0(0) ack 1 win 65535 <mss 1460>`. */
export function printSegment(packet: TcpPacket, isn: number, peerIsn: number, gso: number): string {
  const relative = (value: number, base: number): number => (value - base) | 0;
  let letters = "";
  for (const [index, letter] of [..."FSRP.UEW"].entries()) {
    if ((packet.flags & (1 << index)) !== 0) letters += letter;
  }
  // The customary order puts the dot behind the others.
  const flags = letters.replace(".", "") + (letters.includes(".") ? "." : "");
  const seq = relative(packet.seq, isn);
  const octets = packet.payload.length;
  const ecn = ["", "[ect1] ", "[ect0] ", "[ce] "][packet.trafficClass & 3];
  let text = `${ecn}${flags} ${seq}:${seq + octets}(${octets})`;
  if (flags.includes(".")) text += ` ack ${relative(packet.ack, peerIsn)}`;
  text += ` win ${packet.window}`;
  const options = packet.options.map((option) => printOption(option, peerIsn));
  if (options.length > 0) text += ` <${options.join(",")}>`;
  return gso > 0 ? `${text} gso ${gso}` : text;
}

function printOption(option: TcpOption, peerIsn: number): string {
  if (option.kind === "TS") return `TS val ${option.value} ecr ${option.echo}`;
  if (option.kind === "mss" || option.kind === "wscale") return `${option.kind} ${option.value}`;
  if (option.kind === "sack") {
    const blocks = option.blocks.map(([l, r]) => `${(l - peerIsn) | 0}:${(r - peerIsn) | 0}`);
    return `sack ${blocks.join(" ")}`;
  }
  return option.kind === "raw" ? `option ${option.type}` : option.kind;
}

/** Name → ICMP type and code (RFC 792, RFC 1812 §5.2.7.1), ICMPv6 type and code (RFC 4443 §3). */
const MEANINGS: Readonly<Record<string, { readonly v4: number[]; readonly v6: number[] }>> = {
  "net-unreachable": { v4: [3, 0], v6: [1, 0] },
  "host-unreachable": { v4: [3, 1], v6: [1, 3] },
  "port-unreachable": { v4: [3, 3], v6: [1, 4] },
  "too-big": { v4: [3, 4], v6: [2, 0] },
  prohibited: { v4: [3, 13], v6: [1, 1] },
  "ttl-exceeded": { v4: [11, 0], v6: [3, 0] },
};

/** Type and code of a refusal. @throws Error for a name that is none. */
export function icmpNumbers(name: string, version: 4 | 6): [number, number] {
  const meaning = MEANINGS[name];
  if (meaning === undefined) throw new Error(`drill: no ICMP error is called "${name}"`);
  const [type = 0, code = 0] = version === 4 ? meaning.v4 : meaning.v6;
  return [type, code];
}

/** The name of an ICMP error, or its numbers. */
export function icmpMeaning(packet: IcmpPacket): string {
  for (const [name, { v4, v6 }] of Object.entries(MEANINGS)) {
    const [type, code] = packet.version === 4 ? v4 : v6;
    if (packet.type === type && packet.code === code) return name;
  }
  return `${packet.type}/${packet.code}`;
}

/** "10.0.0.2:40000" or "[fd00::2]:40000". */
export function endpointText(endpoint: Endpoint): string {
  const octets = new Uint8Array(16);
  const view = new DataView(octets.buffer);
  for (const [index, word] of [endpoint.w0, endpoint.w1, endpoint.w2, endpoint.w3].entries()) {
    view.setInt32(4 * index, word);
  }
  if (endpoint.isV4) return `${addressText(octets.subarray(12))}:${endpoint.port}`;
  return `[${addressText(octets)}]:${endpoint.port}`;
}
