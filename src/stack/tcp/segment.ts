/**
 * How a connection's segments are built: header, options, window, checksum. When they leave is decided in output.ts.
 *
 * Every segment acknowledges all that has come, and says how far the client may send. The options are those that both
 * SYNs had (RFC 7323 §2.2, §3.2, RFC 2018 §2); SACK blocks are taken off the payload.
 */

import { GsoType, type PacketSink } from "../ports.ts";
import { Endpoint } from "../wire/address.ts";
import { addSums, complement, sumOctets } from "../wire/checksum.ts";
import { emitIp, IPV4_HEADER, IPV6_HEADER, Protocol } from "../wire/ip.ts";
import { write16 } from "../wire/octets.ts";
import {
  ACK,
  CWR,
  ECE,
  emitMss,
  emitSack,
  emitSackPermitted,
  emitTcp,
  emitTimestamps,
  emitWindowScale,
  SYN,
  TCP_CHECKSUM,
  TCP_FLAGS,
  TCP_HEADER,
  TIMESTAMPS_LENGTH,
} from "../wire/tcp.ts";
import type { Connection } from "./connection.ts";
import * as reassembly from "./reassembly.ts";
import { receiveSpace } from "./receive-buffer.ts";
import * as sackReports from "./sack-reports.ts";
import * as sendBuffer from "./send-buffer.ts";
import { seqAdd, seqAfter } from "./seq.ts";

/** Builds a segment with everything an established connection's have. False: the sink is full. */
export function segment(
  c: Connection,
  sink: PacketSink,
  seq: number,
  length: number,
  flags: number,
  field = 0,
): boolean {
  const { bytes, table } = c.context;
  const ip = c.isV4 ? IPV4_HEADER : IPV6_HEADER;
  const blocks = sackCount(c);
  const sackOctets = blocks === 0 ? 0 : 4 + 8 * blocks;
  const options = (c.timestamps ? TIMESTAMPS_LENGTH : 0) + sackOctets;
  const at = sink.reserve(ip + TCP_HEADER + options);
  if (at < 0) return false;
  const tcp = at + ip;
  let option = tcp + TCP_HEADER;
  if (c.timestamps) option = emitTimestamps(bytes, option, timestamp(c), c.tsRecent);
  if (blocks > 0) emitSack(bytes, option, sackEdges, blocks);
  const window = offerWindow(c);
  table.read(c.index, client, target);
  emitIp(bytes, at, target, client, Protocol.TCP, field, 0, TCP_HEADER + options + length);
  emitTcp(
    bytes,
    tcp,
    target.port,
    client.port,
    seq,
    c.rcvNxt,
    TCP_HEADER + options,
    flags | ACK | (c.ecnEcho ? ECE : 0),
    window,
    0,
  );
  finish(c, sink, tcp, ip, TCP_HEADER + options, seq, length, c.sndMss - sackOctets);
  acknowledged(c, blocks < mostBlocks(c));
  return true;
}

/** The SYN-ACK. Options: those of ours that the first SYN offered too. False: the sink is full. */
export function synAckSegment(c: Connection, sink: PacketSink): boolean {
  const { bytes, mtu } = c.context;
  const ip = c.isV4 ? IPV4_HEADER : IPV6_HEADER;
  // RFC 6691: the MSS says nothing of options.
  const mss = c.synAckMss >= 0 ? c.synAckMss : mtu - ip - TCP_HEADER;
  const options =
    (mss > 0 ? 4 : 0) +
    (c.sackOk ? 4 : 0) +
    (c.timestamps ? TIMESTAMPS_LENGTH : 0) +
    (c.scalesWindows ? 4 : 0);
  const at = sink.reserve(ip + TCP_HEADER + options);
  if (at < 0) return false;
  const tcp = at + ip;
  let option = tcp + TCP_HEADER;
  if (mss > 0) option = emitMss(bytes, option, mss);
  if (c.sackOk) option = emitSackPermitted(bytes, option);
  if (c.timestamps) option = emitTimestamps(bytes, option, timestamp(c), c.tsRecent);
  if (c.scalesWindows) emitWindowScale(bytes, option, c.rcvScale);
  const window = Math.min(c.rcvLimit, 65535);
  const edge = seqAdd(c.rcvNxt, window);
  if (seqAfter(edge, c.rcvAdv)) c.rcvAdv = edge;
  emitIp(bytes, at, c.target, c.client, Protocol.TCP, 0, 0, TCP_HEADER + options);
  const { port } = c.target;
  emitTcp(
    bytes,
    tcp,
    port,
    c.client.port,
    c.iss,
    c.rcvNxt,
    TCP_HEADER + options,
    SYN | ACK | (c.ecnOk ? ECE : 0),
    window,
    0,
  );
  finish(c, sink, tcp, ip, TCP_HEADER + options, c.iss, 0, 0);
  acknowledged(c, false);
  return true;
}

/** Completes the checksum as the device asks for it, attaches the payload, commits. */
function finish(
  c: Connection,
  sink: PacketSink,
  tcp: number,
  ip: number,
  header: number,
  seq: number,
  length: number,
  mss: number,
): void {
  const { context } = c;
  const { bytes } = context;
  const pseudo = addSums(c.pseudoSum, header + length);
  context.stats.tcpSegmentsOut++;
  if (length > 0) sendBuffer.attach(c, seq, length, sink);
  if (context.checksumOffload) {
    write16(bytes, tcp + TCP_CHECKSUM, pseudo);
    if (length <= mss) {
      sink.commit(GsoType.NONE, 0, ip, TCP_CHECKSUM);
      return;
    }
    // Only the first of the segments says CWR.
    const first = bytes[tcp + TCP_FLAGS] & CWR ? GsoType.ECN : 0;
    sink.commit(
      (ip === IPV4_HEADER ? GsoType.TCPV4 : GsoType.TCPV6) | first,
      mss,
      ip,
      TCP_CHECKSUM,
    );
    return;
  }
  let sum = sumOctets(bytes, tcp, tcp + header, pseudo);
  if (length > 0) sum = sendBuffer.sum(c, seq, length, sum);
  write16(bytes, tcp + TCP_CHECKSUM, complement(sum));
  sink.commit(GsoType.NONE, 0, 0, -1);
}

/** RCV.NXT has been told to the client, and `hasAllBlocks`: all that is out of order. */
function acknowledged(c: Connection, hasAllBlocks: boolean): void {
  c.rcvAcked = c.rcvNxt;
  c.ackDue = false;
  if (c.sackReportsDue > 0) sackReports.told(c, hasAllBlocks);
  if (!c.isAckDelayed) return;
  c.isAckDelayed = false;
  c.context.timers.clear(c.delayedAckTimer);
}

/** The window field; remembers how far it reaches (RFC 9293 §3.8.6.2.2, RFC 7323 §2.4). */
function offerWindow(c: Connection): number {
  const scale = c.rcvScale;
  const space = receiveSpace(c);
  const offered = Math.max(0, (c.rcvAdv - c.rcvNxt) | 0);
  let field: number;
  if (space - offered >= Math.min(c.rcvLimit >> 1, c.rcvMss)) {
    field = Math.max(space >> scale, (offered + (1 << scale) - 1) >> scale);
  } else {
    // What was offered stays so, rounded up; down only where rounding up again and again has led too far.
    field = (offered + (1 << scale) - 1) >> scale;
    if (field << scale > space + Math.max(c.rcvLimit >> 3, MIN_EXCESS)) field = offered >> scale;
  }
  if (field > 65535) field = 65535;
  const edge = seqAdd(c.rcvNxt, field << scale);
  if (seqAfter(edge, c.rcvAdv)) c.rcvAdv = edge;
  return field;
}

/** Octets of all headers of the next segment. */
export function headersLength(c: Connection): number {
  return (c.isV4 ? IPV4_HEADER : IPV6_HEADER) + TCP_HEADER + optionsLength(c);
}

/** Octets of options of the next segment. */
function optionsLength(c: Connection): number {
  return (c.timestamps ? TIMESTAMPS_LENGTH : 0) + sackLength(c);
}

function sackLength(c: Connection): number {
  const count = sackCount(c);
  return count === 0 ? 0 : 4 + 8 * count;
}

/** Puts the blocks of the next segment into `sackEdges`; returns their count. */
function sackCount(c: Connection): number {
  if (!c.sackOk || (c.oooCount === 0 && c.sackReportsDue === 0)) return 0;
  return reassembly.sackBlocks(c, sackEdges, mostBlocks(c));
}

function mostBlocks(c: Connection): number {
  return c.timestamps ? 3 : 4;
}

/** Payload of a full segment with the options it has now; sndMss counts timestamps already. */
export function payloadOf(c: Connection): number {
  return c.sndMss - sackLength(c);
}

function timestamp(c: Connection): number {
  return ((c.context.timers.now() | 0) + c.tsOffset) | 0;
}

/** What a small window may exceed its limit by, rounded up: 64 steps of its scale. */
const MIN_EXCESS = 8192;
/** Scratch of one segment's SACK blocks. */
const sackEdges: Int32Array = new Int32Array(8);
/** Scratch of one segment's ends. */
const client: Endpoint = new Endpoint();
const target: Endpoint = new Endpoint();
