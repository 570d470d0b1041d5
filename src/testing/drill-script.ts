/**
 * The language of drills: packetdrill's notation for packets and time, our verbs instead of system calls.
 *
 *     0        < S 0:0(0) win 65535 <mss 1460,sackOK>    // into the stack
 *     +0       * open 10.0.0.2:40000 93.184.216.34:443   // what the handler was told
 *     +.020    accept()                                  // what the relay does
 *     +0       > S. 0:0(0) ack 1 win 65535 <mss own>     // out of the stack
 *     +.2~.21  > S. 0:0(0) ack 1                         // anywhere in that span of time
 *     &        < . 1 ack 1 junk                          // in the same turn as the line before
 *     +0       > icmp host-unreachable quoting S 0:0(0)
 *     +0       < icmp too-big mtu 1300 quoting . 1:1461(1460)
 *     +0       > any                                     // one packet, whatever it is
 *
 * Times are seconds: absolute, or with `+` from the line before. Sequence numbers are relative to each side's
 * ISN, `win` is the field as on the wire (not scaled). Before the flags `[noecn]`, `[ect0]`, `[ect1]` or `[ce]`: the
 * ECN field of the IP header, compared where written. After an injected packet: `junk` (payload is not of the
 * stream), `offload` (the checksum is left to us, as TUN packets with NEEDS_CSUM), `gso N` (a super-segment).
 * After an expected one: `gso N`, `exact` (options, their order and every flag are compared).
 *
 * Verbs: accept() accept(mss 1400, sackOK, TS, wscale 3) accept(none) (what the SYN-ACK offers) refuse(reason)
 * nagle(on|off) forget() send(n) write(n) shutdown() abort() resetWhenDrained() consume(n) autoconsume(on|off)
 * isn(n) (numbers of the client count from n) mute(on|off) (what the stack sends is lost).
 */

import type { SynAckProfile } from "../stack/ports.ts";
import { TcpFlag } from "./packet-builder.ts";

/** An option as written; "*" compares equal to anything, "own" is what the MTU leaves, "last" the latest TSval seen. */
export type OptionSpec =
  | { readonly kind: "mss"; readonly value: number | "own" }
  | { readonly kind: "wscale"; readonly value: number | "*" }
  | { readonly kind: "sackOK" | "nop" | "eol" }
  | { readonly kind: "sack"; readonly blocks: ReadonlyArray<readonly [number, number]> }
  | { readonly kind: "TS"; readonly value: number | "*"; readonly echo: number | "*" | "last" };

export interface SegmentSpec {
  readonly ecn: number | null;
  readonly flags: number;
  readonly seq: number;
  readonly octets: number;
  readonly ack: number | null;
  readonly window: number | null;
  readonly urgent: number | null;
  readonly options: readonly OptionSpec[] | null;
  readonly gso: number | null;
  readonly exact: boolean;
  readonly junk: boolean;
  readonly offload: boolean;
}

/** When a line happens, ms. `same`: in the turn of the line before. */
export interface TimeSpec {
  readonly same: boolean;
  readonly relative: boolean;
  readonly from: number;
  readonly to: number;
}

export type Action =
  | { readonly kind: "inject" | "expect"; readonly segment: SegmentSpec }
  | {
      readonly kind: "injectIcmp" | "expectIcmp";
      readonly reason: string;
      /** Of "too-big". */
      readonly mtu: number;
      readonly segment: SegmentSpec;
    }
  | { readonly kind: "expectAny" }
  | { readonly kind: "event"; readonly name: string; readonly args: readonly string[] }
  | { readonly kind: "verb"; readonly name: string; readonly args: readonly string[] };

export interface Step {
  /** Where the line stands, for messages. */
  readonly place: string;
  /** The line without time and comment. */
  readonly text: string;
  readonly time: TimeSpec;
  readonly action: Action;
}

/** Parses a script; `place` names it in messages. @throws Error naming the line that cannot be read. */
export function parseDrill(script: string, place: string): Step[] {
  const steps: Step[] = [];
  for (const [index, raw] of script.split("\n").entries()) {
    const line = raw.replace(/\/\/.*$/, "").trim();
    if (line === "") continue;
    const at = `${place}line ${index + 1}`;
    const match = /^(&|\+?[\d.]+(?:~[\d.]+)?)\s+(.+)$/.exec(line);
    if (match === null) throw new Error(`drill: ${at}: no time before "${line}"`);
    const text = match[2]!.replace(/\s+/g, " ");
    steps.push({ place: at, text, time: parseTime(match[1]!), action: parseAction(text, at) });
  }
  return steps;
}

/** The arguments of `accept`: `mss 1400, sackOK, wscale 3, TS`, or `none`; without any the stack chooses. */
export function parseProfile(args: readonly string[]): SynAckProfile | undefined {
  if (args.length === 0) return undefined;
  const number = (kind: string): number | undefined => {
    const found = args.find((argument) => argument.startsWith(`${kind} `));
    return found === undefined ? undefined : Number(found.slice(kind.length));
  };
  return {
    mss: number("mss") ?? 0,
    windowScale: number("wscale") ?? -1,
    sackPermitted: args.includes("sackOK"),
    timestamps: args.includes("TS"),
  };
}

function parseTime(text: string): TimeSpec {
  if (text === "&") return { same: true, relative: true, from: 0, to: 0 };
  const relative = text.startsWith("+");
  const [from = "0", to = from] = text.replace("+", "").split("~");
  const milliseconds = (seconds: string): number => Math.round(Number(seconds) * 1000);
  return { same: false, relative, from: milliseconds(from), to: milliseconds(to) };
}

function parseAction(text: string, at: string): Action {
  const icmp = /^([<>]) icmp (\S+)(?: mtu (\d+))? quoting (.+)$/.exec(text);
  if (icmp !== null) {
    const kind = icmp[1] === "<" ? "injectIcmp" : "expectIcmp";
    const mtu = Number(icmp[3] ?? 0);
    return { kind, reason: icmp[2]!, mtu, segment: parseSegment(icmp[4]!, at, true) };
  }
  if (text === "> any") return { kind: "expectAny" };
  if (text.startsWith("< ")) return { kind: "inject", segment: parseSegment(text.slice(2), at) };
  if (text.startsWith("> ")) return { kind: "expect", segment: parseSegment(text.slice(2), at) };
  if (text.startsWith("* ")) {
    const [name = "", ...args] = text.slice(2).split(" ");
    return { kind: "event", name, args };
  }
  const verb = /^(\w+)\((.*)\)$/.exec(text);
  if (verb === null) throw new Error(`drill: ${at}: cannot read "${text}"`);
  const args = verb[2]!.split(",").map((argument) => argument.trim());
  return { kind: "verb", name: verb[1]!, args: verb[2] === "" ? [] : args };
}

const LETTERS: Readonly<Record<string, number>> = {
  F: TcpFlag.FIN,
  S: TcpFlag.SYN,
  R: TcpFlag.RST,
  P: TcpFlag.PSH,
  ".": TcpFlag.ACK,
  U: TcpFlag.URG,
  E: TcpFlag.ECE,
  W: TcpFlag.CWR,
};

/** The ECN field of the IP header (RFC 3168 §5). */
const ECN: readonly string[] = ["noecn", "ect1", "ect0", "ce"];

const SEGMENT =
  /^([SFRP.UEW]+) (-?\d+)(?::(-?\d+)\((\d+)\))?(?: ack (-?\d+))?(?: win (\d+))?(?: urg (\d+))?(?: <([^>]*)>)?((?: (?:gso \d+|exact|junk|offload))*)$/;

/** `quoted`: the segment is only named, and need not say what it acknowledges. */
function parseSegment(text: string, at: string, quoted: boolean = false): SegmentSpec {
  const ecn = ECN.findIndex((name) => text.startsWith(`[${name}] `));
  const match = SEGMENT.exec(ecn < 0 ? text : text.slice(text.indexOf(" ") + 1));
  if (match === null) throw new Error(`drill: ${at}: cannot read the segment "${text}"`);
  const number = (group: number): number | null =>
    match[group] === undefined ? null : Number(match[group]);
  let flags = 0;
  for (const letter of match[1]!) flags |= LETTERS[letter]!;
  const seq = Number(match[2]);
  const octets = number(4) ?? 0;
  const ack = number(5);
  if (seq + octets !== (number(3) ?? seq)) throw new Error(`drill: ${at}: ${text}: count again`);
  if (!quoted && (ack !== null) !== ((flags & TcpFlag.ACK) !== 0)) {
    throw new Error(`drill: ${at}: "." and "ack" belong together in "${text}"`);
  }
  const words = match[9]!;
  const gso = /gso (\d+)/.exec(words);
  return {
    ecn: ecn < 0 ? null : ecn,
    flags,
    seq,
    octets,
    ack,
    window: number(6),
    urgent: number(7),
    options: match[8] === undefined ? null : match[8].split(",").map((o) => parseOption(o, at)),
    gso: gso === null ? null : Number(gso[1]),
    exact: words.includes("exact"),
    junk: words.includes("junk"),
    offload: words.includes("offload"),
  };
}

function parseOption(text: string, at: string): OptionSpec {
  const [kind = "", ...rest] = text.trim().split(/\s+/);
  const value = (word: string | undefined): number => {
    if (word === undefined || !/^\d+$/.test(word)) {
      throw new Error(`drill: ${at}: cannot read the option "${text}"`);
    }
    return Number(word);
  };
  if (kind === "sackOK" || kind === "nop" || kind === "eol") return { kind };
  if (kind === "mss") return { kind, value: rest[0] === "own" ? "own" : value(rest[0]) };
  if (kind === "wscale") return { kind, value: rest[0] === "*" ? "*" : value(rest[0]) };
  if (kind === "TS" && rest[0] === "val" && rest[2] === "ecr") {
    const echo = rest[3] === "*" || rest[3] === "last" ? rest[3] : value(rest[3]);
    return { kind, value: rest[1] === "*" ? "*" : value(rest[1]), echo };
  }
  if (kind === "sack" && rest.length > 0) {
    const blocks = rest.map((block): [number, number] => {
      const [left, right] = block.split(":");
      return [value(left), value(right)];
    });
    return { kind, blocks };
  }
  throw new Error(`drill: ${at}: cannot read the option "${text}"`);
}
