/**
 * Answers of our own with records in them. What a query advertised by EDNS is answered by EDNS (RFC 6891 §6.1.1).
 */

import type { Answer, OptAnswer, Packet } from "dns-packet";
import { Rcode } from "./dns-message.ts";
import { dnsPacket } from "./dns-packet.ts";

/** The answer to a decoded query with one question, with our id as the query has it. */
export function encodeAnswer(query: Packet, answers: Answer[], rcode: Rcode): Uint8Array {
  const opt = query.additionals?.find((record): record is OptAnswer => record.type === "OPT");
  const isTooNew = opt !== undefined && opt.ednsVersion !== 0;
  return dnsPacket().encode({
    type: "response",
    id: query.id ?? 0,
    flags:
      AUTHORITATIVE |
      ((query.flags ?? 0) & RECURSION_DESIRED) |
      RECURSION_AVAILABLE |
      (isTooNew ? Rcode.NOERROR : rcode),
    questions: query.questions ?? [],
    answers: isTooNew ? [] : answers,
    additionals: opt === undefined ? [] : [answerOpt(opt, isTooNew)],
  });
}

function answerOpt(asked: OptAnswer, isTooNew: boolean): OptAnswer {
  return {
    type: "OPT",
    name: ".",
    udpPayloadSize: UDP_SIZE,
    extendedRcode: isTooNew ? BADVERS >> 4 : 0,
    ednsVersion: 0,
    flags: asked.flags & DNSSEC_OK,
    flag_do: asked.flag_do,
    options: [],
  };
}

/** Header flags as dns-packet takes them (RFC 1035 §4.1.1). */
const AUTHORITATIVE = 1 << 10;
const RECURSION_DESIRED = 1 << 8;
const RECURSION_AVAILABLE = 1 << 7;
/** RFC 6891 §6.1.3; its upper bits are in the OPT. */
const BADVERS = 16;
const DNSSEC_OK = 1 << 15;
/** What crosses every network in one piece (RFC 9715 §3). */
const UDP_SIZE = 1232;
